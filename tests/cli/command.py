"""The command as a user has it: a program of its own, started with arguments, that prints and ends with a code."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from diart_mp.evaluation.der import diarization_error
from diart_mp.outputs.read import load_rttm

ROOT = Path(__file__).resolve().parents[2]
COMMAND = Path(sys.executable).with_name("diart-mp")
TONES = ("--segmentation", "tests.fakes:ToneSegmentation", "--embedding", "tests.fakes:ToneEmbedding")
STAGES = ("capture", "segmentation", "embedding", "clustering")

Argument = str | Path
Turns = list[tuple[float, float, str]]


@dataclass(frozen=True, slots=True)
class Done:
    """What an ended command left behind."""

    code: int
    out: str
    err: str

    @property
    def complaints(self) -> list[str]:
        """Lines of standard error that are no notes (those begin with ``#``)."""
        return [line for line in self.err.splitlines() if not line.startswith("# ")]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """The lines of standard output as JSON objects."""
        return [json.loads(line) for line in self.out.splitlines()]


class Diart:
    """Starts commands that keep their run folders in ``folder``, and knows what they leave there."""

    def __init__(self, folder: Path) -> None:
        self.runs = folder / f"diart-mp-{os.getuid()}"
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "DIART_MP_FAULT"))}
        self._environment = {**plain, "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)}

    def environment(self, **more: str) -> dict[str, str]:
        """The variables that a command is started with."""
        return {**self._environment, **more}

    def __call__(
        self,
        *arguments: Argument,
        data: bytes | None = None,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
    ) -> Done:
        """Run the command to its end, with ``data`` on its standard input (None: nothing)."""
        done = subprocess.run(
            [COMMAND, *arguments],
            input=data or b"",
            capture_output=True,
            cwd=cwd,
            env=self.environment(**(env or {})),
            timeout=timeout,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    @contextmanager
    def started(self, *arguments: Argument, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
        """The command while it runs; at the end it is told to stop, if it still does, so that it leaves nothing."""
        pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        environment = self.environment(**(env or {}))
        with subprocess.Popen([COMMAND, *arguments], **pipes, text=True, env=environment) as process:  # type: ignore[call-overload]
            try:
                yield process
            finally:
                process.terminate()
                process.communicate(timeout=30)

    def left(self) -> list[Path]:
        """Run folders, and rings in shared memory that belong to them."""
        folders = sorted(self.runs.iterdir()) if self.runs.is_dir() else []
        shm = Path("/dev/shm")
        return [*folders, *(ring for folder in folders for ring in shm.glob(f"diart-mp-{folder.name}-*"))]


def results(process: subprocess.Popen[str], count: int) -> list[dict[str, Any]]:
    """Wait for that many results of a run with ``--json``."""
    assert process.stdout is not None
    found = [json.loads(line) for _, line in zip(range(count), process.stdout, strict=False)]
    assert len(found) == count, process.stderr.read() if process.stderr else ""
    return found


def finish(process: subprocess.Popen[str], timeout: float = 120) -> Done:
    """Wait for the end of a command; what it printed since ``results``.

    ``communicate`` would lose what is in the buffer of the pipe already. Standard error is short enough to wait.
    """
    assert process.stdout is not None
    assert process.stderr is not None
    out, err = process.stdout.read(), process.stderr.read()
    return Done(process.wait(timeout), out, err)


def children(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The processes that a command has started."""
    started: list[psutil.Process] = psutil.Process(process.pid).children(recursive=True)
    return started


def rttm(name: str, said: Sequence[tuple[float, float, int]]) -> str:
    """The turns of a recording of ``tests.fakes`` as RTTM."""
    return "".join(f"SPEAKER {name} 1 {a:.3f} {b - a:.3f} <NA> <NA> person{who} <NA> <NA>\n" for a, b, who in said)


def turns(path: Path) -> Turns:
    """The turns in an RTTM file of one recording."""
    return [turn for of_one in load_rttm(path).values() for turn in of_one]


def der(reference: Turns, said: Turns, seconds: float) -> float:
    """DER in percent, no collar, overlap included, over the whole recording."""
    return 100 * diarization_error(reference, said, duration=seconds).rate


def speech(said: Turns) -> Turns:
    """The same turns, whoever speaks."""
    return [(start, end, "somebody") for start, end, _ in said]
