"""The last minute of a stream as rows of block characters, and times for people. Plain text, no colours.

Knows turns, but neither terminals nor streams. Runs in the command, for ``outputs.live``.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from diart_mp.turns import Turn

_HALVES = {(False, False): " ", (True, False): "▌", (False, True): "▐", (True, True): "█"}


@dataclass(frozen=True, slots=True)
class Span:
    """The part of the time line that ``columns`` characters show: two cells of ``cell`` samples in each character.

    ``first`` is the number of the first cell. It is a whole number of characters, so that the picture moves by whole
    characters and does not flicker.
    """

    first: int
    cell: int
    columns: int

    @property
    def start(self) -> int:
        """First sample shown."""
        return self.first * self.cell


def span_before(end: int, *, rate: int, columns: int, seconds: int = 60) -> Span:
    """The last ``seconds`` before sample ``end``; from 0 as long as less than that has passed."""
    cell = max(1, seconds * rate // (2 * columns))
    passed = -(-max(end, 0) // (2 * cell))  # characters begun since 0
    return Span(2 * max(0, passed - columns), cell, columns)


def strips(turns: Iterable[Turn], span: Span) -> Mapping[str, str]:
    """One row of ``span.columns`` block characters for each speaker of the turns that lie in the span.

    Half a character is filled where at least half of its time is spoken; a turn too short for that fills one half.
    """
    cells: dict[str, list[int]] = {}
    for turn in turns:
        first, last = turn.start // span.cell - span.first, (turn.end - 1) // span.cell - span.first
        if last < 0 or first >= 2 * span.columns:
            continue
        row = cells.setdefault(turn.speaker, [0] * (2 * span.columns))
        for index in range(max(first, 0), min(last, len(row) - 1) + 1):
            begin = (span.first + index) * span.cell
            row[index] += min(turn.end, begin + span.cell) - max(turn.start, begin)
        middle = (turn.start + turn.end) // 2 // span.cell - span.first
        if turn.end - turn.start < span.cell and 0 <= middle < len(row):
            row[middle] = span.cell
    return {speaker: _blocks(row, span.cell) for speaker, row in cells.items()}


def axis(span: Span, rate: int) -> str:
    """Round times below the rows: each begins below the character that it names."""
    line = ""
    column_s = 2 * span.cell / rate
    every = next(every for every in (5, 10, 15, 30, 60, 600, 3600) if every >= 10 * column_s or every == 3600)
    first = -(-span.start // (every * rate)) * every
    for mark in range(first, first + round(span.columns * column_s) + 1, every):
        column = round((mark - span.start / rate) / column_s)
        if column + len(clock(mark)) <= span.columns:
            line = line.ljust(column) + clock(mark)
    return line


def clock(seconds: float) -> str:
    """``0:07``, ``12:34`` or ``1:02:03``."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def meter(value: float, columns: int) -> str:
    """A bar of ``columns`` characters of which the share ``value`` (0 to 1) is filled."""
    filled = round(min(value, 1.0) * columns) if value > 0 else 0  # also if it is not a number
    return "━" * filled + "─" * (columns - filled)


def _blocks(row: Sequence[int], cell: int) -> str:
    filled = [2 * covered >= cell for covered in row]
    return "".join(_HALVES[pair] for pair in zip(filled[::2], filled[1::2], strict=True))
