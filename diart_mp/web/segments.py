"""Segments: the turns of a stream as a client is told of them, each under one id from when it begins until it is final.

A segment is told again, with a higher ``rev``, whenever its end has moved. Final segments are those of the outputs of
a file run, in their order, and numbered (``index``), so that a client that comes back can say how many it has. Ids and
revisions follow from the updates alone: folding a journal again gives the same. Runs in the gateway.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from diart_mp.outputs.events import seconds
from diart_mp.outputs.stitching import Stitcher
from diart_mp.turns import Turn, Update

_KEPT = 20_000  # final segments that a client which comes back can still get: some hours of lively talk


@dataclass(slots=True)
class _Open:
    """A segment that may still grow."""

    id: int
    turn: Turn
    rev: int = 0


class Segments:
    """Folds the updates of one stream. ``count`` segments are final so far; the newest of them are kept as messages."""

    def __init__(self, rate: int) -> None:
        self._rate = rate
        self._stitcher = Stitcher(rate)
        self._open: list[_Open] = []
        self._next_id = 0
        self._finals: deque[dict[str, Any]] = deque(maxlen=_KEPT)
        self.count = 0

    def push(self, update: Update) -> list[dict[str, Any]]:
        """The messages that an update makes: final segments, then those that began or moved, with beginnings and ends of speech."""
        said = self._finish(self._stitcher.push(update))
        return said + self._follow(self._stitcher.open_turns())

    def end(self) -> list[dict[str, Any]]:
        """The stream has ended: what was open is final."""
        return self._finish(self._stitcher.finish())

    def finals(self, after: int) -> list[dict[str, Any]]:
        """The final segments after the first ``after`` ones."""
        return [message for message in self._finals if message["index"] >= after]

    def partials(self) -> list[dict[str, Any]]:
        """The segments that may still grow, as they are now."""
        return [self._message(each.id, each.turn, each.rev, final=False) for each in self._open]

    def _finish(self, turns: Iterable[Turn]) -> list[dict[str, Any]]:
        said = []
        for turn in turns:
            known = self._take(turn)
            message = self._message(known.id, turn, known.rev + 1, final=True)
            message["index"] = self.count
            self.count += 1
            self._finals.append(message)
            said += [] if known.rev else [_speaker("start", message)]
            said += [message, _speaker("end", message)]
        return said

    def _follow(self, turns: Iterable[Turn]) -> list[dict[str, Any]]:
        said, still = [], []
        for turn in turns:
            known = self._take(turn)
            if known.turn != turn or known.rev == 0:
                known.turn, known.rev = turn, known.rev + 1
                message = self._message(known.id, turn, known.rev, final=False)
                said += [_speaker("start", message), message] if known.rev == 1 else [message]
            still.append(known)
        for gone in self._open:
            message = self._retracted(gone)
            said += [message, _speaker("end", message)]
        self._open = still
        return said

    def _take(self, turn: Turn) -> _Open:
        """The open segment that has become ``turn``, or a new one."""
        for known in self._open:
            if known.turn.speaker == turn.speaker and known.turn.start < turn.end and turn.start < known.turn.end:
                self._open.remove(known)
                return known
        self._next_id += 1
        return _Open(self._next_id - 1, turn)

    def _retracted(self, known: _Open) -> dict[str, Any]:
        """Two segments of a speaker have grown into one: the second id is of no more use."""
        return {**self._message(known.id, known.turn, known.rev + 1, final=False), "retracted": True}

    def _message(self, number: int, turn: Turn, rev: int, *, final: bool) -> dict[str, Any]:
        return {
            "type": "segment",
            "id": number,
            "start": seconds(turn.start, self._rate),
            "end": seconds(turn.end, self._rate),
            "speaker": turn.speaker,
            "final": final,
            "rev": rev,
        }


def _speaker(what: str, segment: Mapping[str, Any]) -> dict[str, Any]:
    """``speaker_start`` or ``speaker_end``, for those who want nothing else."""
    return {"type": f"speaker_{what}", "id": segment["id"], "time": segment[what], "speaker": segment["speaker"]}
