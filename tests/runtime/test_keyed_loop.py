"""The loop of a keyed stage, the last of its chain: order, checkpoints, answers to the owner."""

import math
import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.config import Settings
from diart_mp.errors import ProtocolError
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.runtime import loop as loop_module
from diart_mp.runtime import order as order_module
from diart_mp.runtime.chunks import BUNDLES
from diart_mp.runtime.order import RESTORE
from diart_mp.runtime.replies import CHECKPOINT, ERROR
from diart_mp.runtime.stage import Chunk

from .rig import Rig, Sum, chunk, make_rig

MakeRig = Callable[[Sum], Rig]


@pytest.fixture
def rig_of(tmp_path: Path) -> Iterator[MakeRig]:
    before = signal.getsignal(signal.SIGTERM)
    with ExitStack() as stack:
        yield lambda stage: stack.enter_context(make_rig(tmp_path, stage))
    signal.signal(signal.SIGTERM, before)


class Owner:
    """Sends chunks of one stream that know where to answer."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig

    def chunk(
        self, seq: int, do: str = "", attempt: int = 0, fields: Mapping[str, FieldValue] | None = None
    ) -> Message:
        return chunk(seq, do, attempt=attempt, reply_to=self.rig.topology.results).with_fields(fields or {})

    def send(self, *seqs: int, attempt: int = 0) -> None:
        self.rig.send(*(self.chunk(seq, attempt=attempt) for seq in seqs))

    def end(self, seq: int, attempt: int = 0) -> None:
        reply_to = self.rig.topology.results
        self.rig.send(Message(kind="end", stream="s", seq=seq, attempt=attempt, reply_to=reply_to))

    def restored(self, seq: int, state: Any, attempt: int) -> Message:
        """The first chunk of a replay."""
        fields: dict[str, FieldValue] = {RESTORE: Plain(seq - 1)}
        if state is not None:
            fields[f"{RESTORE}.sum"] = np.frombuffer(state, np.uint8)
        return self.chunk(seq, attempt=attempt, fields=fields)


def sums(results: list[Message]) -> list[tuple[int, list[int]]]:
    return [(result.seq, result.plain("turns")) for result in results]


def test_chunks_are_done_in_order_and_answered_to_their_owner(rig_of: MakeRig) -> None:
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        owner.send(3, 1, 2)
        owner.send(*range(4, 30))  # more than there is room for: what waits for chunk 0 takes up none
        owner.send(0, 0, 2)
        results = rig.take(30)
        assert sums(results) == [(seq, [(seq + 1) * (seq + 2) // 2, seq + 1]) for seq in range(30)]
        assert {result.kind for result in results} == {"result"}
        assert results[0].fields.keys() == {"turns", "do", "add"}  # no arrays, no settings
        assert results[3].fields.keys() == {"turns", "do", "add", CHECKPOINT + "sum"}
        assert [result.seq for result in results if CHECKPOINT + "sum" in result.fields] == [3, 7, 11, 15, 19, 23, 27]

    rig.run(script)


@pytest.mark.parametrize(("soon_s", "multiparts"), [(math.inf, [20]), (-1.0, [1] * 20)])
def test_what_takes_no_time_is_passed_on_together_and_the_rest_at_once(
    rig_of: MakeRig, monkeypatch: pytest.MonkeyPatch, soon_s: float, multiparts: list[int]
) -> None:
    monkeypatch.setattr(loop_module, "_SOON_S", soon_s)
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        chunks = [owner.chunk(seq, fields={BUNDLES: Plain(value=True)}) for seq in range(20)]
        rig.send(*reversed(chunks))  # all of them wait for the first one
        assert [result.seq for result in rig.take(20)] == list(range(20))
        assert rig.multiparts == multiparts

    rig.run(script)


@pytest.mark.parametrize("bundles", [True, False])
def test_results_share_a_multipart_where_the_owner_takes_that(
    rig_of: MakeRig, monkeypatch: pytest.MonkeyPatch, bundles: bool
) -> None:
    monkeypatch.setattr(loop_module, "_SOON_S", math.inf)
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        fields: dict[str, FieldValue] = {BUNDLES: Plain(value=True)} if bundles else {}
        rig.send(*(owner.chunk(seq, fields=fields) for seq in (3, 2, 1, 0)))
        assert [result.seq for result in rig.take(4)] == [0, 1, 2, 3]
        assert rig.multiparts == ([4] if bundles else [1] * 4)
        assert all(BUNDLES not in result.fields for result in rig.got)

    rig.run(script)


def test_a_replay_goes_on_from_its_checkpoint_or_from_the_beginning(rig_of: MakeRig) -> None:
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        owner.send(*range(6))
        before = rig.take(6)
        state = before[3].array(CHECKPOINT + "sum").tobytes()
        rig.send(owner.chunk(5, attempt=1), owner.restored(4, state, attempt=1), owner.chunk(6, attempt=1))
        again = rig.take(3)
        assert sums(again) == [(4, [15, 5]), (5, [21, 6]), (6, [28, 7])]
        assert {result.attempt for result in again} == {1}
        owner.send(6, 7, attempt=0)  # too late
        owner.send(1, 0, attempt=2)
        assert sums(rig.take(2)) == [(0, [1, 1]), (1, [3, 2])]

    rig.run(script)


def test_another_process_goes_on_from_a_checkpoint(rig_of: MakeRig, tmp_path: Path) -> None:
    first = rig_of(Sum())

    def begin() -> None:
        Owner(first).send(*range(4))
        first.take(4)

    first.run(begin)
    state = first.got[3].array(CHECKPOINT + "sum").tobytes()
    (tmp_path / "other").mkdir()
    with make_rig(tmp_path / "other", Sum()) as second:
        owner = Owner(second)

        def script() -> None:
            owner.send(5, 6)  # of the older attempt; its beginning is not known here
            second.send(owner.restored(4, state, attempt=1), owner.chunk(5, attempt=1))
            assert sums(second.take(2)) == [(4, [15, 5]), (5, [21, 6])]

        second.run(script)


def fail(_: Chunk) -> None:
    msg = "cannot"
    raise ProtocolError(msg)


def test_a_failed_chunk_leaves_the_others_and_the_checkpoint_alone(rig_of: MakeRig) -> None:
    rig = rig_of(Sum(fail=fail))
    owner = Owner(rig)

    def script() -> None:
        rig.send(*(owner.chunk(seq, "fail" if seq in (2, 3) else "") for seq in (4, 3, 2, 1, 0)))
        results = rig.take(5)
        assert [result.kind for result in results] == ["result", "result", "error", "error", "result"]
        assert results[2].plain(ERROR) == "sum: cannot"
        assert results[4].plain("turns") == [8, 3]
        state = results[3].array(CHECKPOINT + "sum").tobytes()  # what all later chunks build on
        rig.send(owner.restored(4, state, attempt=1))
        assert sums(rig.take(1)) == [(4, [8, 3])]

    rig.run(script)


def test_a_chunk_that_failed_in_an_earlier_stage(rig_of: MakeRig) -> None:
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        failed = {ERROR: Plain("double: no")}
        rig.send(*(owner.chunk(seq, fields=failed if seq in (0, 3) else None) for seq in (2, 0, 3, 1)))
        results = rig.take(4)
        assert [result.kind for result in results] == ["error", "result", "result", "error"]
        assert results[0].plain(ERROR) == "double: no"
        assert [result.plain("turns") for result in results[1:3]] == [[2, 1], [5, 2]]
        assert CHECKPOINT + "sum" in results[3].fields

    rig.run(script)


@pytest.mark.parametrize("state", [b"", b"garbage of some kind"])
def test_a_checkpoint_that_is_none_is_an_error_of_its_chunk(rig_of: MakeRig, state: bytes) -> None:
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        rig.send(owner.restored(4, state, attempt=1))
        (result,) = rig.take(1)
        if state:
            assert "is damaged" in result.plain(ERROR)
        else:
            assert result.plain("turns") == [5, 1]
        owner.send(0, attempt=2)
        assert sums(rig.take(1)) == [(0, [1, 1])]

    rig.run(script)


class Broken(Sum):
    """Cannot say its state, nor forget it."""

    def checkpoint(self, stream: str) -> bytes:
        raise OSError(stream)

    def forget(self, stream: str) -> None:
        raise KeyError(stream)


def test_a_stage_that_cannot_say_or_forget_its_state_lives_on(rig_of: MakeRig) -> None:
    rig = rig_of(Broken())
    owner = Owner(rig)

    def script() -> None:
        owner.send(*range(5))
        owner.end(5)
        results = rig.take(6)
        assert [result.kind for result in results] == [*["result"] * 5, "end"]
        assert results[3].plain("turns") == [10, 4]
        assert CHECKPOINT + "sum" not in results[3].fields
        assert rig.hear("note")["text"] == "sum has no checkpoint at chunk 3: OSError: s"
        assert rig.hear("note")["text"] == "sum: KeyError: 's'"

    rig.run(script)


def test_the_end_of_a_stream(rig_of: MakeRig) -> None:
    stage = Sum()
    rig = rig_of(stage)
    owner = Owner(rig)

    def script() -> None:
        owner.end(2)
        owner.send(1, 0)
        results = rig.take(3)
        assert [(result.kind, result.seq) for result in results] == [("result", 0), ("result", 1), ("end", 2)]
        owner.send(3, 0)  # of an attempt that is over: nothing is kept for them
        owner.end(2)
        rig.send(chunk(0, stream="t", reply_to=rig.topology.results))
        assert [result.stream for result in rig.take(1)] == ["t"]
        assert rig.loop._orders.streams == {"t"}
        rig.send(owner.restored(1, None, attempt=1))  # but a replay is answered, as its owner knows nothing of the end
        owner.end(2, attempt=1)
        again = rig.take(2)
        assert [(result.kind, result.seq, result.attempt) for result in again] == [("result", 1, 1), ("end", 2, 1)]

    rig.run(script)
    assert stage.forgotten == ["s", "s"]
    assert stage.sums.keys() == {"t"}
    assert rig.loop._orders.streams == {"t"}


class Concluding(Sum):
    """Says at the end what it knows."""

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        if end.stream == "t":
            msg = "no idea"
            raise ValueError(msg)
        return {"sum": Plain(list(self.sums[end.stream])), "rate": Plain(end.settings.rate)}


def test_the_last_word_comes_with_the_end_also_after_a_restart(rig_of: MakeRig) -> None:
    rig = rig_of(Concluding())
    owner = Owner(rig)

    def end(seq: int, **fields: FieldValue) -> Message:
        common = {"settings": Plain(Settings(rate=8000, duration=8000, step=800, latency=800).to_map())}
        reply_to = rig.topology.results
        return Message(
            kind="end", stream="s", seq=seq, attempt=len(fields), reply_to=reply_to, fields={**common, **fields}
        )

    def script() -> None:
        owner.send(*range(4))
        rig.send(end(4))
        *before, last = rig.take(5)
        assert (last.kind, last.plain("sum"), last.plain("rate")) == ("end", [10, 4], 8000)
        state = before[3].array(CHECKPOINT + "sum")
        fields: dict[str, FieldValue] = {RESTORE: Plain(3), f"{RESTORE}.sum": state}
        rig.send(end(4, **fields))  # as to a process that knows nothing
        (again,) = rig.take(1)
        assert again.plain("sum") == [10, 4]

    rig.run(script)


def test_a_stage_that_has_no_last_word_lives_on(rig_of: MakeRig) -> None:
    rig = rig_of(Concluding())

    def script() -> None:
        rig.send(chunk(0, stream="t", reply_to=rig.topology.results))
        rig.send(Message(kind="end", stream="t", seq=1, reply_to=rig.topology.results))
        results = rig.take(2)
        assert [result.kind for result in results] == ["result", "end"]
        assert "sum" not in results[1].fields
        Owner(rig).send(0)
        assert sums(rig.take(1)) == [(0, [1, 1])]

    rig.run(script)
    assert rig.loop._orders.streams == {"s"}


def test_strangers_get_no_answer(rig_of: MakeRig) -> None:
    rig = rig_of(Sum())
    owner = Owner(rig)

    def script() -> None:
        rig.send(chunk(0, stream="a", reply_to="tcp://127.0.0.1:1"), chunk(0, stream="b"))
        owner.send(0)
        (result,) = rig.take(1)
        assert result.stream == "s"
        assert rig.control.progress.counters["unknown_owner"] == 2

    rig.run(script)


def test_streams_whose_owner_is_gone_are_forgotten_and_may_come_back(
    rig_of: MakeRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Sum()
    rig = rig_of(stage)
    owner = Owner(rig)

    def script() -> None:
        owner.send(*range(4))
        state = rig.take(4)[3].array(CHECKPOINT + "sum").tobytes()
        monkeypatch.setattr(order_module, "_IDLE_S", 0.0)
        rig.until(lambda: stage.forgotten == ["s"])
        monkeypatch.undo()
        owner.send(4)  # which is not what it needs to go on
        rig.send(owner.restored(4, state, attempt=1))
        assert sums(rig.take(1)) == [(4, [15, 5])]

    rig.run(script)
    assert rig.loop._orders.streams == {"s"}
