"""The owner in a thread: for processes whose main thread has something else to do (a gateway's clients, a user's program).

Whatever concerns streams happens in the owner's thread; other threads hand it functions with ``call`` and get events through the
``report`` of their streams, which is called in the owner's thread and must not wait. Knows nothing of who the others are.
"""

import threading
import time
from collections.abc import Callable

from diart_mp.runtime.owner import Owner

_JOIN_S = 5.0  # that the thread may take to end
_STALLED_S = 3.0  # without a turn of its loop before an owner counts as stalled


class HostedOwner:
    """Runs ``owner`` in a thread of its own from ``start`` to ``stop``.

    ``on_drain`` and ``on_end`` are called in that thread: when the supervisor asks for an end of all streams, and when the loop
    has ended, with the exception that ended it or None.
    """

    def __init__(
        self, owner: Owner, *, on_drain: Callable[[], None], on_end: Callable[[BaseException | None], None]
    ) -> None:
        self.owner = owner
        self._on_drain, self._on_end = on_drain, on_end
        self._thread = threading.Thread(target=self._run, name="owner", daemon=True)

    def start(self) -> None:
        """Begin to turn."""
        self.owner.turned_at = time.monotonic()
        self._thread.start()

    def call(self, function: Callable[[], None]) -> bool:
        """Have the owner's thread call ``function`` soon; False if it has ended."""
        return self._thread.is_alive() and self.owner.call(function)

    @property
    def alive(self) -> bool:
        """Whether the loop turns: neither ended nor stalled."""
        return self._thread.is_alive() and time.monotonic() - self.owner.turned_at < _STALLED_S

    def stop(self) -> None:
        """End the loop and close the owner; its streams are closed where they are. Idempotent."""
        if self._thread.is_alive():
            self.owner.call(self._stop)
            self._thread.join(_JOIN_S)
        self.owner.close()

    def _stop(self) -> None:
        self.owner.stopped = True

    def _run(self) -> None:
        try:
            self.owner.serve(self._on_drain)
        except BaseException as error:  # noqa: BLE001  # a thread has nobody above it to tell
            self._on_end(error)
        else:
            self._on_end(None)
