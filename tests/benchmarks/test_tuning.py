"""The comparison of trials with diart's: what both get to see, and the verdict; diart itself is not needed."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from benchmarks import tuning


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Recordings of 1 to 3 s, one of them without a reference."""
    folder = tmp_path / "data"
    folder.mkdir()
    for seconds, name in enumerate(("one.wav", "two.flac", "three.wav"), 1):
        soundfile.write(folder / name, np.zeros(16_000 * seconds, np.int16), 16_000)
    for name in ("one", "two", "other"):
        (folder / f"{name}.rttm").touch()
    return folder


@pytest.mark.parametrize(("only", "seconds"), [([], 3.0), (["two", "three"], 2.0)])
def test_both_sides_get_the_recordings_that_have_a_reference(
    data: Path, tmp_path: Path, only: list[str], seconds: float
) -> None:
    assert tuning.link(data, tmp_path, only) == seconds
    audio = {path.stem: path.read_bytes() for path in (tmp_path / "audio").iterdir()}
    assert audio.keys() == {path.stem for path in (tmp_path / "rttm").iterdir()}
    assert audio["two"] == (data / "two.flac").read_bytes()


@pytest.mark.parametrize(
    ("diart", "kept"),
    [((100.0, 100.0), True), ((100.0, 60.0), False), ((60.0, 100.0), False)],
)
def test_wall_and_processor_time_count_and_ours_is_the_mean_of_before_and_after(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, diart: tuple[float, float], kept: bool
) -> None:
    runs = iter([(1.0, 1.0), (2.0, 2.0)])
    monkeypatch.setattr(tuning, "ours", lambda _: next(runs))
    monkeypatch.setattr(tuning, "theirs", lambda *_: diart)
    assert tuning.trial(tmp_path, 32, 2) is kept
