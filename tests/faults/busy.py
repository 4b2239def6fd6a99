"""A pipeline on a machine that is far too busy: however slow its stages are, as long as they work none is killed. A program, not a test.

python -m tests.faults.busy --minutes 10
"""

import argparse
import os
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline, Models, RunSummary
from diart_mp.topology import Job, SourceConfig
from tests.faults.soak import feed

_BURN = "while True: pass"
_PER_CORE = 4  # processes that want each core for themselves
_FAST = 50.0  # times real time: more audio than can be diarized meanwhile


def busy_run(seconds: float, recording: Path | None) -> RunSummary:
    """Diarize for that long beside processes that take all the time they can get, then end the input and finish."""
    read, write = os.pipe()
    threading.Thread(target=feed, args=(write, _FAST * seconds, recording), daemon=True).start()
    job = Job(sources=(SourceConfig(kind="pcm", name="busy", fd=read),), settings=Settings.from_seconds())

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] in ("restart", "note", "error"):
            sys.stdout.write(f"{event['text']}\n")

    with ExitStack() as stack:
        for _ in range(_PER_CORE * (os.cpu_count() or 1)):
            stack.callback(stack.enter_context(subprocess.Popen([sys.executable, "-c", _BURN])).kill)
        pipeline = stack.enter_context(LocalPipeline(job, Models(), on_event=on_event, inherit=(read,)))
        until, ended = time.monotonic() + seconds, False

        def step() -> None:
            nonlocal ended
            if not ended and time.monotonic() > until:
                ended = True
                pipeline.supervisor.drain()

        return pipeline.run(step)


def main() -> None:
    """Run and say how it went; exit code 1 if a stage was restarted or a chunk not diarized."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--recording", type=Path, help="instead of noise")
    arguments = parser.parse_args()
    summary = busy_run(60 * arguments.minutes, arguments.recording)
    sys.stdout.write(
        f"{arguments.minutes:g} minutes beside {_PER_CORE} busy processes per core: {summary.results} chunks, "
        f"{summary.restarts} restarts, {len(summary.failures)} failures\n"
    )
    if summary.restarts or summary.failures or not summary.results:
        raise SystemExit("a stage that worked was not left alone")


if __name__ == "__main__":
    main()
