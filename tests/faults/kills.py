"""Many seeded kill schedules over one recording: every run must write what the undisturbed run writes. A program, not a test.

python -m tests.faults.kills --models tones --seeds 25 --minutes 3
"""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from diart_mp.config import Settings
from diart_mp.runtime.local import Models
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, Run, run, schedule

STAGES = ("capture", "segmentation", "embedding", "clustering")
SETTINGS = Settings.from_seconds(latency=2.0)


def schedules(seeds: int, kills: int, results: int) -> Iterator[tuple[str, list[Kill]]]:
    """``seeds`` schedules for each stage alone, and as many with pairs killed together."""
    for stage in STAGES:
        for seed in range(seeds):
            yield f"{stage} {seed}", schedule(seed, [stage], kills=kills, results=results)
    for seed in range(seeds):
        yield f"pairs {seed}", schedule(1000 + seed, STAGES, kills=kills, results=results, together=2)


def compare(audio: Path, folder: Path, models: Models, seeds: int, kills: int) -> int:
    """Run all schedules; the number of runs whose outputs differ."""
    calm = run(audio, folder / "calm", settings=SETTINGS, models=models)
    different = 0
    for name, plan in schedules(seeds, kills, calm.summary.results - 10):
        begin = time.monotonic()
        disturbed = run(audio, folder / name.replace(" ", "-"), settings=SETTINGS, models=models, kills=plan)
        same = disturbed.files == calm.files and disturbed.shown == calm.shown
        different += not same
        _say(name, disturbed, same, time.monotonic() - begin)
    return different


def _say(name: str, disturbed: Run, same: bool, seconds: float) -> None:
    verdict = "identical" if same else "DIFFERENT"
    sys.stdout.write(f"{name}: {disturbed.kills} processes killed, {verdict} ({seconds:.1f} s)\n")
    sys.stdout.flush()


def main() -> None:
    """Run everything; exit code 1 if any run differed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", choices=["tones", "builtin"], default="tones")
    parser.add_argument("--recording", type=Path, help="instead of a made one")
    parser.add_argument("--minutes", type=float, default=3.0, help="of the made recording")
    parser.add_argument("--seeds", type=int, default=25)
    parser.add_argument("--kills", type=int, default=1, help="moments per run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        audio = arguments.recording or Path(folder) / "hum.wav"
        if arguments.recording is None:
            conversation(audio, seconds=60 * arguments.minutes, seed=1)
        models = TONE_MODELS if arguments.models == "tones" else Models()
        different = compare(audio, Path(folder), models, arguments.seeds, arguments.kills)
    if different:
        raise SystemExit(f"{different} runs differed")


if __name__ == "__main__":
    main()
