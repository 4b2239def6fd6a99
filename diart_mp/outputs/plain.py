"""Turns as lines of text, for a pipe or a log: readable ones and JSON objects.

Each line is flushed as it comes, to any text stream. A reader that has gone away (``| head``) raises BrokenPipeError,
which the command takes as the wish to stop; any other refusal is an OutputError. Nothing is coloured and nothing
redrawn (see ``outputs.live``). Runs in the command.
"""

import json
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self, TextIO

from diart_mp.errors import OutputError
from diart_mp.outputs.events import update_to_line
from diart_mp.outputs.names import one_line
from diart_mp.outputs.stitching import Stitcher
from diart_mp.turns import Turn, Update


class LineView:
    """What the views for a pipe have in common; position and level are for live pictures and not shown by them."""

    def __init__(self, out: TextIO, notes: TextIO) -> None:
        """``notes``: where warnings go (standard error), so that ``out`` has nothing but results."""
        self._out, self._notes = out, notes

    def update(self, update: Update) -> None:
        """Show the next update of a stream (by ``seq``)."""

    def note(self, text: str) -> None:
        """Show a warning or an event (restarts, skipped chunks)."""
        self._print(self._notes, f"# {one_line(text)}\n")

    def ended(self, stream: str) -> None:
        """The stream has ended."""

    def finish(self, text: str, values: Mapping[str, Any]) -> None:
        """The run has ended: its summary as text for people and as values."""

    def progress(self, stream: str, position_s: float, duration_s: float | None, factor: float | None) -> None:
        """See ``LiveView.progress``; nothing here."""

    def level(self, stream: str, dbfs: float) -> None:
        """See ``LiveView.level``; nothing here."""

    def refresh(self) -> None:
        """See ``LiveView.refresh``; every line is written at once."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to restore."""

    def _print(self, out: TextIO, line: str) -> None:
        try:
            out.write(line)
            out.flush()
        except BrokenPipeError:
            raise
        except OSError as error:
            msg = f"cannot write to standard output: {error.strerror or error}; what was printed so far is complete"
            raise OutputError(msg) from error


class QuietView(LineView):
    """Shows nothing at all."""

    def note(self, text: str) -> None:
        """Nothing."""


class PlainView(LineView):
    """One line per final turn: start and end in seconds, and who; a turn appears as soon as nothing can change it.

    With several streams the stream's name comes first. Notes and the summary are lines that begin with ``#``.
    """

    def __init__(self, out: TextIO, notes: TextIO, *, several: bool = False) -> None:
        super().__init__(out, notes)
        self._several = several
        self._stitchers: dict[str, tuple[Stitcher, int]] = {}

    def update(self, update: Update) -> None:
        """Print the turns that became final."""
        if update.stream not in self._stitchers:
            self._stitchers[update.stream] = Stitcher(update.rate), update.rate
        stitcher, _ = self._stitchers[update.stream]
        self._turns(update.stream, stitcher.push(update), update.rate)

    def ended(self, stream: str) -> None:
        """Print the stream's turns that were still open."""
        if stream in self._stitchers:
            stitcher, rate = self._stitchers.pop(stream)
            self._turns(stream, stitcher.finish(), rate)

    def finish(self, text: str, values: Mapping[str, Any]) -> None:
        """Print what is still open, and the text behind a ``#``."""
        for stream in list(self._stitchers):
            self.ended(stream)
        self.note(text)

    def _turns(self, stream: str, turns: list[Turn], rate: int) -> None:
        front = f"{one_line(stream)}  " if self._several else ""
        for turn in turns:
            times = f"{turn.start / rate:8.3f} {turn.end / rate:8.3f}"
            self._print(self._out, f"{front}{times}  {one_line(turn.speaker)}\n")


class JsonView(LineView):
    """One JSON object per line: updates as in ``outputs.events``, and the values of the summary as the last."""

    def update(self, update: Update) -> None:
        """Print the update as it came."""
        self._print(self._out, update_to_line(update))

    def finish(self, text: str, values: Mapping[str, Any]) -> None:
        """Print the summary."""
        self._print(self._out, json.dumps(values, ensure_ascii=False) + "\n")
