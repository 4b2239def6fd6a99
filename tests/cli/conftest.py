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

from .command import STAGES, Argument, Diart, finish, results, rttm

CORPUS = [f"talk{number}" for number in range(4)]


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


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings in ``audio``, their references in ``rttm``."""
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "audio").mkdir()
    (folder / "rttm").mkdir()
    for seed, name in enumerate(CORPUS):
        turns = conversation(folder / "audio" / f"{name}.wav", seconds=6.0 + seed, seed=seed)
        (folder / "rttm" / f"{name}.rttm").write_text(rttm(name, turns))
    return folder


@dataclass(frozen=True, slots=True)
class FullRun:
    """A run of two recordings with JSON on standard output, all formats in ``folder`` and a reference."""

    code: int
    objects: list[dict[str, Any]]
    notes: str
    folder: Path
    processes: list[str]  # titles of the command's children, as ps shows them
    imported: dict[str, set[str]]  # modules, by stage


@pytest.fixture(scope="session")
def full_run(diart: Diart, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> FullRun:
    folder = tmp_path_factory.mktemp("full")
    data, reference, output = shared / "data", folder / "reference.txt", folder / "out"
    reference.write_text((data / "sample.rttm").read_text() + (data / "ami_EN2001e.rttm").read_text())
    options: list[Argument] = ["--start", "exact", "--json", "--reference", reference, "-o", output]
    arguments: list[Argument] = ["run", data / "sample.wav", data / "ami_EN2001e.flac", *options]
    arguments += ["--format", "rttm,jsonl,srt,vtt,audacity"]
    with diart.started(*arguments, env={"PYTHONPROFILEIMPORTTIME": "1"}) as process:
        first = results(process, 1)
        shown = subprocess.run(
            ["ps", "-o", "args=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True
        )
        (run_folder,) = diart.runs.iterdir()
        imported = {stage: _imported(run_folder, stage) for stage in STAGES}
        done = finish(process)
    return FullRun(done.code, first + done.objects, done.err, output, shown.stdout.splitlines(), imported)


def _imported(run_folder: Path, stage: str) -> set[str]:
    """What the interpreter of a stage said that it imports."""
    lines = [line for log in run_folder.glob(f"{stage}-*.log") for line in log.read_text().splitlines()]
    return {line.split("|")[2].strip() for line in lines if line.startswith("import time:")}
