"""Files of features: how many are kept, which go, and what else is tidied away."""

import fcntl
import os
import time
from pathlib import Path

import numpy as np

from diart_mp.evaluation.feature_files import FeatureFiles

ARRAY = np.zeros(250_000, np.float32)  # 1 MB


def age(path: Path, hours: float) -> None:
    then = time.time() - 3600 * hours
    os.utime(path, (then, then))


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path, limit_gb=0.0035)
    for number in range(5):
        files.save(f"old{number}", {"values": ARRAY})
    assert len(names(tmp_path)) == 5  # too many, but of the last hour
    for number in range(5):
        age(tmp_path / f"old{number}.npz", hours=10 - number)
    found = files.read("old1")
    assert found is not None
    np.testing.assert_array_equal(found["values"], ARRAY)
    files.save("new", {"values": ARRAY})
    assert names(tmp_path) == ["new.npz", "old1.npz", "old4.npz"]
    assert files.read("old0") is None


def test_what_killed_processes_have_left_goes(tmp_path: Path) -> None:
    files = FeatureFiles(tmp_path)
    for name in ("dead.99.new", "dead.lock", "held.lock", "young.lock", "young.7.new", "kept.lock", "notes.txt"):
        (tmp_path / name).touch()
        age(tmp_path / name, hours=0.0 if name.startswith("young") else 5.0)
    with (tmp_path / "held.lock").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert files.busy("held")
        files.save("kept", {"values": ARRAY})
    assert names(tmp_path) == ["held.lock", "kept.lock", "kept.npz", "notes.txt", "young.7.new", "young.lock"]
    assert not files.busy("held")
    assert not files.busy("nowhere")
