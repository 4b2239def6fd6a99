"""Many seeded kill schedules over one recording: every run must write what the undisturbed run writes. A program, not a test.

A run counts only if every process that was to be killed died with work left, and was started again. In the end two pipelines that lose
state on purpose go through the same comparison, which must find them out.

python -m tests.faults.kills --models tones --seeds 25 --minutes 3
"""

import argparse
import os
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
SETTINGS = Settings.from_seconds(latency=5.0)  # ten windows in each output: a checkpoint without them shows
CONTROLS = {"leaky_checkpoint": "clustering", "early_acknowledgement": "capture"}  # sabotage: what to kill
_MARGIN = 40  # results before the end from which a kill might come when all is done


def schedules(seeds: int, kills: int, results: int) -> Iterator[tuple[str, list[Kill]]]:
    """``seeds`` schedules for each stage alone, and as many with pairs killed together."""
    for stage in STAGES:
        for seed in range(seeds):
            yield f"{stage} {seed}", schedule(seed, [stage], kills=kills, results=results)
    for seed in range(seeds):
        yield f"pairs {seed}", schedule(1000 + seed, STAGES, kills=kills, results=results, together=2)


def compare(audio: Path, folder: Path, models: Models, seeds: int, kills: int) -> int:
    """Run all schedules and the negative controls; the number of runs that are not as they should be."""
    calm = run(audio, folder / "calm", settings=SETTINGS, models=models)
    results, wrong = calm.summary.results, 0
    assert results > 2 * _MARGIN
    assert calm.files[f"{audio.stem}.rttm"].count(b"SPEAKER") > 1  # else there would be nothing to lose
    for name, plan in schedules(seeds, kills, results - _MARGIN):
        begin = time.monotonic()
        disturbed = run(audio, folder / name.replace(" ", "-"), settings=SETTINGS, models=models, kills=plan)
        verdict = _verdict(disturbed, calm, plan)
        wrong += verdict != "identical"
        _say(name, disturbed, verdict, time.monotonic() - begin)
    for sabotage, victim in CONTROLS.items():
        path = os.pathsep.join([str(Path(__file__).parent / sabotage), os.environ.get("PYTHONPATH", "")])
        plan = schedule(3, [victim], kills=5, results=results - _MARGIN)
        begin = time.monotonic()
        disturbed = run(
            audio, folder / sabotage, settings=SETTINGS, models=models, kills=plan, environment={"PYTHONPATH": path}
        )
        found = disturbed.files != calm.files
        wrong += not found
        _say(sabotage, disturbed, "found out" if found else "NOT FOUND OUT", time.monotonic() - begin)
    return wrong


def _verdict(disturbed: Run, calm: Run, plan: list[Kill]) -> str:
    if disturbed.files != calm.files or disturbed.shown != calm.shown:
        return "DIFFERENT"
    wanted = sum(len(kill.victims) for kill in plan)
    return "identical" if disturbed.kills == wanted <= disturbed.summary.restarts else "MISSED"


def _say(name: str, disturbed: Run, verdict: str, seconds: float) -> None:
    restarts = disturbed.summary.restarts
    sys.stdout.write(f"{name}: {disturbed.kills} processes killed, {restarts} restarts, {verdict} ({seconds:.1f} s)\n")
    sys.stdout.flush()


def main() -> None:
    """Run everything; exit code 1 if any run differed, was not hit, or a control was not found out."""
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
        wrong = compare(audio, Path(folder), models, arguments.seeds, arguments.kills)
    if wrong:
        raise SystemExit(f"{wrong} runs were not as they should be")


if __name__ == "__main__":
    main()
