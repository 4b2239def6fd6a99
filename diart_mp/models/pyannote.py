"""Models trained with pyannote.audio, from the hub or from a file.

What is here: building the network that a checkpoint names, with weights read without executing pickled code, and the
two wrappers that stages call. How a checkpoint gets onto this machine is unknown here. The segmentation and
embedding stages run it when asked for such a model.
"""

import inspect
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diart_mp.errors import ModelError
from diart_mp.models.base import WINDOW_S, BoolArray, EmbeddingModel, FloatArray, SegmentationModel, no_embeddings
from diart_mp.models.checkpoint import read_checkpoint
from diart_mp.models.compat import import_pyannote
from diart_mp.models.inference import as_tensor
from diart_mp.models.pooling import StatisticsPool

_ARCHITECTURES = "pyannote.audio.models."  # a checkpoint may name modules of this package, no others


class PyannoteSegmentation(SegmentationModel):
    """A segmentation network of pyannote.audio: multi-label scores as they are, powerset ones as hard 0 or 1.

    On a CPU chunks are scored one by one, which keeps the numbers the same in any batch of any architecture.

    Args:
        path: checkpoint.
        device: device as torch names it.
        reproducible: score chunks one by one on other devices too.

    """

    def __init__(self, path: Path, device: str = "cpu", *, reproducible: bool = False) -> None:
        self.network = _build(path, device)
        self._device = device
        self._one_by_one = reproducible or device == "cpu"
        specifications = self.network.specifications
        if isinstance(specifications, tuple) or not specifications.classes or _is_representation(specifications):
            msg = f"{path} holds a {type(self.network).__name__} that does not score speakers; use it for embeddings"
            raise ModelError(msg)
        self._to_multilabel = _powerset(specifications, device)
        self.sample_rate = int(self.network.hparams.sample_rate)
        self.duration = float(specifications.duration)

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        size = 1 if self._one_by_one else len(waveforms)
        scores = []
        with torch.inference_mode():
            for first in range(0, len(waveforms), size):
                block = as_tensor(waveforms[first : first + size], self._device)
                scores.append(self._to_multilabel(self.network(block.unsqueeze(1))).float().cpu().numpy())
        return np.concatenate(scores)


class PyannoteEmbedding(EmbeddingModel):
    """An embedding network of pyannote.audio, pooled by weights as releases before 3.1 did it.

    Where the architecture is known to split into a trunk and a head, the trunk runs once per chunk; elsewhere the
    whole network runs once per active speaker. On a CPU chunks are embedded one by one, as for segmentation.

    Args:
        path: checkpoint.
        device: device as torch names it.
        reproducible: embed chunks one by one on other devices too.

    """

    def __init__(self, path: Path, device: str = "cpu", *, reproducible: bool = False) -> None:
        self.network = _build(path, device)
        self._device = device
        self._one_by_one = reproducible or device == "cpu"
        if isinstance(self.network.specifications, tuple) or not _is_representation(self.network.specifications):
            msg = f"{path} holds a {type(self.network).__name__} that makes no embeddings; use it for segmentation"
            raise ModelError(msg)
        pools = _replace_pools(self.network)
        self._parts = _split(self.network) if pools else None
        self.sample_rate = int(self.network.hparams.sample_rate)
        self.dimension = int(self.network.dimension)
        self.duration = WINDOW_S

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers)."""
        result = no_embeddings(active, self.dimension)
        chunks = np.flatnonzero(active.any(axis=1))
        size = 1 if self._one_by_one else max(1, len(chunks))
        with torch.inference_mode():
            for first in range(0, len(chunks), size):
                block = chunks[first : first + size]
                mask = np.zeros_like(active)
                mask[block] = active[block]
                result[mask] = self._embed(waveforms, weights, mask)
        return result

    def _embed(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embeddings of the active speakers, chunk after chunk: (active speakers, dimension)."""
        per_speaker = np.moveaxis(weights, 2, 1)  # (batch, speakers, frames)
        chunks, _ = np.nonzero(active)
        if self._parts is None:
            repeated = as_tensor(waveforms[chunks], self._device).unsqueeze(1)
            rows: FloatArray = (
                self.network(repeated, weights=as_tensor(per_speaker[active], self._device)).cpu().numpy()
            )
            return rows
        trunk, head = self._parts
        once = np.unique(chunks)
        frames = trunk(as_tensor(waveforms[once], self._device).unsqueeze(1))
        everyone: FloatArray = head(frames, as_tensor(per_speaker[once], self._device)).cpu().numpy()
        return everyone[active[once]]


def _build(path: Path, device: str) -> Any:
    """Make the network that the checkpoint names and give it its weights; ModelError where that cannot be done."""
    import_pyannote()
    core = import_module("pyannote.audio.core.task")
    classes = (core.Specifications, core.Problem, core.Resolution)
    checkpoint = read_checkpoint(path, {f"{c.__module__}.{c.__name__}": c for c in classes})
    try:
        architecture = checkpoint["pyannote.audio"]["architecture"]
        state = {name: tensor for name, tensor in checkpoint["state_dict"].items() if not name.startswith("loss_func.")}
        settings = dict(checkpoint.get("hyper_parameters", {}))
        model = _make(str(architecture["module"]), str(architecture["class"]), settings, path)
        model.on_load_checkpoint(checkpoint)  # adds the layers that depend on the task
        missing = model.load_state_dict(state, strict=False).missing_keys
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        msg = f"{path} is no checkpoint of a pyannote.audio model that this release can build ({reason})"
        raise ModelError(msg) from error
    if missing:
        msg = f"{path} lacks {len(missing)} tensors of its {type(model).__name__}, the first is {missing[0]}"
        raise ModelError(msg)
    return model.eval().to(device)


def _make(module: str, name: str, settings: dict[str, Any], path: Path) -> Any:
    """Make an untrained network of the class that a checkpoint names, if that is one of pyannote.audio's."""
    base, found = import_module("pyannote.audio").Model, None
    if module.startswith(_ARCHITECTURES):
        with suppress(ImportError, AttributeError):
            found = getattr(import_module(module), name)
    if not (inspect.isclass(found) and issubclass(found, base)):
        msg = f"{path} is a {module}.{name}, which pyannote.audio does not have; give your own class as package.module:Class"
        raise ModelError(msg)
    accepted = inspect.signature(found).parameters
    return found(**{key: value for key, value in settings.items() if key in accepted})


def _is_representation(specifications: Any) -> bool:
    return bool(specifications.problem.name == "REPRESENTATION")


def _powerset(specifications: Any, device: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """What turns the network's output into multi-label scores, (batch, frames, speakers)."""
    if not specifications.powerset:
        return lambda scores: scores
    powerset = import_module("pyannote.audio.utils.powerset").Powerset
    convert = powerset(len(specifications.classes), specifications.powerset_max_classes).to(device)
    to_multilabel: Callable[[torch.Tensor], torch.Tensor] = convert.to_multilabel
    return to_multilabel


def _replace_pools(model: torch.nn.Module) -> int:
    """Put our statistics pooling in the place of pyannote.audio's, wherever it sits; returns how many there were."""
    pool = import_module("pyannote.audio.models.blocks.pooling").StatsPool
    places = [(m, name) for m in model.modules() for name, child in m.named_children() if isinstance(child, pool)]
    for module, name in places:
        setattr(module, name, StatisticsPool())
    return len(places)


def _split(model: Any) -> tuple[Callable[..., torch.Tensor], Callable[..., torch.Tensor]] | None:
    """Trunk and head of the architectures that have both; None for others."""
    if hasattr(model, "resnet") and not model.resnet.two_emb_layer:
        return model.forward_frames, model.forward_embedding
    if not all(hasattr(model, name) for name in ("sincnet", "tdnns", "stats_pool", "embedding")):
        return None

    def trunk(waveforms: torch.Tensor) -> torch.Tensor:
        frames: torch.Tensor = model.sincnet(waveforms)
        for layer in model.tdnns:
            frames = layer(frames)
        return frames

    def head(frames: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        embeddings: torch.Tensor = model.embedding(model.stats_pool(frames, weights=weights))
        return embeddings

    return trunk, head
