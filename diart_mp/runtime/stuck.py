"""Stages that nobody here watches end by themselves when they work on one batch for too long, so that whatever keeps them running
(systemd, a cluster, a provisioner) starts them again and their owner sends again what they had.

The supervisor does this for the stages that it has started. A process that is stopped cannot see its own state. Runs in stages.
"""

import faulthandler
import os
import sys
import threading
import time

from diart_mp.runtime.control import Progress

_LOOK_S = 1.0
_STUCK = 4  # exit code


def end_when_stuck(name: str, progress: Progress, stuck_s: float) -> None:
    """End this process, with a line and the places where its threads are, once a batch takes more than ``stuck_s``."""

    def look() -> None:
        while progress.busy_s() <= stuck_s:
            time.sleep(min(_LOOK_S, stuck_s / 4))
        faulthandler.dump_traceback(all_threads=True)
        sys.stderr.write(
            f"diart-mp {name}: has worked on one batch for more than {stuck_s:g} s (stuck_s), so it ends\n"
        )
        sys.stderr.flush()
        os._exit(_STUCK)

    threading.Thread(target=look, name="watch", daemon=True).start()
