"""The built-in speaker encoder against diart's embeddings, and its promises about work and numbers."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from diart_mp.models.base import BoolArray, FloatArray
from diart_mp.models.ge2e import BuiltinEmbedding, mel_basis, partial_starts, partial_weights

from .golden import Golden


@pytest.fixture(scope="module")
def model(embedding_weights: dict[str, FloatArray]) -> BuiltinEmbedding:
    torch.set_num_threads(1)
    return BuiltinEmbedding(embedding_weights)


@pytest.fixture
def rows_computed(model: BuiltinEmbedding) -> Iterator[list[int]]:
    """Partials that went through the LSTM, one number per pass."""
    rows: list[int] = []
    handle = model._net.lstm.register_forward_hook(lambda _module, inputs, _output: rows.append(len(inputs[0])))
    yield rows
    handle.remove()


def _weights(batch: int, speakers: int = 3, frames: int = 293) -> FloatArray:
    return np.random.default_rng(11).random((batch, frames, speakers)).astype(np.float32)


def test_embeddings_are_those_of_diart(model: BuiltinEmbedding, golden: Golden) -> None:
    active: BoolArray = np.ones(golden.embeddings.shape[:2], bool)
    found = model(golden.waveforms, golden.weights, active)
    np.testing.assert_allclose(found, golden.embeddings, rtol=0, atol=1e-5)
    cosine = 1 - (found * golden.embeddings).sum(axis=2) / np.linalg.norm(golden.embeddings, axis=2)
    assert cosine.max() < 1e-6


def test_mel_basis_is_slaneys(pyannote: Any) -> None:
    from torchaudio.functional import melscale_fbanks  # type: ignore[import-untyped]

    expected = melscale_fbanks(201, 0.0, 8000.0, 40, 16000, norm="slaney", mel_scale="slaney").T
    np.testing.assert_allclose(mel_basis(), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("samples", "starts"),
    [
        (80000, [0, 77, 154, 231, 308]),  # 5 s; a sixth at 385 would be 72 % audio
        (160000, list(range(0, 848, 77))),  # 10 s: 12 partials, the last one ends after the audio
        (16000, [0]),  # shorter than a partial: padded
        (31520, [0, 77]),  # the second one is exactly 75 % audio
        (31519, [0]),
        (1, [0]),
    ],
)
def test_partials_of_a_chunk(samples: int, starts: list[int]) -> None:
    assert partial_starts(samples) == starts


def test_weight_of_a_partial_is_the_mean_over_its_frames() -> None:
    # 100 frames over 5 s: partials cover frames 0:32, 15:47, 31:63, 46:78 and 62:94 (0.77 s = 15.4 frames each).
    weights = np.arange(100, dtype=np.float32)[:, None]
    assert partial_weights(weights, 80000)[:, 0].tolist() == [15.5, 30.5, 46.5, 61.5, 77.5]


def test_few_frames_still_weigh() -> None:
    assert np.isfinite(partial_weights(np.ones((2, 1), np.float32), 80000)).all()


@pytest.mark.parametrize("one_by_one", [False, True])
def test_a_batch_does_not_change_the_numbers(
    model: BuiltinEmbedding, embedding_weights: dict[str, FloatArray], noise: FloatArray, one_by_one: bool
) -> None:
    weights, active = _weights(8), np.random.default_rng(1).random((8, 3)) < 0.6
    weights[2, 60:] = 0  # the last partials of this chunk are not computed
    alone = np.concatenate([model(noise[i : i + 1], weights[i : i + 1], active[i : i + 1]) for i in range(8)])
    tested = BuiltinEmbedding(embedding_weights, reproducible=True) if one_by_one else model
    for size in (1, 2, 4, 8):
        np.testing.assert_array_equal(tested(noise[:size], weights[:size], active[:size]), alone[:size])
    order = np.random.default_rng(5).permutation(8)
    np.testing.assert_array_equal(tested(noise[order], weights[order], active[order]), alone[order])


def test_rows_are_of_unit_length_or_nan(model: BuiltinEmbedding, noise: FloatArray) -> None:
    active = np.array([[True, False, True], [False, False, False]])
    found = model(noise[:2], _weights(2), active)
    assert found.shape == (2, 3, 256)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found).all(axis=2), ~active)
    np.testing.assert_allclose(np.linalg.norm(found[active], axis=1), 1, atol=1e-6)


def test_nobody_active_costs_nothing(model: BuiltinEmbedding, noise: FloatArray, rows_computed: list[int]) -> None:
    assert np.isnan(model(noise, _weights(8), np.zeros((8, 3), bool))).all()
    assert rows_computed == []


def test_the_network_runs_once_per_chunk(model: BuiltinEmbedding, noise: FloatArray, rows_computed: list[int]) -> None:
    active = np.zeros((8, 3), bool)
    active[[1, 4]] = True
    model(noise, _weights(8), active)
    assert rows_computed == [10]  # two chunks of five partials, in one pass, for six embeddings


def test_partials_that_nobody_weighs_are_left_out(
    model: BuiltinEmbedding, noise: FloatArray, rows_computed: list[int]
) -> None:
    weights, active = np.zeros((1, 500, 2), np.float32), np.array([[True, False]])
    weights[0, :150, 0] = 1  # 1.5 s: only the partials at 0 s and 0.77 s
    weights[0, :, 1] = 1  # not active
    found = model(noise[:1], weights, active)
    assert rows_computed == [2]
    everything = model(noise[:1], weights, np.array([[True, True]]))
    assert rows_computed == [2, 5]
    np.testing.assert_array_equal(found[0, 0], everything[0, 0])


def test_a_weighted_mean_of_two_partials(model: BuiltinEmbedding, noise: FloatArray) -> None:
    weights, active = np.zeros((1, 500, 3), np.float32), np.ones((1, 3), bool)
    weights[0, 0, 0] = 1  # the first partial alone (frames 0:160)
    weights[0, 499 - 32, 1] = 1  # the last one alone (frames 308:468)
    weights[0, [0, 499 - 32], 2] = 3, 1
    first, last, both = model(noise[:1], weights, active)[0]
    expected = 3 * first + last
    np.testing.assert_allclose(both, expected / np.linalg.norm(expected), atol=1e-6)


def test_active_without_weight_has_no_embedding(model: BuiltinEmbedding, noise: FloatArray) -> None:
    found = model(noise[:1], np.zeros((1, 293, 1), np.float32), np.array([[True]]))
    assert np.isnan(found).all()


def test_a_short_chunk_is_padded_with_silence(model: BuiltinEmbedding, noise: FloatArray) -> None:
    weights, active = np.ones((1, 50, 1), np.float32), np.array([[True]])
    short = model(noise[7:, :16000], weights, active)
    padded = np.pad(noise[7:, :16000], ((0, 0), (0, 9600)))  # 1.6 s
    np.testing.assert_allclose(short, model(padded, weights, active), atol=1e-6)
