"""XVectorSincNet and WeSpeaker's ResNet34 on OpenVINO, for CPUs: a trunk per window, a pooling per speaker.

What is here: the graphs of the two trunks, with the names of pyannote.audio's checkpoints, and the model around them. Where the
weights come from is unknown here. The embedding stage runs it.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import count
from typing import Any

import numpy as np

from diart_mp.errors import ModelError
from diart_mp.models.base import WINDOW_S, BoolArray, EmbeddingModel, FloatArray, no_embeddings
from diart_mp.models.fbank import Fbank
from diart_mp.models.openvino import Layers, Session, load_openvino
from diart_mp.models.pooling_numpy import weighted_statistics
from diart_mp.models.pyannet_openvino import SincLayer, sincnet_features

_TDNN_DILATIONS = (1, 2, 3, 1, 1)
_RESNET_LAYERS = (1, 2, 3, 4)


class Trunk(ABC):
    """Features of the frames of a window; its graph is compiled for each length that comes."""

    head: str
    """The layer behind the pooling."""

    def __init__(self, weights: Mapping[str, FloatArray], threads: int) -> None:
        self._weights, self._threads = weights, threads
        self._sessions: dict[tuple[int, ...], Session] = {}

    def __call__(self, waveform: FloatArray) -> FloatArray:
        """(samples,) to (channels, frames)."""
        try:
            first = self._first(waveform)
            if first.shape not in self._sessions:
                self._sessions[first.shape] = Session(self._graph(*first.shape), threads=self._threads)
            features: FloatArray = self._sessions[first.shape](first[None])[0]
        except (RuntimeError, ValueError) as error:
            msg = f"the embedding model cannot take a window of {len(waveform)} samples ({_line(error)}); is it too short?"
            raise ModelError(msg) from error
        return features.reshape(-1, features.shape[-1])

    @abstractmethod
    def _first(self, waveform: FloatArray) -> FloatArray:
        """What is computed in NumPy, (rows, columns)."""

    @abstractmethod
    def _graph(self, rows: int, columns: int) -> Any:
        """The rest: (1, rows, columns) to (1, ..., frames)."""


class XVectorTrunk(Trunk):
    """SincNet and five layers of dilated convolutions."""

    head = "embedding"

    def __init__(self, weights: Mapping[str, FloatArray], threads: int = 1) -> None:
        super().__init__(weights, threads)
        self._sinc = SincLayer(weights)

    def _first(self, waveform: FloatArray) -> FloatArray:
        return self._sinc(waveform)

    def _graph(self, rows: int, columns: int) -> Any:
        layers = Layers(self._weights)
        pooled = layers.op.parameter([1, rows, columns], np.float32, name="pooled")
        node = sincnet_features(layers, self._weights, pooled)
        for index, dilation in enumerate(_TDNN_DILATIONS):
            name = f"tdnns.{3 * index}"  # a convolution, what rectifies it, and what normalises it
            node = layers.convolution(node, self._weights[f"{name}.weight"], bias=f"{name}.bias", dilation=dilation)
            node = layers.batch_norm(layers.leaky_relu(node), f"tdnns.{3 * index + 2}", axes=1)
        return load_openvino().Model([layers.op.result(node)], [pooled], "xvector")


class ResNetTrunk(Trunk):
    """Mel energies and basic residual blocks, as many as the weights have."""

    head = "resnet.seg_1"

    def __init__(self, weights: Mapping[str, FloatArray], threads: int = 1) -> None:
        super().__init__(weights, threads)
        self._fbank = Fbank()

    def _first(self, waveform: FloatArray) -> FloatArray:
        return self._fbank(waveform)

    def _graph(self, rows: int, columns: int) -> Any:
        layers = Layers(self._weights)
        energies = layers.op.parameter([1, rows, columns], np.float32, name="energies")
        node = layers.op.unsqueeze(energies, layers.integers(1))
        node = layers.op.relu(self._normed(layers, node, "resnet.", 1, 1))
        for layer in _RESNET_LAYERS:
            for index in count():
                block = f"resnet.layer{layer}.{index}."
                if f"{block}conv1.weight" not in self._weights:
                    break
                node = self._block(layers, node, block, 2 if layer > 1 and index == 0 else 1)
        return load_openvino().Model([layers.op.result(node)], [energies], "resnet")

    def _block(self, layers: Layers, node: Any, block: str, stride: int) -> Any:
        """Two convolutions of 3 x 3, added to what comes in, which a shortcut brings to their shape."""
        out = layers.op.relu(self._normed(layers, node, block, 1, stride))
        out = self._normed(layers, out, block, 2, 1)
        if f"{block}shortcut.0.weight" in self._weights:
            node = layers.convolution_2d(node, self._weights[f"{block}shortcut.0.weight"], stride=stride)
            node = layers.batch_norm(node, f"{block}shortcut.1", axes=2)
        return layers.op.relu(layers.op.add(out, node))

    def _normed(self, layers: Layers, node: Any, block: str, number: int, stride: int) -> Any:
        filters = self._weights[f"{block}conv{number}.weight"]
        return layers.batch_norm(layers.convolution_2d(node, filters, stride=stride), f"{block}bn{number}", axes=2)


class OpenVinoEmbedding(EmbeddingModel):
    """An embedding network in parts. Windows go through the trunk one by one, so a batch does not change the numbers.

    Args:
        trunk: what makes features of frames.
        weights: parameters by their name in the checkpoint; here of the layer behind the pooling.
        sample_rate: samples per second that the network was trained on.

    """

    duration = WINDOW_S

    def __init__(self, trunk: Trunk, weights: Mapping[str, FloatArray], sample_rate: int) -> None:
        self._trunk = trunk
        self._matrix, self._bias = weights[f"{trunk.head}.weight"], weights[f"{trunk.head}.bias"]
        self.sample_rate, self.dimension = sample_rate, len(self._bias)

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers); NaN where all weights are 0."""
        result = no_embeddings(active, self.dimension)
        for chunk in np.flatnonzero(active.any(axis=1)):
            features = self._trunk(waveforms[chunk])
            for speaker in np.flatnonzero(active[chunk]):
                pooled = weighted_statistics(features, weights[chunk, :, speaker])
                with np.errstate(invalid="ignore"):  # NaN of one without weight
                    result[chunk, speaker] = self._matrix @ pooled + self._bias
        return result


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:100]
