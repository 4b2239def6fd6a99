"""Our turns beside diart's: DER between the two, and of each against the reference, for every recording and latency.

    python benchmarks/parity.py [--shared FOLDER] [--latency 0.5 --latency 2.0 ...] [--precision fast] [NAME ...]

Reads recordings and diart's own output from the folder of shared facts (``data/NAME.flac``, ``golden/turns/latencyL/NAME.rttm``)
and runs the public command, one run per latency. DER: no collar, overlap included, over the whole recording. Exits with 1
where a DER between the two is above ``LIMIT``; with ``--precision fast``, where over all seconds ours is more than ``FAST_LIMIT`` worse
against the reference than diart's.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import soundfile

from diart_mp.evaluation.der import DiarizationError, diarization_error, pooled_error
from diart_mp.outputs.read import load_rttm

LATENCIES = ("0.5", "2.0", "5.0")  # s
LIMIT = 0.1  # percent
FAST_LIMIT = 0.3  # percentage points


@dataclass(frozen=True, slots=True)
class Scores:
    """Of one recording: diart against the reference, ours against the reference, ours against diart."""

    diart: DiarizationError
    ours: DiarizationError
    between: DiarizationError

    def row(self, name: str) -> str:
        """The line of the table, in percent."""
        rates = (100 * abs(each.rate) for each in (self.diart, self.ours, self.between))  # rounding may give -0.0
        return f"{name:<14}" + "".join(f"{rate:10.2f}" for rate in rates)


def recordings(shared: Path, names: Sequence[str]) -> list[Path]:
    """The recordings that have a reference, by name."""
    paths = [path for path in sorted((shared / "data").glob("*.*")) if path.suffix in (".flac", ".wav")]
    return [path for path in paths if path.with_suffix(".rttm").exists() and (not names or path.stem in names)]


def run(paths: Sequence[Path], output: Path, latency: str, precision: str) -> None:
    """Diarize all of ``paths`` with one run of the command, at default settings but for the latency."""
    command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "run", *paths]
    command += ["--start", "exact", "--latency", latency, "--output", output, "--format", "rttm", "--quiet"]
    command += ["--precision", precision]
    subprocess.run(command, check=True)


def score(path: Path, diart: Path, ours: Path) -> Scores:
    """Compare the three RTTM files of one recording."""
    duration = soundfile.info(path).duration
    reference, theirs, own = (
        [turn for turns in load_rttm(file).values() for turn in turns]
        for file in (path.with_suffix(".rttm"), diart, ours)
    )
    return Scores(
        diart=diarization_error(reference, theirs, duration=duration),
        ours=diarization_error(reference, own, duration=duration),
        between=diarization_error(theirs, own, duration=duration),
    )


def pooled(scores: dict[str, Scores]) -> Scores:
    """All seconds together."""
    return Scores(
        *(pooled_error(getattr(each, side) for each in scores.values()) for side in ("diart", "ours", "between"))
    )


def table(latency: str, scores: dict[str, Scores]) -> str:
    """All recordings of one latency, and all seconds together."""
    head = f"latency {latency:<6}" + "".join(f"{title:>10}" for title in ("diart %", "ours %", "between %"))
    return "\n".join([head, *(each.row(name) for name, each in scores.items()), pooled(scores).row("all seconds"), ""])


def main() -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("names", nargs="*", metavar="NAME", help="recordings; default: all")
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared facts (default: %(default)s)")
    parser.add_argument("--latency", action="append", choices=LATENCIES, help="may be repeated; default: all")
    parser.add_argument("--precision", choices=("exact", "fast", "reference"), default="exact")
    arguments = parser.parse_args()
    fast = arguments.precision == "fast"
    paths = recordings(arguments.shared, arguments.names)
    worst, limit = 0.0, FAST_LIMIT if fast else LIMIT
    for latency in arguments.latency or LATENCIES:
        golden = arguments.shared / "golden" / "turns" / f"latency{latency}"
        with tempfile.TemporaryDirectory() as folder:
            run(paths, Path(folder), latency, arguments.precision)
            scores = {
                path.stem: score(path, golden / f"{path.stem}.rttm", Path(folder) / f"{path.stem}.rttm")
                for path in paths
            }
        print(table(latency, scores), flush=True)
        together = pooled(scores)
        if fast:
            worst = max(worst, 100 * (together.ours.rate - together.diart.rate))
        else:
            worst = max([worst, *(100 * each.between.rate for each in scores.values())])
    what = "points that ours is worse by" if fast else "DER between diart and ours, %"
    print(f"largest of {what}: {worst:.3f} (limit {limit})")
    return int(worst > limit)


if __name__ == "__main__":
    sys.exit(main())
