"""The loop of a stateless stage: batches, failures of single chunks, replays."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.errors import ModelError
from diart_mp.messages import AudioRef, Message, Plain
from diart_mp.runtime import loop as loop_module
from diart_mp.runtime.replies import ERROR
from diart_mp.runtime.stage import Chunk
from diart_mp.transport.ring import PREFIX, RingWriter
from diart_mp.transport.waiting import LIVE

from .rig import EPOCH, WAIT_S, Double, Rig, chunk, make_rig

MakeRig = Callable[[Double], Rig]


@pytest.fixture
def rig_of(tmp_path: Path) -> Iterator[MakeRig]:
    before = signal.getsignal(signal.SIGTERM)
    with ExitStack() as stack:
        yield lambda stage: stack.enter_context(make_rig(tmp_path, stage))
    signal.signal(signal.SIGTERM, before)


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[RingWriter]:
    made = RingWriter(f"{PREFIX}test-{os.getpid()}", capacity=20, window=4, rate=16_000, generation=1)
    made.write(np.arange(20, dtype=np.float32))
    yield made
    made.close()


def seqs(messages: list[Message]) -> list[int]:
    return sorted(message.seq for message in messages)


def test_fields_are_added_and_the_rest_passes_untouched(rig_of: MakeRig) -> None:
    rig = rig_of(Double())
    strange = np.array([[1, 2]], dtype="<i8")

    def script() -> None:
        rig.send(replace(chunk(7, stream="x", attempt=2, strange=strange), origin=-5, start=9, trace=(("capture", 1),)))
        (got,) = rig.take(1)
        assert (got.stream, got.seq, got.attempt, got.origin, got.start) == ("x", 7, 2, -5, 9)
        assert got.array("twice").tolist() == [14, 14, 14, 14]
        assert got.array("strange").tolist() == [[1, 2]]
        assert got.plain("add") == 8
        assert got.sender == ("double", EPOCH)
        assert got.trace[0] == ("capture", 1)
        name, replica, arrived, started, done, batch = got.trace[1]
        assert (name, replica, batch) == ("double", 0, 1)
        assert arrived <= started <= done

    rig.run(script)


def test_what_waits_becomes_a_batch_of_windows_of_one_length(rig_of: MakeRig) -> None:
    gate, entered = threading.Event(), threading.Event()

    def block(_: Chunk) -> None:
        entered.set()
        assert gate.wait(WAIT_S)

    stage = Double(block=block)
    rig = rig_of(stage)

    def script() -> None:
        rig.send(chunk(0, "block"))
        rig.until(entered.is_set)
        # Room is for two batches of four; the chunk that is being worked on takes up one place.
        rig.send(*(chunk(seq) for seq in (1, 2, 3)), chunk(4, audio=np.zeros(3, np.float32)), *map(chunk, range(5, 20)))
        rig.until(lambda: rig.upstream.statistics().sent == 8)
        gate.set()
        assert seqs(rig.take(20)) == list(range(20))
        assert rig.upstream.statistics().waiting == 0

    rig.run(script)
    assert max(map(len, stage.batches)) <= 4
    assert max(map(len, stage.batches)) > 1
    assert [batch for batch in stage.batches if 4 in batch] == [[4]]
    assert {got.seq: got.trace[-1][-1] for got in rig.got} == {s: len(b) for b in stage.batches for s in b}


def test_live_chunks_wait_for_no_batch_of_recordings(rig_of: MakeRig) -> None:
    gate, entered = threading.Event(), threading.Event()

    def block(_: Chunk) -> None:
        entered.set()
        assert gate.wait(WAIT_S)

    def live(seq: int) -> Message:
        message = chunk(seq, stream="live")
        return message.with_fields({LIVE: Plain(value=True)})

    stage = Double(block=block)
    rig = rig_of(stage)

    def script() -> None:
        rig.send(chunk(0, "block"))
        rig.until(entered.is_set)
        rig.upstream.send(*map(chunk, range(1, 4)), live(100), live(101))  # in one message: all are there or none
        assert rig.upstream.statistics().sent == 6
        gate.set()
        got = rig.take(6)
        assert seqs(got) == [0, 1, 2, 3, 100, 101]
        assert {message.seq for message in got if LIVE in message.fields} == {100, 101}  # later stages see it, too

    rig.run(script)
    assert stage.batches == [[0], [100, 101], [1], [2], [3]]


def raise_value_error(_: Chunk) -> None:
    text = "two\udce9 is\nbad " + "x" * 5000
    raise ValueError(text)


def raise_model_error(_: Chunk) -> None:
    msg = "the model has moved"
    raise ModelError(msg)


def test_a_chunk_that_raises_is_answered_alone(rig_of: MakeRig) -> None:
    stage = Double(value=raise_value_error, model=raise_model_error)
    rig = rig_of(stage)

    def script() -> None:
        rig.send(chunk(0), chunk(1, "value"), chunk(2), chunk(3, "model"), *map(chunk, range(4, 8)))
        got = {message.seq: message for message in rig.take(8)}
        assert sorted(got) == list(range(8))
        assert got[1].plain(ERROR).startswith("double: ValueError: two\\udce9 is")
        assert len(got[1].plain(ERROR)) < 1100
        assert got[3].plain(ERROR) == "double: the model has moved"
        assert "twice" not in got[3].fields
        assert [seq for seq in got if "twice" in got[seq].fields] == [0, 2, 4, 5, 6, 7]
        assert rig.control.progress.counters["errors"] == 2

    rig.run(script)


def test_a_chunk_that_failed_before_is_passed_on_untouched(rig_of: MakeRig) -> None:
    stage = Double()
    rig = rig_of(stage)

    def script() -> None:
        rig.send(chunk(0), chunk(1, error=Plain("capture: no")), chunk(2))
        got = {message.seq: message for message in rig.take(3)}
        assert got[1].plain(ERROR) == "capture: no"
        assert "twice" not in got[1].fields
        assert got[2].array("twice").tolist() == [4] * 4

    rig.run(script)
    assert all(1 not in batch for batch in stage.batches)


class Forgetful(Double):
    """Leaves out an answer where there are several, or where it is told to."""

    def process(self, chunks: Any) -> Any:
        answers = list(super().process(chunks))
        return answers[1:] if len(chunks) > 1 or chunks[0].value("do") == "forget" else answers


def test_a_wrong_number_of_answers(rig_of: MakeRig) -> None:
    rig = rig_of(Forgetful())

    def script() -> None:
        rig.send(*(chunk(seq, "forget" if seq == 2 else "") for seq in range(8)))
        got = {message.seq: message for message in rig.take(8)}
        assert "double gave 0 answers to 1 chunks; it must answer each one" in got.pop(2).plain(ERROR)
        assert all(message.array("twice")[0] == 2 * seq for seq, message in got.items())

    rig.run(script)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"x": Plain({1, 2})}, "TypeError"),
        ({"x": Plain({1: 2})}, "not msgpack"),
        ({"x": Plain(1 << 70)}, "OverflowError"),
        ({"x": Plain("\udce9")}, "UnicodeEncodeError"),
        ({"x": Plain("x" * (1 << 20))}, "a header of"),
        ({"x": np.zeros(2, complex)}, "has dtype complex128"),
        ({"x": object()}, "has dtype object"),
        ({"": Plain(1)}, "a field name"),
        ({7: Plain(1)}, "a field name"),
        ([1, 2], "TypeError"),
        (3, "TypeError"),
    ],
)
def test_answers_that_the_wire_does_not_carry(rig_of: MakeRig, answer: Any, said: str) -> None:
    rig = rig_of(Double(wrong=lambda _: answer))

    def script() -> None:
        rig.send(chunk(0), chunk(1, "wrong"), chunk(2))
        got = {message.seq: message for message in rig.take(3)}
        assert said in got[1].plain(ERROR)
        assert got[2].array("twice").tolist() == [4] * 4

    rig.run(script)


def test_audio_is_seen_in_the_ring_and_missed_when_it_is_gone(rig_of: MakeRig, ring: RingWriter) -> None:
    seen: list[tuple[bool, bool]] = []

    def look(chunk: Chunk) -> None:
        seen.append((chunk.audio.flags.writeable, chunk.audio.flags.owndata))

    def overwrite(chunk: Chunk) -> dict[str, Any]:
        answer = {"twice": 2 * chunk.audio}
        ring.write(np.zeros(17, np.float32))
        return answer

    rig = rig_of(Double(look=look, overwrite=overwrite))

    def script() -> None:
        foreign = AudioRef("../secret", 1, 0, 4)
        rig.send(chunk(0, "look", audio=ring.reference(2, 4)), chunk(1, audio=foreign), chunk(2))
        got = {message.seq: message for message in rig.take(3)}
        assert got[0].array("twice").tolist() == [4, 6, 8, 10]
        assert got[0].fields["audio"] == ring.reference(2, 4)
        assert "is not the name of an audio ring" in got[1].plain(ERROR)
        rig.send(chunk(3, "overwrite", audio=ring.reference(16, 4)))
        assert "audio of chunk 3 was overwritten while double used it" in rig.take(1)[0].plain(ERROR)
        rig.send(chunk(4, audio=ring.reference(17, 4)))
        assert rig.take(1)[0].array("twice").tolist() == [34, 36, 38, 0]
        assert rig.control.progress.counters["stale"] == 2

    rig.run(script)
    assert set(seen) == {(False, False)}


def test_damaged_audio_is_refused_and_counted(rig_of: MakeRig) -> None:
    rig = rig_of(Double())
    ring = RingWriter(f"{PREFIX}damaged-{os.getpid()}", capacity=64, window=32, rate=16_000, generation=1)

    def script() -> None:
        ring.write(np.arange(64, dtype=np.float32))
        ring._samples[40] += 1
        rig.send(chunk(0, audio=ring.reference(32, 32)), chunk(1, audio=ring.reference(0, 32)))
        got = {message.seq: message for message in rig.take(2)}
        assert "their checksum differs" in got[0].plain(ERROR)
        assert got[1].array("twice").tolist() == list(range(0, 64, 2))
        assert rig.control.progress.counters["damaged"] == 1

    try:
        rig.run(script)
    finally:
        ring.close()


def test_a_replay_makes_older_chunks_obsolete_wherever_they_are(rig_of: MakeRig) -> None:
    gate, entered = threading.Event(), threading.Event()

    def block(_: Chunk) -> None:
        entered.set()
        assert gate.wait(WAIT_S)

    rig = rig_of(Double(block=block))

    def script() -> None:
        rig.send(chunk(0, "block"))
        rig.until(entered.is_set)
        rig.send(*map(chunk, range(1, 5)), chunk(9, stream="other"), chunk(1, attempt=1), chunk(2, attempt=1))
        rig.until(lambda: rig.upstream.statistics().sent == 8)
        gate.set()
        rig.until(lambda: {(m.seq, m.attempt) for m in rig.got} >= {(9, 0), (1, 1), (2, 1)})
        newer = [message.attempt for message in rig.got if message.stream == "s"]
        assert newer == sorted(newer)
        assert [message.seq for message in rig.got if message.stream == "other"] == [9]
        # What is dropped gives its place back, however much it is.
        rig.send(*(chunk(seq) for seq in range(50)), *(chunk(seq, attempt=1) for seq in range(3, 20)))
        rig.until(lambda: len([message for message in rig.got if message.attempt == 1]) == 19)
        assert not [
            message for message in rig.got if message.attempt == 0 and message.seq > 4 and message.stream == "s"
        ]

    rig.run(script)


def test_what_is_dropped_gives_its_place_back(rig_of: MakeRig) -> None:
    gates = [threading.Event() for _ in range(5)]
    entered: list[int] = []

    def block(chunk: Chunk) -> None:
        entered.append(chunk.seq)
        assert gates[chunk.seq].wait(WAIT_S)

    rig = rig_of(Double(block=block))

    def script() -> None:
        for number in range(5):
            drop_some(rig, number)

    def drop_some(rig: Rig, number: int) -> None:
        attempt = 2 * number
        # A single place that is free is not told at once.
        rig.until(lambda: [each.room for each in rig.upstream._replicas.values()] == [8])
        rig.send(chunk(number, "block", attempt=attempt))
        rig.until(lambda: entered == list(range(number + 1)))
        rig.send(*(chunk(seq, attempt=attempt) for seq in range(10, 16)), chunk(20 + number, attempt=attempt + 1))
        rig.until(lambda: rig.upstream.statistics().waiting == 0)
        gates[number].set()
        rig.until(lambda: any(message.seq == 20 + number for message in rig.got))

    rig.run(script)


def test_streams_that_are_not_remembered_lose_nothing(rig_of: MakeRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_module, "_MAX_STREAMS", 1)
    gate, entered = threading.Event(), threading.Event()

    def block(_: Chunk) -> None:
        entered.set()
        assert gate.wait(WAIT_S)

    rig = rig_of(Double(block=block))

    def script() -> None:
        rig.send(chunk(0, "block"))
        rig.until(entered.is_set)
        rig.send(*(chunk(seq, stream=stream) for seq in range(1, 4) for stream in "ab"))
        rig.until(lambda: rig.upstream.statistics().sent == 7)
        gate.set()
        rig.take(7)

    rig.run(script)


def test_ends_pass_and_other_kinds_do_not(rig_of: MakeRig, ring: RingWriter) -> None:
    rig = rig_of(Double())

    def script() -> None:
        end = Message(kind="end", stream="s", seq=1, fields={"ring": Plain(ring.name)})
        rig.send(
            chunk(0, audio=ring.reference(0, 4)), *(Message(kind="result", stream="s", seq=0) for _ in range(20)), end
        )
        rig.until(lambda: len(rig.got) == 2)
        assert [(message.kind, message.seq) for message in rig.got] == [("chunk", 0), ("end", 1)]
        assert rig.got[1].fields == end.fields
        ring.close()
        rig.send(chunk(0, stream="t", audio=ring.reference(0, 4)))
        assert "is gone" in rig.take(1)[0].plain(ERROR)  # the stage has let go of the ring

    rig.run(script)


def test_sigterm_ends_the_loop_and_closing_twice_is_fine(rig_of: MakeRig) -> None:
    rig = rig_of(Double())

    def script() -> None:
        rig.send(chunk(0))
        rig.take(1)
        os.kill(os.getpid(), signal.SIGTERM)

    rig.run(script)
    rig.loop.close()
