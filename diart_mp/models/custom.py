"""The user's own models: ``package.module:Class``, imported from the installed packages or the working folder.

In place of a class there may be a function that loads a model, as diart's users have one, and what either gives may be a torch
module in place of one that fulfils the contract. What is here: import, construction and the checks that give a clear message
before any audio flows. What the class does is its own affair. The command line (import only) and the stages that run a
model use it.
"""

import importlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from diart_mp.errors import ModelError
from diart_mp.models.base import EmbeddingModel, EndToEndModel, SegmentationModel


def import_class(reference: str) -> Callable[..., Any]:
    """Import the class (or the function that loads a model) that ``package.module:Class`` names.

    Raises:
        ModelError: the module or the class is not there, or importing it fails.

    """
    module_name, _, class_name = reference.partition(":")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.append(folder)  # last, so that nothing in the working folder hides an installed package
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # the user's module may raise anything while it is imported
        msg = f"cannot import {module_name} for the model {reference}: {_describe(error)}"
        raise ModelError(msg) from error
    found = getattr(module, class_name, None)
    if not (inspect.isclass(found) or inspect.isfunction(found)):
        file = getattr(module, "__file__", "no file")
        msg = f"{module_name} ({file}) has no class {class_name}; check the model {reference}"
        raise ModelError(msg)
    return found


def load_custom_segmentation(reference: str, device: str) -> SegmentationModel:
    """Make the user's segmentation model (a subclass of the contract, or anything that fulfils it).

    Raises:
        ModelError: the class cannot be imported or made, or lacks what the contract asks for.

    """
    model = _construct(reference, device)
    if _is_torch(model):
        from diart_mp.models.modules import TorchSegmentation

        return TorchSegmentation(model, device)
    _check(model, reference, ("sample_rate",))
    if not hasattr(model, "duration"):
        model.duration = None
    segmentation: SegmentationModel = model
    return segmentation


def load_custom_embedding(reference: str, device: str) -> EmbeddingModel:
    """Make the user's embedding model (a subclass of the contract, or anything that fulfils it).

    Raises:
        ModelError: the class cannot be imported or made, or lacks what the contract asks for.

    """
    model = _construct(reference, device)
    if _is_torch(model):
        from diart_mp.models.modules import TorchEmbedding

        return TorchEmbedding(model, device, reference)
    _check(model, reference, ("sample_rate", "dimension"))
    embedding: EmbeddingModel = model
    return embedding


def make_callable(reference: str, device: str) -> Any:
    """Make what ``package.module:Class`` names, which can be called; ModelError where it cannot be."""
    return _construct(reference, device)


def load_custom_end_to_end(reference: str, device: str) -> EndToEndModel:
    """Make the user's end-to-end model; errors as for the others."""
    model = _construct(reference, device)
    _check(model, reference, ("sample_rate",))
    if not hasattr(model, "lookahead"):
        model.lookahead = 0.0
    end_to_end: EndToEndModel = model
    return end_to_end


def _construct(reference: str, device: str) -> Any:
    """Make the object, with ``device=`` where its constructor takes that."""
    model_class = import_class(reference)
    arguments = {"device": device} if "device" in inspect.signature(model_class).parameters else {}
    try:
        model = model_class(**arguments)
    except Exception as error:  # the user's constructor may raise anything
        msg = f"cannot make the model {reference} ({model_class.__name__}() was called): {_describe(error)}"
        raise ModelError(msg) from error
    if not callable(model):
        msg = f"the model {reference} cannot be called; give {model_class.__name__} a __call__ on arrays"
        raise ModelError(msg)
    return model


def _is_torch(model: Any) -> bool:
    """Whether it is a torch module; torch is not imported to find that out."""
    torch: Any = sys.modules.get("torch")
    return torch is not None and isinstance(model, torch.nn.Module)


def _check(model: Any, reference: str, attributes: tuple[str, ...]) -> None:
    """Raise ModelError unless the model declares what the contract asks for."""
    for name in attributes:
        value = getattr(model, name, None)
        if not isinstance(value, int) or value <= 0:
            msg = f"the model {reference} declares {name} = {value!r}; it has to be a positive integer"
            raise ModelError(msg)


def _describe(error: Exception) -> str:
    """Type and text of a foreign exception on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())
