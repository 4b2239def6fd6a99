"""What is wrong with a stage and would show up elsewhere: arrays of other dimensions, output, processes that it starts.

A habit that breaks nothing at once is told once, in one line with the stage's name. What is printed goes to the stage's log. Habits are looked for in stages
that are not our own, and only where it costs nothing worth mentioning. Runs in ``runtime.loop``.
"""

import os
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO, cast

import numpy as np

from diart_mp.errors import ProtocolError
from diart_mp.messages import AudioRef, FieldValue, Message

_EVERY_S = 1.0  # between two looks at the processes of this one
_AT_ONCE = 8  # looks that are not kept waiting: a wrong stage shows at its first chunks
_SHOWN = 60  # characters of what was printed
_TASKS = Path("/proc/self/task")


class Habits:
    """Watches the process that it is made in from then on; finds processes that the stage has started before, too."""

    def __init__(self, stage: str, older: Iterable[str] = ()) -> None:
        """``older``: ids of processes that are nobody's fault; a stage process has none that its stage has not started."""
        self._stage, self._older = stage, frozenset(older)
        self._looks, self._looked_at = 0, time.monotonic()
        self._told = set[str]()
        self._output = _Listening(sys.stdout)
        sys.stdout = cast(TextIO, self._output)

    def found(self) -> list[str]:
        """What has been found since the last call."""
        new = [text for text in self._find() if text not in self._told]
        self._told.update(new)
        return new

    def close(self) -> None:
        """Leave standard output as it was."""
        sys.stdout = self._output.stream

    def _find(self) -> Iterable[str]:
        if self._output.first:
            said = self._output.first.splitlines()[0][:_SHOWN]
            yield f"{self._stage} prints to standard output ({said!r}); it goes to the log of the stage"
        if self._looks >= _AT_ONCE and time.monotonic() - self._looked_at < _EVERY_S:
            return
        self._looks, self._looked_at = self._looks + 1, time.monotonic()
        if children() - self._older:
            yield f"{self._stage} starts processes; a killed stage leaves them behind"


def check_shapes(message: Message, fields: Mapping[str, FieldValue]) -> None:
    """ProtocolError where a stage puts an array of other dimensions in the place of one, which a later stage would trip over."""
    for name, value in fields.items():
        old = message.fields.get(name)
        wanted = old.shape if isinstance(old, np.ndarray) else (old.count,) if isinstance(old, AudioRef) else None
        if wanted is not None and isinstance(value, np.ndarray) and value.ndim != len(wanted):
            msg = f"it gives {name} of shape {value.shape} in place of {wanted}"
            raise ProtocolError(msg)


class _Listening:
    """Standard output that keeps what is printed first, and is the real one in everything else."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.first = stream, ""

    def write(self, text: str) -> int:
        """Pass ``text`` on."""
        self.first = self.first or text.strip()
        return self.stream.write(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def children() -> set[str]:
    """Process ids of the children of this process; none where the system does not tell."""
    found = set[str]()
    for task in os.listdir(_TASKS) if _TASKS.exists() else ():
        try:
            found |= set((_TASKS / task / "children").read_text().split())
        except OSError:  # the thread has ended, or this kernel does not tell
            continue
    return found
