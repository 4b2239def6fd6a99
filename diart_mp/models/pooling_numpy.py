"""Weighted statistics pooling in NumPy: what ``pooling`` does in torch, for networks that run without it.

What is here: mean and unbiased standard deviation of frame features under one speaker's weights. Where the features come from is
unknown here. Runs in the embedding stage.
"""

import numpy as np

from diart_mp.models.base import FloatArray


def weighted_statistics(features: FloatArray, weights: FloatArray) -> FloatArray:
    """Means, then standard deviations: (channels, frames) and (any number of frames,) to (2 * channels,).

    With v1 = sum(w) and v2 = sum(w^2): mean = sum(x w) / v1, variance = sum(w (x - mean)^2) / (v1 - v2 / v1). NaN where all
    weights are 0.
    """
    own = resampled(weights, features.shape[1])
    v1, v2 = own.sum(), np.square(own).sum()
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = features @ own / v1
        deviations = features - mean[:, None]
        np.square(deviations, out=deviations)
        variance = deviations @ own / (v1 - v2 / v1)
        pooled: FloatArray = np.concatenate([mean, np.sqrt(variance)])
    return pooled


def resampled(weights: FloatArray, frames: int) -> FloatArray:
    """Weights (n,) for another number of frames of the same time, linearly between the frames' centres."""
    if len(weights) == frames:
        return np.ascontiguousarray(weights, np.float32)
    centres = (np.arange(frames) + 0.5) * (len(weights) / frames) - 0.5
    own: FloatArray = np.interp(centres, np.arange(len(weights)), weights).astype(np.float32)
    return own
