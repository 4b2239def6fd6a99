"""A recording and its copies begin at the same place, whatever ripples resampling has put ahead of the first sound."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from diart_mp.audio.sound import QUIETEST, first_sound, has_sound
from diart_mp.audio.windows import WindowPlan
from diart_mp.config import Settings
from diart_mp.evaluation.features import batches
from tests.fakes import RATE, conversation

SILENCE = 12_345  # samples


@pytest.fixture(scope="module")
def speech(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """16-bit samples: digital silence, the faint noise of a room, people who hum."""
    path = tmp_path_factory.mktemp("sound") / "talk.wav"
    conversation(path, seconds=7.0, seed=5)
    samples, _ = soundfile.read(path, dtype="float32")
    noise = np.random.default_rng(0).normal(0, 1e-3, RATE // 2)
    noise[0] = 1e-3
    return np.concatenate([np.zeros(SILENCE), noise, samples]).astype(np.float32)


@pytest.mark.parametrize(
    ("samples", "first"),
    [([], None), ([0, 0], None), ([0, QUIETEST / 2, -QUIETEST / 2], None), ([0, QUIETEST], 1), ([-1, 1], 0)],
)
def test_one_step_of_16_bits_is_a_sound(samples: list[float], first: int | None) -> None:
    found = np.array(samples, np.float32)
    assert first_sound(found) == first
    assert has_sound(found) == (first is not None)


@pytest.mark.parametrize("rate", [44_100, 48_000])
def test_windows_of_copies_at_other_rates_fall_on_the_same_places(
    speech: np.ndarray, tmp_path: Path, rate: int
) -> None:
    settings = Settings(start="early")
    soundfile.write(tmp_path / "original.wav", speech, RATE)
    soundfile.write(tmp_path / "copy.wav", soxr.resample(speech, RATE, rate, quality="VHQ"), rate, subtype="FLOAT")
    original, copy = (_starts(tmp_path / f"{name}.wav", settings) for name in ("original", "copy"))
    silent = SILENCE // settings.step
    assert original[silent] == SILENCE + settings.step - settings.duration
    assert max(abs(a - b) for a, b in zip(original, copy, strict=False)) <= 32  # 2 ms; ripples begin 28 ms ahead
    assert all(after - before == settings.step for before, after in pairwise(copy[silent:]))


def _starts(path: Path, settings: Settings) -> list[int]:
    return [start for starts, _ in batches(path, WindowPlan(settings), settings) for start in starts]
