"""From a model reference to a model that can be called.

What is here: the choice of loader by the form of the reference. What the models compute is unknown here. The
segmentation and embedding stages call it once, when they start.
"""

from importlib.util import find_spec
from pathlib import Path

from diart_mp.errors import ModelError
from diart_mp.models.base import EmbeddingModel, EndToEndModel, SegmentationModel
from diart_mp.models.reference import Form, ModelReference, check
from diart_mp.models.wrapped import is_wrapped
from diart_mp.precision import Precision


def load_segmentation(
    reference: str,
    *,
    device: str = "cpu",
    token: str | None = None,
    threads: int = 1,
    reproducible: bool = False,
    precision: Precision = Precision.EXACT,
) -> SegmentationModel:
    """Load the segmentation model that `reference` names.

    Args:
        reference: ``builtin``, a hub id, a path (.ckpt, .bin, .onnx) or ``package.module:Class``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        token: access token of the hub; None for ``HF_TOKEN`` or the stored one.
        threads: threads of this process that one operation may use.
        reproducible: keep a chunk's numbers the same in any batch on any device (on a CPU they always are).
        precision: whether the built-in model may take shortcuts on a CPU, or has to run in torch there as in diart.

    Raises:
        ModelError: no such model or device, or a model that cannot be read.

    """
    parsed = check(reference)
    if parsed.form is Form.ONNX:
        from diart_mp.models.onnx import OnnxSegmentation

        return OnnxSegmentation(parsed.path, device, threads)
    if parsed.form is Form.CLASS:
        from diart_mp.models.custom import load_custom_segmentation

        return load_custom_segmentation(parsed.name, _device_of_custom(device, threads))
    if parsed.form is Form.BUILTIN:
        from diart_mp.models.builtin import load_weights
        from diart_mp.models.pyannet import BuiltinSegmentation

        device = _present(device, threads)
        if _takes_openvino(device, precision):
            from diart_mp.models.pyannet_openvino import OpenVinoPyanNet

            graph = OpenVinoPyanNet(load_weights("segmentation"), threads=threads, precision=precision)
            return BuiltinSegmentation(graph, reproducible=reproducible)
        device = prepare_torch(device, threads)
        from diart_mp.models.pyannet_torch import TorchPyanNet

        return BuiltinSegmentation(TorchPyanNet(load_weights("segmentation"), device), reproducible=reproducible)
    checkpoint = _checkpoint(parsed, token)  # what is missing is known before torch is imported (2 s)
    device = _present(device, threads)
    if _takes_openvino(device, precision):
        from diart_mp.models.converted import load_converted

        if (converted := load_converted(checkpoint, "segmentation")) is not None:
            return converted.segmentation(threads, reproducible=reproducible)
    device = prepare_torch(device, threads)
    from diart_mp.models.pyannote import PyannoteSegmentation

    return PyannoteSegmentation(checkpoint, device, reproducible=reproducible)


def load_embedding(
    reference: str,
    *,
    device: str = "cpu",
    token: str | None = None,
    threads: int = 1,
    reproducible: bool = False,
    precision: Precision = Precision.EXACT,
) -> EmbeddingModel:
    """Load the embedding model that `reference` names; arguments and errors as for `load_segmentation`."""
    parsed = check(reference)
    if parsed.form is Form.ONNX:
        from diart_mp.models.onnx import OnnxEmbedding

        return OnnxEmbedding(parsed.path, device, threads)
    if parsed.form is Form.CLASS:
        from diart_mp.models.custom import load_custom_embedding

        return load_custom_embedding(parsed.name, _device_of_custom(device, threads))
    if parsed.form is Form.HUB and is_wrapped(parsed.name):
        from diart_mp.models.wrapped import WrappedEmbedding, check_toolkit

        check_toolkit(parsed.name)  # what is missing is known before torch is imported (2 s)
        return WrappedEmbedding(parsed.name, prepare_torch(device, threads), token)
    if parsed.form is Form.BUILTIN:
        from diart_mp.models.builtin import load_weights
        from diart_mp.models.ge2e import BuiltinEmbedding

        device = _present(device, threads)
        if _takes_openvino(device, precision):
            from diart_mp.models.ge2e_openvino import OpenVinoEncoder

            encoder = OpenVinoEncoder(load_weights("embedding"), threads=threads, precision=precision)
            return BuiltinEmbedding(encoder, reproducible=reproducible, grid=precision is Precision.FAST)
        device = prepare_torch(device, threads)
        from diart_mp.models.ge2e_torch import TorchEncoder

        return BuiltinEmbedding(TorchEncoder(load_weights("embedding"), device), reproducible=reproducible)
    checkpoint = _checkpoint(parsed, token)  # what is missing is known before torch is imported (2 s)
    device = _present(device, threads)
    if _takes_openvino(device, precision):
        from diart_mp.models.converted import load_converted

        if (converted := load_converted(checkpoint, "embedding")) is not None:
            return converted.embedding(threads)
    device = prepare_torch(device, threads)
    from diart_mp.models.pyannote import PyannoteEmbedding

    return PyannoteEmbedding(checkpoint, device, reproducible=reproducible)


def load_end_to_end(reference: str, *, device: str = "cpu", threads: int = 1) -> EndToEndModel:
    """Load the end-to-end model that ``reference`` (``package.module:Class``) names; errors as for `load_segmentation`."""
    if not reference or (parsed := check(reference)).form is not Form.CLASS:
        msg = f"an end-to-end model is named as package.module:Class, not {reference!r}; say --option e2e.model=package.module:Class"
        raise ModelError(msg)
    from diart_mp.models.custom import load_custom_end_to_end

    return load_custom_end_to_end(parsed.name, _device_of_custom(device, threads))


def _present(device: str, threads: int) -> str:
    """The device that ``auto`` means here; without torch there is none but the CPU."""
    if device != "auto":
        return device
    return prepare_torch(device, threads) if find_spec("torch") is not None else "cpu"


def _takes_openvino(device: str, precision: Precision) -> bool:
    """Whether a model runs on OpenVINO if it can: on CPUs, where that is installed. Torch is imported elsewhere (2 s)."""
    return device == "cpu" and precision is not Precision.REFERENCE and find_spec("openvino") is not None


def prepare_torch(device: str, threads: int) -> str:
    """Set the threads that one torch operation may use in this process; returns the device as torch names it.

    Raises:
        ModelError: torch is not installed, or has no such device.

    """
    try:
        import torch
    except ImportError as error:
        msg = f"models run on torch, which cannot be imported ({error}); run: pip install 'diart-mp[models]'"
        raise ModelError(msg) from error
    from diart_mp.models.inference import resolve_device

    torch.set_num_threads(threads)
    return resolve_device(device)


def _device_of_custom(device: str, threads: int) -> str:
    """Device to tell the user's class, which may do without torch: then it is not imported (2 s)."""
    if device == "cpu" or find_spec("torch") is None:
        return "cpu" if device == "auto" else device
    return prepare_torch(device, threads)


def _checkpoint(reference: ModelReference, token: str | None) -> Path:
    """File of a checkpoint, wherever it is kept."""
    if reference.form is Form.CHECKPOINT:
        return reference.path
    from diart_mp.models.hub import fetch_checkpoint

    return fetch_checkpoint(reference, token)
