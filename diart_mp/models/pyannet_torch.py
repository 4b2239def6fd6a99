"""PyanNet in plain torch, for GPUs and for machines without OpenVINO.

What is here: SincNet (stride 10), bidirectional LSTM layers, two linear layers and a sigmoid head, with the names of
pyannote.audio's checkpoints. Where the weights come from is unknown here. The segmentation stage runs it.
"""

import math
import sys
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn

from diart_mp.models.base import FloatArray
from diart_mp.models.batches import batch_invariant
from diart_mp.models.inference import as_tensor
from diart_mp.models.pyannet import LSTM_LAYERS, LSTM_SIZE, SAMPLE_RATE, SINC_KERNEL, SINC_MIN_HZ, SINC_STRIDE

_CPU_BLOCK = 4  # chunks per pass: takes a third off a chunk's time on one core, and more gains nothing


class SincFilters(nn.Module):
    """Band-pass filters of a learned lower edge and width: 40 even (cosine) and 40 odd (sine) ones.

    Source: Pariente et al. 2020, "Filterbank design for end-to-end speech separation".
    """

    window_: torch.Tensor
    n_: torch.Tensor

    def __init__(self, pairs: int = 40) -> None:
        super().__init__()
        half = SINC_KERNEL // 2
        self.low_hz_ = nn.Parameter(torch.zeros(pairs, 1))
        self.band_hz_ = nn.Parameter(torch.zeros(pairs, 1))
        self.register_buffer("window_", torch.from_numpy(np.hamming(SINC_KERNEL)[:half]).float())
        self.register_buffer("n_", 2 * math.pi * (torch.arange(-half, 0.0).view(1, -1) / SAMPLE_RATE))

    def filters(self) -> torch.Tensor:
        """Compute the filters, (2 * pairs, 1, 251)."""
        low = SINC_MIN_HZ + self.low_hz_.abs()
        high = torch.clamp(low + SINC_MIN_HZ + self.band_hz_.abs(), SINC_MIN_HZ, SAMPLE_RATE / 2)
        phase_low, phase_high, width = low @ self.n_, high @ self.n_, 2 * (high - low)
        even = (phase_high.sin() - phase_low.sin()) / (self.n_ / 2) * self.window_
        odd = (phase_low.cos() - phase_high.cos()) / (self.n_ / 2) * self.window_
        cosine = torch.cat([even, width, even.flip(1)], dim=1)
        sine = torch.cat([odd, torch.zeros_like(width), -odd.flip(1)], dim=1)
        return (torch.cat([cosine, sine]) / torch.cat([width, width])).unsqueeze(1)


class SincConv(nn.Module):
    """Convolution of a waveform with the sinc filters, which are computed once per load."""

    def __init__(self) -> None:
        super().__init__()
        self.filterbank = SincFilters()
        self._filters: torch.Tensor | None = None

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Filter (batch, 1, samples) into (batch, 80, (samples - 251) // 10 + 1)."""
        if self._filters is None:
            self._filters = self.filterbank.filters()
        return F.conv1d(waveforms, self._filters, stride=SINC_STRIDE)


class SincNet(nn.Module):
    """Waveform to 60 features per frame of 270 samples; each chunk and channel is normalised by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.wav_norm1d = nn.InstanceNorm1d(1, affine=True)
        self.conv1d = nn.ModuleList([SincConv(), nn.Conv1d(80, 60, 5), nn.Conv1d(60, 60, 5)])
        self.norm1d = nn.ModuleList([nn.InstanceNorm1d(n, affine=True) for n in (80, 60, 60)])

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        """Turn (batch, 1, samples) into (batch, 60, frames)."""
        out: torch.Tensor = self.wav_norm1d(waveforms)
        for layer, (conv, norm) in enumerate(zip(self.conv1d, self.norm1d, strict=True)):
            out = conv(out)
            if layer == 0:
                out = out.abs()
            out = F.leaky_relu(norm(F.max_pool1d(out, 3)))
        return out


class PyanNet(nn.Module):
    """The whole network; its parameters have the names that pyannote.audio's checkpoints use."""

    def __init__(self, layers: int = LSTM_LAYERS, speakers: int = 3) -> None:
        super().__init__()
        self.sincnet = SincNet()
        self.lstm = nn.LSTM(60, LSTM_SIZE, layers, bidirectional=True, batch_first=True)
        self.linear = nn.ModuleList([nn.Linear(2 * LSTM_SIZE, 128), nn.Linear(128, 128)])
        self.classifier = nn.Linear(128, speakers)

    def recurrent(self, features: torch.Tensor) -> torch.Tensor:
        """Turn (batch, frames, 60) into (batch, frames, 256)."""
        out: torch.Tensor = self.lstm(features)[0]
        return out

    def head(self, frames: torch.Tensor) -> torch.Tensor:
        """Turn (batch, frames, 256) into scores (batch, frames, speakers)."""
        for linear in self.linear:
            frames = F.leaky_relu(linear(frames))
        return torch.sigmoid(self.classifier(frames))

    def forward(self, waveforms: torch.Tensor, each: int = 1) -> torch.Tensor:
        """Score (batch, samples). All but the LSTM takes `each` chunks at a time, as its sums depend on the shape."""
        features = torch.cat([self.sincnet(part.unsqueeze(1)) for part in torch.split(waveforms, each)])
        frames = self.recurrent(features.transpose(1, 2))
        return torch.cat([self.head(part) for part in torch.split(frames, each)])


class TorchPyanNet:
    """The network on `device`.

    On a CPU it is tried at the first call with a new length of chunk whether a batch changes the numbers: on some
    processors it does, and chunks go through one by one.

    Args:
        weights: parameters by their name in the checkpoint.
        device: device as torch names it.

    """

    def __init__(self, weights: Mapping[str, FloatArray], device: str = "cpu") -> None:
        self._device = device
        self._net = PyanNet().eval()
        self._net.load_state_dict({name: torch.from_numpy(array) for name, array in weights.items()})
        self._net.to(device)
        self._cpu_blocks: dict[int, int] = {}  # chunks per pass, by samples per chunk

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        each = 1 if self._device == "cpu" else len(waveforms)
        with torch.inference_mode():
            scores: FloatArray = self._net(as_tensor(waveforms, self._device), each).cpu().numpy()
        return scores

    def chunks_per_pass(self, samples: int) -> int:
        """Chunks that a pass may have without a change of the numbers on a CPU; elsewhere any number."""
        if self._device != "cpu":
            return sys.maxsize
        if samples not in self._cpu_blocks:
            steady = batch_invariant(self, (samples,), range(1, _CPU_BLOCK + 1))
            self._cpu_blocks[samples] = _CPU_BLOCK if steady else 1
        return self._cpu_blocks[samples]
