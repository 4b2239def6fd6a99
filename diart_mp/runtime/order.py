"""Order for keyed stages: chunks of a stream in ``seq`` order, each once, with replays let in at the right place.

A replay (a higher ``attempt``) begins either with chunk 0 or with a chunk that carries the checkpoint of all before it,
so state and chunk cannot part ways on the road. Until that one is here, everything else of the attempt waits.
Runs in keyed stages, inside ``runtime.loop``.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from diart_mp.messages import Message

_IDLE_S = 4 * 3600.0  # without a chunk after which a stream has lost its owner: that of a run that was killed, say
RESTORE = "restore"  # plain field of the first chunk of a replay: the seq that the checkpoint covers


@dataclass(slots=True)
class StreamOrder:
    """The chunks of one stream that have arrived, and which one is next."""

    attempt: int = -1
    next: int | None = None
    held: dict[int, Message] = field(default_factory=dict)
    dropped: int = 0

    def put(self, message: Message) -> list[Message]:
        """Take in a message; returns those that are now due, in order. Old attempts and repeats are dropped."""
        if message.attempt < self.attempt:
            self.dropped += 1
            return []
        if message.attempt > self.attempt:
            self.attempt, self.next = message.attempt, None
            self.held.clear()
        if self.next is None and (message.seq == 0 or RESTORE in message.fields):
            self.next = message.seq
        if message.seq in self.held or (self.next is not None and message.seq < self.next):
            self.dropped += 1
            return []
        self.held[message.seq] = message
        return self._due()

    def _due(self) -> list[Message]:
        due = []
        while self.next is not None and self.next in self.held:
            due.append(self.held.pop(self.next))
            self.next += 1
        return due


class Orders:
    """The order of each stream. What nobody sends to any more is forgotten; an owner that comes back sends its checkpoint again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._orders: dict[str, StreamOrder] = {}
        self._heard: dict[str, float] = {}  # the longest ago first

    @property
    def streams(self) -> set[str]:
        """Those that are remembered."""
        return set(self._orders)

    def put(self, message: Message) -> list[Message]:
        """See ``StreamOrder.put``."""
        self._heard.pop(message.stream, None)
        self._heard[message.stream] = self._clock()
        return self._orders.setdefault(message.stream, StreamOrder()).put(message)

    def end(self, stream: str) -> None:
        """A stream is over."""
        del self._orders[stream], self._heard[stream]

    def abandoned(self) -> list[str]:
        """Streams that are forgotten now."""
        found = []
        for stream, heard in list(self._heard.items()):
            if self._clock() - heard <= _IDLE_S:
                break
            self.end(stream)
            found.append(stream)
        return found


def state_for(stage: str, message: Message) -> bytes | None:
    """The checkpoint that a message brings for the keyed stage of that name."""
    field = message.fields.get(f"{RESTORE}.{stage}")
    return field.tobytes() if isinstance(field, np.ndarray) else None
