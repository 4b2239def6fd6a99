"""Recordings to measure with, at a given length."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from diart_mp.errors import AudioError
from diart_mp.evaluation.bench_audio import sample_recording, with_length

RATE = 16_000
RAMP = (np.arange(24_000) % 16_000).astype(np.int16)  # 1.5 s


@pytest.fixture
def ramp(tmp_path: Path) -> Path:
    path = tmp_path / "ramp.wav"
    soundfile.write(path, RAMP, RATE)
    return path


@pytest.mark.parametrize("seconds", [0.5, 1.5, 4.0])
def test_a_recording_is_cut_or_repeated(ramp: Path, tmp_path: Path, seconds: float) -> None:
    path = with_length(ramp, seconds, tmp_path / "out.wav")
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == RATE
    expected = np.tile(RAMP, 3)[: round(seconds * RATE)]
    np.testing.assert_array_equal(samples, expected)


def test_stereo_at_another_rate_becomes_mono(tmp_path: Path) -> None:
    source = tmp_path / "stereo.flac"
    soundfile.write(source, np.zeros((44_100, 2), np.int16), 44_100)
    info = soundfile.info(with_length(source, 2.0, tmp_path / "out.wav"))
    assert (info.frames, info.samplerate, info.channels) == (32_000, RATE, 1)


def test_noise_is_audible_and_always_the_same(tmp_path: Path) -> None:
    first, second = (with_length(None, 90.0, tmp_path / f"{name}.wav") for name in "ab")
    assert first.read_bytes() == second.read_bytes()
    samples, _ = soundfile.read(first)
    assert len(samples) == 90 * RATE
    assert 0.03 < np.sqrt(np.mean(samples**2)) < 0.1
    assert np.abs(samples).max() < 1.0


def test_nothing_to_repeat(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0, np.int16), RATE)
    with pytest.raises(AudioError, match="no audio"):
        with_length(path, 1.0, tmp_path / "out.wav")


def test_sample_recording_is_the_shipped_one() -> None:
    path = sample_recording()
    if path is None:
        pytest.skip("pyannote.audio is not installed")
    assert soundfile.info(path).duration == pytest.approx(30.0, abs=0.1)
