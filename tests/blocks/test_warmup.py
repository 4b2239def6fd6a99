"""Names given before a whole window was heard are kept by the same people afterwards."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from diart_mp.blocks.clustering import UNMAPPED
from diart_mp.blocks.diarization import OnlineDiarization
from diart_mp.blocks.hindsight import Turns
from diart_mp.blocks.warmup import WarmUp
from diart_mp.config import Settings
from diart_mp.runtime.state import pack_state, unpack_state

STEP = 1000  # samples; a window has 5 steps and 10 frames, so a step is 2 frames
RATE = 4000
EARLY = Settings(rate=RATE, duration=5 * STEP, step=STEP, latency=STEP, delta_new=0.5, start="early")


def warm_up(max_speakers: int = 4) -> WarmUp:
    """A warm-up that has heard its first sound at sample 0."""
    begun = WarmUp(duration=5 * STEP, step=STEP, tau_active=0.5, max_speakers=max_speakers)
    assert begun.has_begun(0, silent=False)
    return begun


def scores(*frames: str) -> NDArray[np.float64]:
    """One text of ten characters per local speaker: ``x`` where he talks."""
    return np.array([[0.9 if char == "x" else 0.1 for char in text] for text in frames]).T


def test_who_goes_on_talking_keeps_the_name_in_whatever_place() -> None:
    names = warm_up()
    assert names.label(0, scores("......xx..", "..........", "........xx")).tolist() == [0, UNMAPPED, 1]
    assert names.label(STEP, scores("......xx..", "....xx....", "..........")).tolist() == [1, 0, UNMAPPED]


def test_somebody_new_gets_the_lowest_free_name() -> None:
    names = warm_up()
    assert names.label(0, scores("........xx")).tolist() == [0]
    assert names.label(STEP, scores("........xx", "......xx..")).tolist() == [1, 0]


def test_no_more_names_than_speakers_are_allowed() -> None:
    names = warm_up(max_speakers=1)
    assert names.label(0, scores("........xx", "......xx..")).tolist() == [0, UNMAPPED]


def test_labels_of_the_clustering_get_the_names_that_were_shown() -> None:
    names = warm_up()
    names.label(3 * STEP, scores("....xx....", "........xx"))
    complete = scores("......xx..", "..xx......", "........xx")
    assert names.translate(4 * STEP, complete, np.array([0, 1, 2])).tolist() == [1, 0, 2]
    assert names.translate(5 * STEP, complete, np.array([2, UNMAPPED, 0])).tolist() == [2, UNMAPPED, 1]
    assert names.translate(6 * STEP, complete, np.array([3, 1, UNMAPPED])).tolist() == [3, 0, UNMAPPED]


def test_nothing_begins_before_there_is_a_sound() -> None:
    names = WarmUp(duration=5 * STEP, step=STEP, tau_active=0.5, max_speakers=4)
    assert not names.has_begun(7 * STEP, silent=True)
    assert not names.is_over(7 * STEP)
    assert names.has_begun(8 * STEP, silent=False)
    assert names.has_begun(9 * STEP, silent=True)
    assert not names.is_over(11 * STEP)
    assert names.is_over(12 * STEP)


@pytest.mark.parametrize("clustering", ["exact", "adaptive"])
@pytest.mark.parametrize("latency", [STEP, 3 * STEP, 5 * STEP])
def test_from_the_first_complete_window_on_all_is_as_with_an_exact_start_but_for_names(
    latency: int, clustering: str
) -> None:
    generator = np.random.default_rng(5)
    windows = [(generator.random((10, 3)), generator.normal(size=(3, 8))) for _ in range(60)]
    settings = replace(EARLY, latency=latency, clustering=clustering)
    early, exact = OnlineDiarization(settings), OnlineDiarization(replace(settings, start="exact"))
    for index in range(4):
        assert early(index * STEP, *windows[index]).revision is None
    renamed: dict[int, int] = {}
    clock = 4 * STEP

    def same(turns: Turns, expected: Turns) -> bool:
        """Whether these are those of the exact start, under names that are one to one."""
        names = [renamed.setdefault(who, name) for (*_, who), (*_, name) in zip(expected, sorted(turns), strict=True)]
        moved = [(start + clock, end + clock, name) for (start, end, _), name in zip(expected, names, strict=True)]
        return sorted(moved) == sorted(turns) and len(set(renamed.values())) == len(renamed)

    for index in range(4, 60):
        here = early(index * STEP, *windows[index])
        there = exact(index * STEP - clock, *windows[index], prepend=index == 4)
        if index == 4 and latency < 5 * STEP:
            assert here.revision is not None
            assert (here.revision.start, here.revision.end) == (clock, clock + there.end)
            assert same(here.revision.turns, there.turns)
            assert here.start == here.revision.end - STEP
            assert here.turns == tuple(
                (max(a, here.start), b, who) for a, b, who in here.revision.turns if b > here.start
            )
        else:
            assert here.revision is None
            assert (here.start, here.end) == (there.start + clock, there.end + clock)
            assert same(here.turns, there.turns)
        assert (early.revision() is None) == (exact.revision() is None)
    assert len(renamed) > 1


def test_where_windows_are_missing_nothing_is_said_anew() -> None:
    generator = np.random.default_rng(8)
    windows = [(generator.random((10, 3)), generator.normal(size=(3, 8))) for _ in range(3)]
    early = OnlineDiarization(EARLY)
    early(0, *windows[0])
    region = early(7 * STEP, *windows[1])  # up to sample 5000 there was a window, and from 7000 on
    assert (region.start, region.revision) == (5 * STEP, None)
    assert early(8 * STEP, *windows[2]).revision is None


def test_leading_silence_changes_nothing_but_the_time() -> None:
    generator = np.random.default_rng(7)
    windows = [(generator.random((10, 3)), generator.normal(size=(3, 8))) for _ in range(12)]
    quiet = np.full((10, 3), 0.01), np.full((3, 8), np.nan)
    at_once, later = OnlineDiarization(EARLY), OnlineDiarization(EARLY)
    for index in range(9):
        assert later(index * STEP, *quiet, silent=True).turns == ()
    for index, window in enumerate(windows):
        here, there = at_once(index * STEP, *window), later((index + 20) * STEP, *window)
        if index == 0:
            continue  # its region reaches back over the jump
        assert [(begin + 20 * STEP, end + 20 * STEP, who) for begin, end, who in here.turns] == list(there.turns)


@pytest.mark.parametrize(("clustering", "count", "revisions"), [("exact", 9, 0), ("adaptive", 90, 3)])
def test_state_can_be_taken_over_at_any_window(clustering: str, count: int, revisions: int) -> None:
    generator = np.random.default_rng(6)
    settings = replace(EARLY, clustering=clustering)
    windows = [(generator.random((10, 3)), generator.normal(size=(3, 8))) for _ in range(count)]
    going, moved = OnlineDiarization(settings), OnlineDiarization(settings)
    revised = 0
    for index, window in enumerate(windows):
        state = unpack_state(pack_state(moved.state()))
        moved = OnlineDiarization(settings)
        moved.restore(state)
        assert moved(index * STEP, *window, silent=index < 2) == going(index * STEP, *window, silent=index < 2)
        last = index == count - 1
        revision = going.revision(last=last)
        assert moved.revision(last=last) == revision
        revised += revision is not None
    assert revised == revisions


@pytest.mark.parametrize("damage", [{"names": [9]}, {"named": np.zeros(3)}])
def test_damaged_state_is_refused(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="no state of a warm-up"):
        warm_up().restore({**warm_up().state(), **damage})
