"""Draining a stage that somebody has started by hand or by systemd: it takes nothing new, finishes what it has, and ends.

SIGUSR2 asks for it; ``diart-mp drain`` finds the process by the note in its folder. Nothing is lost and nothing has to be sent again.
Runs in stages, and in ``diart-mp drain``.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

from diart_mp.errors import StageError
from diart_mp.places import label, process_of
from diart_mp.runtime.rundir import living_runs
from diart_mp.topology import Topology

SIGNAL = signal.SIGUSR2
_NOTE = "stage.json"
_QUIET_S = 1.0  # without anything new after which what was under way has come
_POLL_S = 0.1


class Drain:
    """Whether a stage has been asked to drain, and whether it is done."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self.asked = False
        self._busy_at = 0.0

    def install(self) -> None:
        """Listen to the signal; in the main thread."""
        signal.signal(SIGNAL, self._ask)

    def over(self, *, busy: bool) -> bool:
        """Whether all is done; to be asked in each turn. ``busy``: something came, was worked on, or waits."""
        if busy or not self.asked:
            self._busy_at = self._clock()
        return self.asked and self._clock() - self._busy_at > _QUIET_S

    def _ask(self, *_: object) -> None:
        self._busy_at, self.asked = self._clock(), True


def leave_note(folder: Path, process: str, topology: Path) -> None:
    """Write down in a stage's folder which it is."""
    note = {"stage": process, "pid": os.getpid(), "topology": str(topology.resolve())}
    (folder / _NOTE).write_text(json.dumps(note), encoding="utf-8")


def drain(process: str, topology: Path, *, patience_s: float) -> None:
    """Have ``process`` ("segmentation/1"), started on this host with ``topology``, drain; StageError if there is none, or it does not end."""
    plan = Topology.read(topology)
    name, replica = process_of(plan, process)
    process = label(
        plan.stage(name), replica
    )  # as the stage calls itself: of two replicas "segmentation" is segmentation/0
    folders = [folder for folder in living_runs() if _is_of(folder, process, topology.resolve())]
    if not folders:
        msg = f"no {process} of {topology} runs here as {os.environ.get('USER') or os.getuid()}; is it on another host, or has it another TMPDIR?"
        raise StageError(msg)
    for folder in folders:
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # it has just ended by itself
            os.kill(int(json.loads((folder / _NOTE).read_text(encoding="utf-8"))["pid"]), SIGNAL)
    deadline = time.monotonic() + patience_s
    while set(living_runs()) & set(folders):
        if time.monotonic() > deadline:
            msg = f"{process} still works on what it has after {patience_s:.0f} s; wait, or end it with SIGTERM (what it has is then sent again)"
            raise StageError(msg)
        time.sleep(_POLL_S)


def _is_of(folder: Path, process: str, topology: Path) -> bool:
    try:
        note = json.loads((folder / _NOTE).read_text(encoding="utf-8"))
        return (note["stage"], note["topology"]) == (process, str(topology))
    except (OSError, ValueError, KeyError, TypeError):
        return False
