"""PyanNet, the built-in segmentation model, whatever runs its network.

What is here: the sinc filters and the order in which chunks go through the network (Bredin & Laurent 2021, "End-to-end speaker
segmentation"). NumPy alone: the networks are in ``pyannet_torch`` and ``pyannet_openvino``, and where weights come from is
unknown. The segmentation stage runs it.
"""

from typing import Protocol

import numpy as np

from diart_mp.errors import ModelError
from diart_mp.models.base import FloatArray, SegmentationModel

SAMPLE_RATE = 16_000
LSTM_LAYERS = 4
LSTM_SIZE = 128  # per direction
SINC_STRIDE = 10  # samples
_MIN_SAMPLES = 1261  # two frames, what the normalisation of frames needs
SINC_KERNEL = 251  # samples of a sinc filter
SINC_MIN_HZ = 50.0  # lowest cut-off frequency, and least band width


class Network(Protocol):
    """What runs the network."""

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples): (batch, frames, speakers)."""

    def chunks_per_pass(self, samples: int) -> int:
        """Most chunks of that length that one call should have: a chunk's numbers must not depend on the others on a CPU."""


def sinc_filters(low_hz: FloatArray, band_hz: FloatArray) -> FloatArray:
    """Band-pass filters of a learned lower edge and width, (pairs, 1) each: even (cosine) ones, then odd (sine) ones.

    All in float32, in the order in which the network was trained with them: the steps that follow amplify differences.
    Source: Pariente et al. 2020, "Filterbank design for end-to-end speech separation".

    Returns:
        (2 * pairs, 1, 251).

    """
    half, number = SINC_KERNEL // 2, np.float32
    window = np.hamming(SINC_KERNEL)[:half].astype(np.float32)
    angles = number(2 * np.pi) * (np.arange(-half, 0, dtype=np.float32) / number(SAMPLE_RATE))[None]
    low = number(SINC_MIN_HZ) + np.abs(low_hz)
    high = np.clip(low + number(SINC_MIN_HZ) + np.abs(band_hz), number(SINC_MIN_HZ), number(SAMPLE_RATE / 2))
    phase_low, phase_high, width = low * angles, high * angles, 2 * (high - low)
    even = (_rounded(np.sin, phase_high) - _rounded(np.sin, phase_low)) / (angles / 2) * window
    odd = (_rounded(np.cos, phase_low) - _rounded(np.cos, phase_high)) / (angles / 2) * window
    cosine = np.concatenate([even, width, even[:, ::-1]], axis=1)
    sine = np.concatenate([odd, np.zeros_like(width), -odd[:, ::-1]], axis=1)
    filters: FloatArray = np.concatenate([cosine, sine]) / np.concatenate([width, width])
    return filters[:, None]


def _rounded(function: np.ufunc, phases: FloatArray) -> FloatArray:
    """Right to the last bit, as torch's is in 19 of 20 values: NumPy's own float32 function is in 5 of 6."""
    return np.asarray(function(phases.astype(np.float64)), np.float32)


class BuiltinSegmentation(SegmentationModel):
    """PyanNet as a stage runs it: 80,000 samples give (293, 3) scores.

    On a CPU a chunk's scores are the same bits in any batch, and with `reproducible` on any device.

    Args:
        network: what runs the network.
        reproducible: score chunks one by one.

    """

    sample_rate = SAMPLE_RATE
    duration = 5.0

    def __init__(self, network: Network, *, reproducible: bool = False) -> None:
        self._network = network
        self._reproducible = reproducible

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples); ModelError where a chunk is shorter than two frames."""
        samples = waveforms.shape[1]
        if samples < _MIN_SAMPLES:
            msg = f"a chunk of {samples} samples is too short for segmentation, which needs {_MIN_SAMPLES}"
            raise ModelError(msg)
        size = 1 if self._reproducible else self._network.chunks_per_pass(samples)
        return np.concatenate([self._network(waveforms[i : i + size]) for i in range(0, len(waveforms), size)])
