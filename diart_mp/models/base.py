"""What a model is to a stage: a callable on float32 NumPy arrays, with a few declared attributes.

What is here: the two contracts that every loader fulfils and that users subclass for their own models. Torch,
files and devices are unknown here. The segmentation and embedding stages run it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
BoolArray: TypeAlias = NDArray[np.bool_]
WINDOW_S = 5.0  # of a window, unless the user says otherwise


class SegmentationModel(ABC):
    """Local speaker segmentation: who is active in each frame of a chunk, among a few local speakers.

    Attributes:
        sample_rate: samples per second of the audio that the model expects.
        duration: window that the model was trained on, in seconds; None where any will do.

    """

    sample_rate: int
    duration: float | None = None

    @abstractmethod
    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score a batch of chunks.

        Args:
            waveforms: (batch, samples), float32, mono.

        Returns:
            (batch, frames, speakers), float32 in [0, 1]; frames share the window's duration evenly.

        """


class EmbeddingModel(ABC):
    """Speaker embeddings of the local speakers of a chunk.

    Attributes:
        sample_rate: samples per second of the audio that the model expects.
        dimension: length of an embedding.
        duration: seconds of noise that it is run with once before the first chunk, which then does not wait for what is set up
            at the first call; None where it is not.

    """

    sample_rate: int
    dimension: int
    duration: float | None = None

    @abstractmethod
    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed the active local speakers of a batch of chunks.

        Args:
            waveforms: (batch, samples), float32, mono.
            weights: (batch, frames, speakers), float32, not negative: how much each frame counts for a speaker.
            active: (batch, speakers): whose embedding is wanted. A chunk without any costs nothing.

        Returns:
            (batch, speakers, dimension), float32, not normalised; rows of NaN where not active, or where no
            embedding exists (all weights 0).

        """

    def prepare(self, begun: FloatArray, samples: int) -> int:
        """Work ahead on a window of ``samples`` samples of which (samples so far,) are there; the numbers stay the same.

        Returns how many of its samples have to be there before more can be done; 0: nothing more, as here by default.
        """
        return 0


class EndToEndModel(ABC):
    """Speaker activity with identity, from one model: it stands for segmentation, embedding and clustering together.

    The model keeps nothing itself: what it remembers of a stream goes out with each call and comes back with the next one, so
    that a stream can go on in another process. The classic mistake is a cache in the object.

    Attributes:
        sample_rate: samples per second of the audio that the model expects.
        lookahead: seconds by which its scores lie behind the audio that it has been given.

    """

    sample_rate: int
    lookahead: float = 0.0

    @abstractmethod
    def __call__(self, samples: FloatArray, state: Mapping[str, Any] | None) -> tuple[FloatArray, Mapping[str, Any]]:
        """Score the next piece of a stream.

        Args:
            samples: (n,), float32, mono: what comes behind the samples of the call before. n is that of a step but for the
                first and the last pieces of a window.
            state: what the call before gave; None at the beginning of a stream.

        Returns:
            Scores (frames, speakers) in [0, 1], and the new state: numbers, text and arrays by name. Column i is the same person
            in all of the stream. The frames evenly share the time of the n samples, ``lookahead`` seconds earlier.

        """


class SplitEmbeddingModel(EmbeddingModel):
    """An embedding model of two parts: a trunk that does the work and knows nothing of speakers, and a cheap pooling.

    What the trunk gives is small enough to be kept. ``pool(trunk(waveforms), weights, active, samples)`` is bit for bit
    what calling the model gives, unless all weights of a stretch of audio are 0.
    """

    @abstractmethod
    def trunk(self, waveforms: FloatArray) -> FloatArray:
        """Run the trunk: (batch, samples) to (batch, rows, channels)."""

    @abstractmethod
    def pool(self, trunk: FloatArray, weights: FloatArray, active: BoolArray, samples: int) -> FloatArray:
        """Embed from what ``trunk`` gave for windows of that many samples; otherwise as calling the model."""


def embed_clean(model: EmbeddingModel, waveforms: FloatArray, masks: BoolArray) -> FloatArray:
    """Embed each speaker from the frames of ``masks`` (batch, frames, speakers) alone, of (batch, samples).

    A model with a method ``clean`` of the same arguments does it as it knows best; any other takes the masks as weights.
    Returns (batch, speakers, dimension), rows of NaN for speakers without frames.
    """
    own = getattr(model, "clean", None)
    if own is not None:
        result: FloatArray = own(waveforms, masks)
        return result
    active: BoolArray = np.any(masks, axis=1)
    return model(waveforms, masks.astype(np.float32), active)


def embed_masked(
    embed: Callable[[FloatArray], FloatArray],
    dimension: int,
    waveforms: FloatArray,
    weights: FloatArray,
    active: BoolArray,
    *,
    threshold: float = 0.5,
    shortest: int = 400,
) -> FloatArray:
    """Embed with a model that knows no weights: each speaker from the samples of his frames above ``threshold`` alone.

    The weights of a speaker are taken as shares of his highest one. ``embed``: (samples,) to (dimension,).

    Returns (batch, speakers, dimension); NaN where not active, and where fewer than ``shortest`` samples are left.
    """
    result = no_embeddings(active, dimension)
    samples = waveforms.shape[1]
    frames = np.minimum(np.arange(samples) * weights.shape[1] // max(1, samples), weights.shape[1] - 1)
    for chunk, speaker in np.argwhere(active):
        own = weights[chunk, :, speaker]
        kept = waveforms[chunk][(own > threshold * own.max())[frames]]
        if len(kept) >= shortest:
            result[chunk, speaker] = embed(np.ascontiguousarray(kept, np.float32))
    return result


def no_embeddings(active: BoolArray, dimension: int) -> FloatArray:
    """Result of an embedding model before any row is known: (batch, speakers, dimension) of NaN."""
    return np.full((*active.shape, dimension), np.nan, dtype=np.float32)
