"""What tuning costs: 200 trials with features from nothing, and one trial of ours and of diart's on the same folder, in turn.

    python -m benchmarks.tuning [trials] [trial] [--shared FOLDER] [--count 200] [--jobs 2] [--only NAME ...]

trials  the public command on all recordings of ``FOLDER/data`` that have a reference, with an empty cache: at most five minutes,
        and the best is better than the defaults
trial   one trial over tau, rho and delta: ours twice, diart's Optimizer between (the default configuration, models loaded,
        features of ours computed before), wall and processor time. At most 1/50 of diart's. ``--only`` takes these
        recordings alone: both sides cost by the length of the audio, and diart needs minutes for all of it

diart has the batch size and the threads that ``--batch-size`` and ``--threads`` say; ours uses one thread. Where other programs use
the machine, processor time with ``--threads 1`` is the figure to look at. Exits with 1 where a limit is not kept.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import soundfile

from benchmarks.diart_env import diart_python
from diart_mp.config import Settings
from diart_mp.evaluation.corpus import open_corpus
from diart_mp.evaluation.features import FeatureCache
from diart_mp.evaluation.tuning import Objective
from diart_mp.models.builtin import BUILTIN, cache_folder
from diart_mp.runtime.local import Models

PARTS = ("trials", "trial")
MINUTES = 5.0
SHARE = 1 / 50
_POINTS = ((0.5, 0.3, 0.3), (0.48, 0.25, 0.35), (0.52, 0.2, 0.4), (0.55, 0.1, 0.33), (0.5, 0.3, 0.35))


def link(data: Path, folder: Path, names: Sequence[str]) -> float:
    """Put the recordings that have a reference into ``folder/audio``, the references into ``folder/rttm``; seconds of audio."""
    seconds = 0.0
    for kind in ("audio", "rttm"):
        (folder / kind).mkdir()
    for path in sorted(data.iterdir()):
        if (
            path.suffix in (".flac", ".wav")
            and path.with_suffix(".rttm").exists()
            and path.stem in (names or [path.stem])
        ):
            (folder / "audio" / path.name).symlink_to(path)
            (folder / "rttm" / f"{path.stem}.rttm").symlink_to(path.with_suffix(".rttm"))
            seconds += soundfile.info(path).duration
    return seconds


def trials(folder: Path, count: int, jobs: int) -> bool:
    """Many trials, features included; whether they were quick enough and found something."""
    cache = folder / "cache"
    cache.mkdir()
    for weights in BUILTIN.values():
        (cache / weights.path.name).symlink_to(cache_folder() / weights.path.name)
    command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "tune", folder / "audio"]
    command += ["--reference", folder / "rttm", "--output", folder / "study", "--num-iter", str(count)]
    command += ["--jobs", str(jobs), "--seed", "1", "--json"]
    began = time.monotonic()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, text=True, env=os.environ | {"DIART_MP_CACHE": str(cache)}
    )
    wall, found = time.monotonic() - began, json.loads(done.stdout)
    base, best = found["base"]["value"], found["best"]["value"]
    print(f"{count} trials, {jobs} processes, features and plots included: {wall:.0f} s (limit {60 * MINUTES:.0f} s)")
    print(f"DER: defaults {base:.2f} %, best {best:.2f} %")
    return wall <= 60 * MINUTES and best < base


def ours(folder: Path) -> tuple[float, float]:
    """Wall and processor seconds of a trial, features in memory as they are after the first one; medians."""
    corpus = open_corpus(str(folder / "audio"), reference=folder / "rttm")
    objective = Objective(corpus, Settings(), Models(), cache=FeatureCache(Models(), folder / "features"))
    objective.prepare()
    walls, used = list[float](), list[float]()
    for tau, rho, delta in _POINTS:
        wall, cpu = time.monotonic(), time.process_time()
        error = objective({"tau_active": tau, "rho_update": rho, "delta_new": delta})
        walls.append(time.monotonic() - wall)
        used.append(time.process_time() - cpu)
    middle = len(_POINTS) // 2
    print(f"ours: {sorted(walls)[middle]:.2f} s, processor {sorted(used)[middle]:.2f} s; DER {error:.2f} %", flush=True)
    return sorted(walls)[middle], sorted(used)[middle]


def theirs(folder: Path, batch_size: int, threads: int) -> tuple[float, float]:
    """Wall and processor seconds of a trial of diart's Optimizer."""
    script = Path(__file__).with_name("diart_tune.py")
    command: list[str | Path] = [diart_python(), "-W", "ignore", script, folder / "audio", folder / "rttm"]
    command += ["--weights", cache_folder(), "--batch-size", str(batch_size), "--threads", str(threads)]
    with tempfile.TemporaryFile("w+") as said:
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=said, text=True)
        if done.returncode:
            said.seek(0)
            sys.exit(f"diart ended with {done.returncode}: {said.read()[-2000:]}")
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"diart: {found['wall_s']:.1f} s, processor {found['cpu_s']:.1f} s; DER {found['der']:.2f} %", flush=True)
    return float(found["wall_s"]), float(found["cpu_s"])


def trial(folder: Path, batch_size: int, threads: int) -> bool:
    """One trial of each; whether ours costs little enough."""
    before, diart, after = ours(folder), theirs(folder, batch_size, threads), ours(folder)
    wall, cpu = (2 * diart[side] / (before[side] + after[side]) for side in (0, 1))
    print(f"a trial of ours costs 1/{wall:.0f} of diart's wall time, 1/{cpu:.0f} of its processor time (limit 1/50)")
    return min(wall, cpu) >= 1 / SHARE


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; default: both")
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared facts (default: %(default)s)")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="recordings; default: all")
    parser.add_argument("--count", type=int, default=200, help="trials of the study")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=32, help="diart's (default: diart's own, %(default)s)")
    parser.add_argument("--threads", type=int, default=2, help="of torch in diart (default: %(default)s)")
    arguments = parser.parse_args()
    if set(arguments.parts) - set(PARTS):
        parser.error(f"there is no part {arguments.parts}")
    kept = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        audio_s = link(arguments.shared / "data", folder, arguments.only)
        print(f"{len(list((folder / 'audio').iterdir()))} recordings, {audio_s:.0f} s")
        if "trials" in (arguments.parts or PARTS):
            kept &= trials(folder, arguments.count, arguments.jobs)
        if "trial" in (arguments.parts or PARTS):
            kept &= trial(folder, arguments.batch_size, arguments.threads)
    return int(not kept)


if __name__ == "__main__":
    sys.exit(main())
