"""diart and ours in turn on the same recording, with the same models and settings: medians of the ratios of their runs.

    python -m benchmarks.versus [file] [live] [memory] [capacity] [models] [--pairs N] [--seconds S] [--recording FILE] [--json]

file      wall time of the whole command, time to the first result, memory; DER between the two, and of each against FILE.rttm
live      from the last sample of a step to its result, one stream at the pace of the clock
memory    8 streams at a time (one process each in diart)
capacity  how many live streams keep 99 % of their results within one step; diart has one torch thread per process there
models    chunks/s with XVectorSincNet and WeSpeakerResNet34, weights at random

Each round runs diart, then ours in ``exact`` and in ``fast`` precision; "ratio" is the median over the rounds of diart over ours. Where
other programs use the machine, more rounds help and a single number says nothing. Exits with 1 where a limit is not kept.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.sides import Diart, Ours, Run, Task, Turns, checkpoint, cut, read_turns, seconds
from diart_mp.evaluation.bench_audio import sample_recording, with_length
from diart_mp.evaluation.der import diarization_error

PARTS = ("file", "live", "memory", "capacity", "models")
PRECISIONS = ("exact", "fast")
STEP_MS = 500
_LIVE_S, _MEMORY_S, _CAPACITY_S = 30.0, 10.0, 15.0
_MODELS = {"XVectorSincNet": 60.0, "WeSpeakerResNet34": 20.0}  # s of audio
_USUAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "conv5.flac"
_USUAL_S = 600.0
_GUESSES = {"diart": 8, "exact": 24, "fast": 44}  # live streams on two cores

Round = Mapping[str, Run]


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison: medians of both, and how many times diart's is ours; ``limit`` is the least or, for errors, the most."""

    name: str
    diart: float
    ours: float
    ratio: float
    limit: float
    at_most: bool = False

    @property
    def kept(self) -> bool:
        """Whether the limit is kept."""
        return self.ratio <= self.limit if self.at_most else self.ratio >= self.limit

    def line(self) -> str:
        """The line of the table."""
        sign = "<=" if self.at_most else ">="
        verdict = "kept" if self.kept else "NOT KEPT"
        return (
            f"{self.name:<34}{self.diart:12.2f}{self.ours:12.2f}{self.ratio:10.2f}   {sign} {self.limit:<6.3g}{verdict}"
        )


def compared(name: str, rounds: Sequence[Round], ours: str, value: Callable[[Run], float], limit: float) -> Row:
    """Medians over the rounds, and the median of the ratios within each."""
    pairs = [(value(each["diart"]), value(each[ours])) for each in rounds]
    ratio = statistics.median(theirs / own for theirs, own in pairs)
    theirs, own = (statistics.median(column) for column in zip(*pairs, strict=True))
    return Row(f"{name}, {ours}", theirs, own, ratio, limit)


def error(name: str, reference: Turns, hypothesis: Turns, *, duration: float, base: float = 0.0, limit: float) -> Row:
    """DER in percent (no collar, overlap included), less that of ``base``."""
    rate = 100 * diarization_error(reference, hypothesis, duration=duration).rate
    return Row(name, base, rate, rate - base, limit, at_most=True)


def whole_files(recording: Path, rounds: Sequence[Round]) -> list[Row]:
    """What ``file`` prints."""
    rows = []
    for precision, limit in zip(PRECISIONS, (4.0, 7.0), strict=True):
        rows.append(compared("wall time, s", rounds, precision, lambda run: run.wall_s, limit))
    rows.append(compared("first result, s", rounds, "exact", lambda run: run.first_s, 3.0))
    rows.append(compared("memory of one stream, MB", rounds, "exact", lambda run: run.memory_mb, 1 / 1.2))
    duration, last = seconds(recording), rounds[-1]
    turns = {name: run.turns or [] for name, run in last.items()}
    rows.append(error("DER between the two, %, exact", turns["diart"], turns["exact"], duration=duration, limit=0.1))
    reference = recording.with_suffix(".rttm")
    if reference.exists():
        truth = [turn for turn in read_turns(reference) if turn[0] < duration]
        theirs = 100 * diarization_error(truth, turns["diart"], duration=duration).rate
        for precision in PRECISIONS:
            name = f"DER against reference, %, {precision}"
            rows.append(error(name, truth, turns[precision], duration=duration, base=theirs, limit=0.3))
    return rows


def play(task: Task, sides: Mapping[str, Diart | Ours]) -> Round:
    """One live run of each."""
    return told({name: side.live(task) for name, side in sides.items()})


def told(made: Round) -> Round:
    """Say how far it is, for who waits; on standard error, so that standard output is the table alone."""
    for name, run in made.items():
        values = {key: round(value, 2) for key, value in asdict(run).items() if isinstance(value, float) and value}
        print(f"  {name}: {values}", file=sys.stderr, flush=True)
    return made


def capacity(holds: Callable[[int], bool], guess: int) -> int:
    """The most streams that hold, to 1 in 16: a bracket around ``guess``, then its halves. 0 if not even one does."""
    good, bad = 0, sys.maxsize
    tried = guess
    while bad - good > max(1, good // 16):
        good, bad = (tried, bad) if holds(tried) else (good, tried)
        if bad == sys.maxsize:
            tried = max(good + 1, good * 3 // 2)
        elif good == 0:
            tried = bad * 2 // 3
        else:
            tried = (good + bad) // 2
    return good


class Parts:
    """What the command measures, one method each."""

    def __init__(self, recording: Path, pairs: int, length_s: float | None, folder: Path) -> None:
        self._recording, self._pairs, self._length_s, self._folder = recording, pairs, length_s, folder
        ours = {precision: Ours(precision) for precision in PRECISIONS}
        self._sides: dict[str, Diart | Ours] = {"diart": Diart(), **ours}

    def file(self) -> Iterator[Row]:
        """Wall time, first result, memory, errors."""
        task = Task(recording=self._cut(self._length_s))
        reference = self._recording.with_suffix(".rttm")
        rounds = [self._files(task, self._sides) for _ in range(self._pairs)]
        if reference.exists() and task.recording != self._recording:
            task.recording.with_suffix(".rttm").write_bytes(reference.read_bytes())
        yield from whole_files(task.recording, rounds)

    def live(self) -> Iterator[Row]:
        """Lag of one stream."""
        task = Task(recording=self._cut(_LIVE_S))
        rounds = [play(task, self._sides) for _ in range(self._pairs)]
        for precision in PRECISIONS:
            yield compared("live p50, ms", rounds, precision, lambda run: run.p50_ms, 2.0)
            yield compared("live p99, ms", rounds, precision, lambda run: run.p99_ms, 2.0)

    def memory(self) -> Iterator[Row]:
        """Of 8 streams."""
        task = Task(recording=self._cut(_MEMORY_S), streams=8)
        rounds = [play(task, {"diart": Diart(1), "exact": Ours()})]
        yield compared("memory of 8 streams, MB", rounds, "exact", lambda run: run.memory_mb, 4.0)

    def capacity(self) -> Iterator[Row]:
        """Live streams that hold; diart with one thread per process, which is its best there."""
        found = {}
        for name, side in {**self._sides, "diart": Diart(1)}.items():

            def holds(streams: int, name: str = name, side: Diart | Ours = side) -> bool:
                run = side.live(Task(recording=self._cut(_CAPACITY_S), streams=streams))
                good = run.p99_ms < STEP_MS and not run.skipped
                print(f"  {name}, {streams} streams: p99 {run.p99_ms:.0f} ms", file=sys.stderr, flush=True)
                return good

            found[name] = capacity(holds, _GUESSES[name])
        for precision, limit in zip(PRECISIONS, (3.0, 5.0), strict=True):
            theirs, own = found["diart"], found[precision]
            yield Row(f"live streams, {precision}", theirs, own, own / max(1, theirs), limit)

    def models(self) -> Iterator[Row]:
        """Throughput of larger embedding networks, from when they are loaded: start-up is judged elsewhere.

        Not from the first result on: ours has a whole batch, of the few chunks that there are, done by then.
        """
        sides: dict[str, Diart | Ours] = {"diart": Diart(), "exact": Ours()}
        for name, length_s in _MODELS.items():
            task = Task(recording=self._cut(length_s), embedding=checkpoint(name, self._folder))
            rounds = [self._files(task, sides) for _ in range(self._pairs)]
            yield compared(f"{name}, s", rounds, "exact", lambda run: run.work_s, 2.5)

    def _files(self, task: Task, sides: Mapping[str, Diart | Ours]) -> Round:
        return told({name: side.file(task, self._folder) for name, side in sides.items()})

    def _cut(self, length_s: float | None) -> Path:
        return self._recording if length_s is None else cut(self._recording, length_s, self._folder)


def usual_recording(folder: Path) -> Path:
    """What is compared where no recording is named; in ``folder`` if it has to be made."""
    return _USUAL if _USUAL.exists() else with_length(sample_recording(), _USUAL_S, folder / "sample.wav")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: all")
    parser.add_argument("--pairs", type=int, default=5, help="rounds (default: %(default)s)")
    parser.add_argument("--seconds", type=float, help="of the recording, for 'file'; default: all of it")
    parser.add_argument(
        "--recording", type=Path, help=f"16 kHz; default: {_USUAL}, else what pyannote.audio ships, repeated"
    )
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list")
    options = parser.parse_args(arguments)
    unknown = set(options.parts) - set(PARTS)
    if unknown or options.pairs < 1 or not (options.recording is None or options.recording.exists()):
        parser.error(f"no such recording or part, or no pairs: {', '.join(unknown) or options.recording}")
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        recording = options.recording or usual_recording(Path(folder))
        parts = Parts(recording, options.pairs, options.seconds, Path(folder))
        for name in options.parts or PARTS:
            print(name, file=sys.stderr, flush=True)
            rows += list(getattr(parts, name)())
    if options.json:
        print(json.dumps([{**asdict(row), "kept": row.kept} for row in rows]))
    else:
        head = f"{'medians':<34}{'diart':>12}{'ours':>12}{'ratio':>10}"
        print("\n".join([head, *(row.line() for row in rows)]))
    return int(not all(row.kept for row in rows))


if __name__ == "__main__":
    sys.exit(main())
