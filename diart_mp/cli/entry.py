"""The first lines of the ``diart-mp`` program: whatever moment Ctrl-C comes at, nobody sees a traceback.

Imports next to nothing, so that it begins at once. Knows nothing of commands. Runs in the process of the user's command.
"""

import os
import signal
from types import FrameType

INTERRUPTED = 130  # what shells give for a program that Ctrl-C ended


def main() -> None:
    """Entry point of ``diart-mp``: as long as nothing has begun, and once all is done, Ctrl-C just ends the process."""
    ignored = signal.getsignal(signal.SIGINT) == signal.SIG_IGN  # started in the background: Ctrl-C is not for us
    if not ignored:
        signal.signal(signal.SIGINT, _leave)
    try:
        from diart_mp.cli.main import main as begin

        begin()
    finally:
        if not ignored:
            signal.signal(signal.SIGINT, _leave)


def hand_over() -> None:
    """A command begins, which may have something to put away: from now on Ctrl-C is a KeyboardInterrupt in it."""
    if signal.getsignal(signal.SIGINT) is _leave:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _leave(_number: int, _frame: FrameType | None) -> None:
    # No exception: those that come up in the middle of an import are told by Python itself.
    os._exit(INTERRUPTED)
