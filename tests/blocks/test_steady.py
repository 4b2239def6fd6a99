"""Names that are new in mid-speech: which are believed at once, which wait for a second region."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.blocks.steady import SteadyNames, Turn
from diart_mp.config import Settings
from diart_mp.runtime.state import pack_state, unpack_state

STEP = 8000  # samples, 0.5 s
ANNA, BOB, NEW, OTHER = 0, 1, 2, 3


def names() -> SteadyNames:
    return SteadyNames(Settings.from_seconds())


def said(block: SteadyNames, regions: Sequence[Sequence[Turn]], first: int = 0) -> list[tuple[Turn, ...]]:
    """What is said in regions of one step each, whose turns are given from their own beginnings."""
    found = []
    for index, turns in enumerate(regions, start=first):
        start = index * STEP
        moved = [(start + begin, start + end, name) for begin, end, name in turns]
        found.append(
            tuple((a - start, b - start, name) for a, b, name in block(start, start + STEP, moved)),
        )
    return found


def whole(name: int) -> list[Turn]:
    return [(0, STEP, name)]


def settled() -> SteadyNames:
    """Anna has talked for 12 s, and still talks."""
    block = names()
    said(block, [whole(ANNA)] * 24)
    return block


def test_a_name_that_is_new_in_mid_speech_waits_for_a_second_region() -> None:
    assert said(settled(), [whole(NEW), whole(ANNA)], 24) == [((0, STEP, ANNA),), ((0, STEP, ANNA),)]
    assert said(settled(), [whole(NEW), whole(NEW)], 24) == [((0, STEP, ANNA),), ((0, STEP, NEW),)]


def test_two_doubtful_names_in_a_row_wait_one_after_the_other() -> None:
    assert said(settled(), [whole(NEW), whole(OTHER), whole(OTHER)], 24)[:2] == [((0, STEP, ANNA),)] * 2


def test_at_the_beginning_of_a_stream_names_are_believed_at_once() -> None:
    block = names()
    assert said(block, [whole(ANNA)] * 19 + [whole(NEW)])[-1] == ((0, STEP, NEW),)


def test_a_known_name_is_believed_at_once() -> None:
    block = names()
    said(block, [whole(BOB)] * 6 + [whole(ANNA)] * 18)
    assert said(block, [whole(BOB)], 24) == [((0, STEP, BOB),)]


@pytest.mark.parametrize(
    "turns",
    [
        [(1000, STEP, NEW)],  # after a pause
        [(0, STEP, NEW), (0, STEP, ANNA)],  # beside who talked before
        [(0, 3000, NEW), (3000, STEP, ANNA)],  # who talked before goes on later
    ],
)
def test_who_does_not_simply_take_over_at_the_edge_is_believed_at_once(turns: list[Turn]) -> None:
    assert said(settled(), [turns], 24) == [tuple(sorted(turns))]


def test_behind_a_gap_names_are_believed_at_once() -> None:
    assert said(settled(), [whole(NEW)], 25) == [((0, STEP, NEW),)]


def test_frames_that_do_not_end_with_the_region_touch_it() -> None:
    block = settled()
    said(block, [[(0, STEP - 700, ANNA)]], 24)
    assert said(block, [[(100, STEP, NEW)]], 25) == [((100, STEP, ANNA),)]


def test_two_who_talked_take_over_for_two_who_are_new() -> None:
    block = settled()
    said(block, [[*whole(ANNA), *whole(BOB)]], 24)
    assert said(block, [[*whole(NEW), *whole(OTHER)]], 25) == [((0, STEP, ANNA), (0, STEP, BOB))]


def test_a_name_stays_known_when_it_becomes_another() -> None:
    block = settled()
    block.rename({ANNA: OTHER, OTHER: ANNA})
    assert said(block, [whole(NEW)], 24) == [((0, STEP, OTHER),)]
    assert said(block, [whole(BOB), whole(OTHER)], 25) == [((0, STEP, OTHER),), ((0, STEP, OTHER),)]


turns = st.lists(
    st.tuples(st.integers(0, STEP - 1), st.integers(1, STEP), st.integers(0, 4)).filter(lambda turn: turn[0] < turn[1]),
    max_size=4,
)


@given(st.lists(turns, max_size=60), st.integers(0, 60))
def test_a_checkpoint_goes_on_the_same_and_times_never_change(regions: list[list[Turn]], cut: int) -> None:
    block, expected = names(), said(names(), regions)
    begun = said(block, regions[:cut])
    again = names()
    again.restore(unpack_state(pack_state(block.state())))
    found = begun + said(again, regions[cut:], len(begun))
    assert found == expected
    for before, after in zip(regions, found, strict=True):
        assert sorted(turn[:2] for turn in before) == sorted(turn[:2] for turn in after)


def test_a_state_of_other_settings_is_refused() -> None:
    state = SteadyNames(Settings.from_seconds(max_speakers=3)).state()
    with pytest.raises(ValueError, match="are no state of 20 names"):
        names().restore(state)
