"""Turns as they are known by now: revisions folded into what was said."""

from hypothesis import given
from hypothesis import strategies as st

from diart_mp.outputs.revising import RevisedTurns
from diart_mp.outputs.stitching import Stitcher
from diart_mp.turns import Revision, Turn, Update

RATE = 1000


def said(seq: int, *turns: tuple[int, int, str], revision: Revision | None = None) -> Update:
    """One region of 500 ms."""
    return Update("s", seq, 500 * seq, 500 * (seq + 1), RATE, tuple(Turn(*turn) for turn in turns), None, revision)


def fold(*updates: Update) -> list[tuple[int, int, str]]:
    known = RevisedTurns(RATE)
    for update in updates:
        known.push(update)
    return [(turn.start, turn.end, turn.speaker) for turn in known.turns()]


def test_a_revision_takes_the_place_of_its_region_and_renames_what_was_before() -> None:
    revision = Revision(400, 1000, (Turn(400, 900, "b"),), (("a", "b"), ("b", "a")))
    updates = [said(0, (0, 500, "a"), (100, 200, "b")), said(1, (500, 1000, "c"), revision=revision)]
    assert fold(*updates) == [(0, 900, "b"), (100, 200, "a")]
    assert fold(*updates, said(2, (1000, 1500, "b"))) == [(0, 900, "b"), (100, 200, "a"), (1000, 1500, "b")]
    assert not RevisedTurns(RATE).revised


def test_later_revisions_rename_what_earlier_ones_said() -> None:
    first = Revision(0, 1000, (Turn(0, 300, "a"), Turn(400, 1000, "b")))
    second = Revision(1000, 2000, (Turn(1000, 2000, "a"),), (("b", "a"),))
    updates = [said(0), said(1, revision=first), said(2, (1000, 1500, "x")), said(3, revision=second)]
    assert fold(*updates) == [(0, 300, "a"), (400, 2000, "a")]


@given(st.lists(st.lists(st.tuples(st.integers(-60, 499), st.integers(1, 510), st.sampled_from("abc"))), max_size=8))
def test_without_revisions_the_turns_are_the_stitched_ones(regions: list[list[tuple[int, int, str]]]) -> None:
    updates = [
        said(seq, *((500 * seq + begin, min(500 * seq + begin + length, 500 * seq + 510), who) for begin, length, who in turns))
        for seq, turns in enumerate(regions)
    ]  # fmt: skip
    stitcher = Stitcher(RATE)
    stitched = [turn for update in updates for turn in stitcher.push(update)] + stitcher.finish()
    assert fold(*updates) == sorted((turn.start, turn.end, turn.speaker) for turn in stitched)
