"""Where the time of chunks went, over hosts whose clocks have nothing to do with each other.

A trace has, per stage, when a chunk arrived, was begun and was done, each by the clock of that stage's host. Only times of one entry are
subtracted from each other: that is what the stage took and how long the chunk waited there. From capture to result is measured by
the owner alone. What is left is the way: all links together, with what waits in them. Runs where results are counted.
"""

from collections.abc import Sequence
from typing import Any

_NS = 1e6  # per ms
_WAY = "way"


class Shares:
    """Means over all results so far, in ms."""

    def __init__(self) -> None:
        self._count = 0
        self._sums: dict[str, dict[str, float]] = {}

    def add(self, trace: Sequence[Sequence[Any]], latency_ms: float) -> None:
        """One result: its trace, and the time from its last sample to it, by the owner's clock. A broken trace is left out."""
        try:
            (owner, _, captured, sent), *hops = trace
            shares = {str(owner): {"waited": (sent - captured) / _NS, "worked": 0.0}}
            for stage, _, arrived, started, done, _ in hops:
                shares[str(stage)] = {"waited": (started - arrived) / _NS, "worked": (done - started) / _NS}
        except (TypeError, ValueError):
            return
        spent = sum(sum(share.values()) for share in shares.values())
        shares[_WAY] = {"waited": max(0.0, latency_ms - spent), "worked": 0.0}
        self._count += 1
        for name, share in shares.items():
            sums = self._sums.setdefault(name, {"waited": 0.0, "worked": 0.0})
            for what, value in share.items():
                sums[what] += value

    def means(self) -> dict[str, dict[str, float]]:
        """By stage, and for ``way``: ms that a chunk ``waited`` and was ``worked`` on; empty without results."""
        return {
            name: {what: round(value / self._count, 2) for what, value in sums.items()}
            for name, sums in self._sums.items()
        }
