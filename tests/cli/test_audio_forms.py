"""The same recording in other rates, channels and formats gives the same turns; odd recordings end well."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from .command import Diart, Done, der, turns
from .conftest import FullRun

Samples = NDArray[np.float32]

RATE = 16_000
SECONDS = 30.0
LIMIT = 2.0  # percent

FORMS = {
    "stereo-44k.flac": (44_100, 2),
    "mono-8k.wav": (8_000, 1),
    "mono-48k.ogg": (48_000, 1),
    "stereo-44k-lossy.mp3": (44_100, 2),
}


def _resampled(samples: Samples, rate: int, channels: int) -> Samples:
    """(frames, channels) at another rate, the same in all channels."""
    resampled = soxr.resample(samples, RATE, rate, quality="VHQ") if rate != RATE else samples
    return np.repeat(np.asarray(resampled, np.float32)[:, None], channels, axis=1)


@pytest.fixture(scope="session")
def forms(diart: Diart, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The turns of every form of the recording, made in one run."""
    folder = tmp_path_factory.mktemp("forms")
    samples, _ = soundfile.read(sample, dtype="float32")
    for name, (rate, channels) in FORMS.items():
        # Lossy ones at the best quality: what is compared is the way through our decoder and resampler.
        best = {"compression_level": 0.0} if name.endswith(("ogg", "mp3")) else {}
        soundfile.write(folder / name, _resampled(samples, rate, channels), rate, **best)
    done = diart("run", *(folder / name for name in FORMS), "--quiet", "-o", folder / "out")
    assert (done.code, done.err) == (0, "")
    return folder / "out"


@pytest.mark.parametrize("name", FORMS)
def test_files(forms: Path, full_run: FullRun, name: str) -> None:
    found = turns((forms / name).with_suffix(".rttm"))
    assert der(turns(full_run.folder / "sample.rttm"), found, SECONDS) <= LIMIT


def _s16le(samples: Samples) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def _f32le(samples: Samples) -> bytes:
    return samples.astype("<f4").tobytes()


@pytest.mark.parametrize(
    ("rate", "channels", "encoding", "encode"), [(48_000, 2, "s16le", _s16le), (RATE, 1, "f32le", _f32le)]
)
def test_standard_input(
    diart: Diart,
    sample: Path,
    full_run: FullRun,
    tmp_path: Path,
    rate: int,
    channels: int,
    encoding: str,
    encode: Callable[[Samples], bytes],
) -> None:
    samples, _ = soundfile.read(sample, dtype="float32")
    options = ["--input-format", encoding, "--input-rate", str(rate), "--input-channels", str(channels)]
    done = diart("run", "-", *options, "--quiet", "-o", tmp_path, data=encode(_resampled(samples, rate, channels)))
    assert (done.code, done.err) == (0, "")
    assert der(turns(full_run.folder / "sample.rttm"), turns(tmp_path / "stdin.rttm"), SECONDS) <= LIMIT


@pytest.fixture(scope="session")
def odd(diart: Diart, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A run of odd recordings, and the folder of their turns."""
    folder = tmp_path_factory.mktemp("odd")
    samples, _ = soundfile.read(sample, dtype="float32")
    speech = samples[8 * RATE : 14 * RATE]
    noise = np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
    recordings = {
        "nothing": speech[:0],
        "instant": np.zeros(1600, np.float32),
        "short": speech[2 * RATE : 5 * RATE],
        "silence": np.zeros(6 * RATE, np.float32),
        "noise": 0.1 * noise,
        "speech": speech,
        "clipped": np.clip(20 * speech, -1, 1),
        "shifted": speech + np.float32(0.4),
    }
    for name, audio in recordings.items():
        soundfile.write(folder / f"{name}.wav", audio, RATE, subtype="FLOAT")
    paths = [folder / f"{name}.wav" for name in recordings]
    return diart("run", *paths, "-o", folder / "out", "--format", "rttm,jsonl"), folder / "out"


def test_odd_recordings_end_well(odd: tuple[Done, Path]) -> None:
    done, folder = odd
    assert (done.code, done.complaints) == (0, [])
    for name in ("nothing", "instant", "silence", "noise"):
        assert (folder / f"{name}.rttm").read_text() == ""
    assert (folder / "nothing.jsonl").read_text() == ""
    assert len((folder / "instant.jsonl").read_text().splitlines()) == 1


def test_a_recording_shorter_than_a_window_has_its_turns_in_it(odd: tuple[Done, Path]) -> None:
    found = turns(odd[1] / "short.rttm")
    assert sum(end - start for start, end, _ in found) > 1.5
    assert all(0 <= start < end <= 3.0 + 0.02 for start, end, _ in found)  # a frame of 17 ms is rounded up


def test_a_constant_shift_changes_nothing(odd: tuple[Done, Path]) -> None:
    assert der(turns(odd[1] / "speech.rttm"), turns(odd[1] / "shifted.rttm"), 6.0) <= LIMIT


def test_clipped_speech_is_still_speech(odd: tuple[Done, Path]) -> None:
    assert sum(end - start for start, end, _ in turns(odd[1] / "clipped.rttm")) > 3.0
