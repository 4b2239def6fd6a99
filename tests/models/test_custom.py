"""The user's own classes, from the working folder."""

from pathlib import Path

import numpy as np
import pytest

from diart_mp.errors import ModelError
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.models.reference import check

MODULE = '''
import numpy as np
from diart_mp.models.base import EmbeddingModel, no_embeddings

class Loud:
    """Scores one speaker by loudness; fulfils the contract without inheriting it."""
    sample_rate = 16000
    def __call__(self, waveforms):
        frames = waveforms.reshape(len(waveforms), -1, 100)
        return np.abs(frames).max(axis=2, keepdims=True)

class Sum(EmbeddingModel):
    sample_rate, dimension = 8000, 2
    def __init__(self, device):
        self.device = device
    def __call__(self, waveforms, weights, active):
        out = no_embeddings(active, 2)
        out[active] = 1.0
        return out

class NotCallable:
    sample_rate = 16000

class NoRate:
    def __call__(self, waveforms): ...

class Broken:
    def __init__(self):
        raise RuntimeError("no weights\\nanywhere")

function = len
'''

LOADERS = """
import torch
from diart_mp.models.base import SegmentationModel

class Loudness(torch.nn.Module):
    sample_rate, duration = 8000, 2.0
    def forward(self, waveforms):
        return waveforms.reshape(len(waveforms), -1, 100).abs().amax(dim=2, keepdim=True)

class Level(torch.nn.Module):
    def forward(self, waveforms, weights=None):
        level = waveforms.mean(dim=2)
        return torch.cat([level, level if weights is None else weights.sum(dim=1, keepdim=True)], dim=1)

class Mean(torch.nn.Module):
    dimension = 1
    def forward(self, waveforms):
        return waveforms.mean(dim=2)

def load_loudness():
    return Loudness()

def load_level(device):
    return Level()

class Half(SegmentationModel):
    sample_rate = 16000
    def __init__(self):
        self.network = lambda waveforms: waveforms[:, ::2, None] / 2  # any callable
    def __call__(self, waveforms):
        return self.network(waveforms)
"""


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_models.py").write_text(MODULE)
    (tmp_path / "user_loaders.py").write_text(LOADERS)
    (tmp_path / "user_broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)


def test_a_class_that_looks_right_is_a_segmentation_model() -> None:
    model = load_segmentation("user_models:Loud")
    assert (model.sample_rate, model.duration) == (16000, None)
    assert model(np.full((2, 400), 0.5, np.float32)).shape == (2, 4, 1)


def test_a_constructor_that_takes_a_device_is_told_it() -> None:
    model = load_embedding("user_models:Sum", device="cpu")
    assert model.device == "cpu"  # type: ignore[attr-defined]
    active = np.array([[True, False]])
    rows = model(np.zeros((1, 400), np.float32), np.ones((1, 4, 2), np.float32), active)
    assert np.isnan(rows).all(axis=2).tolist() == [[False, True]]


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("user_models:Missing", "has no class Missing"),
        ("user_models:function", "has no class function"),
        ("no_such_module:Net", "cannot import no_such_module"),
        ("user_broken:Net", "ZeroDivisionError"),
    ],
)
def test_check_imports_the_class(reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        check(reference)


@pytest.mark.parametrize(
    ("reference", "message"),
    [
        ("user_models:NotCallable", "cannot be called"),
        ("user_models:NoRate", "sample_rate = None"),
        ("user_models:Broken", "RuntimeError: no weights anywhere"),
    ],
)
def test_a_class_that_breaks_the_contract_is_refused(reference: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_segmentation(reference)
    with pytest.raises(ModelError, match="dimension = None"):
        load_embedding("user_models:Loud")


def test_any_callable_of_a_subclass() -> None:
    assert load_segmentation("user_loaders:Half")(np.array([[0.5, 0, 1, 0]], np.float32)).tolist() == [[[0.25], [0.5]]]


def test_loaders_and_torch_modules_as_users_of_diart_have_them() -> None:
    pytest.importorskip("torch")
    model = load_segmentation("user_loaders:load_loudness")
    assert (model.sample_rate, model.duration) == (8000, 2.0)
    assert model(np.arange(400, dtype=np.float32).reshape(2, 200))[:, :, 0].tolist() == [[99, 199], [299, 399]]
    embedding = load_embedding("user_loaders:load_level")
    assert (embedding.sample_rate, embedding.dimension) == (16000, 2)
    weights = np.array([[[0.25, 1], [0.5, 0]]], np.float32)
    rows = embedding(np.array([[1, 3]], np.float32), weights, np.array([[True, False]]))
    assert rows[0, 0].tolist() == [2, 0.75]
    assert np.isnan(rows[0, 1]).all()


def test_weights_are_a_mask_for_a_module_that_takes_none() -> None:
    pytest.importorskip("torch")
    waveform = np.repeat(np.array([1, 5, 9, 20], np.float32), 400)[None]  # four frames of 400 samples
    weights = np.array([[[0.2, 0, 1], [0.2, 0, 0.1], [0.05, 0, 0.1], [0.1, 0, 0.1]]], np.float32)
    rows = load_embedding("user_loaders:Mean")(waveform, weights, np.array([[True, True, True]]))
    assert rows[0, 0].tolist() == [3]  # the mean of the two frames that are near the highest weight
    assert np.isnan(rows[0, 1]).all()
    assert rows[0, 2].tolist() == [1]
