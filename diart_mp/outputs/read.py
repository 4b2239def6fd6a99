"""Reading references and outputs back: RTTM (who speaks when) and UEM (which parts are scored).

Times are seconds, as the files have them. Knows nothing of scoring. Runs in the command.
"""

import math
from collections.abc import Iterator
from pathlib import Path

from diart_mp.errors import UsageError


def load_rttm(path: Path) -> dict[str, list[tuple[float, float, str]]]:
    """The SPEAKER lines of an RTTM file: (start_s, end_s, speaker) in the order of the file, by recording (uri).

    Empty lines, comments (``;`` or ``#``), other types of lines and turns of no length are skipped. Raises UsageError,
    with the line number, for a file that cannot be read and a line that is not RTTM.
    """
    turns: dict[str, list[tuple[float, float, str]]] = {}
    for number, fields in _lines(path):
        if fields[0] != "SPEAKER":
            continue
        if not 8 <= len(fields) <= 10 or fields[7] == "<NA>":
            speaker = fields[7] if len(fields) > 7 else "nothing"
            msg = (
                f"{path}, line {number}: a SPEAKER line of RTTM has 10 fields (the last two may be left out), this one "
                f"{len(fields)} and {speaker!r} as its speaker; no name may hold a space"
            )
            raise UsageError(msg)
        start, duration = _times(path, number, fields[3:5])
        if duration < 0:
            msg = f"{path}, line {number}: the turn has a negative duration, {duration:g} s"
            raise UsageError(msg)
        of_uri = turns.setdefault(fields[1], [])
        if duration > 0:
            of_uri.append((start, start + duration, fields[7]))
    return turns


def load_uem(path: Path) -> dict[str, list[tuple[float, float]]]:
    """The parts of recordings to score, from a UEM file (``uri channel start end``): (start_s, end_s) by recording.

    Empty lines and comments are skipped; raises UsageError as ``load_rttm`` does.
    """
    parts: dict[str, list[tuple[float, float]]] = {}
    for number, fields in _lines(path):
        if len(fields) != 4:
            msg = f"{path}, line {number}: a line of UEM has 4 fields (uri channel start end), this one {len(fields)}"
            raise UsageError(msg)
        start, end = _times(path, number, fields[2:4])
        if end < start:
            msg = f"{path}, line {number}: the part ends at {end:g} s, before its start at {start:g} s"
            raise UsageError(msg)
        parts.setdefault(fields[0], []).append((start, end))
    return parts


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Number (from 1) and fields of each line that says something."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                fields = line.split()
                if fields and not fields[0].startswith((";", "#")):
                    yield number, fields
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror or error}"
        raise UsageError(msg) from error
    except UnicodeDecodeError as error:
        msg = f"cannot read {path}: it is not text in UTF-8 (byte {error.start}); is it an audio file?"
        raise UsageError(msg) from error


def _times(path: Path, number: int, fields: list[str]) -> list[float]:
    try:
        times = [float(field) for field in fields]
    except ValueError:
        times = [math.nan]
    if not all(map(math.isfinite, times)):
        msg = f"{path}, line {number}: {' and '.join(fields)} should be two times in seconds"
        raise UsageError(msg)
    return times
