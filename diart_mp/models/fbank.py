"""Log mel energies as Kaldi has them, with which WeSpeaker's networks were trained, in NumPy.

What is here: frames of 25 ms every 10 ms, without their mean, pre-emphasised, under a Hamming window; 80 mel bands; each band without
its mean over the window of audio. The network is unknown here. Runs in the embedding stage.
"""

import numpy as np
from numpy.typing import NDArray

from diart_mp.models.base import FloatArray

SAMPLE_RATE = 16_000
BANDS = 80
_FRAME, _HOP, _FFT = 400, 160, 512  # samples
_EMPHASIS = np.float32(0.97)
_LOWEST_HZ, _HIGHEST_HZ = 20.0, 8000.0
_FULL_SCALE = np.float32(1 << 15)  # Kaldi takes samples as 16-bit integers


class Fbank:
    """Makes (bands, frames) of (samples,)."""

    def __init__(self) -> None:
        self._window = np.hamming(_FRAME).astype(np.float32)
        self._basis = np.ascontiguousarray(mel_basis().T)

    def __call__(self, waveform: FloatArray) -> FloatArray:
        """The energies of a window of at least 400 samples."""
        frames = np.lib.stride_tricks.sliding_window_view(waveform * _FULL_SCALE, _FRAME)[::_HOP]
        frames = frames - frames.mean(axis=1, keepdims=True)
        before = np.concatenate([frames[:, :1], frames[:, :-1]], axis=1)
        spectrum = np.abs(np.fft.rfft((frames - _EMPHASIS * before) * self._window, _FFT)[:, :-1])
        power = np.square(spectrum.astype(np.float32))
        energies = np.log(np.maximum(power @ self._basis, np.finfo(np.float32).eps))
        return np.ascontiguousarray((energies - energies.mean(axis=0)).T)


def mel_basis() -> FloatArray:
    """Triangles on Kaldi's mel scale, (80, 256): their tops are 1, and the highest frequency of the transform is left out."""
    edges = np.linspace(_mel(np.array(_LOWEST_HZ)), _mel(np.array(_HIGHEST_HZ)), BANDS + 2)[:, None]
    mels = _mel(np.arange(_FFT // 2) * (SAMPLE_RATE / _FFT))
    left, centre, right = edges[:-2], edges[1:-1], edges[2:]
    triangles = np.minimum((mels - left) / (centre - left), (right - mels) / (right - centre))
    return np.maximum(0, triangles).astype(np.float32)


def _mel(hertz: NDArray[np.floating]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = 1127.0 * np.log(1.0 + hertz / 700.0)
    return result
