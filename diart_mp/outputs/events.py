"""Updates as JSON objects: standard output, the JSON lines file and the owner's journal all use this one form.

    {"stream": "talk", "seq": 41, "start": 20.5, "end": 21.0, "latency_ms": 84.2,
     "turns": [{"speaker": "speaker0", "start": 20.5, "end": 20.74}]}

Where something is known better by now, ``revision`` says so: ``start``, ``end`` and ``turns`` that replace what was said
between them, and ``renamed`` ({before: now}) for everything before. Times are seconds on the stream's audio clock, rounded to 6 digits, which gives the sample back exactly at any rate
below 500 kHz. They are what the update says: not stitched, and negative where left padding made them so. Knows nothing
of files. Runs in the owner and in the command.
"""

import json
from collections.abc import Iterable
from typing import Any, TypeVar

from diart_mp.errors import ProtocolError
from diart_mp.turns import Revision, Turn, Update

T = TypeVar("T")

MAX_SECONDS = 1e9
"""Times and latencies beyond this (about 30 years) are taken for garbage."""


def seconds(samples: int, rate: int) -> float:
    """A position in seconds, rounded to 6 digits."""
    return round(samples / rate, 6)


def update_to_dict(update: Update, *, latency: bool = True) -> dict[str, Any]:
    """The update as a JSON object; without ``latency``, ``latency_ms`` is null, so that runs give the same bytes."""
    rate = update.rate
    measured = update.latency_ms if latency else None
    revision = {} if update.revision is None else {"revision": revision_to_dict(update.revision, rate)}
    return {
        "stream": update.stream,
        "seq": update.seq,
        "start": seconds(update.start, rate),
        "end": seconds(update.end, rate),
        "latency_ms": None if measured is None else round(measured, 3),
        "turns": _turns_to_list(update.turns, rate),
        **revision,
    }


def revision_to_dict(revision: Revision, rate: int) -> dict[str, Any]:
    """A revision as a JSON object."""
    return {
        "start": seconds(revision.start, rate),
        "end": seconds(revision.end, rate),
        "renamed": dict(revision.renamed),
        "turns": _turns_to_list(revision.turns, rate),
    }


def _turns_to_list(turns: Iterable[Turn], rate: int) -> list[dict[str, Any]]:
    return [
        {"speaker": turn.speaker, "start": seconds(turn.start, rate), "end": seconds(turn.end, rate)} for turn in turns
    ]


def update_to_line(update: Update, *, latency: bool = True) -> str:
    """The JSON object on one line, with its line break."""
    return json.dumps(update_to_dict(update, latency=latency), ensure_ascii=False, allow_nan=False) + "\n"


def update_from_dict(data: object, *, rate: int) -> Update:
    """The update that ``update_to_dict`` was given, at ``rate`` samples per second.

    Raises ProtocolError where the object is not of that form. Fields that are not known are ignored.
    """
    if not isinstance(data, dict):
        msg = f"an update must be a JSON object, got {type(data).__name__}"
        raise ProtocolError(msg)
    turns = _get(data, "turns", list)
    latency, revision = data.get("latency_ms"), data.get("revision")
    return Update(
        stream=_get(data, "stream", str),
        seq=_get(data, "seq", int),
        start=_samples(data, "start", rate),
        end=_samples(data, "end", rate),
        rate=rate,
        turns=tuple(_turn(turn, rate) for turn in turns),
        latency_ms=None if latency is None else _number(data, "latency_ms"),
        revision=None if revision is None else revision_from_dict(revision, rate),
    )


def revision_from_dict(data: object, rate: int) -> Revision:
    """The revision that ``revision_to_dict`` was given; ProtocolError where it is not of that form."""
    if not isinstance(data, dict):
        msg = f"the revision of an update must be a JSON object, got {type(data).__name__}"
        raise ProtocolError(msg)
    turns, renamed = _get(data, "turns", list), _get(data, "renamed", dict)
    return Revision(
        start=_samples(data, "start", rate),
        end=_samples(data, "end", rate),
        turns=tuple(_turn(turn, rate) for turn in turns),
        renamed=tuple((before, _get(renamed, before, str)) for before in renamed),
    )


def _turn(data: object, rate: int) -> Turn:
    if not isinstance(data, dict):
        msg = f"a turn of an update must be a JSON object, got {type(data).__name__}"
        raise ProtocolError(msg)
    return Turn(_samples(data, "start", rate), _samples(data, "end", rate), _get(data, "speaker", str))


def _get(data: dict[Any, Any], key: str, kind: type[T]) -> T:
    value = data.get(key)
    if not isinstance(value, kind) or isinstance(value, bool):
        msg = f"{key!r} of an update must be of type {kind.__name__}, got {value!r:.60}"
        raise ProtocolError(msg)
    return value


def _number(data: dict[Any, Any], key: str) -> float:
    value = data.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float) or not -MAX_SECONDS < value < MAX_SECONDS:
        msg = f"{key!r} of an update must be a number of less than {MAX_SECONDS:g}, got {value!r:.60}"
        raise ProtocolError(msg)
    return float(value)


def _samples(data: dict[Any, Any], key: str, rate: int) -> int:
    return round(_number(data, key) * rate)
