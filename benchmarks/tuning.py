"""What tuning costs: features from nothing, then 200 trials, on all recordings that have a reference.

    python benchmarks/tuning.py [--shared FOLDER] [--trials 200] [--jobs 2] [--factor 0.16]

Runs the public command on ``FOLDER/data`` with an empty cache, then one trial more in this process, alone. ``factor`` is the real-time
factor of diart 0.9.2 on such a machine at its best (``golden/BASELINE.md``): its trial is a whole run. Exits with 1 where the
trials took more than five minutes, a trial more than 1/50 of diart's, or the best is no better than the defaults.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import soundfile

from diart_mp.config import Settings
from diart_mp.evaluation.corpus import open_corpus
from diart_mp.evaluation.features import FeatureCache
from diart_mp.evaluation.tuning import Objective
from diart_mp.runtime.local import Models

MINUTES = 5.0
SHARE = 1 / 50


def tune(data: Path, folder: Path, trials: int, jobs: int) -> tuple[float, dict[str, dict[str, float]]]:
    """Seconds that the command took, and what it found."""
    command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "tune", data, "--reference", data]
    command += ["--output", folder / "study", "--num-iter", str(trials), "--jobs", str(jobs), "--seed", "1", "--json"]
    environment = os.environ | {"DIART_MP_CACHE": str(folder / "cache")}
    began = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return time.monotonic() - began, json.loads(done.stdout)


def one_trial(data: Path, cache: Path) -> float:
    """Seconds of one trial over the three thresholds, features in memory; the median of five."""
    corpus = open_corpus(str(data), reference=data)
    objective = Objective(corpus, Settings(), Models(), cache=FeatureCache(Models(), cache))
    objective.prepare()
    times = []
    for delta in (0.3, 0.33, 0.36, 0.39, 0.42):
        began = time.monotonic()
        objective({"tau_active": 0.5, "rho_update": 0.3, "delta_new": delta})
        times.append(time.monotonic() - began)
    return sorted(times)[2]


def main() -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared facts (default: %(default)s)")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--factor", type=float, default=0.16, help="diart's real-time factor (default: %(default)s)")
    arguments = parser.parse_args()
    data = arguments.shared / "data"
    paths = [path for path in data.iterdir() if path.suffix in (".flac", ".wav")]
    audio_s = sum(soundfile.info(path).duration for path in paths)
    from diart_mp.models.builtin import BUILTIN, cache_folder

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "cache").mkdir()
        for weights in BUILTIN.values():
            (Path(folder) / "cache" / weights.path.name).symlink_to(cache_folder() / weights.path.name)
        wall, found = tune(data, Path(folder), arguments.trials, arguments.jobs)
        trial = one_trial(data, Path(folder) / "cache" / "features")
    theirs = arguments.factor * audio_s
    base, best = found["base"]["value"], found["best"]["value"]
    print(
        f"{arguments.trials} trials on {audio_s:.0f} s of audio, {arguments.jobs} processes, features included: {wall:.0f} s"
    )
    print(f"one trial alone: {trial:.2f} s, diart's about {theirs:.0f} s: 1/{theirs / trial:.0f}")
    print(f"DER: defaults {base:.2f} %, best {best:.2f} %")
    return int(wall > 60 * MINUTES or trial > SHARE * theirs or best >= base)


if __name__ == "__main__":
    sys.exit(main())
