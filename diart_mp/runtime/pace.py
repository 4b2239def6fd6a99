"""How a live stream keeps up with a pipeline that is too slow for it: fewer chunks at a time, and only the newest ones.

Windows overlap by most of their length, so chunks can be left out (a larger step) without leaving out any audio. How long
the pipeline takes for a chunk is measured from the results themselves; a hiccup (a stage that was restarted) is caught up with
rather than shed, as long as it is short, and after an outage (a cut network) no audio is given up either. Pure arithmetic; the clock is the caller's. Runs in owners.
"""

from collections import deque

from diart_mp.config import Settings

_BUDGET_S = 1.0  # of processing that a live stream may have queued in front of it
_PATIENCE_S = 0.75  # that the oldest chunk may be unanswered before the next one has to wait (at least 1.5 steps)
_MEMORY = 0.5  # weight of the newest measurement
_OUTAGE_S = 30.0  # of audio that may wait before any is given up, where the pipeline can catch up with it
_CATCH_UP = 4  # times as fast as the clock: what counts as that
_HICCUP = 0.5  # of a window: audio that may wait before chunks are skipped although the pipeline is fast enough


class Pace:
    """Measures the time per chunk of one stream and says whether to send another one, and when to skip."""

    def __init__(self, settings: Settings) -> None:
        self._step, self._hiccup = settings.step, round(_HICCUP * settings.duration)
        self._window_s = settings.duration / settings.rate
        self._step_s = settings.step / settings.rate
        self._patience_s = max(_PATIENCE_S, 1.5 * self._step_s)
        self._per_chunk_s = 0.0
        self._sent: deque[float] = deque()  # when each unanswered chunk was sent, monotonic s
        self._since = 0.0  # from when on the pipeline has been busy with the oldest of them

    def may_send(self, now: float) -> bool:
        """Whether another chunk may be sent: not too many are on the way, and none of them for too long."""
        if not self._sent:
            return True
        return (len(self._sent) + 1) * self._per_chunk_s <= _BUDGET_S and now - self._sent[0] <= self._patience_s

    def sent(self, now: float) -> None:
        """A chunk was sent."""
        if not self._sent:
            self._since = now
        self._sent.append(now)

    def answered(self, now: float) -> None:
        """The result of the oldest chunk came."""
        if self._sent:
            self._sent.popleft()
            self._per_chunk_s += _MEMORY * (now - self._since - self._per_chunk_s)
            self._since = now

    def sent_again(self, now: float) -> None:
        """All that was on its way has been sent again: what took so long was not the pipeline's work."""
        self._sent = deque([now] * len(self._sent))
        self._since = now

    @property
    def windows_behind(self) -> int:
        """How many whole windows of audio may wait before any is given up."""
        can_catch_up = _CATCH_UP * self._per_chunk_s <= self._window_s
        return max(1, round(_OUTAGE_S / self._window_s)) if can_catch_up else 1

    def is_behind(self, backlog: int) -> bool:
        """Whether to skip to the newest window, with ``backlog`` samples waiting behind the next one."""
        too_slow = self._per_chunk_s > self._step_s
        return backlog >= (self._step if too_slow else self._hiccup)
