"""The same recording in other rates, channels and formats: DER between its turns and those of the original.

    python -m benchmarks.forms [--shared FOLDER] [--latency 0.5] [--clustering adaptive] [--all] [NAME ...]

Reads recordings from the folder of shared facts (``data/NAME.flac``), writes them anew in each form, and runs the public command on
all of them. Lossy formats at the quality that libsndfile has by default, and at its best. DER: no collar, overlap included, over
the whole recording. Exits with 1 where one of them is above ``LIMIT`` in a form that loses nothing, or in a lossy one at its best;
with ``--all``, in any.
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from benchmarks.parity import recordings
from benchmarks.sides import read_turns
from diart_mp.evaluation.der import diarization_error

LIMIT = 2.0  # percent


@dataclass(frozen=True, slots=True)
class Form:
    """How a recording is written: Hz (0: as it is), channels, libsndfile's level of compression (0: the best quality), and what is done to it
    before: deviation of white noise, samples cut off.
    """

    title: str
    suffix: str
    rate: int = 0
    channels: int = 1
    compression: float | None = None
    judged: bool = True
    noise: float = 0.0
    cut: int = 0


FORMS = (
    Form("noise", ".wav", judged=False, noise=2.0**-15),
    Form("cut", ".wav", judged=False, cut=1),
    Form("flac", ".flac"),
    Form("stereo", ".wav", channels=2),
    Form("8 kHz", ".wav", rate=8_000),
    Form("44.1 kHz", ".wav", rate=44_100),
    Form("48 kHz", ".wav", rate=48_000),
    Form("ogg, best", ".ogg", compression=0.0),
    Form("mp3, best", ".mp3", compression=0.0),
    Form("ogg", ".ogg", judged=False),
    Form("mp3", ".mp3", judged=False),
)


def write(original: Path, form: Form, folder: Path) -> Path:
    """The recording in that form."""
    samples, rate = soundfile.read(original, start=form.cut, dtype="float32", always_2d=True)
    if form.rate:
        samples, rate = soxr.resample(samples, rate, form.rate, quality="VHQ"), form.rate
    samples = samples + np.random.default_rng(0).normal(0, form.noise, samples.shape).astype(np.float32)
    path = folder / f"{original.stem}-{FORMS.index(form)}{form.suffix}"
    options = {} if form.compression is None else {"compression_level": form.compression}
    with soundfile.SoundFile(path, "w", rate, form.channels, **options) as file:
        for begin in range(0, len(samples), rate):  # libvorbis crashes on minutes at once
            file.write(np.repeat(samples[begin : begin + rate], form.channels, axis=1))
    return path


def row(original: Path, out: Path) -> list[float]:
    """Of one recording: DER in percent between each form and the original."""
    names = (original.stem, *(f"{original.stem}-{index}" for index in range(len(FORMS))))
    turns = [read_turns(out / f"{name}.rttm") for name in names]
    duration = soundfile.info(original).duration
    return [100 * abs(diarization_error(turns[0], found, duration=duration).rate) for found in turns[1:]]


def table(paths: Sequence[Path], rows: Sequence[Sequence[float]]) -> str:
    """All recordings, and how many of them are within the limit."""
    head = f"{'DER, %':<14}" + "".join(f"{form.title:>11}" for form in FORMS)
    lines = [
        f"{path.stem:<14}" + "".join(f"{rate:11.2f}" for rate in rates) for path, rates in zip(paths, rows, strict=True)
    ]
    kept = (sum(rates[index] <= LIMIT for rates in rows) for index in range(len(FORMS)))
    return "\n".join([head, *lines, f"{'within ' + f'{LIMIT:g}':<14}" + "".join(f"{count:11}" for count in kept)])


def main() -> int:
    """Write, run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("names", nargs="*", metavar="NAME", help="recordings; default: all")
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared facts (default: %(default)s)")
    parser.add_argument("--latency", default="0.5", help="s (default: %(default)s)")
    parser.add_argument("--clustering", default="exact", help="(default: %(default)s)")
    parser.add_argument("--all", action="store_true", help="judge all forms")
    arguments = parser.parse_args()
    paths = recordings(arguments.shared, arguments.names)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        forms = [write(path, form, folder) for path in paths for form in FORMS]
        command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "run", *paths, *forms, "--quiet"]
        command += ["--latency", arguments.latency, "--clustering", arguments.clustering]
        command += ["--output", folder / "out", "--format", "rttm"]
        subprocess.run(command, check=True)
        rows = [row(path, folder / "out") for path in paths]
    print(table(paths, rows))
    judged = (rate for rates in rows for rate, form in zip(rates, FORMS, strict=True) if form.judged or arguments.all)
    return int(max(judged) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
