"""Speaker encoders of other toolkits, through pyannote.audio's wrappers: SpeechBrain, NeMo, WeSpeaker in ONNX; as in diart.

What is here: which references those are, one clear line where a package is missing, and the weights as a mask, which is how the
wrappers take them (nearest frame, above 0.5): with ``--normalize-embedding-weights`` more of a speaker's frames get there. What the
encoders compute is unknown here. The embedding stage runs it when asked for such a model.
"""

import re
from collections.abc import Mapping
from importlib.util import find_spec
from types import MappingProxyType
from typing import Any

import numpy as np

from diart_mp.errors import ModelError
from diart_mp.models.base import WINDOW_S, BoolArray, EmbeddingModel, FloatArray, no_embeddings

_TOOLKITS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "speechbrain": ("speechbrain", "speechbrain"),
        "nvidia": ("nemo", "nemo_toolkit[asr]"),
        "hbredin/wespeaker": ("onnxruntime", "onnxruntime"),
    }
)
"""How the hub ids begin; the module that each needs beside pyannote.audio, and the package that has it."""


def is_wrapped(name: str) -> bool:
    """Whether a hub id is that of a SpeechBrain, NeMo or WeSpeaker (ONNX) encoder."""
    return _toolkit(name) is not None


class WrappedEmbedding(EmbeddingModel):
    """An encoder that takes whole recordings or masks: (n, 1, samples) and masks (n, frames) to (n, dimension).

    Args:
        name: hub id.
        device: device as torch names it.
        token: access token of the hub, or None.

    Raises:
        ModelError: a package is missing, or the model cannot be had.

    """

    def __init__(self, name: str, device: str = "cpu", token: str | None = None) -> None:
        self._encoder = _load(name, device, token)
        self.sample_rate = int(self._encoder.sample_rate)
        self.dimension = int(self._encoder.dimension)
        self.duration = WINDOW_S

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers); NaN where too little is left of a mask."""
        import torch

        result = no_embeddings(active, self.dimension)
        for chunk, speaker in np.argwhere(active):  # one by one: the numbers do not depend on the batch
            audio = torch.from_numpy(np.array(waveforms[chunk], np.float32))[None, None]
            mask = torch.from_numpy(np.array(weights[chunk, :, speaker], np.float32))[None]
            with torch.inference_mode():
                result[chunk, speaker] = np.asarray(self._encoder(audio, masks=mask))[0]
        return result


def _toolkit(name: str) -> tuple[str, str] | None:
    return next((needed for start, needed in _TOOLKITS.items() if re.match(rf"{start}\b", name)), None)


def check_toolkit(name: str) -> None:
    """ModelError, one line, where a package that an encoder needs is not installed. Imports nothing."""
    for module, package in (_toolkit(name) or ("", ""), ("pyannote", "diart-mp[models]")):
        if module and find_spec(module) is None:
            msg = f"{name} needs {package}, which is not installed; run: pip install '{package}'"
            raise ModelError(msg)


def _load(name: str, device: str, token: str | None) -> Any:
    from diart_mp.models.compat import import_pyannote

    import_pyannote()
    import torch
    from pyannote.audio.pipelines.speaker_verification import PretrainedSpeakerEmbedding

    try:
        return PretrainedSpeakerEmbedding(name, device=torch.device(device), token=token)
    except Exception as error:  # three toolkits, the hub and the network: any error may come
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        msg = f"cannot load {name}: {reason}; check the name, HF_TOKEN and the network (HF_HUB_OFFLINE)"
        raise ModelError(msg) from error
