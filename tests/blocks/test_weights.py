"""Overlap-aware weights and embedding lengths, by cases that were worked out by hand."""

import numpy as np
import pytest

from diart_mp.blocks.embeddings import normalize_embeddings
from diart_mp.blocks.weights import overlap_aware_weights


def test_one_clear_speaker_has_nearly_the_cube_of_the_score() -> None:
    weights = overlap_aware_weights(np.array([[1.0, 0.0], [0.5, 0.0]]), gamma=3, beta=1000)
    np.testing.assert_allclose(weights, [[1.0, 1e-8], [0.125, 1e-8]], rtol=1e-12)


def test_overlap_shares_the_weight() -> None:
    # Two equal scores: the softmax is 1/2 for both, whatever beta is.
    weights = overlap_aware_weights(np.array([[1.0, 1.0]]), gamma=2, beta=10)
    np.testing.assert_allclose(weights, [[0.25, 0.25]], rtol=1e-12)


def test_softmax_temperature() -> None:
    # exp(beta * 1) : exp(0) = 3 : 1 for beta = ln 3.
    weights = overlap_aware_weights(np.array([[1.0, 0.0]]), gamma=1, beta=float(np.log(3)))
    np.testing.assert_allclose(weights, [[0.75, 1e-8]], rtol=1e-12)


def test_silence_weighs_the_floor_for_any_leading_shape() -> None:
    assert (overlap_aware_weights(np.zeros((2, 4, 7, 3))) == 1e-8).all()


def test_normalized_weights_span_zero_to_one_per_speaker() -> None:
    segmentation = np.array([[[0.2, 0.5], [0.4, 0.5], [0.8, 0.5]]])
    weights = overlap_aware_weights(segmentation, gamma=1, beta=0, normalize=True)  # without the softmax: s / 2
    np.testing.assert_allclose(weights[0, :, 0], [0.0, 1 / 3, 1.0], rtol=1e-12)
    np.testing.assert_array_equal(weights[0, :, 1], [1e-8] * 3)


def test_embeddings_get_the_wanted_length() -> None:
    np.testing.assert_allclose(normalize_embeddings(np.array([[3.0, 4.0]])), [[0.6, 0.8]])
    np.testing.assert_allclose(normalize_embeddings(np.array([[3.0, 4.0]]), norm=10.0), [[6.0, 8.0]])


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_embeddings_without_direction_become_nan(value: float) -> None:
    embeddings = np.array([[value, value], [0.0, 2.0]], dtype=np.float32)
    normalized = normalize_embeddings(embeddings)
    assert np.isnan(normalized[0]).all()
    assert normalized[1].tolist() == [0.0, 1.0]
    assert normalized.dtype == np.float32
