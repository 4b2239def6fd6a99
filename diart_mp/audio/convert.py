"""Sample formats to float32 in [-1, 1): raw PCM bytes and integer arrays.

Knows nothing of channels, rates or streams. Runs wherever samples enter (capture, gateway).
"""

from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import AudioError

Encoding = Literal["s16le", "s24le", "s32le", "f32le"]

SAMPLE_BYTES: Final[dict[Encoding, int]] = {"s16le": 2, "s24le": 3, "s32le": 4, "f32le": 4}
"""Bytes of one sample of each encoding of raw PCM (little-endian; s = signed integer, f = IEEE float)."""


def to_float32(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Samples as float32, integers scaled so that full scale is 1 (int16 / 32768, as libsndfile does).

    Takes uint8 (offset 128), int16, int32, float32 and float64 of any shape; floats keep their values, which may
    then not be finite. float32 comes back as it is, not copied. Raises AudioError for another type.
    """
    if samples.dtype == np.uint8:
        return (samples.astype(np.float32) - np.float32(128)) * np.float32(2**-7)
    if samples.dtype == np.int16:
        return samples.astype(np.float32) * np.float32(2**-15)
    if samples.dtype == np.int32:
        return samples.astype(np.float32) * np.float32(2**-31)
    if samples.dtype in (np.float32, np.float64):
        with np.errstate(over="ignore"):
            return samples.astype(np.float32, copy=False)
    msg = f"audio samples of type {samples.dtype} are not supported; give uint8, int16, int32, float32 or float64"
    raise AudioError(msg)


def decode_pcm(data: bytes, encoding: Encoding) -> NDArray[np.float32]:
    """Raw PCM as float32, shape (number of samples,). ``data`` holds whole samples."""
    if encoding == "s24le":
        packed = np.frombuffer(data, np.uint8).reshape(-1, 3)
        wide = np.zeros((len(packed), 4), np.uint8)
        wide[:, 1:] = packed  # the 24 bits become the upper ones of 32, so that the sign is right
        return to_float32(wide.view("<i4")[:, 0])
    kind = {"s16le": "<i2", "s32le": "<i4", "f32le": "<f4"}[encoding]
    return to_float32(np.frombuffer(data, kind))
