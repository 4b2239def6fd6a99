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
    """Values by keys; beyond ``limit`` of them, what was used longest ago is forgotten."""

    def __init__(self, limit: int) -> None:
        self._values: OrderedDict[Hashable, Value] = OrderedDict()
        self._limit = limit

    def get(self, key: Hashable) -> Value | None:
        """The value that was put there, None if there is none."""
        value = self._values.get(key)
        if value is not None:
            self._values.move_to_end(key)
        return value

    def put(self, key: Hashable, value: Value) -> None:
        """Remember ``value``."""
        self._values[key] = value
        if len(self._values) > self._limit:
            self._values.popitem(last=False)


def fingerprints(waveform: FloatArray, pieces: Sequence[int]) -> list[Print]:
    """What identifies the audio of some pieces (by number, from 0) of a waveform (samples,)."""
    whole = len(waveform) // PIECE
    return [
        hashlib.sha256(waveform[piece * PIECE : (piece + 1) * PIECE].data).digest() if 0 <= piece < whole else None
        for piece in pieces
    ]
