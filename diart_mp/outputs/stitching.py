"""Final turns out of updates: what a region cut apart is joined, sorted, and given out as soon as it cannot change.

The rule is diart's ``Annotation.support(0.05)`` (sinks.py:59-88): turns of one speaker that overlap, or with less than
50 ms between them, are one turn. diart applies it to all that was ever said; here it is applied as the stream goes,
on integer samples, and only what may still change is kept. Knows nothing of files. Runs in the owner of a stream and
in the views.
"""

import heapq

from diart_mp.turns import Turn, Update

JOIN_GAP_MS = 50
"""Turns of one speaker with a gap strictly shorter than this are one turn."""

EARLY_START_MS = 100
"""A turn may start up to this long before the region of its update.

diart's loose crop begins up to one frame early: 17 ms for the built-in segmentation. This leaves room for others.
"""


class Stitcher:
    """Joins the turns of one stream's updates.

    Memory is what is open or held back, no matter how long the stream is. A turn that starts even earlier than
    ``EARLY_START_MS`` before its region is not lost, but it may come after turns that sort behind it.
    """

    def __init__(self, rate: int) -> None:
        """``rate``: samples per second of the stream's clock."""
        self._rate = rate
        self._open: dict[str, list[Turn]] = {}  # by speaker; no two of a speaker can be joined
        self._closed: list[Turn] = []  # heap: cannot grow any more, but something before them still can

    def push(self, update: Update) -> list[Turn]:
        """Fold the next update in (by ``seq``); returns the turns that became final, sorted by start, end and speaker.

        The turns of all calls one after the other are sorted too. What lies before 0 is cut off (left padding).
        """
        for turn in update.turns:
            self._add(turn)
        self._close(update.end)
        return self._release()

    def open_turns(self) -> list[Turn]:
        """The turns that were not given out yet: they may grow, or wait for an earlier one that may. Sorted."""
        return sorted([*self._closed, *self._all_open()])

    def finish(self) -> list[Turn]:
        """The stream has ended: everything that is left, sorted."""
        rest = self.open_turns()
        self._open.clear()
        self._closed.clear()
        return rest

    def _all_open(self) -> list[Turn]:
        return [turn for turns in self._open.values() for turn in turns]

    def _add(self, turn: Turn) -> None:
        start, end = max(turn.start, 0), turn.end
        if end <= start:
            return
        apart = []
        for other in self._open.get(turn.speaker, []):
            gap = max(start - other.end, other.start - end)
            if gap * 1000 < JOIN_GAP_MS * self._rate:
                start, end = min(start, other.start), max(end, other.end)
            else:
                apart.append(other)
        self._open[turn.speaker] = [*apart, Turn(start, end, turn.speaker)]

    def _close(self, position: int) -> None:
        """Set aside what no turn of a region that starts at ``position`` can reach."""
        reach = (JOIN_GAP_MS + EARLY_START_MS) * self._rate
        for turn in self._all_open():
            if (position - turn.end) * 1000 >= reach:
                heapq.heappush(self._closed, turn)
                self._open[turn.speaker].remove(turn)
        self._open = {speaker: turns for speaker, turns in self._open.items() if turns}

    def _release(self) -> list[Turn]:
        first_open = min(self._all_open(), default=None)
        final = []
        while self._closed and (first_open is None or self._closed[0] < first_open):
            final.append(heapq.heappop(self._closed))
        return final
