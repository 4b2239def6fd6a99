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
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Protocol, Self

from diart_mp.config import check_names
from diart_mp.deploy import Process, processes
from diart_mp.errors import StageError, UsageError
from diart_mp.topology import Topology

_STOP_S = 3.0  # that a process has to end
_BACK_OFF_S = (0.0, 0.5, 1.0, 2.0, 5.0)  # before the 1st, 2nd ... start after an end; no end of trying: hosts come back
_STEADY_S = 30.0  # after which a process counts as one that runs
_LAST_WORDS_S = 0.5  # that what an ended process printed may take to be read
_MOST_WORDS = 300  # characters of it that are passed on
_LONGEST_LINE = 4096  # bytes that are read at a time
_SSH_OPTIONS = ("-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=5")

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


class LastLine:
    """Reads what a process prints, for as long as it does, and keeps the last line: mostly why it ended."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self._pipe, self._last = pipe, b""
        self._thread = threading.Thread(target=self._read, name="reader of a stage", daemon=True)
        self._thread.start()

    def text(self) -> str:
        """The last line so far, for people; all of it is there soon after the process has ended."""
        self._thread.join(_LAST_WORDS_S)
        return "".join(c for c in self._last.decode(errors="replace") if c.isprintable()).strip()[:_MOST_WORDS]

    def _read(self) -> None:
        with self._pipe:
            while line := self._pipe.readline(_LONGEST_LINE):
                self._last = line if line.strip() else self._last


def start_guarded(command: Command, *, heard: bool = False) -> subprocess.Popen[bytes]:
    """Start a stage that ends when this process does, whatever way. ``heard``: what it prints goes to a pipe, which must be read."""
    read, write = os.pipe()
    try:
        process = subprocess.Popen(  # noqa: S603  # our own command
            [*command, "--guard", str(read)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if heard else subprocess.DEVNULL,
            stderr=subprocess.STDOUT if heard else None,
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
        self._said = LastLine(self._process.stdout) if self._process.stdout is not None else None

    def ended(self) -> str:
        """See ``Handle.ended``."""
        code = self._process.poll()
        return "" if code is None else how_it_ended(code, self._said.text() if self._said else "")

    def stop(self) -> None:
        """See ``Handle.stop``."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def how_it_ended(code: int, last: str) -> str:
    """The end of a process in words: its exit code, or minus its signal, and the last line that it said where that was heard."""
    how = f"ended with exit code {code}" if code >= 0 else f"was killed by signal {-code}"
    return f"{how} ({last})" if last and code else how


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
        # With a terminal (-tt) the remote command ends with the connection, and all that it prints is its standard output.
        words = ["ssh", "-tt", *_SSH_OPTIONS, process.place, remote]

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603  # our own command
                words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0
            )

        return _Child(start, words[0])

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
        handles = [placed.handle for placed in self._placed if placed.handle is not None]
        try:
            with ThreadPoolExecutor(max(1, len(handles))) as pool:  # each may take its time: all of them at once
                list(pool.map(lambda handle: handle.stop(), handles))
        finally:
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
