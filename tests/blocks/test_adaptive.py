"""Adaptive clustering: what clean speech and patience change, and what must hold for any stream."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diart_mp.blocks.adaptive import AdaptiveClustering, Speakers
from diart_mp.blocks.agglomerate import Voices
from diart_mp.config import Settings
from diart_mp.runtime.state import pack_state, unpack_state

EAST, NORTH, UP = np.eye(3)
NOBODY = np.full(3, np.nan)


def clustering(**changes: Any) -> AdaptiveClustering:
    return AdaptiveClustering(Settings(clustering="adaptive", **changes))


def talk(*spans: tuple[float, float]) -> NDArray[np.float64]:
    """Scores of local speakers, each talking from one second to another of a window of 5 s in 100 frames."""
    times = np.arange(100)[:, np.newaxis] * 0.05
    return np.array([[1.0 if begin <= t < end else 0.0 for begin, end in spans] for t in times[:, 0]])


def label(blocks: AdaptiveClustering, scores: NDArray[np.float64], *embeddings: NDArray[np.float64]) -> list[int]:
    labels: list[int] = blocks(scores, np.array(embeddings)).tolist()
    return labels


def known(blocks: AdaptiveClustering) -> list[int]:
    return [] if blocks.speakers is None else blocks.speakers.names.tolist()


def test_nobody_is_founded_on_too_little_clean_speech_also_not_in_the_first_window() -> None:
    blocks = clustering()
    assert label(blocks, talk((4.5, 5.0), (0, 0)), EAST, NOBODY) == [0, -1]
    assert known(blocks) == [], "the name is provisional"
    assert label(blocks, talk((3.5, 5.0), (0, 0)), NORTH, NOBODY) == [0, -1]
    assert known(blocks) == [0]


def test_overlapped_speech_founds_nobody() -> None:
    blocks = clustering()
    assert sorted(label(blocks, talk((0, 3), (0, 3)), EAST, NORTH)) == [0, 1]
    assert known(blocks) == []
    assert label(blocks, talk((0, 3), (2, 5)), EAST, NORTH) == [0, 1]
    assert known(blocks) == [0, 1]


def test_a_new_voice_is_the_nearest_free_speaker_until_it_is_plain_that_it_is_new() -> None:
    blocks = clustering()
    label(blocks, talk((0, 2), (3, 5)), EAST, NORTH)
    nearly_north = (0.1 * EAST + 0.5 * NORTH + UP) / np.linalg.norm([0.1, 0.5, 1])
    assert label(blocks, talk((0, 0.25), (2, 5)), nearly_north, EAST) == [1, 0]
    assert label(blocks, talk((0, 0.5), (2, 5)), nearly_north, EAST) == [2, 0]
    assert known(blocks) == [0, 1]
    assert label(blocks, talk((0, 1.2), (2, 5)), nearly_north, EAST) == [2, 0]
    assert known(blocks) == [0, 1, 2]


def test_a_voice_that_the_segmentation_is_not_sure_of_gets_no_new_name() -> None:
    blocks = clustering()
    label(blocks, talk((0, 5)), EAST)
    assert label(blocks, talk((0, 2), (2, 5)) * [1.0, 0.7], EAST, NORTH) == [0, -1]
    assert known(blocks) == [0]
    assert label(blocks, talk((0, 2), (2, 5)) * [1.0, 0.8], EAST, NORTH) == [0, 1]
    assert label(blocks, talk((0, 2), (2, 5)) * [1.0, 0.7], EAST, NORTH) == [0, 1], "it is somebody known now"


def test_the_first_voice_has_a_name_however_unsure() -> None:
    assert label(clustering(), 0.6 * talk((0, 3)), EAST) == [0]


def test_what_shortness_adds_to_a_distance_is_taken_off() -> None:
    # 0.8 is a distance of 0.2 from EAST: more than 0.54 * 0.35 = 0.19, but 0.13 is taken off for a second of speech
    near = 0.8 * EAST + 0.6 * NORTH
    blocks = clustering()
    label(blocks, talk((0, 5)), EAST)
    assert label(blocks, talk((0, 1.5)), near) == [0]
    blocks = clustering(delta_new=0.28)
    label(blocks, talk((0, 5)), EAST)
    assert label(blocks, talk((0, 5)), near) == [1]


def test_speech_without_an_embedding_takes_only_what_is_left() -> None:
    blocks = clustering()
    label(blocks, talk((0, 2), (3, 5)), EAST, NORTH)
    assert label(blocks, talk((0, 0.1), (2, 5)), NOBODY, EAST) == [1, 0]
    assert label(clustering(max_speakers=1), talk((0, 5), (0, 1)), NOBODY, NOBODY).count(0) == 1


def test_what_was_learned_elsewhere_takes_the_place_of_what_was_known() -> None:
    blocks = clustering()
    label(blocks, talk((0, 2), (3, 5)), EAST, NORTH)
    blocks.learn(Speakers(np.array([3]), Voices.single(EAST[None], np.array([9.0]), 5.0)))
    assert label(blocks, talk((0, 2), (3, 5)), NORTH, EAST) == [0, 3]
    assert known(blocks) == [0, 3]


@pytest.mark.parametrize("damage", [{"known_names": [9]}, {"known_sums": np.zeros((2, 3))}, {"known_names": [0, 1]}])
def test_what_is_no_state_is_refused(damage: dict[str, object]) -> None:
    blocks = clustering(max_speakers=5)
    label(blocks, talk((0, 5)), EAST)
    with pytest.raises(ValueError, match=r"no (voices|state)"):
        clustering(max_speakers=5).restore({**blocks.state(), **damage})


def test_centroids_are_sums_weighted_by_seconds_of_clean_speech() -> None:
    blocks = clustering()
    label(blocks, talk((0, 2)), EAST)
    label(blocks, talk((0, 0.5)), EAST)  # too little to learn from
    label(blocks, talk((0, 1)), EAST)
    np.testing.assert_allclose(blocks.centers, [3 * EAST])


def test_room_for_speakers_is_kept() -> None:
    blocks = clustering(max_speakers=1)
    assert label(blocks, talk((0, 2), (3, 5)), EAST, NORTH) == [0, -1]
    assert label(blocks, talk((0, 5)), NORTH) == [0]


def test_other_dimensions_are_refused() -> None:
    blocks = clustering()
    label(blocks, talk((0, 5)), EAST)
    with pytest.raises(ValueError, match="dimensions"):
        blocks(talk((0, 5)), np.ones((1, 4)))


def stream(seed: int, length: int) -> list[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Windows of three local speakers with blocks of speech, and embeddings near four voices."""
    rng = np.random.default_rng(seed)
    voices = rng.standard_normal((4, 8))
    windows = []
    for _ in range(length):
        scores = np.repeat(rng.random((10, 3)) * (rng.random((1, 3)) < 0.8), 5, axis=0).astype(np.float32)
        near = voices[rng.permutation(4)[:3]] + 0.3 * rng.standard_normal((3, 8))
        near[rng.random(3) < 0.1] = np.nan
        windows.append((scores, near.astype(np.float32)))
    return windows


@settings(max_examples=50)
@given(seed=st.integers(0, 2**32 - 1), cut=st.integers(0, 12), most=st.integers(1, 5))
def test_a_restored_clustering_goes_on_bit_for_bit_and_no_label_comes_twice(seed: int, cut: int, most: int) -> None:
    windows = stream(seed, 12)
    whole, first = clustering(max_speakers=most), clustering(max_speakers=most)
    expected = [whole(*window).tolist() for window in windows]
    before = [first(*window).tolist() for window in windows[:cut]]
    second = clustering(max_speakers=most)
    second.restore(unpack_state(pack_state(first.state())))
    assert before + [second(*window).tolist() for window in windows[cut:]] == expected
    np.testing.assert_array_equal(second.centers, whole.centers)
    for (scores, _), labels in zip(windows, expected, strict=True):
        named = [each for each in labels if each >= 0]
        assert len(set(named)) == len(named)
        assert all(each < most for each in named)
        assert all(labels[silent] == -1 for silent in np.flatnonzero(scores.max(axis=0) < 0.5))
