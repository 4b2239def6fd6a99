"""A bounded queue of audio blocks from one writing thread to one reading thread, with a descriptor to wait on.

Used by the sources whose samples are made by another thread (microphone, push). Knows nothing of what is in a block.
"""

import os
import threading
from collections import deque
from typing import Generic, TypeVar

Block = TypeVar("Block")


class BlockQueue(Generic[Block]):
    """First in, first out; full while ``limit`` or more is waiting (in the unit of ``put``'s ``size``).

    ``fileno()`` is readable while a block waits, and for good after ``end``. A pipe that holds one byte or none does
    that on every POSIX system, so the reader can sleep in one poll together with its sockets.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._waiting = 0
        self._blocks: deque[tuple[Block, int]] = deque()
        self._changed = threading.Condition()
        self._ended = False
        self._closed = False
        self._signalled = False
        self._reading, self._writing = os.pipe()

    def fileno(self) -> int:
        """The reading end of the pipe; -1 after ``close``."""
        return self._reading

    def put(self, block: Block, size: int) -> bool:
        """Add a block without waiting; False if the queue is full, ended or closed."""
        with self._changed:
            if self._ended or self._closed or self._waiting >= self._limit:
                return False
            self._blocks.append((block, size))
            self._waiting += size
            self._signal()
            return True

    def wait_for_room(self, timeout: float | None) -> bool:
        """Wait up to ``timeout`` s (None: for ever) until ``put`` takes a block; False if it still would not."""
        with self._changed:
            self._changed.wait_for(lambda: self._ended or self._closed or self._waiting < self._limit, timeout)
            return not self._ended and not self._closed and self._waiting < self._limit

    def peek(self) -> Block | None:
        """The oldest block, which stays; None if the queue is empty."""
        with self._changed:
            return self._blocks[0][0] if self._blocks else None

    def get(self) -> Block | None:
        """Take out the oldest block; None if the queue is empty."""
        with self._changed:
            if not self._blocks:
                return None
            block, size = self._blocks.popleft()
            self._waiting -= size
            if not self._blocks and not self._ended:
                self._unsignal()
            self._changed.notify_all()
            return block

    def end(self) -> None:
        """The writer has nothing more; what waits can still be taken."""
        with self._changed:
            self._ended = True
            self._signal()
            self._changed.notify_all()

    def close(self) -> None:
        """Drop everything and let go of the pipe; a waiting writer is told that there is no room."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._blocks.clear()
            os.close(self._reading)
            os.close(self._writing)
            self._reading = self._writing = -1
            self._changed.notify_all()

    @property
    def waiting(self) -> int:
        """Sum of the sizes of the blocks that wait."""
        with self._changed:
            return self._waiting

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        with self._changed:
            return self._ended or self._closed

    @property
    def over(self) -> bool:
        """Whether nothing waits and nothing more will come."""
        with self._changed:
            return self._closed or (self._ended and not self._blocks)

    def _signal(self) -> None:
        if not self._signalled and not self._closed:
            os.write(self._writing, b"\0")
            self._signalled = True

    def _unsignal(self) -> None:
        if self._signalled and not self._closed:
            os.read(self._reading, 1)
            self._signalled = False
