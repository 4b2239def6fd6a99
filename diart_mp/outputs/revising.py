"""The turns of a stream as they are known by now: what was said as it went, with all revisions folded in.

Knows nothing of files. Runs in the owner of a stream and in the command.
"""

from collections.abc import Iterable

from diart_mp.outputs.stitching import JOIN_GAP_MS
from diart_mp.turns import Revision, Turn, Update


class RevisedTurns:
    """Folds the updates of one stream, in order. Memory is the turns of the whole stream, joined where they meet.

    ``revised``: whether any update took something back; otherwise the turns are those of ``Stitcher``.
    """

    def __init__(self, rate: int) -> None:
        """``rate``: samples per second of the stream's clock."""
        self._rate = rate
        self._settled: list[Turn] = []  # from before the last revision's start
        self._recent: list[Turn] = []
        self.revised = False

    def push(self, update: Update) -> None:
        """Fold the next update in."""
        self._recent.extend(turn for turn in update.turns if turn.end > max(turn.start, 0))
        if update.revision is not None:
            self._revise(update.revision)

    def turns(self) -> list[Turn]:
        """All turns by now: those of one speaker that are less than 50 ms apart are one. Sorted."""
        return self._joined([*self._settled, *self._recent])

    def _revise(self, revision: Revision) -> None:
        self.revised = True
        names = dict(revision.renamed)
        if names:
            self._settled = [_renamed(turn, names) for turn in self._settled]
        before = [
            _renamed(Turn(turn.start, min(turn.end, revision.start), turn.speaker), names)
            for turn in self._recent
            if turn.start < revision.start
        ]
        self._settled += self._joined(before)
        self._recent = list(revision.turns)

    def _joined(self, turns: Iterable[Turn]) -> list[Turn]:
        joined: dict[str, list[Turn]] = {}
        for turn in sorted(turns):
            own = joined.setdefault(turn.speaker, [])
            start = max(turn.start, 0)
            if own and (start - own[-1].end) * 1000 < JOIN_GAP_MS * self._rate:
                own[-1] = Turn(own[-1].start, max(own[-1].end, turn.end), turn.speaker)
            else:
                own.append(Turn(start, turn.end, turn.speaker))
        return sorted(turn for own in joined.values() for turn in own)


def _renamed(turn: Turn, names: dict[str, str]) -> Turn:
    now = names.get(turn.speaker)
    return turn if now is None else Turn(turn.start, turn.end, now)
