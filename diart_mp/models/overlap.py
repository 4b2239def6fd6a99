"""What windows that overlap have in common is computed once: results are remembered by the audio that they were computed from.

A window holds nine tenths of the one before. Audio is recognised by its content (SHA-256 of pieces of 0.25 s), so no stream,
position or replay has to be known, and whatever is remembered is what would be computed again. Knows nothing of
models; the segmentation and embedding stages use it on CPUs.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar

from diart_mp.models.base import FloatArray

PIECE = 4000  # samples: windows whose starts differ by a multiple of it have pieces in common
Print = bytes | None
"""Of a piece; None for one that does not lie within the audio."""

Value = TypeVar("Value")


class Memory(Generic[Value]):
    """Values by keys. What none of the last ``age`` windows had a use for is forgotten, so streams may come in turn."""

    def __init__(self, age: int = 128) -> None:
        self._values: OrderedDict[Hashable, tuple[int, Value]] = OrderedDict()  # with the last window that used it
        self._age = age
        self._window = 0

    def __len__(self) -> int:
        return len(self._values)

    def next_window(self) -> None:
        """Another window begins."""
        self._window += 1
        while self._values and next(iter(self._values.values()))[0] < self._window - self._age:
            self._values.popitem(last=False)

    def get(self, key: Hashable) -> Value | None:
        """The value that was put there, None if there is none."""
        found = self._values.get(key)
        if found is None:
            return None
        self.put(key, found[1])
        return found[1]

    def put(self, key: Hashable, value: Value) -> None:
        """Remember ``value``."""
        self._values[key] = self._window, value
        self._values.move_to_end(key)


def fingerprints(waveform: FloatArray, pieces: Sequence[int]) -> list[Print]:
    """What identifies the audio of some pieces (by number, from 0) of a waveform (samples,)."""
    whole = len(waveform) // PIECE
    return [
        hashlib.sha256(waveform[piece * PIECE : (piece + 1) * PIECE].data).digest() if 0 <= piece < whole else None
        for piece in pieces
    ]
