"""Who starts the stages of a topology that are not at home: nobody here (they are there already), this host, ssh, or Ray.

A provisioner places and watches processes; data and control stay on our own links, and what it starts is the command that a person would
type: ``diart-mp stage NAME --topology FILE``. Which stage is how far the supervisor hears from the stages themselves. Runs in the process
of ``diart-mp run``.
"""

import contextlib
import os
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from diart_mp.config import check_names
from diart_mp.deploy import Process, processes
from diart_mp.errors import StageError, UsageError
from diart_mp.topology import Topology

_STOP_S = 3.0  # that a process has to end
_BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # before the 1st, 2nd ... start after an end; no end of trying: hosts come back
_STEADY_S = 30.0  # after which a process counts as one that runs

Command = Sequence[str]


class Handle(Protocol):
    """One process that a provisioner has started."""

    def ended(self) -> str:
        """How it ended, for people; empty while it runs. Must not wait."""

    def stop(self) -> None:
        """End it. Idempotent."""


class Provisioner(Protocol):
    """Starts processes somewhere."""

    def start(self, process: Process, command: Command) -> Handle:
        """Start one process; ``command`` as on this host. StageError where that can never be."""

    def close(self) -> None:
        """Nothing is to be started any more. Idempotent."""


def start_guarded(command: Command) -> subprocess.Popen[bytes]:
    """Start a stage that ends when this process does, whatever way."""
    read, write = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603  # our own command
            [*command, "--guard", str(read)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            pass_fds=(read,),
            process_group=0,
        )
    finally:
        os.close(read)

    def hold() -> None:
        process.wait()
        os.close(write)

    threading.Thread(target=hold, name="guard of a stage", daemon=True).start()
    return process


class _Child:
    """A process of this host: the stage, or the ssh that has it on the other one."""

    def __init__(self, start: Callable[[], subprocess.Popen[bytes]], what: str) -> None:
        try:
            self._process = start()
        except OSError as error:
            msg = f"cannot start {what}: {error.strerror}; is it installed?"
            raise StageError(msg) from error

    def ended(self) -> str:
        """See ``Handle.ended``."""
        code = self._process.poll()
        return "" if code is None else f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"

    def stop(self) -> None:
        """See ``Handle.stop``."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


class LocalProvisioner:
    """All of them on this host: to try a topology out."""

    def start(self, process: Process, command: Command) -> Handle:
        """See ``Provisioner.start``."""
        return _Child(lambda: start_guarded(command), command[0])

    def close(self) -> None:
        """See ``Provisioner.close``."""


class SshProvisioner:
    """Each on the host that its place names for ssh, where diart-mp is on the path and the topology lies at the same place."""

    def start(self, process: Process, command: Command) -> Handle:
        """See ``Provisioner.start``."""
        remote = shlex.join(["diart-mp", *command[command.index("stage") :]])
        # With a terminal (-tt) the remote command ends with the connection.
        words = ["ssh", "-tt", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=5", process.place, remote]
        null = subprocess.DEVNULL
        return _Child(lambda: subprocess.Popen(words, stdin=null, stdout=null, process_group=0), words[0])  # noqa: S603

    def close(self) -> None:
        """See ``Provisioner.close``."""


def provisioner_of(kind: str, topology: Topology, address: str = "") -> Provisioner:
    """The provisioner called ``kind``; UsageError if there is none, or what it needs is not installed."""
    known: dict[str, Callable[[], Provisioner]] = {"local": LocalProvisioner, "ssh": SshProvisioner}
    if kind == "ray":
        from diart_mp.runtime.provision_ray import RayProvisioner

        return RayProvisioner(processes(topology), address)
    check_names({kind: None}, {**known, "ray": None}, "provisioner")
    if address:
        msg = f"--address is of the cluster for --provisioner ray, not for {kind}"
        raise UsageError(msg)
    return known[kind]()


@dataclass(slots=True)
class _Placed:
    process: Process
    handle: Handle | None = None
    started_at: float = 0.0
    in_a_row: int = 0
    start_at: float = 0.0  # monotonic s


class Provisioned:
    """Keeps all processes with a place running while a run lasts; a context manager that ends them."""

    def __init__(
        self, topology: Topology, file: Path, provisioner: Provisioner, *, on_note: Callable[[str], None]
    ) -> None:
        self._file, self._provisioner, self._on_note = file.absolute(), provisioner, on_note
        self._placed = [_Placed(process) for process in processes(topology)]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for placed in self._placed:
            if placed.handle is not None:
                placed.handle.stop()
        self._provisioner.close()

    def step(self) -> None:
        """Start what is due, see to what has ended; to be called many times a second."""
        now = time.monotonic()
        for placed in self._placed:
            if placed.handle is None:
                if now >= placed.start_at:
                    placed.handle, placed.started_at = self._start(placed.process), now
            elif how := placed.handle.ended():
                placed.handle.stop()
                placed.handle = None
                placed.in_a_row = 1 if now - placed.started_at > _STEADY_S else placed.in_a_row + 1
                placed.start_at = now + _BACK_OFF_S[min(placed.in_a_row, len(_BACK_OFF_S)) - 1]
                self._on_note(f"{placed.process.name} at {placed.process.place} {how}; starting it again")

    def _start(self, process: Process) -> Handle:
        command = [sys.executable, "-P", "-m", "diart_mp", "stage", process.name, "--topology", str(self._file)]
        return self._provisioner.start(process, command)
