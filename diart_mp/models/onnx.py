"""Models in ONNX, on onnxruntime where it is installed, else on OpenVINO (CPUs only).

What is here: the two wrappers, with the input names that diart uses (``waveform``; ``waveform`` and ``weights``). An embedding
model that has no ``weights`` gets the samples of each speaker's frames alone. How a model was exported is unknown here. The
segmentation and embedding stages run it when asked for a ``.onnx`` file.
"""

from collections.abc import Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from diart_mp.errors import ModelError
from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray, SegmentationModel, embed_masked, no_embeddings
from diart_mp.models.openvino import load_openvino
from diart_mp.models.signal_stack import kept_signal_stack

_SAMPLE_RATE = 16000  # where the file's metadata has no ``sample_rate``; the models that diart names take 16 kHz
_METADATA = ("sample_rate", "duration")
_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
)


class Session(Protocol):
    """What runs a file: its inputs, the last axis of its output (None: not declared), its metadata."""

    inputs: Sequence[str]
    last_axis: int | None
    metadata: Mapping[str, str]

    def __call__(self, arrays: Mapping[str, FloatArray]) -> FloatArray:
        """The first output."""


class OnnxSegmentation(SegmentationModel):
    """An ONNX segmentation model: (batch, 1, samples) to (batch, frames, speakers); chunks are scored one by one.

    The file's metadata may have ``sample_rate`` (Hz) and ``duration`` (s).
    """

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        self._session = _open(path, device, threads, inputs=("waveform",))
        self.sample_rate = int(_number(self._session, "sample_rate", path) or _SAMPLE_RATE)
        self.duration = _number(self._session, "duration", path)

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        audio = np.asarray(waveforms, dtype=np.float32)[:, None, None, :]  # one (1, 1, samples) per chunk
        return np.concatenate([self._session({"waveform": chunk}) for chunk in audio])


class OnnxEmbedding(EmbeddingModel):
    """An ONNX embedding model: (n, 1, samples) and (n, frames) to (n, dimension); only active speakers are run."""

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        self._session = _open(path, device, threads, inputs=("waveform",))
        self.sample_rate = int(_number(self._session, "sample_rate", path) or _SAMPLE_RATE)
        self.duration = _number(self._session, "duration", path)
        if self._session.last_axis is None:
            msg = f"{path} does not declare the length of its embeddings; export it with a fixed last axis"
            raise ModelError(msg)
        self.dimension = self._session.last_axis

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers)."""
        if "weights" not in self._session.inputs:
            return embed_masked(self._embed, self.dimension, waveforms, weights, active)
        result = no_embeddings(active, self.dimension)
        for chunk, speaker in np.argwhere(active):
            audio = np.asarray(waveforms[chunk], dtype=np.float32)[None, None]
            weight = np.ascontiguousarray(weights[chunk, :, speaker], dtype=np.float32)[None]
            result[chunk, speaker] = self._session({"waveform": audio, "weights": weight})[0]
        return result

    def _embed(self, samples: FloatArray) -> FloatArray:
        row: FloatArray = self._session({"waveform": samples[None, None]})[0]
        return row


class _OnnxRuntime:
    def __init__(self, path: Path, device: str, threads: int) -> None:
        onnxruntime = import_module("onnxruntime")
        available = onnxruntime.get_available_providers()
        kind, _, index = device.partition(":")
        if kind == "auto":
            kind = "cuda" if "CUDAExecutionProvider" in available else "cpu"
        provider = _PROVIDERS.get(kind)
        if provider not in available:
            msg = f"this onnxruntime cannot use the device {device} (it has {', '.join(available)}); use cpu"
            raise ModelError(msg)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        providers = [(provider, {"device_id": index} if index else {})]
        self._session = onnxruntime.InferenceSession(path, options, providers)
        self.inputs: Sequence[str] = [node.name for node in self._session.get_inputs()]
        last = self._session.get_outputs()[0].shape[-1]
        self.last_axis: int | None = last if isinstance(last, int) else None
        self.metadata: Mapping[str, str] = dict(self._session.get_modelmeta().custom_metadata_map)

    def __call__(self, arrays: Mapping[str, FloatArray]) -> FloatArray:
        output: FloatArray = self._session.run(None, dict(arrays))[0]
        return output


class _OpenVino:
    def __init__(self, path: Path, threads: int) -> None:
        openvino = load_openvino()
        graph = openvino.Core().read_model(str(path))
        self.inputs: Sequence[str] = [node.get_any_name() for node in graph.inputs]
        last = graph.outputs[0].get_partial_shape()[-1]
        self.last_axis: int | None = last.get_length() if last.is_static else None
        names = [name for name in _METADATA if graph.has_rt_info(["framework", name])]
        self.metadata: Mapping[str, str] = {name: str(graph.get_rt_info(["framework", name]).value) for name in names}
        settings = {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": "1", "ENABLE_CPU_PINNING": "NO"}
        with kept_signal_stack():
            compiled = openvino.Core().compile_model(graph, "CPU", settings | {"INFERENCE_PRECISION_HINT": "f32"})
            self._request: Any = compiled.create_infer_request()

    def __call__(self, arrays: Mapping[str, FloatArray]) -> FloatArray:
        return np.array(self._request.infer(dict(arrays))[0], np.float32)


def _open(path: Path, device: str, threads: int, inputs: tuple[str, ...]) -> Session:
    """Open a session on `device`; ModelError where a runtime, the device or an input is missing."""
    try:
        if find_spec("onnxruntime") is not None:
            session: Session = _OnnxRuntime(path, device, threads)
        elif find_spec("openvino") is not None and device in ("cpu", "auto"):
            session = _OpenVino(path, threads)
        else:
            msg = f"{path} on {device} needs onnxruntime, which is not installed; run: pip install onnxruntime (or onnxruntime-gpu)"
            raise ModelError(msg)
    except ModelError:
        raise
    except Exception as error:  # the errors of the runtimes share no base class
        msg = f"cannot read the ONNX model {path}: {' '.join(str(error).split())[:200]}"
        raise ModelError(msg) from error
    if missing := set(inputs) - set(session.inputs):
        msg = f"{path} has no input {', '.join(sorted(missing))}; it has to take {' and '.join(inputs)}"
        raise ModelError(msg)
    return session


def _number(session: Session, name: str, path: Path) -> float | None:
    """A positive number of the file's metadata; None where there is none."""
    text = session.metadata.get(name)
    try:
        number = None if text is None else float(text)
    except ValueError:
        number = 0.0
    if number is not None and number <= 0:
        msg = f"the metadata of {path} has {name} = {text!r}; it has to be a positive number"
        raise ModelError(msg)
    return number
