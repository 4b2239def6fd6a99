"""PyanNet as an OpenVINO graph, for CPUs.

What is here: SincNet (stride 10), bidirectional LSTM layers, two linear layers and a sigmoid head. Where the weights
come from and how chunks are batched is unknown here. The segmentation stage runs it.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from diart_mp.models.base import FloatArray
from diart_mp.models.batches import batch_invariant
from diart_mp.models.openvino import Layers, Session
from diart_mp.models.pyannet import LSTM_LAYERS, SINC_STRIDE, sinc_filters
from diart_mp.precision import Precision

_BLOCK = 8  # chunks per pass: takes a quarter off a chunk's time on one core, and more gains nothing


def graph(weights: Mapping[str, FloatArray], samples: int) -> Any:
    """(batch, samples) to (batch, frames, speakers); `weights` by their names in the checkpoint."""
    import openvino

    layers = Layers(weights)
    waveform = layers.op.parameter([-1, samples], np.float32, name="waveform")
    node = layers.instance_norm(layers.op.unsqueeze(waveform, layers.integers(1)), "sincnet.wav_norm1d")
    for index in range(3):
        name = f"sincnet.conv1d.{index}"
        if index == 0:
            filters = (weights[f"{name}.filterbank.{part}_"] for part in ("low_hz", "band_hz"))
            node = layers.op.absolute(layers.convolution(node, sinc_filters(*filters), stride=SINC_STRIDE))
        else:
            node = layers.convolution(node, weights[f"{name}.weight"], bias=f"{name}.bias")
        node = layers.leaky_relu(layers.instance_norm(layers.max_pool(node, 3), f"sincnet.norm1d.{index}"))
    node = layers.op.transpose(node, layers.integers(0, 2, 1))
    for layer in range(LSTM_LAYERS):
        node, _ = layers.lstm(node, "lstm", layer, bidirectional=True)
    for index in range(2):
        node = layers.leaky_relu(layers.linear(node, f"linear.{index}"))
    scores = layers.op.sigmoid(layers.linear(node, "classifier"))
    return openvino.Model([layers.op.result(scores)], [waveform], "pyannet")


class OpenVinoPyanNet:
    """The network on the CPU, compiled for each length of chunk that comes.

    Whether a batch changes the numbers is tried at the first call with a new length; then chunks go through one by one.

    Args:
        weights: parameters by their name in the checkpoint.
        threads: threads that one pass may use.
        precision: see `Session`.

    """

    def __init__(
        self, weights: Mapping[str, FloatArray], *, threads: int = 1, precision: Precision = Precision.EXACT
    ) -> None:
        self._weights, self._threads, self._precision = weights, threads, precision
        self._sessions: dict[int, Session] = {}
        self._blocks: dict[int, int] = {}

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        return self._session(waveforms.shape[1])(waveforms)

    def chunks_per_pass(self, samples: int) -> int:
        """Chunks that a pass may have without a change of the numbers."""
        if samples not in self._blocks:
            steady = batch_invariant(self._session(samples), (samples,), (1, _BLOCK))
            self._blocks[samples] = _BLOCK if steady else 1
        return self._blocks[samples]

    def _session(self, samples: int) -> Session:
        if samples not in self._sessions:
            self._sessions[samples] = Session(
                graph(self._weights, samples), threads=self._threads, precision=self._precision
            )
        return self._sessions[samples]
