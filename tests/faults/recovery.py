"""How long it is from the kill of a stage to the next result, with the built-in models. A program, not a test.

    python -m tests.faults.recovery --kills 9 --recording FILE

What was already behind the killed stage comes out while that starts again, so a result counts only once the new process is ready.
"""

import argparse
import os
import signal
import statistics
import sys
import threading
import time
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig
from tests.faults.soak import feed

ALLOWED_S = {"segmentation": 2.5, "embedding": 2.5, "clustering": 1.5}
_BETWEEN = 6  # results between the recovery from one kill and the next
_LONG_S = 36_000.0  # of audio: more than is diarized meanwhile


class Killer:
    """Kills one stage after the other and measures until results come again."""

    def __init__(self, kills: int) -> None:
        self._due = [list(ALLOWED_S)[number % len(ALLOWED_S)] for number in range(kills)]
        self._results = self._since = 0
        self._victim, self._pid, self._at, self._back = "", 0, 0.0, False
        self._over = False
        self.took: dict[str, list[float]] = {stage: [] for stage in ALLOWED_S}

    def on_event(self, event: dict[str, Any]) -> None:
        """Note down a result."""
        if event["event"] != "result":
            return
        self._results += 1
        if self._victim and self._back:
            seconds = time.monotonic() - self._at
            self.took[self._victim].append(seconds)
            sys.stdout.write(f"{self._victim}: {seconds:.2f} s\n")
            sys.stdout.flush()
            self._victim, self._since = "", self._results

    def step(self, pipeline: LocalPipeline) -> None:
        """Kill who is next, if the one before has recovered; in the end, end the input."""
        pids, ready = pipeline.supervisor.pids(), pipeline.supervisor.ready()
        if self._victim:
            self._back = self._victim in ready and pids[self._victim] != self._pid
        elif self._due and self._results - self._since >= _BETWEEN and self._due[0] in ready:
            self._victim, self._back = self._due.pop(0), False
            self._pid, self._at = pids[self._victim], time.monotonic()
            os.kill(self._pid, signal.SIGKILL)
        elif not self._due and not self._over:
            self._over = True
            pipeline.supervisor.drain()


def main() -> None:
    """Kill and say how long it took; exit code 1 if the median of a stage is above what is allowed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=9)
    parser.add_argument("--recording", type=Path, help="instead of noise")
    arguments = parser.parse_args()
    read, write = os.pipe()
    threading.Thread(target=feed, args=(write, _LONG_S, arguments.recording), daemon=True).start()
    job = Job(sources=(SourceConfig(kind="pcm", name="talk", fd=read),), settings=Settings.from_seconds())
    killer = Killer(arguments.kills)
    with LocalPipeline(job, Models(), on_event=killer.on_event, inherit=(read,)) as pipeline:
        summary = pipeline.run(lambda: killer.step(pipeline))
    slow = False
    for stage, took in killer.took.items():
        if took:
            median = statistics.median(took)
            slow |= median > ALLOWED_S[stage]
            sys.stdout.write(
                f"{stage}: median {median:.2f} s, worst {max(took):.2f} s of {len(took)}; allowed {ALLOWED_S[stage]} s\n"
            )
    if slow or summary.failures or summary.restarts < arguments.kills:
        raise SystemExit("recovery is too slow, or something was lost")


if __name__ == "__main__":
    main()
