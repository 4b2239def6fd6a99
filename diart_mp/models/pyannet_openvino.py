"""PyanNet on OpenVINO, for CPUs: the sinc filters in NumPy, once per stretch of audio, the rest as two graphs.

What is here: SincNet (stride 10), LSTM layers, linear layers and a head, as many and as large as the weights say. All up to the
LSTM is computed in float32 whatever the precision: its normalisations amplify small differences. Where the weights
come from and how chunks are batched is unknown here. The segmentation stage runs it, and the embedding stage its first layers.
"""

from collections.abc import Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np

from diart_mp.models.base import FloatArray
from diart_mp.models.batches import batch_invariant, remembered_trial
from diart_mp.models.builtin import tensors_digest
from diart_mp.models.openvino import Layers, Session, load_openvino
from diart_mp.models.overlap import PIECE, Memory, Print, fingerprints
from diart_mp.models.pyannet import SINC_KERNEL, SINC_STRIDE, sinc_filters
from diart_mp.precision import Precision

_CHUNKS = 8  # per pass: takes a quarter off a chunk's time on one core, and more gains nothing
_BLOCK = PIECE // SINC_STRIDE  # positions of the filters that are computed and remembered together: 0.25 s
_POOL = 3
FILTERS, _FEATURES = 80, 60
_EPSILON = 1e-5  # of normalisations


class SincLayer:
    """The first layer: waveforms normalised, filtered, rectified and pooled.

    A waveform is normalised as a whole, which moves and scales it, and filters are linear: so they are applied to the audio
    as it is, once for all windows that hold it, and the normalisation of each window comes after.
    """

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        parts = (weights[f"sincnet.conv1d.0.filterbank.{part}_"] for part in ("low_hz", "band_hz"))
        self._filters = np.ascontiguousarray(sinc_filters(*parts)[:, 0].T)  # (251, 80)
        self._sums = self._filters.sum(axis=0, dtype=np.float64)
        self._scale, self._shift = (float(weights[f"sincnet.wav_norm1d.{name}"][0]) for name in ("weight", "bias"))
        self._memory = Memory[FloatArray](64)  # 128 kB each

    def __call__(self, waveform: FloatArray) -> FloatArray:
        """(samples,) to (positions // 3, 80)."""
        waveform = np.ascontiguousarray(waveform)
        mean = waveform.mean(dtype=np.float64)
        scale = self._scale / np.sqrt(waveform.var(dtype=np.float64) + _EPSILON)
        filtered = self._filtered(waveform)
        filtered *= np.float32(scale)
        filtered += ((self._shift - mean * scale) * self._sums).astype(np.float32)
        np.abs(filtered, out=filtered)
        triples = filtered[: len(filtered) // _POOL * _POOL].reshape(-1, _POOL, FILTERS)
        pooled: FloatArray = np.maximum(np.maximum(triples[:, 0], triples[:, 1]), triples[:, 2])
        return pooled

    def _filtered(self, waveform: FloatArray) -> FloatArray:
        """The filters at all positions: (positions, 80). Blocks of positions are counted from the end, as new audio comes there."""
        self._memory.next_window()
        positions = (len(waveform) - SINC_KERNEL) // SINC_STRIDE + 1
        before = -positions % _BLOCK  # positions of the first block that lie before the waveform
        prints = fingerprints(waveform, range(-(-len(waveform) // PIECE)))
        blocks = []
        for first in range(-before, positions, _BLOCK):
            begin = first * SINC_STRIDE
            end = begin + (_BLOCK - 1) * SINC_STRIDE + SINC_KERNEL
            blocks.append(self._block(waveform, begin, end, prints))
        blocks[0] = blocks[0][before:]
        return np.concatenate(blocks)

    def _block(self, waveform: FloatArray, begin: int, end: int, prints: Sequence[Print]) -> FloatArray:
        """The filters on samples ``begin`` to ``end``, (400, 80); of those before the waveform some rows, nobody knows which."""
        pieces = tuple(prints[max(0, begin // PIECE) : -(-end // PIECE)])
        whole = ("whole", begin % PIECE, *pieces)
        rest = ("rest", begin % PIECE, *pieces[begin >= 0 :])  # the rows that need nothing of the first piece
        known = None not in pieces
        block = self._memory.get(rest if begin < 0 else whole) if known else None
        if block is None:
            padded = np.pad(waveform[max(0, begin) : end], (max(0, -begin), 0))
            windows = np.lib.stride_tricks.sliding_window_view(padded, SINC_KERNEL)[::SINC_STRIDE]
            block = np.ascontiguousarray(windows) @ self._filters
            if known:
                self._memory.put(rest, block)
                if begin >= 0:
                    self._memory.put(whole, block)
        return block


def sincnet_features(layers: Layers, weights: Mapping[str, FloatArray], pooled: Any) -> Any:
    """What follows the first layer: (batch, positions, 80) to (batch, 60, frames)."""
    node = layers.op.transpose(pooled, layers.integers(0, 2, 1))
    node = layers.leaky_relu(layers.instance_norm(node, "sincnet.norm1d.0"))
    for index in (1, 2):
        name = f"sincnet.conv1d.{index}"
        node = layers.max_pool(layers.convolution(node, weights[f"{name}.weight"], bias=f"{name}.bias"), _POOL)
        node = layers.leaky_relu(layers.instance_norm(node, f"sincnet.norm1d.{index}"))
    return node


def front_graph(weights: Mapping[str, FloatArray], positions: int) -> Any:
    """SincNet behind its first layer: (batch, positions, 80) to (batch, frames, 60)."""
    layers = Layers(weights)
    pooled = layers.op.parameter([-1, positions, FILTERS], np.float32, name="pooled")
    node = layers.op.transpose(sincnet_features(layers, weights, pooled), layers.integers(0, 2, 1))
    return load_openvino().Model([layers.op.result(node)], [pooled], "front")


def recurrent_graph(weights: Mapping[str, FloatArray], activation: str = "sigmoid") -> Any:
    """The LSTM and the head: (batch, frames, 60) to (batch, frames, classes); `weights` by their names in the checkpoint."""
    layers = Layers(weights)
    node = features = layers.op.parameter([-1, -1, _FEATURES], np.float32, name="features")
    bidirectional = "lstm.weight_ih_l0_reverse" in weights
    for layer in range(_count(weights, "lstm.weight_ih_l{}")):
        node, _ = layers.lstm(node, "lstm", layer, bidirectional=bidirectional)
    for index in range(_count(weights, "linear.{}.weight")):
        node = layers.leaky_relu(layers.linear(node, f"linear.{index}"))
    node = layers.linear(node, "classifier")
    scores = layers.op.sigmoid(node) if activation == "sigmoid" else layers.op.log_softmax(node, -1)
    return load_openvino().Model([layers.op.result(scores)], [features], "recurrent")


def _count(weights: Mapping[str, FloatArray], name: str) -> int:
    return next(number for number in count() if name.format(number) not in weights)


def positions_of(samples: int) -> int:
    """Positions of the first layer, behind its pooling, in so many samples."""
    return ((samples - SINC_KERNEL) // SINC_STRIDE + 1) // _POOL


class OpenVinoPyanNet:
    """The network on the CPU; what depends on the length of a chunk is compiled for each length that comes.

    Whether a batch changes the numbers is tried at the first call with a new length, once on a machine; then chunks go through
    one by one.

    Args:
        weights: parameters by their name in the checkpoint.
        threads: threads that one pass may use.
        precision: see `Session`; of the LSTM and the head.
        activation: of the head: ``sigmoid`` or ``log_softmax``.

    """

    def __init__(
        self,
        weights: Mapping[str, FloatArray],
        *,
        threads: int = 1,
        precision: Precision = Precision.EXACT,
        activation: str = "sigmoid",
    ) -> None:
        self._weights, self._threads = weights, threads
        self._name = f"pyannet {tensors_digest(weights)} {activation} {threads} {precision}"
        self._sinc = SincLayer(weights)
        self._recurrent = Session(recurrent_graph(weights, activation), threads=threads, precision=precision)
        self._fronts: dict[int, Session] = {}
        self._blocks: dict[int, int] = {}

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        return self._pass(np.stack([self._sinc(waveform) for waveform in waveforms]))

    def chunks_per_pass(self, samples: int) -> int:
        """Chunks that a pass may have without a change of the numbers."""
        positions = positions_of(samples)
        if positions not in self._blocks:
            steady = remembered_trial(
                self._name, lambda: batch_invariant(self._pass, (positions, FILTERS), (1, _CHUNKS)), positions, _CHUNKS
            )
            self._blocks[positions] = _CHUNKS if steady else 1
        return self._blocks[positions]

    def _pass(self, pooled: FloatArray) -> FloatArray:
        """One run of both graphs on (batch, positions, 80)."""
        positions = pooled.shape[1]
        if positions not in self._fronts:
            self._fronts[positions] = Session(front_graph(self._weights, positions), threads=self._threads)
        return self._recurrent(self._fronts[positions](pooled))
