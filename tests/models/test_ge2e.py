"""The built-in speaker encoder against diart's embeddings, and its promises about work and numbers."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from diart_mp.models.base import BoolArray, FloatArray
from diart_mp.models.ge2e import BuiltinEmbedding, Encoder, mel_basis, partial_starts, partial_weights
from diart_mp.models.ge2e_openvino import OpenVinoEncoder
from diart_mp.models.ge2e_torch import TorchEncoder

from .golden import Golden


class CountingEncoder:
    """An encoder that notes how many partials go through the network, one number per call."""

    def __init__(self, encoder: Encoder) -> None:
        self.batch_invariant = encoder.batch_invariant
        self.rows: list[int] = []
        self._encoder = encoder

    def __call__(self, waveforms: Sequence[FloatArray], starts: Sequence[Sequence[int]]) -> FloatArray:
        self.rows.append(sum(map(len, starts)))
        return self._encoder(waveforms, starts)


@pytest.fixture(scope="module", params=[OpenVinoEncoder, TorchEncoder])
def encoder(request: pytest.FixtureRequest, embedding_weights: dict[str, FloatArray]) -> Encoder:
    torch.set_num_threads(1)
    made: Encoder = request.param(embedding_weights)
    return made


@pytest.fixture(scope="module")
def counting(encoder: Encoder) -> CountingEncoder:
    return CountingEncoder(encoder)


@pytest.fixture(scope="module")
def model(counting: CountingEncoder) -> BuiltinEmbedding:
    return BuiltinEmbedding(counting)


@pytest.fixture
def rows_computed(counting: CountingEncoder) -> list[int]:
    """Partials that go through the network from now on, one number per call."""
    counting.rows.clear()
    return counting.rows


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
    model: BuiltinEmbedding, encoder: Encoder, noise: FloatArray, one_by_one: bool
) -> None:
    weights, active = _weights(8), np.random.default_rng(1).random((8, 3)) < 0.6
    weights[2, 60:] = 0  # the last partials of this chunk are not computed
    alone = np.concatenate([model(noise[i : i + 1], weights[i : i + 1], active[i : i + 1]) for i in range(8)])
    tested = BuiltinEmbedding(encoder, reproducible=True) if one_by_one else model
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


def _masks(*spans: tuple[int, int]) -> BoolArray:
    """One chunk in which each speaker has the frames of one span of 293."""
    masks = np.zeros((1, 293, len(spans)), bool)
    for speaker, (begin, end) in enumerate(spans):
        masks[0, begin:end, speaker] = True
    return masks


def test_clean_speech_knows_nothing_of_other_frames(model: BuiltinEmbedding, noise: FloatArray) -> None:
    chunk = noise[:1].copy()
    before = model.clean(chunk, _masks((0, 140), (200, 293)))
    chunk[:, 42000:] *= 3.0  # from 2.6 s on; the first speaker ends at 2.4 s
    after = model.clean(chunk, _masks((0, 140), (200, 293)))
    np.testing.assert_array_equal(before[0, 0], after[0, 0])
    np.testing.assert_allclose(np.linalg.norm(before, axis=2), 1, atol=1e-5)


def test_clean_speech_is_brought_to_one_level(model: BuiltinEmbedding, noise: FloatArray) -> None:
    masks = _masks((0, 293), (10, 40))
    loud, quiet = model.clean(noise[:1], masks), model.clean(noise[:1] * np.float32(1 / 16), masks)
    np.testing.assert_allclose(loud, quiet, atol=1e-4)


def test_short_clean_speech_counts_and_silence_does_not(
    model: BuiltinEmbedding, noise: FloatArray, rows_computed: list[int]
) -> None:
    chunk = noise[:1].copy()
    chunk[:, 60000:] = 0
    found = model.clean(chunk, _masks((0, 12), (250, 293), (0, 0)))
    assert np.isfinite(found[0]).all(axis=1).tolist() == [True, False, False]
    assert model.clean(chunk, _masks((0, 0))).shape == (1, 1, 256)
    assert sum(rows_computed) in (1, 2)  # one partial, which goes in twice in some encoders


def test_a_batch_does_not_change_clean_embeddings(model: BuiltinEmbedding, noise: FloatArray) -> None:
    masks = np.concatenate([_masks((0, 150), (150, 290)), _masks((0, 0), (5, 290)), _masks((0, 60), (100, 130))])
    together = model.clean(noise[:3], masks)
    alone = [model.clean(noise[k : k + 1], masks[k : k + 1])[0] for k in range(3)]
    np.testing.assert_array_equal(together, np.stack(alone))
