"""Incremental clustering: diart's rules one by one, and what must hold for any stream."""

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diart_mp.blocks.clustering import ClusteringSettings, IncrementalClustering

EAST, NORTH, WEST, UP = np.eye(3)[0], np.eye(3)[1], -np.eye(3)[0], np.eye(3)[2]
NORTH_EAST = (EAST + NORTH) / np.sqrt(2)


def clustering(**changes: Any) -> IncrementalClustering:
    values: dict[str, Any] = {"tau_active": 0.5, "rho_update": 0.25, "delta_new": 0.5, "max_speakers": 20, **changes}
    return IncrementalClustering(ClusteringSettings(**values))


def talk(*shares: float) -> NDArray[np.float64]:
    """Scores of local speakers that talk (score 1) in the first ``shares`` of eight frames and are silent in the rest."""
    return np.array([[1.0 if frame < share * 8 else 0.0 for share in shares] for frame in range(8)])


def label(blocks: IncrementalClustering, shares: Sequence[float], *embeddings: NDArray[np.float64]) -> list[int]:
    labels: list[int] = blocks(talk(*shares), np.array(embeddings)).tolist()
    return labels


def test_first_window_opens_a_speaker_for_everybody_active_however_short() -> None:
    blocks = clustering()
    assert label(blocks, [0.125, 0, 1], EAST, NORTH, UP) == [0, -1, 1]
    np.testing.assert_array_equal(blocks.centers, [EAST, UP])


def test_known_speakers_are_found_again_and_their_embeddings_add_up() -> None:
    blocks = clustering()
    label(blocks, [1, 1], EAST, NORTH)
    assert label(blocks, [0.5, 0.5], NORTH, EAST) == [1, 0]
    assert label(blocks, [0, 0.125], NORTH, EAST) == [-1, 0]  # too short to move a centroid
    np.testing.assert_array_equal(blocks.centers, [2 * EAST, 2 * NORTH])


def test_thresholds_count_as_reached_when_met_exactly() -> None:
    blocks = clustering(delta_new=1.0)
    flat = np.full((8, 1), 0.5)  # highest score = tau_active
    assert blocks(flat, EAST[np.newaxis]).tolist() == [0]
    assert label(blocks, [0.25], NORTH) == [1]  # distance = delta_new, mean score = rho_update
    assert clustering()(np.nextafter(flat, 0), EAST[np.newaxis]).tolist() == [-1]


def test_after_a_silent_first_window_only_long_speech_opens_a_speaker() -> None:
    blocks = clustering()
    assert label(blocks, [0, 0], EAST, NORTH) == [-1, -1]
    assert label(blocks, [0.125, 1], EAST, NORTH) == [-1, 0]


def test_short_speech_far_from_everybody_goes_to_the_nearest_free_speaker_and_leaves_its_centroid() -> None:
    blocks = clustering(delta_new=0.1)
    label(blocks, [1, 1], EAST, NORTH)
    assert label(blocks, [0.125], NORTH_EAST + 0.1 * NORTH) == [1]
    assert label(blocks, [1, 0.125], NORTH, NORTH_EAST + 0.1 * NORTH) == [1, 0]  # the nearest is taken
    assert label(blocks, [1, 1, 0.125], EAST, NORTH, UP) == [0, 1, -1]  # nobody is free
    np.testing.assert_array_equal(blocks.centers, [2 * EAST, 3 * NORTH])


def test_long_speech_in_a_full_house_goes_to_the_nearest_speaker_and_leaves_its_centroid() -> None:
    blocks = clustering(max_speakers=2)
    label(blocks, [1, 1], EAST, NORTH)
    assert label(blocks, [1, 0], WEST + 0.1 * NORTH, UP) == [1, -1]
    np.testing.assert_array_equal(blocks.centers, [EAST, NORTH])


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_more_local_speakers_than_labels_keep_the_right_ones(order: tuple[int, ...]) -> None:
    blocks = clustering(max_speakers=2)
    assert label(blocks, [1, 1, 1], EAST, NORTH, UP) == [0, 1, -1]  # nobody is overwritten in the first window
    np.testing.assert_array_equal(blocks.centers, [EAST, NORTH])
    people = [EAST, NORTH, UP]
    expected = [0, 1, -1]
    assert label(blocks, [1, 1, 1], *(people[k] for k in order)) == [expected[k] for k in order]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_single_label_goes_to_the_nearest(order: tuple[int, ...]) -> None:
    blocks = clustering(max_speakers=1)
    label(blocks, [1], EAST)
    people = [NORTH_EAST, EAST, UP]
    assert label(blocks, [1, 1, 1], *(people[k] for k in order)) == [[-1, 0, -1][k] for k in order]


@pytest.mark.parametrize("lost", [np.full(3, np.nan), np.array([0, np.inf, 0]), np.zeros(3)])
def test_speakers_without_a_usable_embedding_are_nobody(lost: NDArray[np.float64]) -> None:
    blocks = clustering()
    assert label(blocks, [1, 1], lost, EAST) == [-1, 0]
    assert label(blocks, [1, 1], EAST, lost) == [0, -1]


def test_silence_needs_no_embeddings_at_all() -> None:
    blocks = clustering()
    label(blocks, [1], EAST)
    assert blocks(talk(0, 0, 0), np.zeros((3, 0))).tolist() == [-1, -1, -1]
    assert label(blocks, [1], EAST) == [0]


def test_a_centroid_that_cancelled_out_attracts_nobody() -> None:
    blocks = clustering(delta_new=2.1)  # more than any distance
    label(blocks, [1], EAST)
    assert label(blocks, [1], WEST) == [0]
    assert not blocks.centers.any()
    assert label(blocks, [1], EAST) == [1]


@pytest.mark.parametrize(
    ("segmentation", "embeddings", "message"),
    [
        (np.full((8, 2), np.nan), np.eye(2), "16 of 16 segmentation scores"),
        (np.array([[0.5, np.inf]]), np.eye(2), "1 of 2 segmentation scores"),
        (np.ones((8, 3)), np.eye(2), r"\(8, 3\).*\(2, 2\)"),
        (np.ones(8), np.eye(2), r"\(8,\)"),
        (np.ones((0, 2)), np.eye(2), r"\(0, 2\)"),
    ],
)
def test_bad_input_is_refused_with_its_numbers(
    segmentation: NDArray[np.float64], embeddings: NDArray[np.float64], message: str
) -> None:
    blocks = clustering()
    with pytest.raises(ValueError, match=message):
        blocks(segmentation, embeddings)
    assert label(blocks, [0.125], EAST) == [0]  # still the very first window


def test_embeddings_of_another_model_are_refused() -> None:
    blocks = clustering()
    label(blocks, [1], EAST)
    with pytest.raises(ValueError, match="2 dimensions, those of the stream so far 3"):
        blocks(talk(1), np.ones((1, 2)))


# Any stream: windows of 1 to 4 local speakers, whose embeddings lie around four directions.
streams = st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 5), st.sampled_from([0.1, 0.4, 1.0]))
Window = tuple[NDArray[np.float64], NDArray[np.float64]]


def windows_of(seed: int, num_local: int, count: int = 12) -> list[Window]:
    random = np.random.default_rng(seed)
    voices = random.normal(size=(4, 6))
    windows = []
    for _ in range(count):
        embeddings = voices[random.integers(4, size=num_local)] + 0.4 * random.normal(size=(num_local, 6))
        embeddings[random.random(num_local) < 0.1] = np.nan
        windows.append((talk(*random.choice([0, 0.125, 0.5, 1], size=num_local)), embeddings))
    return windows


def exhaustive(costs: dict[tuple[int, int], float], num_local: int) -> dict[int, int]:
    """The cheapest of the largest sets of links that use no side twice, by trying all."""
    known = sorted({label for _, label in costs})
    best: tuple[int, float, dict[int, int]] = (0, 0.0, {})
    for choice in itertools.product([None, *known], repeat=num_local):
        links = {local: label for local, label in enumerate(choice) if label is not None}
        if len(set(links.values())) == len(links) and all(link in costs for link in links.items()):
            best = min(best, (-len(links), sum(costs[link] for link in links.items()), links), key=lambda b: b[:2])
    return best[2]


def expected_labels(centers: NDArray[np.float64], window: Window, rules: ClusteringSettings) -> list[int]:
    """What a window after the first is labelled, by diart's rules and exhaustive search."""
    segmentation, embeddings = window
    active = [s for s in range(len(embeddings)) if segmentation[:, s].any() and np.isfinite(embeddings[s]).all()]
    costs = {
        (s, g): 1 - float(embeddings[s] @ center / np.linalg.norm(embeddings[s]) / np.linalg.norm(center))
        for s in active
        for g, center in enumerate(centers)
    }
    near = {link[0] for link in exhaustive(costs, len(embeddings)).items() if costs[link] < rules.delta_new}
    labels = exhaustive({link: cost for link, cost in costs.items() if link[0] in near}, len(embeddings))
    founders: list[int] = []
    for s in (s for s in active if s not in near):
        if segmentation[:, s].mean() >= rules.rho_update and len(centers) + len(founders) < rules.max_speakers:
            founders.append(s)
        elif free := [g for g in range(len(centers)) if g not in labels.values()]:
            labels[s] = min(free, key=lambda g: costs[s, g])
    labels |= {s: len(centers) + k for k, s in enumerate(founders)}
    return [labels.get(s, -1) for s in range(len(embeddings))]


@settings(max_examples=60)
@given(streams)
def test_any_stream_is_labelled_by_the_rules(stream: tuple[int, int, int, float]) -> None:
    seed, num_local, max_speakers, delta = stream
    blocks = clustering(max_speakers=max_speakers, delta_new=delta)
    first, *others = windows_of(seed, num_local)
    blocks(*first)
    for window in others:
        expected = expected_labels(blocks.centers, window, blocks.settings)
        labels = blocks(*window).tolist()
        assert labels == expected
        mapped = [g for g in labels if g != -1]
        assert len(set(mapped)) == len(mapped)  # cannot-link
        assert all(0 <= g < max_speakers for g in mapped)


@pytest.mark.parametrize("centers", [np.ones(3), np.ones((3, 2)), np.array([[np.nan]])])
def test_a_state_that_cannot_be_is_refused(centers: NDArray[np.float64]) -> None:
    with pytest.raises(ValueError, match="no state of a clustering of 2 speakers"):
        clustering(max_speakers=2).restore({"started": True, "centers": centers})
