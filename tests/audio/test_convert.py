"""Sample formats against values worked out by hand, and against what libsndfile makes of the same samples."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from diart_mp.audio.convert import SAMPLE_BYTES, decode_pcm, to_float32
from diart_mp.errors import AudioError


@pytest.mark.parametrize(
    ("samples", "expected"),
    [
        (np.array([0, 1, -32768, 32767], np.int16), [0, 1 / 32768, -1, 32767 / 32768]),
        (np.array([0, 1 << 30, -(1 << 31)], np.int32), [0, 0.5, -1]),
        (np.array([128, 0, 192], np.uint8), [0, -1, 0.5]),
        (np.array([0.25, -3.5]), [0.25, -3.5]),
        (np.array([0.25, np.inf], np.float32), [0.25, np.inf]),
        (np.array([1e300]), [np.inf]),
    ],
)
def test_full_scale_is_one(samples: np.ndarray, expected: list[float]) -> None:
    converted = to_float32(samples)
    assert converted.dtype == np.float32
    np.testing.assert_array_equal(converted, np.array(expected, np.float32))


def test_shape_is_kept() -> None:
    assert to_float32(np.zeros((3, 2), np.int16)).shape == (3, 2)


@pytest.mark.parametrize("kind", [np.int64, np.complex64, np.bool_])
def test_other_types_are_refused(kind: type) -> None:
    with pytest.raises(AudioError, match="not supported"):
        to_float32(np.zeros(3, kind))


@pytest.mark.parametrize(
    ("data", "encoding", "expected"),
    [
        (b"\x00\x40\x00\x80", "s16le", [0.5, -1]),
        (b"\x00\x00\x40\x00\x00\x80\xff\xff\xff", "s24le", [0.5, -1, -(2**-23)]),
        (b"\x00\x00\x00\x40\x00\x00\x00\x80", "s32le", [0.5, -1]),
        (b"\x00\x00\x80\x3e\x00\x00\x00\xbf", "f32le", [0.25, -0.5]),
        (b"", "s24le", []),
    ],
)
def test_bytes_are_little_endian(data: bytes, encoding: str, expected: list[float]) -> None:
    np.testing.assert_array_equal(decode_pcm(data, encoding), np.array(expected, np.float32))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("encoding", "subtype"), [("s16le", "PCM_16"), ("s24le", "PCM_24"), ("s32le", "PCM_32"), ("f32le", "FLOAT")]
)
def test_same_samples_as_libsndfile(tmp_path: Path, encoding: str, subtype: str) -> None:
    path = tmp_path / "headerless.pcm"
    noise = np.random.default_rng(1).uniform(-1, 1, 500)
    soundfile.write(path, noise, 16000, subtype=subtype, format="RAW", endian="LITTLE")
    expected, _ = soundfile.read(
        path, dtype="float32", samplerate=16000, channels=1, subtype=subtype, format="RAW", endian="LITTLE"
    )
    assert path.stat().st_size == 500 * SAMPLE_BYTES[encoding]  # type: ignore[index]
    np.testing.assert_array_equal(decode_pcm(path.read_bytes(), encoding), expected)  # type: ignore[arg-type]
