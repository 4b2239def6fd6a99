"""The embedding stage: one voice print per active local speaker of a window. Runs as the process of that name."""

from collections.abc import Mapping, Sequence

import numpy as np

from diart_mp.blocks.embeddings import normalize_embeddings
from diart_mp.blocks.weights import overlap_aware_weights
from diart_mp.messages import FieldValue
from diart_mp.models.load import load_embedding
from diart_mp.runtime.stage import Chunk, Stage, check_rate
from diart_mp.topology import StageConfig


class Embedding(Stage):
    """Adds ``embeddings`` (local speakers, dimension); rows of speakers that do not talk are NaN."""

    name = "embedding"

    def __init__(self, config: StageConfig) -> None:
        self._config = config

    def open(self) -> None:
        """Load the model."""
        config = self._config
        self._model = load_embedding(config.model, device=config.device, threads=config.threads)

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """One batch through the model, each speaker weighted by when he alone talks (paper, section 2.2)."""
        waveforms = np.stack([chunk.audio for chunk in chunks])
        weights, active = [], []
        for chunk in chunks:
            check_rate(chunk, self._model.sample_rate)
            settings, segmentation = chunk.settings, chunk.array("segmentation")
            weights.append(
                overlap_aware_weights(
                    segmentation,
                    gamma=settings.gamma,
                    beta=settings.beta,
                    normalize=settings.normalize_embedding_weights,
                )
            )
            active.append(segmentation.max(axis=0) >= settings.tau_active)
        embeddings = self._model(waveforms, np.stack(weights), np.stack(active))
        return [{"embeddings": normalize_embeddings(np.asarray(each, np.float32))} for each in embeddings]
