"""The command, recordings for it, and one run with everything switched on that many tests look at."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from diart_mp.models import builtin
from tests.fakes import conversation

from .command import Diart, Done, results


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

    done: Done
    folder: Path
    processes: list[str]  # titles of the command's children, as ps shows them


@pytest.fixture(scope="session")
def full_run(diart: Diart, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> FullRun:
    folder = tmp_path_factory.mktemp("full")
    names = ("sample", "ami_EN2001e")
    reference = folder / "reference.txt"
    reference.write_text("".join((shared / "data" / f"{name}.rttm").read_text() for name in names))
    data, output = shared / "data", folder / "out"
    arguments = ["run", data / "sample.wav", data / "ami_EN2001e.flac", "--start", "exact", "--json"]
    arguments += ["--reference", reference, "-o", output, "--format", "rttm,jsonl,srt,vtt,audacity"]
    with diart.started(*arguments) as process:
        first = results(process, 1)
        shown = subprocess.run(["ps", "-o", "args=", "--ppid", str(process.pid)], capture_output=True, text=True)
        out, err = process.communicate(timeout=120)
    lines = [str(first[0]).replace("'", '"').replace("None", "null"), out]
    return FullRun(Done(process.returncode, "\n".join(lines), err), output, shown.stdout.splitlines())
