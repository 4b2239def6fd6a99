"""A long stream through one pipeline: memory, descriptors, ring and time per chunk must not grow. A program, not a test.

    python -m tests.faults.soak --hours 24 --null     # transport and clustering alone
    python -m tests.faults.soak --hours 2             # with the built-in models

Audio comes through a pipe as fast as it is taken: a recording over and over (or noise), so there is no end to seek to.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

from diart_mp.config import RATE, Settings
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig

NULL = Models(segmentation="diart_mp.models.null:NullSegmentation", embedding="diart_mp.models.null:NullEmbedding")
_LOOKS = 60  # over the whole stream
_WALL = "ms per chunk"  # shown, not judged: what else the machine does is in it, and hardly in the time of its cores
_FEWEST = 3  # looks in a quarter of the stream
_ALLOWED = 0.01  # growth of anything, from the second quarter to the last


def feed(descriptor: int, seconds: float, recording: Path | None) -> None:
    """Write ``seconds`` of 16-bit samples into a pipe and close it."""
    if recording is None:
        block = np.random.default_rng(0).integers(-3000, 3000, RATE, np.int16)
    else:
        block = soundfile.read(recording, dtype="int16")[0]
    left = round(seconds * RATE)
    with os.fdopen(descriptor, "wb") as pipe:
        while left > 0:
            pipe.write(block[:left].tobytes())
            left -= len(block)


class Watch:
    """Looks at the stages now and then."""

    def __init__(self, pipeline: LocalPipeline, results: Callable[[], int], every: int) -> None:
        self._pipeline, self._results, self._every = pipeline, results, every
        self._last, self._cpu_s = (0, time.monotonic()), 0.0
        self.rows: list[dict[str, float]] = []

    def __call__(self) -> None:
        """Note down what there is, if enough results came since the last look."""
        done, since = self._results() - self._last[0], time.monotonic() - self._last[1]
        if done < self._every:
            return
        self._last = (self._results(), time.monotonic())
        row = {_WALL: 1000 * since / done, "ring MB": self._ring_mb()}
        processes = {**self._pipeline.supervisor.pids(), "supervisor": os.getpid()}
        cpu_s = 0.0
        for name, pid in processes.items():
            process = psutil.Process(pid)
            cpu_s += sum(process.cpu_times()[:2])
            row[f"{name} MB"] = process.memory_info().rss / 1e6
            row[f"{name} descriptors"] = process.num_fds()
        row["CPU ms per chunk"], self._cpu_s = 1000 * (cpu_s - self._cpu_s) / done, cpu_s
        self.rows.append(row)
        sys.stdout.write(f"{self._last[0]:8d} " + " ".join(f"{key} {value:.1f};" for key, value in row.items()) + "\n")
        sys.stdout.flush()

    def _ring_mb(self) -> float:
        return (
            sum(ring.stat().st_size for ring in Path("/dev/shm").glob(f"diart-mp-{self._pipeline.directory.name}-*"))
            / 1e6
        )

    def growth(self) -> dict[str, float]:
        """By how much each figure's median grew from the second quarter to the last."""
        quarter = len(self.rows) // 4
        if quarter < _FEWEST:
            raise SystemExit(f"only {len(self.rows)} looks at the stages: too short to say anything")
        early, late = self.rows[quarter : 2 * quarter], self.rows[-quarter:]
        return {
            key: float(np.median([row[key] for row in late]) / np.median([row[key] for row in early]) - 1)
            for key in self.rows[0]
        }


def soak(seconds: float, models: Models, recording: Path | None) -> dict[str, float]:
    """Run the stream and return the growth of each figure."""
    read, write = os.pipe()
    threading.Thread(target=feed, args=(write, seconds, recording), daemon=True).start()
    job = Job(sources=(SourceConfig(kind="pcm", name="soak", fd=read),), settings=Settings.from_seconds())
    results = [0]

    def on_event(event: dict[str, Any]) -> None:
        results[0] += event["event"] == "result"

    with LocalPipeline(job, models, on_event=on_event, inherit=(read,)) as pipeline:
        watch = Watch(pipeline, lambda: results[0], every=max(1, round(2 * seconds / _LOOKS)))
        summary = pipeline.run(watch)
    sys.stdout.write(f"{summary}\n")
    if summary.restarts or summary.failures:  # what is new has not grown yet
        raise SystemExit("a stage was restarted, or a chunk was not diarized")
    expected = Settings.from_seconds()
    if summary.results < seconds * RATE / expected.step - expected.duration / expected.step:
        raise SystemExit("results are missing")
    return watch.growth()


def main() -> None:
    """Soak and say what grew; exit code 1 if anything did by more than 1 %, or if the stream was not whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--null", action="store_true", help="models that compute nothing")
    parser.add_argument("--recording", type=Path, help="instead of noise")
    arguments = parser.parse_args()
    grown = soak(3600 * arguments.hours, NULL if arguments.null else Models(), arguments.recording)
    for key, value in grown.items():
        sys.stdout.write(f"{key}: {100 * value:+.2f} %\n")
    if any(not value <= _ALLOWED for key, value in grown.items() if key != _WALL):  # what is no number is no success
        raise SystemExit("something grew by more than 1 %")


if __name__ == "__main__":
    main()
