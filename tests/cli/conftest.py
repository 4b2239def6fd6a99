"""The command, recordings for it, and one run with everything switched on that many tests look at."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from diart_mp.models import builtin
from tests.fakes import conversation

from .command import Argument, Diart, finish, results


@pytest.fixture(scope="session")
def diart() -> Iterator[Diart]:
    """The command, its built-in models at hand. Whatever the tests did to it: in the end nothing may be left."""
    for role in builtin.BUILTIN:
        builtin.ensure(role)
    with tempfile.TemporaryDirectory(prefix="cli-") as folder:  # short: the path of a socket has 107 bytes
        command = Diart(Path(folder))
        yield command
        assert command.left() == []


@pytest.fixture(scope="session")
def sample(shared: Path) -> Path:
    """A telephone dialogue of 30 s."""
    return shared / "data" / "sample.wav"


@pytest.fixture(scope="session")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 s of people who hum, for the models of ``tests.fakes``."""
    path = tmp_path_factory.mktemp("audio") / "talk.wav"
    conversation(path, seconds=20.0, seed=3)
    return path


@dataclass(frozen=True, slots=True)
class FullRun:
    """A run of two recordings with JSON on standard output, all formats in ``folder`` and a reference."""

    code: int
    objects: list[dict[str, Any]]
    notes: str
    folder: Path
    processes: list[str]  # titles of the command's children, as ps shows them


@pytest.fixture(scope="session")
def full_run(diart: Diart, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> FullRun:
    folder = tmp_path_factory.mktemp("full")
    data, reference, output = shared / "data", folder / "reference.txt", folder / "out"
    reference.write_text((data / "sample.rttm").read_text() + (data / "ami_EN2001e.rttm").read_text())
    options: list[Argument] = ["--start", "exact", "--json", "--reference", reference, "-o", output]
    with diart.started(
        "run", data / "sample.wav", data / "ami_EN2001e.flac", *options, "--format", "rttm,jsonl,srt,vtt,audacity"
    ) as process:
        first = results(process, 1)
        shown = subprocess.run(
            ["ps", "-o", "args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        )
        done = finish(process)
    return FullRun(done.code, first + done.objects, done.err, output, shown.stdout.splitlines())
