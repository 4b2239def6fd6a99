"""Turns and updates: what the pipeline says about who speaks when.

Positions are integers, in samples of the stream's audio clock; seconds appear where people read them.
Knows nothing of files, processes or models. Used in the clustering stage, the owner and the outputs.
"""

from dataclasses import dataclass
from typing import Any

from diart_mp.errors import ProtocolError
from diart_mp.messages import shown

_MAX_TURNS = 10_000  # in one result
_MAX_POSITION = 1 << 41  # samples; 66 days at 384 kHz


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """One speaker talking from ``start`` to ``end`` (samples, end excluded)."""

    start: int
    end: int
    speaker: str


@dataclass(frozen=True, slots=True)
class Update:
    """What one result adds to a stream: the turns in the region [start, end) (samples).

    Regions of consecutive ``seq`` follow each other. A turn may end some samples after its region
    (the region's last frame is rounded up, as in diart). Turns of consecutive updates that are less
    than 50 ms apart are one turn; ``outputs.stitching`` joins them.
    """

    stream: str
    seq: int
    start: int
    end: int
    rate: int
    turns: tuple[Turn, ...]
    latency_ms: float | None = None


def turns_from_plain(value: Any) -> tuple[tuple[int, int], tuple[Turn, ...]]:
    """Region and turns in the plain field ``turns`` of a result; ProtocolError if it is malformed."""
    match value:
        case {"region": [start, end], "turns": list(rows)} if _is_range(start, end) and len(rows) <= _MAX_TURNS:
            turns = tuple(_parse_turn(row) for row in rows)
            return (start, end), turns
    msg = f"'turns' must be {{region: [start, end], turns: [[start, end, speaker], ...]}}, not {shown(value)}"
    raise ProtocolError(msg)


def _parse_turn(row: Any) -> Turn:
    match row:
        case [start, end, str(speaker)] if _is_range(start, end) and 0 < len(speaker) <= 256:
            return Turn(start, end, speaker)
    msg = f"a turn must be [start, end, speaker], not {shown(row)}"
    raise ProtocolError(msg)


def _is_range(start: Any, end: Any) -> bool:
    return type(start) is int and type(end) is int and -_MAX_POSITION <= start <= end <= _MAX_POSITION
