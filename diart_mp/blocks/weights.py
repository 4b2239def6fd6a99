"""Overlap-aware weights: where in a window each local speaker talks alone and clearly.

Pure NumPy; knows nothing of the embedding model that pools its frames with these weights. Runs in the embedding stage.
"""

import numpy as np
from numpy.typing import NDArray

_FLOOR = 1e-8  # so that no speaker's weights sum to zero


def overlap_aware_weights(
    segmentation: NDArray[np.floating], *, gamma: float = 3.0, beta: float = 10.0, normalize: bool = False
) -> NDArray[np.floating]:
    """Weights of the frames of each local speaker, for the pooling of its embedding.

    ``w = s**gamma * softmax(beta * s)**gamma``, the softmax over the speakers, at least 1e-8: low where ``s`` is unsure
    and where somebody else talks too (Coria et al. 2021, equation 3; diart: functional.py ``OverlappedSpeechPenalty``).

    Args:
        segmentation: scores in [0, 1], shape (..., frames, speakers).
        gamma: exponent that lowers unsure frames.
        beta: inverse temperature of the softmax that lowers overlapped frames.
        normalize: stretch the weights of each speaker over [0, 1], for models that use them as a mask;
            constant weights become 1e-8.

    Returns:
        Weights of the shape and floating type of ``segmentation``.

    """
    scaled = np.exp(beta * (segmentation - segmentation.max(axis=-1, keepdims=True)))
    probabilities = scaled / scaled.sum(axis=-1, keepdims=True)
    weights = np.maximum(segmentation**gamma * probabilities**gamma, _FLOOR)
    return _stretch(weights) if normalize else weights


def _stretch(weights: NDArray[np.floating]) -> NDArray[np.floating]:
    """Min-max normalization over the frames (diart: embedding.py, ``normalize_weights``)."""
    low = weights.min(axis=-2, keepdims=True)
    spread = weights.max(axis=-2, keepdims=True) - low
    stretched = np.full_like(weights, _FLOOR)
    np.divide(weights - low, spread, out=stretched, where=spread > 0)
    return stretched


def clean_speech(segmentation: NDArray[np.floating], threshold: float) -> NDArray[np.bool_]:
    """Where each speaker talks (score at least ``threshold``) and nobody else does; shape of ``segmentation``."""
    talking = segmentation >= threshold
    alone: NDArray[np.bool_] = talking & (talking.sum(axis=-1, keepdims=True) == 1)
    return alone
