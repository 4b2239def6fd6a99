"""The GE2E network in torch, for GPUs and for machines without OpenVINO.

What is here: a 3-layer LSTM on 1.6 s of 40 mel bands with its front-end on the same device. Which partials are wanted and
how they are pooled is unknown here. The embedding stage runs it.
"""

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from diart_mp.models.base import FloatArray
from diart_mp.models.batches import batch_invariant
from diart_mp.models.ge2e import BANDS, DIMENSION, FFT, HOP, PARTIAL, mel_basis
from diart_mp.models.inference import as_tensor

_CPU_ROWS = 16  # partials per pass on a CPU: most of what a batch gains, in bounded memory
_TRIED_ROWS = (2, 3, 5, 8, 16)  # passes of these many partials have to agree to the bit


class Network(nn.Module):
    """The network; its parameters have the names of the published weights."""

    mel: torch.Tensor
    window: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(BANDS, DIMENSION, 3, batch_first=True)
        self.linear = nn.Linear(DIMENSION, DIMENSION)
        self.register_buffer("mel", torch.from_numpy(mel_basis()), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)

    def spectrogram(self, waveform: torch.Tensor) -> torch.Tensor:
        """Mel power of a waveform (samples,), centred with zeros: (1 + samples // 160, 40)."""
        spectrum = torch.stft(
            waveform, FFT, HOP, window=self.window, center=True, pad_mode="constant", return_complex=True
        )
        return (self.mel @ (spectrum.real**2 + spectrum.imag**2)).T

    def partials(self, waveform: torch.Tensor, starts: Sequence[int]) -> torch.Tensor:
        """Cut the mel frames of a waveform (samples,), padded to the last partial, into (partials, 160, 40)."""
        missing = (starts[-1] + PARTIAL) * HOP - len(waveform)
        mel = self.spectrogram(F.pad(waveform, (0, max(0, missing))))
        return torch.stack([mel[start : start + PARTIAL] for start in starts])

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


class TorchEncoder:
    """The network on `device`. On a CPU it is tried at construction whether a batch changes the numbers.

    Args:
        weights: parameters by their name in the checkpoint.
        device: device as torch names it.

    """

    def __init__(self, weights: Mapping[str, FloatArray], device: str = "cpu") -> None:
        self._device = device
        self._net = Network().eval()
        self._net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self._net.to(device)
        self.batch_invariant = True
        if device == "cpu":
            with torch.inference_mode():
                self.batch_invariant = batch_invariant(self._last_hidden, (PARTIAL, BANDS), _TRIED_ROWS)

    def __call__(self, waveforms: Sequence[FloatArray], starts: Sequence[Sequence[int]]) -> FloatArray:
        """Encode partials: (all partials, 256)."""
        with torch.inference_mode():
            cut = [
                self._net.partials(as_tensor(waveform, self._device), wanted)
                for waveform, wanted in zip(waveforms, starts, strict=True)
            ]
            rows = torch.cat(cut)
            size = _CPU_ROWS if self._device == "cpu" else len(rows)
            hidden = torch.cat([self._net.last_hidden(block) for block in torch.split(rows, size)])
            embeddings: FloatArray = self._net.project(hidden).cpu().numpy()
        return embeddings

    def _last_hidden(self, partials: FloatArray) -> FloatArray:
        hidden: FloatArray = self._net.last_hidden(torch.from_numpy(partials)).numpy()
        return hidden
