"""What waits: live streams go first, nothing is lost, and nothing of one stream changes its order."""

from hypothesis import given
from hypothesis import strategies as st

from diart_mp.messages import Message, Plain
from diart_mp.transport.waiting import LIVE, Waiting, is_live


def chunk(stream: str, seq: int) -> Message:
    """Of a live stream if its name begins with L."""
    fields = {LIVE: Plain(value=True)} if stream.startswith("L") else {}
    return Message(kind="chunk", stream=stream, seq=seq, fields=fields)


def waiting(clock: list[float]) -> Waiting[Message]:
    return Waiting(lambda message: message, lambda: clock[0])


def test_only_a_plain_true_is_live() -> None:
    assert is_live(chunk("L", 0))
    assert not is_live(chunk("R", 0))
    for value in (1, "yes", None, False):
        assert not is_live(Message(kind="chunk", stream="s", seq=0, fields={LIVE: Plain(value)}))


def test_live_goes_before_recordings() -> None:
    queue = waiting([0.0])
    for each in (chunk("R", 0), chunk("R", 1), chunk("L", 0), chunk("R", 2), chunk("L", 1)):
        queue.append(each)
    assert len(queue) == 5
    assert [(queue.pop().stream, len(queue)) for _ in range(5)] == [("L", 4), ("L", 3), ("R", 2), ("R", 1), ("R", 0)]


def test_a_recording_gets_one_turn_in_eleven() -> None:
    queue = waiting([0.0])
    for seq in range(30):
        queue.append(chunk("L", seq))
    queue.append(chunk("R", 0))
    queue.append(chunk("R", 1))
    taken = list[str]()
    while queue:
        expected = queue.first
        taken.append(queue.pop().stream)
        assert expected.stream == taken[-1]
    assert [at for at, name in enumerate(taken) if name == "R"] == [10, 21]


def test_more_live_chunks_are_expected_for_two_seconds_after_one() -> None:
    clock = [100.0]
    queue = waiting(clock)
    queue.append(chunk("R", 0))
    assert not queue.expects_live
    queue.append(chunk("L", 0))
    clock[0] = 200.0
    assert queue.expects_live  # it still waits
    queue.put_back([queue.pop()])
    queue.append(chunk("L", 1))
    assert [queue.pop().seq for _ in range(2)] == [0, 1]
    clock[0] = 201.9
    assert queue.expects_live
    clock[0] = 202.1
    assert not queue.expects_live


actions = st.lists(st.one_of(st.sampled_from(["L1", "L2", "R1", "R2"]), st.integers(1, 4)), max_size=40)


@given(actions)
def test_what_is_put_and_taken_and_put_back_keeps_the_order_of_each_stream(steps: list[str | int]) -> None:
    """A name puts the stream's next chunk; a number takes as many and puts all but the first back."""
    queue, put, taken = waiting([0.0]), list[tuple[str, int]](), list[tuple[str, int]]()
    popped = 0
    for step in steps:
        if isinstance(step, str):
            put.append((step, sum(name == step for name, _ in put)))
            queue.append(chunk(*put[-1]))
        elif len(queue):
            first, *others = [queue.pop() for _ in range(min(step, len(queue)))]
            queue.put_back(others)
            assert is_live(first) or popped >= 10 or not queue.has_live
            popped += 1 + len(others)
            taken.append((first.stream, first.seq))
    taken += [(each.stream, each.seq) for each in queue]
    assert sorted(taken) == sorted(put)
    for name in ("L1", "L2", "R1", "R2"):
        assert [seq for stream, seq in taken if stream == name] == [seq for stream, seq in put if stream == name]


@given(st.lists(st.sampled_from(["L", "R"]), max_size=20), st.integers(0, 20))
def test_what_is_obsolete_goes_and_the_rest_stays_as_it_was(streams: list[str], bound: int) -> None:
    queue, other = waiting([0.0]), waiting([0.0])
    for seq, stream in enumerate(streams):
        queue.append(chunk(stream, seq))
        if seq >= bound:
            other.append(chunk(stream, seq))
    assert queue.drop(lambda message: message.seq < bound) == min(bound, len(streams))
    assert [message.seq for message in queue] == [message.seq for message in other]
