"""Models in ONNX, through onnxruntime where it is installed.

What is here: the two wrappers, with the input names that diart uses (``waveform``; ``waveform`` and ``weights``).
How a model was exported is unknown here. The segmentation and embedding stages run it when asked for a ``.onnx`` file.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from diart_mp.errors import ModelError
from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray, SegmentationModel, no_embeddings

_SAMPLE_RATE = 16000  # ONNX files do not declare it; the models that diart names take 16 kHz
_PROVIDERS: Mapping[str, str] = MappingProxyType(
    {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider", "mps": "CoreMLExecutionProvider"}
)


class OnnxSegmentation(SegmentationModel):
    """An ONNX segmentation model: (batch, 1, samples) to (batch, frames, speakers); chunks are scored one by one."""

    sample_rate = _SAMPLE_RATE

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        self._session = _open(path, device, threads, inputs=("waveform",))

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        audio = np.asarray(waveforms, dtype=np.float32)[:, None, None, :]  # one (1, 1, samples) per chunk
        return np.concatenate([self._session.run(None, {"waveform": chunk})[0] for chunk in audio])


class OnnxEmbedding(EmbeddingModel):
    """An ONNX embedding model: (n, 1, samples) and (n, frames) to (n, dimension); only active speakers are run."""

    sample_rate = _SAMPLE_RATE

    def __init__(self, path: Path, device: str = "cpu", threads: int = 1) -> None:
        self._session = _open(path, device, threads, inputs=("waveform", "weights"))
        dimension = self._session.get_outputs()[0].shape[-1]
        if not isinstance(dimension, int):
            msg = f"{path} does not declare the length of its embeddings ({dimension!r}); export it with a fixed last axis"
            raise ModelError(msg)
        self.dimension = dimension

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers)."""
        result = no_embeddings(active, self.dimension)
        for chunk, speaker in np.argwhere(active):
            audio = np.asarray(waveforms[chunk], dtype=np.float32)[None, None]
            weight = np.ascontiguousarray(weights[chunk, :, speaker], dtype=np.float32)[None]
            result[chunk, speaker] = self._session.run(None, {"waveform": audio, "weights": weight})[0][0]
        return result


def _open(path: Path, device: str, threads: int, inputs: tuple[str, ...]) -> Any:
    """Open a session on `device`; ModelError where onnxruntime, the device or an input is missing."""
    try:
        onnxruntime = import_module("onnxruntime")
    except ImportError as error:
        msg = f"{path} needs onnxruntime, which is not installed; run: pip install onnxruntime (or onnxruntime-gpu)"
        raise ModelError(msg) from error
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
    try:
        session = onnxruntime.InferenceSession(path, options, [(provider, {"device_id": index} if index else {})])
    except Exception as error:  # onnxruntime's errors share no base class
        msg = f"cannot read the ONNX model {path}: {' '.join(str(error).split())[:200]}"
        raise ModelError(msg) from error
    if missing := set(inputs) - {node.name for node in session.get_inputs()}:
        msg = f"{path} has no input {', '.join(sorted(missing))}; it has to take {' and '.join(inputs)}"
        raise ModelError(msg)
    return session
