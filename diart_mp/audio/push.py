"""Samples that another thread of the owner hands over: the gateway's clients and programs that make audio themselves.

Knows nothing of sockets or of who writes. Runs in the gateway, and in programs that use the library.
"""

import threading
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.block_queue import BlockQueue
from diart_mp.audio.convert import to_float32
from diart_mp.audio.resample import StreamResampler
from diart_mp.audio.source import Source
from diart_mp.errors import AudioError


class PushSource(Source):
    """A stream that is written with ``write`` and ``end`` by one side and read by the other.

    input_rate, channels: of what is written; channel: the one to take, None for the mean of all. max_s: once that
    much waits (s), ``write`` waits, too. Mistakes in what is written are the writer's errors, never the reader's.
    """

    def __init__(
        self,
        name: str,
        rate: int = 16000,
        input_rate: int = 16000,
        channels: int = 1,
        *,
        channel: int | None = None,
        max_s: float = 10.0,
        live: bool = True,
    ) -> None:
        self.name = name
        self.rate = rate
        self.live = live
        self.duration = None
        self.read_time = time.monotonic()
        self._writing = threading.Lock()
        self._resampler = StreamResampler(input_rate, rate, channels=channels, channel=channel, name=name)
        self._flushed = False
        self._queue: BlockQueue[tuple[NDArray[np.float32], float]] = BlockQueue(max(1, round(max_s * rate)))

    def write(self, samples: NDArray[Any], timeout: float | None = None) -> None:
        """Add samples of shape (n,) or (n, channels), of any n; integers or floats as in ``convert.to_float32``.

        Waits up to ``timeout`` s for room (None: as long as it takes; 0: not at all). Raises AudioError if there is
        none by then, if the source is ended or closed, and for a wrong shape, type or value; nothing of ``samples``
        is taken then.
        """
        now = time.monotonic()
        block = np.array(to_float32(samples))  # a copy: the caller may fill its buffer again
        with self._writing:
            if not self._queue.wait_for_room(timeout):
                self._refuse()
            mono = self._resampler.push(block)
            if len(mono) and not self._queue.put((mono, now), len(mono)):
                self._refuse()

    @property
    def has_room(self) -> bool:
        """Whether ``write`` would not wait; also once it would only raise."""
        return self._queue.ended or self._queue.wait_for_room(0)

    @property
    def over(self) -> bool:
        """Whether it was ended or closed."""
        return self._queue.ended

    def end(self) -> None:
        """The writer has nothing more; the reader gets what waits, the resampler's rest and then None."""
        with self._writing:
            self._queue.end()

    def fileno(self) -> int:
        """See ``Source.fileno``."""
        return self._queue.fileno()

    def read(self) -> NDArray[np.float32] | None:
        """See ``Source.read``."""
        item = self._queue.get()
        if item is not None:
            samples, self.read_time = item
            return samples
        if not self._queue.over:
            return np.zeros(0, np.float32)
        if self._flushed:
            return None
        self._flushed = True
        return self._resampler.flush()

    def close(self) -> None:
        """The reader wants no more; what waits is dropped and ``write`` raises from now on."""
        self._flushed = True
        self._queue.close()

    def _refuse(self) -> None:
        msg = f"{self.name}: nothing can be written, since the stream has ended"
        if not self._queue.ended:
            waiting = self._queue.waiting / self.rate
            msg = f"{self.name}: {waiting:.1f} s of audio wait already, the pipeline does not keep up; write later"
        raise AudioError(msg)
