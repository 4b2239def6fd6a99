"""How a live stream keeps up with a pipeline that is too slow for it: fewer chunks at a time, and only the newest ones.

Windows overlap by most of their length, so chunks can be left out (a larger step) without leaving out any audio. How long
the pipeline takes for a chunk is measured from the results themselves; a hiccup (a stage that was restarted) is caught up with
rather than shed, as long as it is short. Pure arithmetic; the clock is the caller's. Runs in owners.
"""

from diart_mp.config import Settings

_BUDGET_S = 1.0  # of processing that a live stream may have queued in front of it
_MEMORY = 0.5  # weight of the newest measurement
_HICCUP = 0.5  # of a window: audio that may wait before chunks are skipped although the pipeline is fast enough


class Pace:
    """Measures the time per chunk of one stream and says how many chunks to have on the way, and when to skip."""

    def __init__(self, settings: Settings) -> None:
        self._step_s = settings.step / settings.rate
        self._step, self._patience = settings.step, round(_HICCUP * settings.duration)
        self._per_chunk_s = 0.0
        self._last: float | None = None  # monotonic s of the last result, if the pipeline has been busy since

    @property
    def limit(self) -> int:
        """How many chunks may be on the way."""
        if self._per_chunk_s <= 0:
            return 1_000_000
        return max(1, int(_BUDGET_S / self._per_chunk_s))

    def answered(self, now: float, *, still_waiting: bool) -> None:
        """A result came at ``now`` (monotonic s); ``still_waiting``: more chunks are on the way."""
        if self._last is not None:
            self._per_chunk_s += _MEMORY * (now - self._last - self._per_chunk_s)
        self._last = now if still_waiting else None

    def sent(self, now: float) -> None:
        """A chunk was sent; if none was on the way, the time until its result counts from here."""
        if self._last is None:
            self._last = now

    def is_behind(self, backlog: int) -> bool:
        """Whether to skip to the newest window, with ``backlog`` samples waiting behind the next one."""
        too_slow = self._per_chunk_s > self._step_s
        return backlog >= (self._step if too_slow else self._patience)
