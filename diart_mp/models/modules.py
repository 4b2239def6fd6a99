"""Torch modules of the user's own as models, called as pyannote.audio's are: waveforms (n, 1, samples), weights (n, frames).

What is here: the two wrappers, and what a module may declare beside being one: ``sample_rate`` (default 16 kHz), ``duration`` (s),
``dimension``. What the network computes is unknown here. The segmentation and embedding stages run it.
"""

import inspect
from typing import Any

import numpy as np
import torch

from diart_mp.errors import ModelError
from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray, SegmentationModel, embed_masked, no_embeddings

_SAMPLE_RATE = 16000


class TorchSegmentation(SegmentationModel):
    """A module that maps (batch, 1, samples) to scores (batch, frames, speakers); chunks are scored one by one."""

    def __init__(self, module: Any, device: str) -> None:
        self._module, self._device = module.eval().to(device), device
        self.sample_rate = int(getattr(module, "sample_rate", _SAMPLE_RATE))
        self.duration = getattr(module, "duration", None)

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        with torch.inference_mode():
            return np.concatenate(
                [self._module(each).float().cpu().numpy() for each in _batches(waveforms, self._device)]
            )


class TorchEmbedding(EmbeddingModel):
    """A module that maps (n, 1, samples) to (n, dimension), and takes ``weights=`` (n, frames) if its ``forward`` does.

    Without, it gets the samples of each speaker's frames alone. Speakers are embedded one by one.
    """

    def __init__(self, module: Any, device: str, reference: str) -> None:
        self._module, self._device = module.eval().to(device), device
        self.sample_rate = int(getattr(module, "sample_rate", _SAMPLE_RATE))
        self.duration = getattr(module, "duration", None)
        self._weighted = "weights" in inspect.signature(module.forward).parameters
        dimension = getattr(module, "dimension", None) or self._run(np.zeros(self.sample_rate, np.float32)).shape[-1]
        if not isinstance(dimension, int) or dimension < 1:
            msg = f"the model {reference} declares dimension = {dimension!r}; it has to be a positive integer"
            raise ModelError(msg)
        self.dimension = dimension

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers)."""
        if not self._weighted:
            return embed_masked(self._run, self.dimension, waveforms, weights, active)
        result = no_embeddings(active, self.dimension)
        for chunk, speaker in np.argwhere(active):
            own = torch.from_numpy(np.array(weights[chunk, :, speaker], np.float32))[None].to(self._device)
            result[chunk, speaker] = self._run(waveforms[chunk], weights=own)
        return result

    def _run(self, samples: FloatArray, **options: Any) -> FloatArray:
        with torch.inference_mode():
            row: FloatArray = self._module(_batches(samples[None], self._device)[0], **options)[0].float().cpu().numpy()
            return row


def _batches(waveforms: FloatArray, device: str) -> list[torch.Tensor]:
    """One batch of (1, 1, samples) for each chunk: the numbers do not depend on what else is there."""
    return [torch.from_numpy(np.array(each, np.float32))[None, None].to(device) for each in waveforms]
