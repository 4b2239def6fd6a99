"""Binarization of frames whose turns were worked out by hand."""

import numpy as np
import pytest

from diart_mp.blocks.aggregation import Frames
from diart_mp.blocks.binarize import binarize


def frames(*columns: list[float], labels: list[int], start: float = 10.0, resolution: float = 0.5) -> Frames:
    return Frames(start, resolution, np.array(columns).T, np.array(labels))


def test_turns_go_from_middle_to_middle() -> None:
    assert binarize(frames([0.0, 1.0, 1.0, 0.0, 0.0], labels=[4]), 0.5) == [(10.75, 11.75, 4)]


def test_an_open_turn_ends_half_a_frame_after_the_region() -> None:
    assert binarize(frames([1.0, 0.0, 1.0], labels=[0]), 0.5) == [(10.25, 10.75, 0), (11.25, 11.75, 0)]


def test_the_threshold_itself_is_silence() -> None:
    assert binarize(frames([0.5, np.nextafter(0.5, 1), 0.5], labels=[0]), 0.5) == [(10.75, 11.25, 0)]


def test_turns_are_sorted_by_time_then_speaker() -> None:
    turns = binarize(frames([0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0], labels=[1, 3, 8]), 0.5)
    assert turns == [(10.25, 10.75, 3), (10.75, 11.25, 1), (10.75, 11.25, 8), (11.25, 11.75, 3)]


@pytest.mark.parametrize("scores", [np.zeros((3, 2)), np.zeros((3, 0))])
def test_silence_has_no_turns(scores: np.ndarray) -> None:
    assert binarize(Frames(0.0, 0.5, scores, np.arange(scores.shape[1])), 0.0) == []
