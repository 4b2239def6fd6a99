"""The owner's account, alone and against a keyed stage behind a channel that loses, repeats and reorders."""

from dataclasses import dataclass, field

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from diart_mp.messages import Message, Plain
from diart_mp.runtime.ledger import ATTEMPTS_PER_EPOCH, Checkpoint, Ledger, Sent
from diart_mp.runtime.loop import CHECKPOINT_EVERY
from diart_mp.runtime.order import RESTORE, StreamOrder

STATE = "state"  # field: what the stage remembers, here the last chunk that it has done


def make_ledger(max_in_flight: int = 3, sent: int = 0) -> Ledger:
    ledger = Ledger(max_in_flight=max_in_flight, epoch=1)
    for seq in range(sent):
        ledger.add(10 * seq, 0.5 * seq)
    return ledger


def accept(ledger: Ledger, seq: int) -> Sent | None:
    return ledger.accept(seq, ledger.attempt)


def test_a_window_of_chunks_is_in_flight() -> None:
    ledger = make_ledger()
    assert (ledger.in_flight, ledger.has_room, ledger.newest, ledger.oldest_start) == (0, True, None, None)
    assert [ledger.add(10 * seq, 0.5).seq for seq in range(3)] == [0, 1, 2]
    assert (ledger.in_flight, ledger.has_room) == (3, False)
    assert accept(ledger, 0) == Sent(0, 0, 0.5)
    assert (ledger.in_flight, ledger.has_room) == (2, True)
    assert ledger.add(30, 1.0, end=True) == Sent(3, 30, 1.0, end=True)
    assert ledger.newest == Sent(3, 30, 1.0, end=True)


def test_results_are_taken_once_in_order_and_of_this_attempt() -> None:
    ledger = make_ledger(sent=3)
    assert accept(ledger, 1) is None  # not due
    assert accept(ledger, 0) is not None
    assert accept(ledger, 0) is None  # a repeat
    assert ledger.accept(1, ledger.attempt - 1) is None
    assert ledger.accept(1, ledger.attempt + 1) is None
    assert accept(ledger, 1) is not None
    assert accept(ledger, 2) is not None
    assert accept(ledger, 3) is None  # never sent
    assert ledger.ignored == 5
    assert ledger.acknowledged == 2


def test_everything_after_the_checkpoint_is_sent_again() -> None:
    ledger = make_ledger(max_in_flight=10, sent=6)
    for seq in range(5):
        accept(ledger, seq)
    ledger.settle(Checkpoint(3, {"clustering": b"x"}))
    assert ledger.oldest_start == 40
    attempt = ledger.attempt
    assert [sent.seq for sent in ledger.replay()] == [4, 5]
    assert ledger.attempt == attempt + 1
    assert ledger.replays == 1
    assert ledger.in_flight == 2
    assert accept(ledger, 5) is None
    assert accept(ledger, 4) == Sent(4, 40, 2.0, written=True)
    assert ledger.acknowledged == 4
    assert accept(ledger, 5) == Sent(5, 50, 2.5)
    assert ledger.acknowledged == 5


@pytest.mark.parametrize("done", [4, 6, 7])
def test_another_process_counts_on(done: int) -> None:
    """The journal of the first one has ``done`` results, its checkpoint covers four of them."""
    ledger = Ledger(max_in_flight=2, epoch=3, checkpoint=Checkpoint(3), done=done)
    assert ledger.attempt == 3 * ATTEMPTS_PER_EPOCH
    assert (ledger.next, ledger.in_flight, ledger.has_room) == (4, 0, True)
    seqs = iter(range(4, 20))
    while ledger.acknowledged < 9:
        while (
            ledger.has_room
        ):  # never more than two, also where the results are known: the audio has to be kept for them
            ledger.add(0, 0.0)
        seq = next(seqs)
        assert ledger.next == seq + 2
        sent = accept(ledger, seq)
        assert sent is not None
        assert sent.written == (seq < done)


@dataclass
class KeyedStage:
    """What is left of a keyed stage without its work: it must see each chunk with the state that all before it made."""

    order: StreamOrder = field(default_factory=StreamOrder)
    state: int | None = None
    done: dict[int, list[int]] = field(default_factory=dict)  # by attempt

    def take(self, message: Message) -> list[Message]:
        """Process what is due; the results."""
        return [self._process(due) for due in self.order.put(message)]

    def _process(self, message: Message) -> Message:
        if message.seq == 0:
            self.state = -1
        elif RESTORE in message.fields:
            self.state = message.plain(STATE)
        assert self.state == message.seq - 1
        self.state = message.seq
        seqs = self.done.setdefault(message.attempt, [])
        assert not seqs or message.seq == seqs[-1] + 1
        seqs.append(message.seq)
        fields = {STATE: Plain(self.state)} if message.seq % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 else {}
        return Message(kind="result", stream="s", seq=message.seq, attempt=message.attempt, fields=fields)


class FaultyPipeline(RuleBasedStateMachine):
    """An owner and a keyed stage that may each be restarted, and a channel between them that may do anything."""

    def __init__(self) -> None:
        super().__init__()
        self.stage = KeyedStage()
        self.chunks: list[Message] = []
        self.results: list[Message] = []
        self.written: list[int] = []
        self.epoch = 1

    @initialize(max_in_flight=st.integers(1, 9), length=st.integers(1, 25))
    def begin(self, max_in_flight: int, length: int) -> None:
        self.max_in_flight, self.length = max_in_flight, length
        self.ledger = Ledger(max_in_flight=max_in_flight, epoch=1)

    def message(self, sent: Sent) -> Message:
        covered = self.ledger.checkpoint.seq
        fields = {}
        if sent.seq == covered + 1 and sent.seq > 0:
            fields = {RESTORE: Plain(covered), STATE: Plain(int(self.ledger.checkpoint.states[STATE]))}
        kind = "end" if sent.end else "chunk"
        return Message(kind=kind, stream="s", seq=sent.seq, attempt=self.ledger.attempt, fields=fields)

    def can_send(self) -> bool:
        return self.ledger.has_room and self.ledger.next <= self.length

    @rule()
    @precondition(can_send)
    def send(self) -> None:
        sent = self.ledger.add(self.ledger.next, 0.0, end=self.ledger.next == self.length)
        self.chunks.append(self.message(sent))

    @rule(data=st.data())
    @precondition(lambda self: self.chunks)
    def deliver(self, data: st.DataObject) -> None:
        self.results += self.stage.take(self.chunks.pop(data.draw(st.integers(0, len(self.chunks) - 1))))

    @rule(data=st.data(), repeat=st.booleans())
    @precondition(lambda self: self.chunks)
    def lose_or_repeat_a_chunk(self, data: st.DataObject, repeat: bool) -> None:
        index = data.draw(st.integers(0, len(self.chunks) - 1))
        if repeat:
            self.chunks.append(self.chunks[index])
        else:
            del self.chunks[index]

    @rule()
    @precondition(lambda self: self.results)
    def answer(self) -> None:
        self.take_result(self.results.pop(0))

    @rule(data=st.data(), repeat=st.booleans())
    @precondition(lambda self: self.results)
    def lose_or_repeat_a_result(self, data: st.DataObject, repeat: bool) -> None:
        index = data.draw(st.integers(0, len(self.results) - 1))
        if repeat:
            self.results.append(self.results[index])
        else:
            del self.results[index]

    @rule()
    def send_again(self) -> None:
        self.chunks += map(self.message, self.ledger.replay())

    @rule()
    def restart_stage(self) -> None:
        self.stage = KeyedStage()

    @rule(torn=st.booleans())
    def restart_owner(self, torn: bool) -> None:
        """What it wrote is left to it: results, and a checkpoint that may be older (here: damaged, so none at all)."""
        self.epoch += 1
        checkpoint = None if torn else self.ledger.checkpoint
        done = len(self.written)
        self.ledger = Ledger(max_in_flight=self.max_in_flight, epoch=self.epoch, checkpoint=checkpoint, done=done)

    def take_result(self, result: Message) -> None:
        sent = self.ledger.accept(result.seq, result.attempt)
        if sent is None:
            return
        assert sent.seq == result.seq
        assert sent.end == (result.seq == self.length)
        if not sent.written:
            self.written.append(result.seq)
        if STATE in result.fields:
            self.ledger.settle(Checkpoint(result.seq, {STATE: str(result.plain(STATE)).encode()}))

    @invariant()
    def results_are_written_once_in_order(self) -> None:
        assert self.written == list(range(len(self.written)))

    @invariant()
    def no_more_than_allowed_is_in_flight(self) -> None:
        if hasattr(self, "ledger"):
            # A replay has chunks on the way again whose results are written: those since the newest checkpoint.
            assert self.ledger.in_flight <= self.max_in_flight + CHECKPOINT_EVERY - 1

    def teardown(self) -> None:
        """Without further faults the rest is done after sending again once."""
        if not hasattr(self, "ledger"):
            return
        self.send_again()
        while self.chunks or self.results or self.can_send():
            if self.can_send():
                self.send()
            for chunk in self.chunks:
                self.results += self.stage.take(chunk)
            for result in self.results:
                self.take_result(result)
            self.chunks, self.results = [], []
        assert self.written == list(range(self.length + 1))


FaultyPipeline.TestCase.settings = settings(max_examples=150, stateful_step_count=60)
TestFaultyPipeline = FaultyPipeline.TestCase
