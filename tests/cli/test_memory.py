"""Three times the audio needs no more memory, in any process."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.fakes import RATE, conversation

from .command import STAGES, TONES, Diart, children

MINUTES = 10
TIMES = 3
STEP_S = 2  # a quarter of the windows that are usual is enough
LIMIT = 0.05
BATCH_KB = (
    8 * 5 * RATE * 4 / 1000
)  # a full batch of windows, which a stage that is never late need not have seen in the short run


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
    with diart.started("run", path, *TONES, "--step", str(STEP_S), "--json") as process:
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
    stages = {name.partition("/")[0] for name in peaks}  # of which a long recording has several processes
    return {stage: max(peak for name, peak in peaks.items() if name.partition("/")[0] == stage) for stage in stages}


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
    growth = {name: (thrice[name] - once[name], once[name]) for name in once}  # kB
    assert all(abs(more) < LIMIT * before + BATCH_KB for more, before in growth.values()), growth
