"""Speaker embeddings of one length.

Pure NumPy; knows nothing of the model that made them. Runs in the embedding stage.
"""

import numpy as np
from numpy.typing import NDArray


def normalize_embeddings(embeddings: NDArray[np.floating], norm: float = 1.0) -> NDArray[np.floating]:
    """Embeddings scaled to the L2 norm ``norm`` (diart: functional.py ``EmbeddingNormalization``).

    Args:
        embeddings: shape (..., dimension).
        norm: the length that every vector gets.

    Returns:
        Array of the same shape and floating type. Zero vectors, which have no direction, become NaN, and NaN
        stays NaN: clustering ignores such speakers.

    """
    lengths = np.linalg.norm(embeddings, axis=-1, keepdims=True)
    normalized = np.full_like(embeddings, np.nan)
    np.divide(norm * embeddings, lengths, out=normalized, where=lengths > 0)
    return normalized
