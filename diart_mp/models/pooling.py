"""Weighted statistics pooling as pyannote.audio did it before 3.1, which the published numbers of diart rest on.

What is here: mean and unbiased standard deviation of frame features under a speaker's weights, for any number of
speakers at once. Later releases of pyannote.audio resample the weights to the nearest frame and add 1e-8 to the sums,
which alone moves the error rate by points. Models are unknown here. Runs in the embedding stage.
"""

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import nn


def weighted_statistics(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean and standard deviation of `features` for each speaker.

    Weights are resampled linearly (``align_corners=False``) to the frames of the features. With v1 = sum(w) and
    v2 = sum(w^2): mean = sum(x w) / v1, variance = sum(w (x - mean)^2) / (v1 - v2 / v1).

    Args:
        features: (batch, channels, frames).
        weights: (batch, speakers, frames), of any number of frames.

    Returns:
        (batch, speakers, 2 * channels): means, then standard deviations; NaN where a speaker's weights are all 0.

    """
    if weights.shape[-1] != features.shape[-1]:
        weights = F.interpolate(weights, size=features.shape[-1], mode="linear", align_corners=False)
    return torch.stack([_statistics(features, weights[:, s : s + 1]) for s in range(weights.shape[1])], dim=1)


def _statistics(features: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """One speaker: (batch, channels, frames) and (batch, 1, frames) to (batch, 2 * channels)."""
    v1 = weights.sum(dim=2)
    v2 = weights.square().sum(dim=2)
    mean = (features * weights).sum(dim=2) / v1
    deviations = (features - mean.unsqueeze(2)).square()
    variance = (deviations * weights).sum(dim=2) / (v1 - v2 / v1)
    return torch.cat([mean, variance.sqrt()], dim=1)


class StatisticsPool(nn.Module):
    """Takes the place of pyannote.audio's ``StatsPool`` inside a loaded model."""

    def forward(self, sequences: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
        """Pool (batch, channels, frames) with weights (batch, frames) or (batch, speakers, frames), or with none."""
        if weights is None:
            return torch.cat([sequences.mean(dim=-1), sequences.std(dim=-1, correction=1)], dim=-1)
        if weights.dim() == 2:
            return weighted_statistics(sequences, weights.unsqueeze(1)).squeeze(1)
        return weighted_statistics(sequences, weights)
