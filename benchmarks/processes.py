"""A command and all its children, watched from outside: wall time, when a line came, processor time, memory.

Memory is the proportional set size (a page that n processes share counts 1/n in each), summed over the processes, at its
highest; so one process and several compare. Linux only. Used by the benchmarks.
"""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

SAMPLE_S = 0.25  # between two looks at the memory


@dataclass(frozen=True, slots=True)
class Watched:
    """Of a command that has ended: ``first_s`` until its first line that ``wanted`` took; MB are 10^6 bytes."""

    wall_s: float
    first_s: float
    cpu_s: float
    memory_mb: float
    lines: list[str] = field(repr=False)


def watch(command: Sequence[str | Path], wanted: Callable[[str], bool] = bool) -> Watched:
    """Run ``command`` to its end; CalledProcessError where it fails."""
    before = os.times()
    begun = time.monotonic()
    first, lines = 0.0, []
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, text=True) as process:
        with Memory([process.pid]) as memory:
            assert process.stdout is not None
            for line in process.stdout:
                if not first and wanted(line):
                    first = time.monotonic() - begun
                lines.append(line)
            process.wait()
        wall = time.monotonic() - begun
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, list(map(str, command)))
    after = os.times()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Watched(wall, first or wall, cpu, memory.peak_mb, lines)


class Memory:
    """The most that some processes and their children take together, looked at every ``SAMPLE_S``; a context manager."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._pids = pids
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self.peak_mb = 0.0

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(SAMPLE_S):
            found = {child for pid in self._pids for child in family(pid)}
            self.peak_mb = max(self.peak_mb, sum(map(pss_mb, found)))


def family(pid: int) -> Iterator[int]:
    """A process and all that descend from it."""
    yield pid
    with suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                yield from family(int(child))


def pss_mb(pid: int) -> float:
    """Proportional set size of a process; 0 if it is gone."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024 / 1e6
    return 0.0
