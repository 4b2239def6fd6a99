"""Order of a keyed stage: whatever the way does to the chunks of a stream, they are used in order and once."""

from hypothesis import given
from hypothesis import strategies as st

from diart_mp.messages import Message, Plain
from diart_mp.runtime.order import RESTORE, Orders, StreamOrder


def chunk(seq: int, attempt: int = 0, *, restore: bool = False) -> Message:
    fields = {RESTORE: Plain(seq - 1)} if restore else {}
    return Message(kind="chunk", stream="s", seq=seq, attempt=attempt, fields=fields)


def put(order: StreamOrder, *messages: Message) -> list[int]:
    return [due.seq for message in messages for due in order.put(message)]


@given(st.permutations(range(8)), st.lists(st.integers(0, 7), max_size=8))
def test_any_permutation_with_repeats_comes_out_in_order(seqs: list[int], repeated: list[int]) -> None:
    order = StreamOrder()
    assert put(order, *map(chunk, [*seqs, *repeated])) == list(range(8))
    assert order.dropped == len(repeated)
    assert order.held == {}


def test_nothing_comes_before_the_beginning() -> None:
    order = StreamOrder()
    assert put(order, chunk(2), chunk(1)) == []
    assert put(order, chunk(0)) == [0, 1, 2]


def test_a_replay_begins_with_its_checkpoint() -> None:
    order = StreamOrder()
    assert put(order, *map(chunk, range(6))) == list(range(6))
    assert put(order, chunk(5, 1), chunk(6, 1)) == []
    assert put(order, chunk(4, 1, restore=True)) == [4, 5, 6]
    assert put(order, chunk(7, 1)) == [7]


def test_a_replay_may_begin_with_chunk_0() -> None:
    order = StreamOrder()
    assert put(order, *map(chunk, range(3))) == [0, 1, 2]
    assert put(order, chunk(1, 1), chunk(0, 1)) == [0, 1]


def test_older_attempts_are_dropped_and_what_waited_of_them_too() -> None:
    order = StreamOrder()
    assert put(order, chunk(0), chunk(2)) == [0]
    assert put(order, chunk(1, 3, restore=True)) == [1]
    assert put(order, chunk(1), chunk(2), chunk(2, 2)) == []
    assert order.dropped == 3
    assert put(order, chunk(2, 3), chunk(3, 3)) == [2, 3]
    assert order.held == {}


def test_chunks_before_the_checkpoint_do_not_wait() -> None:
    order = StreamOrder()
    assert put(order, chunk(2, 1), chunk(4, 1, restore=True), chunk(3, 1)) == [4]
    assert put(order, chunk(5, 1)) == [5]
    assert order.held.keys() <= {2}


def test_a_checkpoint_in_the_middle_changes_nothing() -> None:
    order = StreamOrder()
    assert put(order, chunk(0), chunk(2, restore=True), chunk(1)) == [0, 1, 2]


def test_only_what_is_not_sent_to_any_more_is_forgotten() -> None:
    now = [0.0]
    orders = Orders(clock=lambda: now[0])
    for stream in "ab":
        orders.put(Message(kind="chunk", stream=stream, seq=0))
    now[0] = 4 * 3600.0
    orders.put(Message(kind="chunk", stream="a", seq=1))
    assert orders.abandoned() == []
    now[0] += 1.0
    assert orders.abandoned() == ["b"]
    assert orders.streams == {"a"}
    assert orders.abandoned() == []
