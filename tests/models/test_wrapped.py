"""Encoders of SpeechBrain, NeMo and WeSpeaker: known by their names, refused in one line, and given weights as masks."""

import importlib.util
from typing import Any

import numpy as np
import pytest

from diart_mp.errors import ModelError
from diart_mp.models import wrapped
from diart_mp.models.load import load_embedding

REFERENCES = {
    "speechbrain/spkrec-ecapa-voxceleb": ("speechbrain", "speechbrain"),
    "nvidia/speakerverification_en_titanet_large": ("nemo", "nemo_toolkit"),
    "hbredin/wespeaker-voxceleb-resnet34-LM": ("onnxruntime", "onnxruntime"),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_missing_package_is_one_line(name: str) -> None:
    module, package = REFERENCES[name]
    assert wrapped.is_wrapped(name)
    if importlib.util.find_spec(module) is not None:
        pytest.skip(f"{module} is installed")
    with pytest.raises(ModelError, match=rf"{name} needs {package}.*pip install") as caught:
        load_embedding(name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("name", "known"), [*((name, True) for name in REFERENCES), ("pyannote/embedding", False)])
def test_names_are_told_apart(name: str, known: bool) -> None:
    assert wrapped.is_wrapped(name) is known
    assert not wrapped.is_wrapped("nvidiasomething/else")


def test_encoder_gets_each_active_speaker_with_his_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    asked: list[Any] = []

    class Encoder:
        """As pyannote.audio's wrappers behave."""

        sample_rate, dimension = 8000, 2

        def __call__(self, waveforms: Any, masks: Any) -> Any:
            asked.append((tuple(waveforms.shape), masks.tolist()))
            mean = (masks > 0.5).float().mean()
            return np.array([[float(waveforms.mean()), float(mean)]]) if mean > 0 else np.full((1, 2), np.nan)

    monkeypatch.setattr(wrapped, "check_toolkit", lambda _: None)
    monkeypatch.setattr(wrapped, "_load", lambda *_: Encoder())
    model = load_embedding("speechbrain/spkrec-ecapa-voxceleb")
    assert (model.sample_rate, model.dimension) == (8000, 2)
    weights = np.array([[[0.75, 0.25, 1], [0.5, 0.25, 1]]], np.float32)
    rows = model(np.array([[1, 2, 3, 6]], np.float32), weights, np.array([[True, True, False]]))
    assert asked == [((1, 1, 4), [[0.75, 0.5]]), ((1, 1, 4), [[0.25, 0.25]])]
    assert rows[0, 0].tolist() == [3, 0.5]
    assert np.isnan(rows[0, 1:]).all()
    assert torch.is_grad_enabled()
