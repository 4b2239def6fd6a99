"""The supervisor itself is killed: its stages go at once, and the next start clears what it left."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from tests.fakes import TONE_MODELS, conversation

ENDS = int(os.environ.get("DIART_MP_TEST_ENDS", "3"))  # `make kills`: 50


def left_in(folder: Path) -> list[str]:
    """Run folders in ``folder``, and audio rings in shared memory of the runs in it."""
    runs = [path.name for path in folder.glob("diart-mp-*/*") if path.is_dir()]
    shm = Path("/dev/shm")
    return runs + [ring.name for run in runs for ring in shm.glob(f"diart-mp-{run}-*")]


def start(audio: Path, folder: Path) -> tuple["subprocess.Popen[bytes]", list[psutil.Process]]:
    """A run of the command with its first results out, and its stages."""
    command = [sys.executable, "-m", "diart_mp", "run", str(audio), "--json"]
    command += ["--segmentation", TONE_MODELS.segmentation, "--embedding", TONE_MODELS.embedding]
    environment = {**os.environ, "TMPDIR": str(folder), "DIART_MP_FAULTS": "clustering:slow=0.05"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline()
    return process, psutil.Process(process.pid).children()


@pytest.fixture
def audio(short_path: Path) -> Path:
    """A minute of humming."""
    path = short_path / "hum.wav"
    conversation(path, seconds=60.0, seed=2)
    return path


def test_nothing_outlives_killed_supervisors(audio: Path, short_path: Path) -> None:
    folder = short_path / "runs"
    folder.mkdir()
    for _ in range(ENDS):
        process, stages = start(audio, folder)
        assert len(stages) == 4
        assert len(left_in(folder)) == 2  # this run and its ring: what the one before left is gone
        process.send_signal(signal.SIGKILL)
        process.communicate()
        _, alive = psutil.wait_procs(stages, timeout=20)
        assert alive == []
    process, _ = start(audio, folder)
    process.send_signal(signal.SIGINT)
    process.communicate()
    assert left_in(folder) == []
    base = folder / f"diart-mp-{os.getuid()}"
    assert list(folder.rglob("*")) == [base]  # which is made once
