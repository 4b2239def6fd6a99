"""Three times the audio needs no more memory, in any process."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.fakes import RATE, conversation

from .command import STAGES, Diart, children

MINUTES = 10
TIMES = 3
STEP_S = 2  # a quarter of the windows that are usual is enough
LIMIT = 0.05
# How many windows come together depends on who else has the cores, and a full batch is 5 % of a stage's memory: one at a time here.
TOPOLOGY = """
version = 1
[[stage]]
name = "capture"
[[stage]]
name = "segmentation"
model = "tests.fakes:ToneSegmentation"
max_batch = 1
[[stage]]
name = "embedding"
model = "tests.fakes:ToneEmbedding"
max_batch = 1
[[stage]]
name = "clustering"
keyed = true
"""


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """10 minutes, and the same three times over."""
    folder = tmp_path_factory.mktemp("long")
    once, thrice = folder / "once.wav", folder / "thrice.wav"
    conversation(once, seconds=60.0 * MINUTES, seed=5)
    samples, _ = soundfile.read(once, dtype="int16")
    soundfile.write(thrice, np.tile(samples, TIMES), RATE)
    return once, thrice


def _peaks(diart: Diart, path: Path, count: int) -> dict[str, int]:
    """The most memory (kB) that a process of each stage ever had in a run of ``count`` results, up to its last results."""
    topology = path.with_suffix(".toml")
    topology.write_text(TOPOLOGY)
    with diart.started("run", path, "--topology", topology, "--step", str(STEP_S), "--json") as process:
        assert process.stdout is not None
        pids: dict[str, int] = {}
        peaks: dict[str, int] = {}
        for line in process.stdout:
            seq = json.loads(line).get("seq", -1)
            if seq == 0:
                pids = {child.cmdline()[0].removeprefix("diart-mp: "): child.pid for child in children(process)}
                pids["command"] = process.pid
            elif seq > 0 and (seq % 100 == 0 or seq > count - 40):
                peaks |= {name: peak for name, pid in pids.items() if (peak := _peak(pid))}
        assert process.wait(60) == 0
    assert seq == -1  # the summary was the last
    return peaks


def _peak(pid: int) -> int:
    """VmHWM of a process; 0 where it has just ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next((int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM")), 0)


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc: Linux only")
def test_memory_does_not_grow_with_the_recording(diart: Diart, recordings: tuple[Path, Path]) -> None:
    windows = [(60 * MINUTES * times - 5) // STEP_S + 1 for times in (1, TIMES)]
    once, thrice = (_peaks(diart, path, count) for path, count in zip(recordings, windows, strict=True))
    assert once.keys() == thrice.keys() == {*STAGES, "command"}
    growth = {name: thrice[name] / once[name] - 1 for name in once}
    assert max(map(abs, growth.values())) < LIMIT, growth
