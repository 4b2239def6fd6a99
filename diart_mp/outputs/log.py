"""The log of a run: one line per event of any stage, in one file, with the stream and the chunk that it is about.

Knows nothing of levels or handlers: what a stage says to its supervisor, and what it wrote to standard error before it died, is all
that there is. Runs in the command.
"""

import datetime
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diart_mp.errors import OutputError
from diart_mp.outputs.names import one_line

_FREQUENT = ("result", "progress", "level")  # events that are no news
_DETAILS = ("stream", "seq", "start", "seconds", "windows", "results", "text")


class EventLog:
    """Appends to a file; opening it raises OutputError if it cannot be written."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("ab", buffering=0)
        except OSError as error:
            msg = f"cannot write the log {path}: {error.strerror}"
            raise OutputError(msg) from error

    def write(self, event: Mapping[str, Any]) -> None:
        """Add one event of the pipeline, unless it is one of those that come all the time."""
        name = str(event["event"])
        if name in _FREQUENT:
            return
        now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
        who = str(event.get("stage", "run"))
        details = [f"{key}={one_line(str(event[key]))}" for key in _DETAILS if event.get(key) not in (None, "")]
        self._append(" ".join([now, who, name, *details]))
        for line in event.get("log", []):
            self._append(f"{now} {who} stderr {one_line(line)}")

    def close(self) -> None:
        """Close the file; idempotent."""
        self._file.close()

    def _append(self, line: str) -> None:
        try:
            self._file.write(line.encode("utf-8", "backslashreplace") + b"\n")
        except OSError as error:
            msg = f"cannot write the log {self._path}: {error.strerror}"
            raise OutputError(msg) from error
