"""What a source of audio is: the interface that capture reads, and the gaps that it reports.

Knows nothing of chunks, windows or other processes. Runs in the process that owns the stream.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import AudioError


@dataclass(frozen=True, slots=True)
class Gap:
    """``samples`` samples from ``position`` on that were lost and are zeros in the stream (both in stream samples).

    ``samples`` is 0 where something was lost but nobody can say how much.
    """

    position: int
    samples: int
    reason: str


class Source(ABC):
    """One mono stream of float32 samples at ``rate``, read block by block by one thread.

    name: what outputs are called after (file stem, ``microphone``, ``stdin`` ...).
    rate: samples per second of what ``read`` gives.
    live: True where audio is made while it is read and cannot wait; False where it can (files, pipes).
    resumable: True where the writer goes on after its last sample when the owner was restarted: no time is lost then.
    duration: length in s as the source states it, None where it is not known.
    read_time: ``time.monotonic()`` s at which the last sample that ``read`` gave was captured, or, where a source
        cannot know that, at which it arrived here.
    """

    name: str
    rate: int
    live: bool
    resumable: bool = False
    duration: float | None
    read_time: float

    @abstractmethod
    def read(self) -> NDArray[np.float32] | None:
        """The next samples, shape (n,); n = 0 when none wait now (only with a ``fileno``), None at the end.

        Raises AudioError for audio that cannot be used, with its position in s.
        """

    @abstractmethod
    def close(self) -> None:
        """Let go of the file or device; may be called again, and from another thread than ``read``'s."""

    def fileno(self) -> int | None:
        """A descriptor that is readable when ``read`` has something to give; None if ``read`` always has."""
        return None

    def skip(self, samples: int) -> int:
        """Go forward by ``samples`` as if they had been read; the number gone, which is less at the end.

        Only recorded sources can. What is read afterwards is bit for bit what it would have been without ``skip``.
        Raises AudioError where that is impossible.
        """
        msg = f"{self.name}: cannot go on at sample {samples}, since only a file can be read from a later position"
        raise AudioError(msg)

    def gaps(self) -> list[Gap]:
        """Gaps found since the last call, in order of position."""
        return []

    def warnings(self) -> list[str]:
        """What the user should know about this source since the last call, one line each."""
        return []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
