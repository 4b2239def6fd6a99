"""Statistics pooling against numbers worked out by hand, and against what pyannote.audio 3.0 computes."""

import math

import pytest
import torch

from diart_mp.models.pooling import StatisticsPool, weighted_statistics


def test_mean_and_deviation_by_hand() -> None:
    # Weights 1, 2, 1 on values 1, 2, 5: v1 = 4, mean = 10/4; v2 = 6; sum(w d^2) = 2.25 + 0.5 + 6.25 = 9; 9 / (4 - 6/4) = 3.6
    features, weights = torch.tensor([[[1.0, 2.0, 5.0]]]), torch.tensor([[[1.0, 2.0, 1.0]]])
    assert weighted_statistics(features, weights)[0, 0].tolist() == pytest.approx([2.5, math.sqrt(3.6)])


def test_weights_are_resampled_linearly() -> None:
    # Two weights (0, 1) on four frames, corners not aligned: 0, 0.25, 0.75, 1. (To the nearest: 0, 0, 1, 1.)
    # v1 = 2; mean = (0.25 * 4 + 0.75 * 8 + 16) / 2 = 11.5; v2 = 0.0625 + 0.5625 + 1 = 1.625
    # sum(w d^2) = 0.25 * 7.5^2 + 0.75 * 3.5^2 + 4.5^2 = 43.5; 43.5 / (2 - 1.625 / 2) = 36.631579
    features, weights = torch.tensor([[[99.0, 4.0, 8.0, 16.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert weighted_statistics(features, weights)[0, 0].tolist() == pytest.approx([11.5, math.sqrt(36.631579)])


def test_no_epsilon_is_added() -> None:
    # With the floor of the overlap-aware weights (1e-8) everywhere, 1e-8 in the sums would move the mean by half.
    features, weights = torch.tensor([[[1.0, 3.0]]]), torch.full((1, 1, 2), 1e-8)
    assert weighted_statistics(features, weights)[0, 0].tolist() == pytest.approx([2.0, math.sqrt(2.0)], rel=1e-5)


def test_uniform_weights_are_plain_statistics() -> None:
    features = torch.randn((2, 5, 40), generator=torch.Generator().manual_seed(1))
    plain = torch.cat([features.mean(2), features.std(2)], dim=1)
    torch.testing.assert_close(weighted_statistics(features, torch.full((2, 3, 17), 0.5))[:, 2], plain)
    torch.testing.assert_close(StatisticsPool()(features), plain)


def test_speakers_do_not_see_each_other() -> None:
    generator = torch.Generator().manual_seed(2)
    features, weights = torch.randn((2, 4, 30), generator=generator), torch.rand((2, 3, 12), generator=generator)
    pool = StatisticsPool()
    together = pool(features, weights)
    assert together.shape == (2, 3, 8)
    for speaker in range(3):
        torch.testing.assert_close(together[:, speaker], pool(features, weights[:, speaker]), rtol=0, atol=0)


def test_no_weight_at_all_is_no_embedding() -> None:
    assert weighted_statistics(torch.ones(1, 2, 3), torch.zeros(1, 1, 3)).isnan().all()
