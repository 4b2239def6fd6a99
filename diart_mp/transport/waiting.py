"""A queue in which chunks of live streams go before those of recordings, which nobody waits for while they are spoken.

Where there are always live ones, a recording still gets one turn in eleven, so that it comes to its end. Within each of
the two, what came first goes first; so chunks of one stream keep their order, as long as all of them say the same.
Knows nothing of links or stages: both use it. Runs in every stage.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

from diart_mp.messages import Message, Plain

LIVE = "live"  # plain field: the message belongs to a stream at the pace of the clock
_RECENT_S = 2.0  # after the last live chunk in which another one is expected: several steps
_MOST_LIVE = 10  # in a row, while a recording waits

T = TypeVar("T")


def is_live(message: Message) -> bool:
    """Whether a message says that it belongs to a live stream."""
    field = message.fields.get(LIVE)
    return isinstance(field, Plain) and field.value is True


class Waiting(Generic[T]):
    """What waits, live things first. ``message_of``: the message in a thing, which tells whether it is live."""

    def __init__(self, message_of: Callable[[T], Message], clock: Callable[[], float] = time.monotonic) -> None:
        self._message_of, self._clock = message_of, clock
        self._live, self._other = deque[T](), deque[T]()
        self._live_until = -_RECENT_S
        self._in_a_row = 0  # live things that were taken while others waited

    def __len__(self) -> int:
        return len(self._live) + len(self._other)

    def __iter__(self) -> Iterator[T]:
        yield from self._live
        yield from self._other

    @property
    def first(self) -> T:
        """What ``pop`` would give; IndexError if nothing waits."""
        return self._next[0]

    @property
    def has_live(self) -> bool:
        """Whether live chunks wait, so that nothing should be kept back for those that may come."""
        return bool(self._live)

    @property
    def expects_live(self) -> bool:
        """Whether live chunks have come of late, so that another one may come at any moment."""
        return self.has_live or self._clock() < self._live_until

    def append(self, thing: T) -> None:
        """To wait behind its like."""
        if is_live(self._message_of(thing)):
            self._live.append(thing)
            self._live_until = self._clock() + _RECENT_S
        else:
            self._other.append(thing)

    def pop(self) -> T:
        """Take what is next; IndexError if nothing waits."""
        chosen = self._next
        self._in_a_row = self._in_a_row + 1 if chosen is self._live and self._other else 0
        return chosen.popleft()

    def put_back(self, things: Sequence[T]) -> None:
        """What was taken last, in the order in which it was taken, waits again in front."""
        for thing in reversed(things):
            (self._live if is_live(self._message_of(thing)) else self._other).appendleft(thing)

    @property
    def _next(self) -> deque[T]:
        return self._live if self._live and not (self._other and self._in_a_row >= _MOST_LIVE) else self._other

    def drop(self, is_obsolete: Callable[[T], bool]) -> int:
        """Forget what is obsolete; how many that were."""
        before = len(self)
        for kept in (self._live, self._other):
            left = [thing for thing in kept if not is_obsolete(thing)]
            kept.clear()
            kept.extend(left)
        return before - len(self)
