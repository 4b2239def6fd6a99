"""What a chunk of the built-in models costs on each engine, and how far its numbers are from torch: the grounds of the defaults.

    python -m benchmarks.sessions [--chunks N] [--recording FILE] [--json]

Processor time per chunk of 5 s, one thread, in batches of 1 and of 8, the least of three rounds. Windows lie 5 s apart, so that nothing is
remembered from one to the next: consecutive windows of a stream cost less than what is shown here.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.file import FileSource
from diart_mp.evaluation.bench_audio import sample_recording, with_length
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.precision import Precision

_ENGINES = {"torch": Precision.REFERENCE, "OpenVINO float32": Precision.EXACT, "OpenVINO bfloat16": Precision.FAST}
_THREADS = "OPENBLAS_NUM_THREADS"
_BATCHES = (1, 8)
_ROUNDS = 3
_RATE, _WINDOW = 16_000, 80_000

Floats = NDArray[np.float32]
Run = Callable[[Floats], Floats]


@dataclass(frozen=True, slots=True)
class Row:
    """One model on one engine: ms of processor time per chunk by size of batch, and the largest difference from torch."""

    model: str
    engine: str
    ms: dict[int, float]
    difference: float

    def line(self) -> str:
        """The line of the table."""
        times = "".join(f"{each:16.1f}" for each in self.ms.values())
        return f"{self.model:<14}{self.engine:<20}{times}{self.difference:14.1e}"


def cost_ms(run: Run, windows: Floats, batch: int) -> float:
    """Processor time per window, the least of some rounds: what else runs on the machine only ever adds to it."""
    rounds = []
    for number in range(_ROUNDS):
        fresh = windows * np.float32(1 - 0.01 * batch - 0.001 * number)  # what has been seen before is remembered
        begun = time.process_time()
        for first in range(0, len(windows), batch):
            run(fresh[first : first + batch])
        rounds.append(time.process_time() - begun)
    return 1000 * min(rounds) / len(windows)


def runs(model: str, precision: Precision) -> Run:
    """A model as a function of windows; everybody talks all the time to the embedding."""
    if model == "segmentation":
        return load_segmentation("builtin", precision=precision)
    embedding = load_embedding("builtin", precision=precision)

    def embed(windows: Floats) -> Floats:
        return embedding(windows, np.ones((len(windows), 293, 3), np.float32), np.ones((len(windows), 3), np.bool_))

    return embed


def rows(windows: Floats) -> Iterator[Row]:
    """All models on all engines."""
    for model in ("segmentation", "embedding"):
        torch: Floats | None = None
        for engine, precision in _ENGINES.items():
            run = runs(model, precision)
            found = np.concatenate([run(windows[:1]), run(windows[1:])])  # and whatever is set up at the first call
            torch = found if torch is None else torch
            costs = {batch: cost_ms(run, windows, batch) for batch in _BATCHES}
            yield Row(model, engine, costs, float(np.abs(found - torch).max()))


def read(path: Path, count: int) -> Floats:
    """Windows one behind the other."""
    with FileSource(path, rate=_RATE) as source:
        blocks = []
        while (block := source.read()) is not None:
            blocks.append(block)
    return np.concatenate(blocks)[: count * _WINDOW].reshape(-1, _WINDOW)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run and print."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--chunks", type=int, default=16, help="at least 2 (default: %(default)s)")
    parser.add_argument("--recording", type=Path, help="default: the one that pyannote.audio ships")
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list")
    options = parser.parse_args(arguments)
    if options.chunks < 2:
        parser.error("at least 2 chunks")
    with tempfile.TemporaryDirectory() as folder:
        path = with_length(options.recording or sample_recording(), 5.0 * options.chunks, Path(folder) / "audio.wav")
        windows = read(path, options.chunks)
    # Repeated audio would be remembered, and cost nothing.
    windows = windows + np.random.default_rng(0).normal(0, 1e-4, windows.shape).astype(np.float32)
    found = list(rows(windows))
    if options.json:
        print(json.dumps([asdict(row) for row in found]))
    else:
        heads = "".join(f"{f'ms, {batch} at once':>16}" for batch in _BATCHES)
        print("\n".join([f"{'':<34}{heads}{'difference':>14}", *(row.line() for row in found)]))
    return 0


if __name__ == "__main__":
    if os.environ.get(_THREADS) != "1":  # as in a stage's process; NumPy reads it when it is imported
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks.sessions", *sys.argv[1:]], {**os.environ, _THREADS: "1"}
        )
    sys.exit(main())
