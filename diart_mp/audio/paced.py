"""A recording that is played: its samples come by the clock, as they would from a microphone.

For measurements at live pace on machines that hear nothing. A thread decodes ahead by one block and hands each block over
at the moment when its last sample would have been spoken; ``read_time`` is that moment, so that a late wake-up
counts as latency. It decodes half-way between two such moments: the reader, busy with what has just come, is not to
wait for the interpreter's lock. Knows nothing of chunks. Runs in capture.
"""

import os
import sys
import threading
import time

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.block_queue import BlockQueue
from diart_mp.audio.file import FileSource
from diart_mp.audio.source import Source
from diart_mp.errors import AudioError


class PacedSource(Source):
    """The file ``path`` as a live source whose first sample is spoken ``delay_s`` after it was opened.

    ``channel`` as for ``FileSource``; ``block_s``: what comes at a time, in s. Nothing is lost where nobody reads in time.
    Raises AudioError, here or in ``read``, where ``FileSource`` does.
    """

    live = True

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate: int = 16000,
        channel: int | None = None,
        delay_s: float = 0.0,
        block_s: float = 0.1,
    ) -> None:
        self._file = FileSource(path, rate=rate, channel=channel, block_s=block_s)
        self.name, self.rate, self.duration = self._file.name, rate, self._file.duration
        self._queue: BlockQueue[tuple[NDArray[np.float32], float]] = BlockQueue(sys.maxsize)
        self._pause = block_s / 2
        self._error: AudioError | None = None
        self._closed = threading.Event()
        self._begin = self.read_time = time.monotonic() + delay_s
        self._thread = threading.Thread(target=self._play, name="player", daemon=True)
        self._thread.start()

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
        if self._error is not None:
            raise self._error
        return None

    def warnings(self) -> list[str]:
        """See ``Source.warnings``."""
        return self._file.warnings()

    def close(self) -> None:
        """See ``Source.close``."""
        self._closed.set()
        self._thread.join()
        self._queue.close()
        self._file.close()

    def _play(self) -> None:
        played = 0
        try:
            while (block := self._file.read()) is not None:
                played += len(block)
                due = self._begin + played / self.rate
                if self._closed.wait(max(0.0, due - time.monotonic())):
                    return
                self._queue.put((block, due), len(block))
                self._closed.wait(self._pause)
        except AudioError as error:
            self._error = error  # the reader's to raise
        finally:
            self._queue.end()
