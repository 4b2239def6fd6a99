"""Models that compute nothing and keep the shapes of the built-in pair: what is left of a pipeline's cost is everything else.

Named to a pipeline by ``SEGMENTATION`` and ``EMBEDDING``. Nobody ever speaks for them. ``diart-mp bench --null`` runs them in
the segmentation and embedding stages.
"""

import numpy as np

from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray, SegmentationModel, no_embeddings

SEGMENTATION = f"{__name__}:NullSegmentation"
EMBEDDING = f"{__name__}:NullEmbedding"

_FRAMES, _WINDOW = 293, 80_000  # frames of the built-in segmentation for so many samples
_LOCAL_SPEAKERS = 3


class NullSegmentation(SegmentationModel):
    """Scores of 0."""

    sample_rate = 16_000

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Zeros (batch, frames, 3), with 293 frames for 5 s."""
        frames = max(1, round(waveforms.shape[1] * _FRAMES / _WINDOW))
        return np.zeros((len(waveforms), frames, _LOCAL_SPEAKERS), np.float32)


class NullEmbedding(EmbeddingModel):
    """No embedding for anybody."""

    sample_rate = 16_000
    dimension = 256

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """NaN (batch, speakers, 256)."""
        return no_embeddings(active, self.dimension)
