"""Turns of an early start wait until they are said for good."""

from diart_mp.outputs.early import EarlyTurns
from diart_mp.turns import Revision, Turn, Update

RATE = 100


def update(seq: int, *turns: Turn, revision: Revision | None = None) -> Update:
    """One of a stream whose regions are 1 s long."""
    return Update("talk", seq, seq * RATE, (seq + 1) * RATE, RATE, turns, 12.0, revision)


def test_what_was_said_is_given_once_as_it_is_known_after_the_revision() -> None:
    early = EarlyTurns(RATE, 10 * RATE)
    assert early.push(update(0)) is None
    assert early.push(update(1, Turn(100, 200, "anna"))) is None
    revision = Revision(100, 300, (Turn(100, 150, "anna"), Turn(150, 300, "bob")))
    given = early.push(update(2, Turn(200, 300, "bob"), revision=revision))
    assert given == update(2, Turn(100, 150, "anna"), Turn(150, 300, "bob"))
    later = update(3, Turn(300, 400, "bob"), revision=Revision(0, 400, ()))
    assert early.push(later) is later
    assert early.finish() is None


def test_a_short_stream_is_given_at_its_end() -> None:
    early = EarlyTurns(RATE, 10 * RATE)
    early.push(update(0, Turn(0, 100, "anna")))
    early.push(update(1, Turn(100, 200, "anna")))
    assert early.finish() == update(1, Turn(0, 200, "anna"))


def test_a_revision_that_does_not_come_is_not_awaited_for_ever() -> None:
    early = EarlyTurns(RATE, 3 * RATE)
    for seq in range(50):  # silence takes no patience
        assert early.push(update(seq)) is None
    assert early.push(update(50, Turn(5000, 5100, "anna"))) is None
    assert early.push(update(51)) is None
    assert early.push(update(52)) == update(52, Turn(5000, 5100, "anna"))
    assert early.push(update(53)) == update(53)


def test_without_patience_nothing_waits() -> None:
    first = update(0, Turn(0, 100, "anna"))
    assert EarlyTurns(RATE, 0).push(first) is first
