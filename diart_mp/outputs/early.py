"""Holds back the turns of an early start until the first complete window has said them again.

What is said on incomplete windows is taken back once, by a revision of all that was said (``blocks.warmup``). Files that are
written as the stream goes wait for it: a few seconds, and no more in memory than the turns of these. Knows nothing of files.
Runs in the owner of a stream.
"""

from dataclasses import replace

from diart_mp.outputs.revising import RevisedTurns
from diart_mp.turns import Update


class EarlyTurns:
    """Folds the first updates of one stream into one; those that follow are given on as they are.

    rate: samples per second. patience: samples after the first turn from which no revision is awaited any more (windows
    were lost); 0: nothing is held back.
    """

    def __init__(self, rate: int, patience: int) -> None:
        self._known = RevisedTurns(rate) if patience else None
        self._patience = patience
        self._last: Update | None = None

    def push(self, update: Update) -> Update | None:
        """The next update, or all held ones as one with the turns as they are known by now; None while it is held."""
        if self._known is None:
            return update
        self._known.push(update)
        self._last = update
        turns = self._known.turns()
        late = bool(turns) and update.end - turns[0].start >= self._patience
        return self.finish() if self._known.revised or late else None

    def finish(self) -> Update | None:
        """What is still held."""
        known, last = self._known, self._last
        self._known = self._last = None
        return None if known is None or last is None else replace(last, turns=tuple(known.turns()), revision=None)
