"""What the last stage says of a chunk, checked before an owner believes it.

Apart from ``diart_mp.turns``, which commands import at start and which must not bring NumPy along. Runs in owners.
"""

from typing import Any

from diart_mp.errors import ProtocolError
from diart_mp.headers import shown
from diart_mp.turns import Revision, Turn

_MAX_TURNS = 10_000  # in one result
_MAX_POSITION = 1 << 41  # samples; 66 days at 384 kHz


def turns_from_plain(value: Any) -> tuple[tuple[int, int], tuple[Turn, ...]]:
    """Region and turns in the plain field ``turns`` of a result; ProtocolError if it is malformed."""
    match value:
        case {"region": [start, end], "turns": list(rows)} if _is_range(start, end) and len(rows) <= _MAX_TURNS:
            turns = tuple(_parse_turn(row) for row in rows)
            return (start, end), turns
    msg = f"'turns' must be {{region: [start, end], turns: [[start, end, speaker], ...]}}, not {shown(value)}"
    raise ProtocolError(msg)


def revision_from_plain(value: Any) -> Revision:
    """The plain field ``revision`` of a result; ProtocolError if it is malformed."""
    match value:
        case {"renamed": list(pairs)} if all(_is_pair(pair) for pair in pairs) and len(pairs) <= _MAX_TURNS:
            region = {"region": [value.get("start"), value.get("end")], "turns": value.get("turns")}
            (start, end), turns = turns_from_plain(region)
            return Revision(start, end, turns, tuple((before, now) for before, now in pairs))
    msg = f"'revision' must be {{start, end, turns, renamed: [[before, now], ...]}}, not {shown(value)}"
    raise ProtocolError(msg)


def _is_pair(pair: Any) -> bool:
    return isinstance(pair, list) and len(pair) == 2 and all(isinstance(name, str) and name for name in pair)


def _parse_turn(row: Any) -> Turn:
    match row:
        case [start, end, str(speaker)] if _is_range(start, end) and 0 < len(speaker) <= 256:
            return Turn(start, end, speaker)
    msg = f"a turn must be [start, end, speaker], not {shown(row)}"
    raise ProtocolError(msg)


def _is_range(start: Any, end: Any) -> bool:
    return type(start) is int and type(end) is int and -_MAX_POSITION <= start <= end <= _MAX_POSITION
