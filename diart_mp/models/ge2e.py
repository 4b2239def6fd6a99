"""GE2E, the built-in speaker encoder, with its mel front-end.

What is here: a 3-layer LSTM on 1.6 s of 40 mel bands (Wan et al. 2018, "Generalized end-to-end loss for speaker
verification", as Resemblyzer trained it), and the pooling that makes it overlap-aware: a chunk is cut into partials,
each goes through the network once, and a speaker's embedding is the mean of the partials by the speaker's weights.
Where the weights come from is unknown here. The embedding stage runs it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from numpy.typing import NDArray
from torch import nn

from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray, no_embeddings
from diart_mp.models.inference import as_tensor, batch_invariant

_SAMPLE_RATE = 16000
_DIMENSION = 256
_FFT, _HOP, _BANDS = 400, 160, 40  # samples, samples, mel bands
_PARTIAL = 160  # mel frames of a partial: 1.6 s
_STRIDE = 77  # mel frames from one partial to the next: 1.3 partials per second
_MIN_COVERAGE = 0.75  # share of the last partial that has to be audio
_CPU_ROWS = 16  # partials per pass on a CPU: most of what a batch gains, in bounded memory
_TRIED_ROWS = (2, 3, 5, 8, 16)  # passes of these many partials have to agree to the bit


def mel_basis() -> FloatArray:
    """Slaney's mel filters, (40, 201): triangles of unit area, linear below 1 kHz and logarithmic above."""
    hertz_per_mel, log_step, corner = 200 / 3, np.log(6.4) / 27, 15.0  # the corner, in mels, is 1 kHz
    top = corner + np.log(_SAMPLE_RATE / 2 / 1000) / log_step
    mels = np.linspace(0, top, _BANDS + 2)
    edges = np.where(mels < corner, mels * hertz_per_mel, 1000 * np.exp((mels - corner) * log_step))
    bins = np.linspace(0, _SAMPLE_RATE / 2, _FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


def partial_starts(samples: int) -> list[int]:
    """First mel frames of the partials of a chunk: 0, 77, 154 ..., the last one at least 75 % audio; never none."""
    frames = -(-(samples + 1) // _HOP)
    starts = list(range(0, max(1, frames - _PARTIAL + _STRIDE + 1), _STRIDE))
    coverage = (samples - starts[-1] * _HOP) / (_PARTIAL * _HOP)
    return starts[:-1] if coverage < _MIN_COVERAGE and len(starts) > 1 else starts


def partial_weights(weights: FloatArray, samples: int) -> NDArray[np.float64]:
    """Mean weight of each speaker over each partial: (frames, speakers) to (partials, speakers)."""
    frames, seconds = len(weights), samples / _SAMPLE_RATE
    means = []
    for start in partial_starts(samples):
        low = round(0.01 * start / seconds * frames)
        high = round((0.01 * start + 1.6) / seconds * frames)
        means.append(weights[low : max(high, low + 1)].mean(axis=0, dtype=np.float64))
    return np.stack(means)


class Encoder(nn.Module):
    """The network; its parameters have the names of the published weights."""

    mel: torch.Tensor
    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(_BANDS, _DIMENSION, 3, batch_first=True)
        self.linear = nn.Linear(_DIMENSION, _DIMENSION)
        self.register_buffer("mel", torch.from_numpy(mel_basis()), persistent=False)
        self.register_buffer("window", torch.hann_window(_FFT), persistent=False)

    def spectrogram(self, waveform: torch.Tensor) -> torch.Tensor:
        """Mel power of a waveform (samples,), centred with zeros: (1 + samples // 160, 40)."""
        spectrum = torch.stft(
            waveform, _FFT, _HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        return (self.mel @ (spectrum.real**2 + spectrum.imag**2)).T

    def partials(self, waveform: torch.Tensor, starts: list[int]) -> torch.Tensor:
        """Cut the mel frames of a waveform (samples,), padded to the last partial, into (partials, 160, 40)."""
        missing = (starts[-1] + _PARTIAL) * _HOP - len(waveform)
        mel = self.spectrogram(F.pad(waveform, (0, max(0, missing))))
        return torch.stack([mel[start : start + _PARTIAL] for start in starts])

    def last_hidden(self, partials: torch.Tensor) -> torch.Tensor:
        """Last hidden state of the last layer: (partials, 160, 40) to (partials, 256).

        A single partial goes in twice: a product with one row is summed in another order than one with more.
        """
        rows = partials.expand(2, -1, -1) if len(partials) == 1 else partials
        hidden: torch.Tensor = self.lstm(rows)[1][0][-1]
        return hidden[: len(partials)]

    def project(self, hidden: torch.Tensor) -> torch.Tensor:
        """Map (partials, 256) to embeddings that are not normalised yet, each row by itself (see `last_hidden`)."""
        return torch.cat([F.relu(self.linear(row)) for row in torch.split(hidden, 1)])


@dataclass(frozen=True, slots=True)
class _Plan:
    """What has to be computed for a chunk: weights (partials, speakers), and which partials anybody needs."""

    chunk: int
    weights: NDArray[np.float64]
    needed: BoolArray


class BuiltinEmbedding(EmbeddingModel):
    """GE2E as a stage runs it: all partials of a batch go through the network together.

    On a CPU a chunk's embeddings are the same bits in any batch: where the processor's kernels do not keep that (it
    is tried at construction), and with `reproducible` on any device, chunks are embedded one by one.

    Args:
        weights: parameters by their name in the checkpoint.
        device: device as torch names it.
        reproducible: embed chunks one by one.

    """

    sample_rate = _SAMPLE_RATE
    dimension = _DIMENSION

    def __init__(self, weights: Mapping[str, FloatArray], device: str = "cpu", *, reproducible: bool = False) -> None:
        self._device = device
        self._net = Encoder().eval()
        self._net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self._net.to(device)
        self._one_by_one = reproducible
        if device == "cpu" and not reproducible:
            with torch.inference_mode():
                self._one_by_one = not batch_invariant(self._net.last_hidden, (_PARTIAL, _BANDS), _TRIED_ROWS)

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers); rows have unit length or are NaN."""
        result = no_embeddings(active, _DIMENSION)
        plans = [_plan(int(b), weights[b], active[b], waveforms.shape[1]) for b in np.flatnonzero(active.any(axis=1))]
        plans = [plan for plan in plans if plan.needed.any()]
        groups = [[plan] for plan in plans] if self._one_by_one else [plans] if plans else []
        with torch.inference_mode():
            for group in groups:
                rows = self._encode(waveforms, group)
                for plan in group:
                    count = int(plan.needed.sum())
                    result[plan.chunk] = _pool(rows[:count], plan, active[plan.chunk])
                    rows = rows[count:]
        return result

    def _encode(self, waveforms: FloatArray, plans: list[_Plan]) -> FloatArray:
        """Embeddings of all needed partials, chunk after chunk, each of unit length: (partials, 256)."""
        starts = np.array(partial_starts(waveforms.shape[1]))
        cut = [
            self._net.partials(as_tensor(waveforms[plan.chunk], self._device), starts[plan.needed].tolist())
            for plan in plans
        ]
        rows = torch.cat(cut)
        size = _CPU_ROWS if self._device == "cpu" else len(rows)
        hidden = torch.cat([self._net.last_hidden(block) for block in torch.split(rows, size)])
        embeddings: FloatArray = self._net.project(hidden).cpu().numpy()
        with np.errstate(invalid="ignore"):
            embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        return embeddings


def _plan(chunk: int, weights: FloatArray, active: BoolArray, samples: int) -> _Plan:
    """Find out which partials of a chunk matter: a partial that no active speaker weighs need not be computed."""
    means = partial_weights(weights, samples)
    return _Plan(chunk, means, np.any(means[:, active] > 0, axis=1))


def _pool(partials: FloatArray, plan: _Plan, active: BoolArray) -> FloatArray:
    """Weighted mean of the needed partials for each active speaker, at unit length; (speakers, 256)."""
    result = no_embeddings(active, _DIMENSION)
    for speaker in np.flatnonzero(active):
        weights = plan.weights[plan.needed, speaker]
        kept = weights > 0  # a weight of 0 adds nothing, even where the partial itself has no embedding
        with np.errstate(invalid="ignore"):
            mean = (weights[kept, None] * partials[kept]).sum(axis=0) / weights[kept].sum()
            result[speaker] = mean / np.linalg.norm(mean)
    return result
