"""A long stream through one pipeline: memory, descriptors, ring and time per chunk must not grow. A program, not a test.

    python -m tests.faults.soak --hours 200 --null    # transport and clustering alone
    python -m tests.faults.soak --hours 2             # with the built-in models

Audio comes through a pipe as fast as it is taken: a recording over and over (or noise), so there is no end to seek to.
What a chunk costs depends on what else the machine does, by more than what is looked for. So for its last tenth the old
stream runs beside one that has just begun, in a pipeline of its own, and the two are compared. Two that are equally old
differ by up to 2 %, so it takes a week of audio to tell 1 % a day from nothing. A leak of 2 bytes a chunk is found: it
takes more than one step of memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import soundfile

from diart_mp.config import RATE, Settings
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig

NULL = Models(segmentation="diart_mp.models.null:NullSegmentation", embedding="diart_mp.models.null:NullEmbedding")
_QUARTERS_APART = 0.5  # of the stream lies between the quarters that are compared
_LOOKS = 120  # over the whole stream
_BESIDE = 0.1  # of the stream runs beside a young one
# Over time both are shown and not judged; of two pipelines side by side the second is: cores they share as it comes.
_WALL, _CPU = "ms per chunk", "CPU ms per chunk"
_AT = "at"  # monotonic s, of all processes
_FEWEST = 3  # looks in a quarter of the stream
_ALLOWED = 0.01  # growth of anything per day, or over the whole of a shorter stream
_ARENA_MB = (
    1.05  # Python takes memory from the system in such steps; one more is no growth yet (free lists fill for minutes)
)
_DAY_S = 24 * 3600.0


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
    """Looks at the stages now and then, every ``every`` results; ``late`` is called once, after so many of them."""

    def __init__(
        self, pipeline: LocalPipeline, results: Callable[[], int], every: int, late: tuple[int, Callable[[], None]]
    ) -> None:
        self._pipeline, self._results, self._every = pipeline, results, every
        self._last, self._cpu_s = (0, time.monotonic()), 0.0
        self._late_at, self._late = late
        self.rows: list[dict[str, float]] = []

    def __call__(self) -> None:
        """Note down what there is, if enough results came since the last look."""
        done, now = self._results() - self._last[0], time.monotonic()
        if done < self._every:
            return
        if self._last[0] < self._late_at <= self._results():
            self._late()
        row = {_AT: now, _WALL: 1000 * (now - self._last[1]) / done, "ring MB": self._ring_mb()}
        self._last = (self._results(), now)
        processes = {**self._pipeline.supervisor.pids(), "supervisor": os.getpid()}
        cpu_s = 0.0
        for name, pid in processes.items():
            process = psutil.Process(pid)
            cpu_s += sum(process.cpu_times()[:2])
            row[f"{name} MB"] = process.memory_info().rss / 1e6
            row[f"{name} descriptors"] = process.num_fds()
        row[_CPU], self._cpu_s = 1000 * (cpu_s - self._cpu_s) / done, cpu_s
        self.rows.append(row)

    def _ring_mb(self) -> float:
        return (
            sum(ring.stat().st_size for ring in Path("/dev/shm").glob(f"diart-mp-{self._pipeline.directory.name}-*"))
            / 1e6
        )


def growth(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """By how much each figure's median grew from the second quarter to the last."""
    quarter = len(rows) // 4
    if quarter < _FEWEST:
        raise SystemExit(f"only {len(rows)} looks at the stages: too short to say anything")
    early, late = rows[quarter : 2 * quarter], rows[-quarter:]
    return {
        key: float(np.median([row[key] for row in late]) / np.median([row[key] for row in early]) - 1)
        for key in rows[0]
        if key != _AT
    }


def slower(old: Sequence[dict[str, float]], young: Sequence[dict[str, float]]) -> dict[str, float]:
    """By how much a chunk of the old stream costs more than one of the young stream at the same time, once that is warm."""
    since, until = young[len(young) // 4][_AT], min(old[-1][_AT], young[-1][_AT])
    both = [[row for row in rows if since < row[_AT] <= until] for rows in (old, young)]
    if min(map(len, both)) < _FEWEST:
        raise SystemExit(f"only {min(map(len, both))} looks at the two streams side by side: too few to say anything")
    medians = [{key: float(np.median([row[key] for row in rows])) for key in (_WALL, _CPU)} for rows in both]
    return {f"{key}, beside a young stream": medians[0][key] / medians[1][key] - 1 for key in (_WALL, _CPU)}


def soak(
    seconds: float, models: Models, recording: Path | None, every: int, late: Callable[[], None]
) -> list[dict[str, float]]:
    """Run the stream and return what was seen; ``late`` is called before the last part begins."""
    read, write = os.pipe()
    threading.Thread(target=feed, args=(write, seconds, recording), daemon=True).start()
    settings = Settings.from_seconds()
    job = Job(sources=(SourceConfig(kind="pcm", name="soak", fd=read),), settings=settings)
    results = [0]

    def on_event(event: dict[str, Any]) -> None:
        results[0] += event["event"] == "result"

    expected = seconds * RATE / settings.step
    with LocalPipeline(job, models, on_event=on_event, inherit=(read,)) as pipeline:
        watch = Watch(pipeline, lambda: results[0], every, (round((1 - _BESIDE) * expected), late))
        summary = pipeline.run(watch)
    if summary.restarts or summary.failures:  # what is new has not grown yet
        raise SystemExit("a stage was restarted, or a chunk was not diarized")
    if summary.results < expected - settings.duration / settings.step:
        raise SystemExit("results are missing")
    return watch.rows


def main() -> None:
    """Soak and say what grew; exit code 1 if anything did by more than 1 % (a day), or if the stream was not whole."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=200.0)
    parser.add_argument("--null", action="store_true", help="models that compute nothing")
    parser.add_argument("--recording", type=Path, help="instead of noise")
    parser.add_argument("--every", type=int, help="chunks between looks at a stream that is itself beside another one")
    arguments = parser.parse_args()
    seconds, models = 3600 * arguments.hours, NULL if arguments.null else Models()
    if arguments.every:
        rows = soak(seconds, models, arguments.recording, arguments.every, lambda: None)
        sys.stdout.write(json.dumps(rows))
        return
    every = max(1, round(2 * seconds / _LOOKS))
    again = [*sys.argv[1:], f"--hours={_BESIDE * arguments.hours}", f"--every={every}"]
    with tempfile.TemporaryFile("w+") as said:
        beside: list[subprocess.Popen[bytes]] = []

        def start_beside() -> None:
            beside.append(subprocess.Popen([sys.executable, "-m", "tests.faults.soak", *again], stdout=said))

        rows = soak(seconds, models, arguments.recording, every, start_beside)
        if beside[0].wait():
            raise SystemExit("the stream beside the old one failed")
        said.seek(0)
        young = json.load(said)
    for number in range(0, len(rows), max(1, len(rows) // 12)):
        sys.stdout.write("; ".join(f"{key} {value:.4g}" for key, value in rows[number].items()) + "\n")
    days = seconds / _DAY_S
    grown = {key: value / max(1.0, _QUARTERS_APART * days) for key, value in growth(rows).items()}
    grown |= {key: value / max(1.0, (1 - _BESIDE) * days) for key, value in slower(rows, young).items()}
    for key, value in grown.items():
        sys.stdout.write(f"{key}: {100 * value:+.2f} %{' a day' if days > 1 else ''}\n")
    last = rows[-1]
    steps = {key: _ARENA_MB / last[key] / max(1.0, _QUARTERS_APART * days) for key in last if key.endswith(" MB")}
    judged = {key: value for key, value in grown.items() if key != _CPU and not key.startswith(_WALL)}
    if not all(value <= max(_ALLOWED, steps.get(key, 0.0)) for key, value in judged.items()):  # no number, no success
        raise SystemExit("something grew by more than 1 %, and memory by more than a step of 1 MB")


if __name__ == "__main__":
    main()
