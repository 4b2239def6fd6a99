"""One stream's part of the live picture: what it remembers of the stream, and its lines for a given width.

What is remembered is bounded: the last minute and the last turns. Knows rich's Text, but not when anything is drawn
(see ``outputs.live``). Runs in the command.
"""

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from diart_mp.outputs.names import one_line
from diart_mp.outputs.stitching import Stitcher
from diart_mp.outputs.timeline import axis, clock, meter, span_before, strips
from diart_mp.turns import Turn, Update

if TYPE_CHECKING:
    from rich.text import Text

COLOURS = ("cyan", "magenta", "yellow", "green", "blue", "red", "bright_cyan", "bright_magenta", "bright_yellow")
"""Of the speakers, in the order in which they were first heard; beyond that they repeat."""

SHOWN_S = 60
MAX_TURNS = 10
MAX_LANES = 8
LABEL_COLUMNS = 14
QUIETEST_DBFS = -60.0


class StreamPanel:
    """State and lines of one stream; ``progress`` (position_s, duration_s, factor) and ``dbfs`` are set by the view."""

    def __init__(self, stream: str) -> None:
        self.name = one_line(stream)
        self.progress: tuple[float, float | None, float | None] | None = None
        self.dbfs: float | None = None
        self._latency_ms: float | None = None
        self._rate = 1
        self._end = 0  # of the last region, in samples
        self._stitcher: Stitcher | None = None
        self._final: deque[Turn] = deque()
        self._styles: dict[str, str] = {}

    def update(self, update: Update) -> None:
        """Fold the next update in."""
        self._stitcher = self._stitcher or Stitcher(update.rate)
        self._rate, self._end, self._latency_ms = update.rate, update.end, update.latency_ms
        for turn in update.turns:
            self._styles.setdefault(turn.speaker, COLOURS[len(self._styles) % len(COLOURS)])
        self._final.extend(self._stitcher.push(update))
        oldest = update.end - (SHOWN_S + 1) * update.rate
        while len(self._final) > MAX_TURNS and self._final[0].end < oldest:
            self._final.popleft()

    def lines(self, width: int, turns: int) -> list["Text"]:
        """The panel on ``width`` columns, with at most ``turns`` of the last turns."""
        known = [*self._final, *(self._stitcher.open_turns() if self._stitcher else ())]
        shown = [self._turn_line(turn) for turn in sorted(known)[-turns:]] if turns else []
        return [self._title(), self._speaking(known), *self._lanes(known, width), *shown, self._state(width)]

    def _title(self) -> "Text":
        from rich.text import Text

        return Text.assemble((self.name, "bold"), (f"  {clock(self._end / self._rate)}", "dim"))

    def _speaking(self, turns: Sequence[Turn]) -> "Text":
        from rich.text import Text

        speakers = dict.fromkeys(turn.speaker for turn in turns if turn.end >= self._end > 0)
        parts = [
            Text.assemble(("● ", self._styles[who]), (one_line(who), f"bold {self._styles[who]}")) for who in speakers
        ]
        return Text("  ").join(parts) if parts else Text("○ silence", "dim")

    def _lanes(self, turns: Sequence[Turn], width: int) -> list["Text"]:
        from rich.cells import cell_len, set_cell_size
        from rich.text import Text

        label = min(LABEL_COLUMNS, max((cell_len(one_line(who)) for who in self._styles), default=0))
        span = span_before(self._end, rate=self._rate, columns=max(10, width - label - 3), seconds=SHOWN_S)
        rows = strips(turns, span)
        edge = ("│", "dim")
        lanes = [
            Text.assemble((set_cell_size(one_line(who), label) + " ", style), edge, (rows[who], style), edge)
            for who, style in self._styles.items()
            if who in rows
        ]
        return [*lanes[-MAX_LANES:], Text(" " * (label + 2) + axis(span, self._rate), "dim")]

    def _turn_line(self, turn: Turn) -> "Text":
        from rich.text import Text

        start = f"{turn.start / self._rate:8.3f} "
        end = "       …" if turn.end >= self._end else f"{turn.end / self._rate:8.3f}"
        return Text.assemble(start, end, "  ", (one_line(turn.speaker), self._styles[turn.speaker]))

    def _state(self, width: int) -> "Text":
        """How far or how loud, how fast, how late."""
        from rich.text import Text

        bar = max(5, width // 4)
        parts: list[str] = []
        if self.progress is not None:
            position, duration, factor = self.progress
            parts.append(f"{clock(position)}/{clock(duration)}" if duration else clock(position))
            if duration:
                parts.insert(0, meter(position / duration, bar))
            if factor is not None:
                parts.append(f"{factor:.1f}x")
        if self.dbfs is not None:
            dbfs = max(self.dbfs, QUIETEST_DBFS)
            parts += [meter(1 - dbfs / QUIETEST_DBFS, bar), f"{dbfs:.0f} dB"]
        if self._latency_ms is not None:
            parts.append(f"lag {self._latency_ms:.0f} ms")
        return Text("  ".join(parts))
