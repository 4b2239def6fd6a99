"""Fixtures of the model tests: the built-in weights, golden arrays, and chunks of noise."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.models import builtin
from diart_mp.models.base import FloatArray
from diart_mp.models.compat import import_pyannote

from .checkpoints import Checkpoints
from .golden import RUNS, WINDOW, Golden


@pytest.fixture(scope="session", params=RUNS)
def golden(request: pytest.FixtureRequest, shared: Path) -> Golden:
    return Golden(shared, request.param)


@pytest.fixture(scope="session")
def segmentation_weights() -> dict[str, FloatArray]:
    return builtin.load_weights("segmentation")


@pytest.fixture(scope="session")
def embedding_weights() -> dict[str, FloatArray]:
    return builtin.load_weights("embedding")


@pytest.fixture(scope="session")
def noise() -> FloatArray:
    """Eight chunks of 5 s of noise of different loudness, (8, 80000)."""
    loudness = np.linspace(0.01, 0.5, 8)[:, None]
    return (np.random.default_rng(7).standard_normal((8, WINDOW)) * loudness).astype(np.float32)


@pytest.fixture(scope="session")
def pyannote() -> Any:
    """The package pyannote.audio, imported as our loaders import it."""
    import_pyannote()
    for name in ("core.task", "models.segmentation", "models.embedding"):
        import_module(f"pyannote.audio.{name}")
    return import_module("pyannote.audio")


@pytest.fixture(scope="session")
def checkpoints(pyannote: Any, tmp_path_factory: pytest.TempPathFactory) -> Checkpoints:
    return Checkpoints(pyannote, tmp_path_factory.mktemp("checkpoints"))
