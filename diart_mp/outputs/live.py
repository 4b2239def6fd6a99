"""A live picture in the terminal: who speaks now, the last minute of every speaker, the last turns, how the run goes.

Drawn with rich, at most ten times a second and only when something has changed, in the thread that feeds it, which
calls ``refresh`` now and then when nothing else happens. Works on 40 columns and without colours (``NO_COLOR``):
speakers are always named too. For pipes and dumb terminals see ``outputs.plain``. Runs in the command.
"""

import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import TYPE_CHECKING, Any, Self

from diart_mp.outputs.names import one_line
from diart_mp.outputs.panel import MAX_TURNS, StreamPanel
from diart_mp.turns import Update

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
    from rich.live import Live
    from rich.text import Text

REFRESH_S = 0.1
"""Shortest time between two pictures."""

MAX_NOTES = 3
MAX_STREAMS = 4


class LiveView:
    """The picture of one run; a context manager that holds the terminal while it is open."""

    def __init__(self, console: "Console | None" = None, *, now: Callable[[], float] = time.monotonic) -> None:
        """``console``: where to draw, standard output by default. ``now``: a clock in seconds."""
        self._console = console
        self._now = now
        self._panels: dict[str, StreamPanel] = {}
        self._notes: deque[str] = deque(maxlen=MAX_NOTES)
        self._summary = ""
        self._ended = 0
        self._live: Live | None = None
        self._changed = False
        self._drawn_at = -REFRESH_S

    def update(self, update: Update) -> None:
        """Show the next update of a stream (by ``seq``)."""
        self._panel(update.stream).update(update)
        self._redraw()

    def progress(self, stream: str, position_s: float, duration_s: float | None, factor: float | None) -> None:
        """How far a file is: position and length in seconds, and how many times faster than real time."""
        self._panel(stream).progress = (position_s, duration_s, factor)
        self._redraw()

    def level(self, stream: str, dbfs: float) -> None:
        """How loud a live source is, in decibels below full scale (0 is the loudest, silence is minus infinity)."""
        self._panel(stream).dbfs = dbfs
        self._redraw()

    def note(self, text: str) -> None:
        """Show a warning or an event (restarts, skipped chunks); the last few stay."""
        self._notes.append(one_line(text))
        self._redraw()

    def ended(self, stream: str) -> None:
        """One of several streams has ended: it makes room for others and is counted."""
        if len(self._panels) > 1 and self._panels.pop(stream, None) is not None:
            self._ended += 1
        self._redraw()

    def finish(self, text: str = "", values: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Draw the last picture, with a summary of one or more lines below, and give the terminal back."""
        self._summary = text
        live, self._live = self._live, None
        if live is not None:
            try:
                live.update(self.render(), refresh=True)
            finally:
                live.stop()

    def refresh(self) -> None:
        """Draw what has changed since the last picture, unless that was less than ``REFRESH_S`` ago."""
        if self._live is None or not self._changed or self._now() - self._drawn_at < REFRESH_S:
            return
        self._changed, self._drawn_at = False, self._now()
        self._live.update(self.render(), refresh=True)

    def render(self) -> "RenderableType":
        """The picture of this moment, for a rich console of any width."""
        return _Picture(tuple(self._panels.values()), tuple(self._notes), self._summary, self._ended)

    def __enter__(self) -> Self:
        from rich.live import Live

        self._live = Live(console=self._console, auto_refresh=False)
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            self.finish(self._summary)

    def _panel(self, stream: str) -> StreamPanel:
        if stream not in self._panels:
            self._panels[stream] = StreamPanel(stream)
        return self._panels[stream]

    def _redraw(self) -> None:
        self._changed = True
        self.refresh()


class _Picture:
    """What rich draws: the panels of the first few streams, then notes and summary; never higher than the terminal."""

    def __init__(self, panels: Sequence[StreamPanel], notes: Sequence[str], summary: str, ended: int) -> None:
        self._panels, self._notes, self._summary, self._ended = panels, notes, summary, ended

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> "RenderResult":
        width = options.max_width
        below = self._below()
        lines = [line for panel in self._panels[:MAX_STREAMS] for line in panel.lines(width, 0)]
        if len(self._panels) == 1:
            room = console.height - len(lines) - sum(-(-max(line.cell_len, 1) // width) for line in below) - 1
            lines = self._panels[0].lines(width, min(MAX_TURNS, max(room, 1)))
        for line in lines:
            line.no_wrap, line.overflow = True, "ellipsis"
        yield from [*lines, *below]

    def _below(self) -> list["Text"]:
        from rich.text import Text

        hidden = len(self._panels) - MAX_STREAMS
        counts = [f"{hidden} more" if hidden > 0 else "", f"{self._ended} ended" if self._ended else ""]
        more = [Text("+ " + ", ".join(filter(None, counts)), "dim")] if any(counts) else []
        notes = [Text(f"! {note}", "yellow") for note in self._notes]
        return [*more, *notes, *(Text(one_line(line), "bold") for line in self._summary.splitlines())]
