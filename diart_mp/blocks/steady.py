"""A name that is new in mid-speech is believed once a second region has it.

The segmentation may take the second half of what one person says for somebody else, and a voice in some window may seem to be
nobody known; with the next window that is over, but a label has changed twice by then. So where a name that was hardly heard yet begins
exactly where a region ends and somebody talks up to there, what he says goes on under the old name for one region. When
real people change, they seldom do at the end of a region. At the beginning of a stream all are new, and names are believed
at once. One object per stream in the clustering stage; knows nothing of scores, voices or messages.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diart_mp.config import Settings

KNOWN_S = 3.0
"""Seconds for which a name was said from which it is known."""

_SETTLED_S = 10.0  # of speech in a stream after which most who take part have been heard
_TOUCH_S = 0.05  # turns within so much of the end of a region reach it: frames do not fall on it

Turn = tuple[int, int, int]


class SteadyNames:
    """Looks at the turns of one region after another, in samples, and keeps known names a little longer."""

    def __init__(self, settings: Settings) -> None:
        self._rate = settings.rate
        self._said = np.zeros(settings.max_speakers, np.int64)  # samples for which each name was said
        self._end = 0  # of the last region
        self._open: frozenset[int] = frozenset()  # names that were said up to there
        self._doubted: frozenset[int] = frozenset()  # names that were not said in the last region, but would have been

    def __call__(self, start: int, end: int, turns: Sequence[Turn]) -> tuple[Turn, ...]:
        """The turns (start, end, name) to say in the region [start, end)."""
        touch = round(_TOUCH_S * self._rate)
        goes_on = sorted(self._open - {name for *_, name in turns}) if self._settled and start == self._end else []
        believed = self._open | self._doubted
        doubted, said = set[int](), list[Turn]()
        for first, last, name in turns:
            if goes_on and first <= start + touch and name not in believed and self._said[name] < KNOWN_S * self._rate:
                doubted.add(name)
                said.append((first, last, goes_on.pop(0)))
            else:
                said.append((first, last, name))
        for first, last, name in said:
            self._said[name] += last - first
        self._open = frozenset(name for _, last, name in said if last >= end - touch)
        self._end, self._doubted = end, frozenset(doubted)
        return tuple(sorted(said))

    def rename(self, renamed: Mapping[int, int]) -> None:
        """From now on names are others: {before: now}, all at once."""
        said = np.zeros_like(self._said)
        np.add.at(said, [renamed.get(name, name) for name in range(len(said))], self._said)
        self._said = said
        self._open = frozenset(renamed.get(name, name) for name in self._open)

    @property
    def _settled(self) -> bool:
        return bool(self._said.sum() >= _SETTLED_S * self._rate)

    def state(self) -> dict[str, Any]:
        """All that is remembered, as one flat map of arrays and integers whose names begin with ``steady_``."""
        return {
            "steady_said": self._said.copy(),
            "steady_end": self._end,
            "steady_open": np.array(sorted(self._open), np.int64),
            "steady_doubted": np.array(sorted(self._doubted), np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave; raises KeyError or ValueError if it is not such a state."""
        said = np.array(state["steady_said"], np.int64)
        if said.shape != self._said.shape or (said < 0).any():
            msg = f"times {said.tolist()} are no state of {len(self._said)} names"
            raise ValueError(msg)
        self._said, self._end = said, int(state["steady_end"])
        self._open, self._doubted = (
            frozenset(np.array(state[f"steady_{which}"], np.int64).tolist()) for which in ("open", "doubted")
        )
