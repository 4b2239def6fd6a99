"""The owner's account of one stream: which chunks are on their way, what is acknowledged, what to send again.

Pure bookkeeping, no sockets and no audio. A result acknowledges everything up to its ``seq``; a checkpoint bounds what has to
be sent again after a fault: always all chunks after the newest checkpoint, as a new ``attempt``, the first of them
with the checkpoint. There is no other way to recover, whatever broke. Runs in owners.
"""

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

ATTEMPTS_PER_EPOCH = 1_000_000  # replays by one owner process; the next process counts on from the next million


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """State of the keyed stages after chunk ``seq`` (-1: nothing done yet), by name of the stage."""

    seq: int = -1
    states: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """A chunk that was given out: its ``seq``, first sample, and when its last sample was captured (monotonic s)."""

    seq: int
    start: int
    captured: float
    end: bool = False  # the end of the stream rather than a chunk
    written: bool = False  # its result was written before; that of a replay brings nothing but the checkpoint


class Ledger:
    """What one stream has in flight. The results of ``done`` chunks were written before this process began.

    ``acknowledged`` is the last seq whose result is written, ``answered`` the last one that this attempt has answered: behind
    ``acknowledged`` while a replay catches up.
    """

    def __init__(self, *, max_in_flight: int, epoch: int, checkpoint: Checkpoint | None = None, done: int = 0) -> None:
        self.checkpoint = checkpoint or Checkpoint()
        self.attempt = epoch * ATTEMPTS_PER_EPOCH
        self.acknowledged = done - 1
        self.answered = self.checkpoint.seq
        self.next = self.checkpoint.seq + 1
        self.replays = 0
        self.ignored = 0  # results that were not wanted: repeats and older attempts
        self.max_in_flight = max_in_flight
        self._sent: deque[Sent] = deque()  # all after the checkpoint

    @property
    def in_flight(self) -> int:
        """Chunks that have been sent and not answered in this attempt."""
        return self.next - 1 - self.answered

    @property
    def has_room(self) -> bool:
        """Whether another chunk may be sent."""
        return self.in_flight < self.max_in_flight

    def add(self, start: int, captured: float, *, end: bool = False) -> Sent:
        """Note a chunk (or the end) that is about to be sent."""
        sent = Sent(self.next, start, captured, end)
        self._sent.append(sent)
        self.next += 1
        return sent

    def accept(self, seq: int, attempt: int) -> Sent | None:
        """The chunk that a result answers, if it is the one that is due; None if the result is to be ignored."""
        if attempt != self.attempt or seq != self.answered + 1 or seq >= self.next:
            self.ignored += 1
            return None
        self.answered = seq
        written = seq <= self.acknowledged
        self.acknowledged = max(self.acknowledged, seq)
        sent = self._sent[seq - self._sent[0].seq]
        return replace(sent, written=True) if written else sent

    def settle(self, checkpoint: Checkpoint) -> None:
        """A checkpoint that covers only acknowledged chunks: what it covers need never be sent again."""
        self.checkpoint = checkpoint
        while self._sent and self._sent[0].seq <= checkpoint.seq:
            self._sent.popleft()

    @property
    def oldest_start(self) -> int | None:
        """First sample of the oldest chunk that may have to be sent again; None if there is none."""
        return self._sent[0].start if self._sent else None

    @property
    def unanswered_start(self) -> int | None:
        """First sample of the oldest chunk without an answer in this attempt; None if all have one."""
        return next((sent.start for sent in self._sent if sent.seq > self.answered and not sent.end), None)

    @property
    def newest(self) -> Sent | None:
        """The chunk (or end) that was sent last, if it may still have to be sent again."""
        return self._sent[-1] if self._sent else None

    def replay(self) -> list[Sent]:
        """Everything after the checkpoint, to be sent again as a new attempt."""
        self.attempt += 1
        self.replays += 1
        self.answered = self.checkpoint.seq
        return list(self._sent)
