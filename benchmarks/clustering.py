"""`--clustering adaptive` beside `exact`: DER and number of speakers for every recording and latency.

    python benchmarks/clustering.py [--shared FOLDER] [--latency 0.5 --latency 5.0 ...] [NAME ...]

Reads recordings and references from the folder of shared facts (``data/NAME.flac``) and runs the public command at default
settings, one run per latency and clustering. DER: no collar, overlap included, over the whole recording; the mean gives each
recording one vote.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

import soundfile

from diart_mp.evaluation.der import SpeakerTurn, diarization_error
from diart_mp.outputs.read import load_rttm

KINDS = ("exact", "adaptive")
LATENCIES = ("0.5", "5.0")  # s


def recordings(shared: Path, names: Sequence[str]) -> list[Path]:
    """The recordings that have a reference, by name."""
    paths = [path for path in sorted((shared / "data").glob("*.*")) if path.suffix in (".flac", ".wav")]
    return [path for path in paths if path.with_suffix(".rttm").exists() and (not names or path.stem in names)]


def run(paths: Sequence[Path], output: Path, latency: str, kind: str) -> None:
    """Diarize all of ``paths`` with one run of the command."""
    command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "run", *paths, "--start", "exact"]
    command += ["--latency", latency, "--clustering", kind, "--output", output, "--quiet"]
    subprocess.run(command, check=True)


def turns(path: Path) -> list[SpeakerTurn]:
    """All turns of an RTTM file."""
    return [turn for each in load_rttm(path).values() for turn in each]


def score(path: Path, said: Path) -> tuple[float, int, int]:
    """DER in percent, speakers of the reference, speakers found."""
    reference, found = turns(path.with_suffix(".rttm")), turns(said)
    error = diarization_error(reference, found, duration=soundfile.info(path).duration)
    return 100 * error.rate, len({turn[2] for turn in reference}), len({turn[2] for turn in found})


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("names", nargs="*", metavar="NAME", help="recordings; default: all")
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared facts (default: %(default)s)")
    parser.add_argument("--latency", action="append", help="may be repeated; default: 0.5 and 5.0")
    arguments = parser.parse_args()
    paths = recordings(arguments.shared, arguments.names)
    for latency in arguments.latency or LATENCIES:
        scores = {}
        for kind in KINDS:
            with tempfile.TemporaryDirectory() as folder:
                run(paths, Path(folder), latency, kind)
                scores[kind] = [score(path, Path(folder) / f"{path.stem}.rttm") for path in paths]
        print(f"latency {latency:<8}{'exact %':>9}{'adaptive %':>12}{'speakers':>10}{'exact':>7}{'adaptive':>10}")
        for path, (old, there, few), (new, _, many) in zip(paths, *scores.values(), strict=True):
            print(f"{path.stem:<16}{old:9.1f}{new:12.1f}{there:10}{few:7}{many:10}")
        means = [fmean(each[0] for each in scores[kind]) for kind in KINDS]
        print(f"{'mean':<16}{means[0]:9.1f}{means[1]:12.1f}\n", flush=True)


if __name__ == "__main__":
    main()
