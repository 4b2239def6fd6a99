"""The same recording in other rates, channels and formats gives the same turns; odd recordings end well."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from numpy.typing import NDArray

from .command import TONES, Diart, der, turns
from .conftest import FullRun

Samples = NDArray[np.float32]

RATE = 16_000
SECONDS = 15.0  # of the recording; what is said of them does not depend on what follows
COMPARED_S = SECONDS - 0.5
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


def _beginning(recording: Path) -> Samples:
    samples: Samples = soundfile.read(recording, frames=round(SECONDS * RATE), dtype="float32")[0]
    return samples


def _write_forms(folder: Path, samples: Samples) -> list[Path]:
    for name, (rate, channels) in FORMS.items():
        # Lossy ones at the best quality: what is compared is the way through our decoder and resampler.
        best = {"compression_level": 0.0} if name.endswith(("ogg", "mp3")) else {}
        soundfile.write(folder / name, _resampled(samples, rate, channels), rate, **best)
    return [folder / name for name in FORMS]


def _write_odd(folder: Path, samples: Samples) -> list[Path]:
    speech = samples[8 * RATE : 13 * RATE]
    noise = np.random.default_rng(0).standard_normal(5 * RATE).astype(np.float32)
    recordings = {
        "nothing": speech[:0],
        "instant": np.zeros(1600, np.float32),
        "short": speech[2 * RATE : 5 * RATE],
        "silence": np.zeros(5 * RATE, np.float32),
        "noise": 0.1 * noise,
        "speech": speech,
        "clipped": np.clip(20 * speech, -1, 1),
        "shifted": speech + np.float32(0.4),
    }
    for name, audio in recordings.items():
        soundfile.write(folder / f"{name}.wav", audio, RATE, subtype="FLOAT")
    return [folder / f"{name}.wav" for name in recordings]


@pytest.fixture(scope="session")
def out(diart: Diart, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What one run made of all these recordings."""
    folder = tmp_path_factory.mktemp("forms")
    samples = _beginning(sample)
    paths = [*_write_forms(folder, samples), *_write_odd(folder, samples)]
    done = diart("run", *paths, "--quiet", "-o", folder / "out", "--format", "rttm,jsonl")
    assert (done.code, done.out, done.err) == (0, "", "")
    return folder / "out"


@pytest.mark.parametrize("name", FORMS)
def test_files(out: Path, full_run: FullRun, name: str) -> None:
    found = turns((out / name).with_suffix(".rttm"))
    assert der(turns(full_run.folder / "sample.rttm"), found, COMPARED_S) <= LIMIT


def _s16le(samples: Samples) -> bytes:
    return np.clip(np.rint(samples * 32768), -32768, 32767).astype("<i2").tobytes()


def _f32le(samples: Samples) -> bytes:
    return samples.astype("<f4").tobytes()


def test_standard_input_of_another_rate(diart: Diart, sample: Path, full_run: FullRun, tmp_path: Path) -> None:
    samples = _beginning(sample)
    options = ["--input-format", "s16le", "--input-rate", "48000", "--input-channels", "2"]
    done = diart("run", "-", *options, "--quiet", "-o", tmp_path, data=_s16le(_resampled(samples, 48_000, 2)))
    assert (done.code, done.err) == (0, "")
    assert der(turns(full_run.folder / "sample.rttm"), turns(tmp_path / "stdin.rttm"), COMPARED_S) <= LIMIT


def test_standard_input_of_the_same_samples(diart: Diart, talk: Path, tmp_path: Path) -> None:
    samples, _ = soundfile.read(talk, dtype="float32")
    options: list[str | Path] = [*TONES, "--format", "rttm", "-o", tmp_path]
    assert diart("run", talk, *options).code == 0
    assert diart("run", "-", "--input-format", "f32le", *options, data=_f32le(samples)).code == 0
    whole, piped = ((tmp_path / f"{name}.rttm").read_text() for name in ("talk", "stdin"))
    assert whole
    assert piped == whole.replace("talk", "stdin")


def test_standard_input_with_a_header(diart: Diart, talk: Path) -> None:
    done = diart("run", "-", *TONES, data=talk.read_bytes())
    assert done.code == 1
    assert len(done.complaints) == 1
    assert "this is a WAV file, not raw PCM" in done.complaints[0]


def test_where_nobody_speaks_nobody_is_heard(out: Path) -> None:
    for name in ("nothing", "instant", "silence", "noise"):
        assert (out / f"{name}.rttm").read_text() == ""
    assert (out / "nothing.jsonl").read_text() == ""
    assert len((out / "instant.jsonl").read_text().splitlines()) == 1


def test_a_recording_shorter_than_a_window_has_its_turns_in_it(out: Path) -> None:
    found = turns(out / "short.rttm")
    assert sum(end - start for start, end, _ in found) > 1.5
    assert all(0 <= start < end <= 3.0 + 0.02 for start, end, _ in found)  # a frame of 17 ms is rounded up


def test_a_constant_shift_changes_nothing(out: Path) -> None:
    assert der(turns(out / "speech.rttm"), turns(out / "shifted.rttm"), 5.0) <= LIMIT


def test_clipped_speech_is_still_speech(out: Path) -> None:
    assert sum(end - start for start, end, _ in turns(out / "clipped.rttm")) > 3.0
