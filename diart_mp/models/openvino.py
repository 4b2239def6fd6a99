"""Networks in OpenVINO: the layers that the built-in models are made of, and a session that runs such a graph.

What is here: a graph is put together from arrays of weights when a stage starts (0.1 s), so neither torch nor a converted
file is needed. Which networks there are is unknown here. The segmentation and embedding stages run it on CPUs.
"""

import sys
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.models.base import FloatArray
from diart_mp.models.signal_stack import kept_signal_stack
from diart_mp.precision import Precision

_CONVERTER = "openvino.tools.ovc"
_EPSILON = 1e-5  # of normalisations, as torch has it


def load_openvino() -> Any:
    """OpenVINO, without what converts models of other frameworks: two thirds of its import, which each stage would wait for.

    Whoever wants ``convert_model`` all the same gets it at the first call.
    """
    known = "openvino" in sys.modules
    if not known:
        sys.modules[_CONVERTER] = None  # type: ignore[assignment]  # as if it were not installed, which OpenVINO takes as it is
    try:
        import openvino
    finally:
        if not known:
            sys.modules.pop(_CONVERTER, None)
    if not hasattr(openvino, "convert_model"):
        openvino.convert_model = _convert
    return openvino


def openvino_version() -> str:
    """Version and build: kernels, and so the last digits of numbers, change with it."""
    return str(load_openvino().__version__)


def _convert(*arguments: Any, **named: Any) -> Any:
    return import_module(_CONVERTER).convert_model(*arguments, **named)


class Session:
    """A compiled graph with one input and one output, on the CPU.

    Args:
        graph: an ``openvino.Model``.
        threads: threads that one call may use.
        precision: fast computes with bfloat16 where the processor has instructions for it, exact in float32.

    """

    def __init__(self, graph: Any, *, threads: int = 1, precision: Precision = Precision.EXACT) -> None:
        core = load_openvino().Core()
        short = precision is Precision.FAST and "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        settings = {
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": "1",
            "ENABLE_CPU_PINNING": "NO",  # several stages share the cores; the scheduler knows best
            "INFERENCE_PRECISION_HINT": "bf16" if short else "f32",
        }
        with kept_signal_stack():
            self._request = core.compile_model(graph, "CPU", settings).create_infer_request()

    def __call__(self, array: FloatArray) -> FloatArray:
        """The output for `array`, in memory of its own."""
        wanted = np.require(array, np.float32, ["C"])
        output: FloatArray = self._request.infer({0: wanted})[0]
        return np.array(output, dtype=np.float32)


class Layers:
    """Makes the nodes of a graph from the weights of a checkpoint, under the names that torch gives them."""

    def __init__(self, weights: Mapping[str, FloatArray]) -> None:
        self.op: Any = load_openvino().opset13
        self._weights = weights

    def constant(self, array: NDArray[np.floating]) -> Any:
        """A float32 constant."""
        return self.op.constant(np.ascontiguousarray(array, dtype=np.float32))

    def integers(self, *values: int) -> Any:
        """A list of integers, as axes and shapes are given."""
        return self.op.constant(np.array(values, np.int64))

    def leaky_relu(self, node: Any) -> Any:
        """With the slope that torch takes by default."""
        return self.op.prelu(node, self.constant(np.array([0.01])))

    def instance_norm(self, node: Any, name: str) -> Any:
        """Normalise each channel of (batch, channels, time) over time, then scale it."""
        normal = self.op.mvn(node, self.integers(2), True, _EPSILON, "inside_sqrt")
        scaled = self.op.multiply(normal, self._channels(f"{name}.weight"))
        return self.op.add(scaled, self._channels(f"{name}.bias"))

    def convolution(self, node: Any, filters: FloatArray, *, bias: str = "", dilation: int = 1) -> Any:
        """Over the time of (batch, channels, time), without padding."""
        out = self.op.convolution(node, self.constant(filters), [1], [0], [0], [dilation])
        return self.op.add(out, self._channels(bias)) if bias else out

    def convolution_2d(self, node: Any, filters: FloatArray, *, stride: int = 1) -> Any:
        """Over (batch, channels, height, width), padded so that the stride alone makes it smaller."""
        padding = [size // 2 for size in filters.shape[2:]]
        return self.op.convolution(node, self.constant(filters), [stride, stride], padding, padding, [1, 1])

    def batch_norm(self, node: Any, name: str, *, axes: int) -> Any:
        """With what was found in training; ``axes`` behind that of the channels."""
        mean, variance, scale, shift = (
            self._weights[f"{name}.{part}"].astype(np.float64).reshape(1, -1, *[1] * axes)
            for part in ("running_mean", "running_var", "weight", "bias")
        )
        factor = scale / np.sqrt(variance + _EPSILON)
        return self.op.add(self.op.multiply(node, self.constant(factor)), self.constant(shift - mean * factor))

    def max_pool(self, node: Any, size: int) -> Any:
        """Maxima over `size` steps of time."""
        return self.op.max_pool(node, [size], [1], [0], [0], [size]).output(0)

    def linear(self, node: Any, name: str) -> Any:
        """Of the last axis."""
        product = self.op.matmul(node, self.constant(self._weights[f"{name}.weight"]), False, True)
        return self.op.add(product, self.constant(self._weights[f"{name}.bias"]))

    def lstm(self, node: Any, name: str, layer: int, *, bidirectional: bool) -> tuple[Any, Any]:
        """One layer on (batch, time, features): its outputs (batch, time, directions * size), and the last hidden states."""
        suffixes = ["", "_reverse"] if bidirectional else [""]
        into = np.stack([_gates(self._weights[f"{name}.weight_ih_l{layer}{suffix}"]) for suffix in suffixes])
        back = np.stack([_gates(self._weights[f"{name}.weight_hh_l{layer}{suffix}"]) for suffix in suffixes])
        bias = np.stack(
            [
                _gates(self._weights[f"{name}.bias_ih_l{layer}{suffix}"])
                + _gates(self._weights[f"{name}.bias_hh_l{layer}{suffix}"])
                for suffix in suffixes
            ]
        )
        directions, size = len(suffixes), back.shape[2]
        batch, time = (self.op.gather(self.op.shape_of(node), self.integers(axis), self.integers(0)) for axis in (0, 1))
        shape = self.op.concat([batch, self.integers(directions, size)], 0)
        zeros = self.op.broadcast(self.op.constant(np.float32(0)), shape)
        lengths = self.op.broadcast(time, batch)
        direction = "bidirectional" if bidirectional else "forward"
        weights = [self.constant(array) for array in (into, back, bias)]
        sequence = self.op.lstm_sequence(node, zeros, zeros, lengths, *weights, size, direction)
        by_time = self.op.transpose(sequence.output(0), self.integers(0, 2, 1, 3))
        outputs = self.op.reshape(by_time, self.integers(0, 0, directions * size), True)
        return outputs, sequence.output(1)

    def _channels(self, name: str) -> Any:
        return self.constant(self._weights[name].reshape(1, -1, 1))


def _gates(array: FloatArray) -> FloatArray:
    """Torch keeps the gates as input, forget, cell, output; OpenVINO as forget, input, cell, output."""
    into, forget, cell, out = np.split(array, 4)
    return np.concatenate([forget, into, cell, out])
