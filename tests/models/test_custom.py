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


@pytest.fixture(autouse=True)
def _user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "user_models.py").write_text(MODULE)
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
