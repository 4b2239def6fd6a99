"""The embedding stage: one voice print per active local speaker of a window. Runs as the process of that name."""

import math
import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.embeddings import normalize_embeddings
from diart_mp.blocks.weights import clean_speech, overlap_aware_weights
from diart_mp.messages import FieldValue
from diart_mp.models.base import embed_clean
from diart_mp.models.load import load_embedding
from diart_mp.precision import Precision
from diart_mp.runtime.stage import Chunk, Stage, windows_at
from diart_mp.topology import StageConfig

_SHORTEST_S = 0.2  # clean speech from which there is an embedding
_NOISE = 0.01  # loudness of what the first run hears
_NOISE_FRAMES = 293  # of its weights: as many as the built-in segmentation has scores for 5 s


class Embedding(Stage):
    """Adds ``embeddings`` (local speakers, dimension); rows of speakers that do not talk are NaN."""

    name = "embedding"
    consumes = ("audio", "segmentation")
    produces = ("embeddings",)

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._last: Chunk | None = None  # of the only stream, while there is no other
        self._stream = ""  # of the chunk before
        self._needed = 0  # samples of the next window that have to be there before there is something to do

    def open(self) -> None:
        """Load the model and run it once, so that the first chunk does not wait for what is set up at the first call."""
        config = self._config
        self._model = load_embedding(
            config.model,
            device=config.device,
            threads=config.threads,
            precision=Precision(config.precision),
        )
        duration = getattr(self._model, "duration", None)
        if duration is not None:
            samples = round(duration * self._model.sample_rate)
            noise = np.random.default_rng(0).normal(0, _NOISE, (1, samples)).astype(np.float32)
            self._model(noise, np.ones((1, _NOISE_FRAMES, 1), np.float32), np.ones((1, 1), np.bool_))

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """A batch, in one pass for each kind of clustering that its streams have."""
        self._listen(chunks)
        results: list[Mapping[str, FieldValue]] = [{}] * len(chunks)
        for embed, kind in ((self._weighted, "exact"), (self._clean, "adaptive")):
            places = [place for place, chunk in enumerate(chunks) if chunk.settings.clustering == kind]
            if not places:
                continue
            embeddings = np.asarray(embed([chunks[place] for place in places]), np.float32)
            for place, each in zip(places, normalize_embeddings(embeddings), strict=True):
                results[place] = {"embeddings": each}
        return results

    def idle(self) -> float:
        """A window's audio is there before its last sample: what needs no more is computed now, of a live stream that is alone.

        With several streams there is always something to do, and doing it in larger batches is worth more.
        """
        begun = None if self._last is None else self._last.begun_window()
        if self._last is None or begun is None:
            return math.inf
        settings = self._last.settings
        if len(begun) >= self._needed:
            began = time.process_time()
            self._needed = self._model.prepare(begun, settings.duration)
            self.model_s += time.process_time() - began
            if not self._needed:
                self._last = None
                return math.inf
        return (self._needed - len(begun)) / settings.rate

    def _listen(self, chunks: Sequence[Chunk]) -> None:
        """Remember the chunk whose successor comes next, if all is of one stream at this model's rate and somebody talks."""
        chunk = chunks[-1]
        alone = {each.stream for each in chunks} <= {chunk.stream} and self._stream in ("", chunk.stream)
        settings, self._stream = chunk.settings, chunk.stream
        fits = settings.rate == self._model.sample_rate and settings.clustering == "exact"
        worth = alone and fits and bool((chunk.array("segmentation") >= settings.tau_active).any())
        self._last, self._needed = (chunk if worth else None), 0

    def _weighted(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Each speaker weighted by when he alone talks (paper, section 2.2)."""
        scores = np.stack([chunk.array("segmentation") for chunk in chunks])
        # A maximum over neighbours in memory takes a tenth of the time.
        highest = np.ascontiguousarray(scores.transpose(0, 2, 1)).max(axis=2)
        active = [scores >= chunk.settings.tau_active for scores, chunk in zip(highest, chunks, strict=True)]
        weights = [_weights(chunk, needed=each.any()) for chunk, each in zip(chunks, active, strict=True)]
        waveforms, began = windows_at(chunks, self._model.sample_rate), time.process_time()
        embeddings = self._model(waveforms, np.stack(weights), np.stack(active))
        self.model_s += time.process_time() - began
        return embeddings

    def _clean(self, chunks: Sequence[Chunk]) -> NDArray[np.float32]:
        """Each speaker from when he alone talks, unless that is too short."""
        masks = []
        for chunk in chunks:
            segmentation, settings = chunk.array("segmentation"), chunk.settings
            clean = clean_speech(segmentation, settings.tau_active)
            seconds = clean.sum(axis=0) * (settings.duration / settings.rate / len(clean))
            masks.append(clean & (seconds >= _SHORTEST_S))
        waveforms, began = windows_at(chunks, self._model.sample_rate), time.process_time()
        embeddings = embed_clean(self._model, waveforms, np.stack(masks))
        self.model_s += time.process_time() - began
        return embeddings


def _weights(chunk: Chunk, *, needed: bool) -> NDArray[np.floating]:
    """Weights (frames, local speakers) of a chunk; zeros where nobody talks, since no model looks at them then."""
    segmentation, settings = chunk.array("segmentation"), chunk.settings
    if not needed:
        return np.zeros_like(segmentation)
    return overlap_aware_weights(
        segmentation, gamma=settings.gamma, beta=settings.beta, normalize=settings.normalize_embedding_weights
    )
