"""Live streams through a pipeline that is slower than the clock: lag, what is skipped, and what it costs in quality. A program, not a test.

    python -m tests.faults.overload --recording FILE --reference RTTM

The recording is played at its own pace with the built-in models, once undisturbed and once per slowness, with the embedding stage taking that
many steps for each chunk. In the end the load is taken away: how long is it until the lag is below a step again?
"""

import argparse
import itertools
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.evaluation.der import diarization_error
from diart_mp.outputs.read import load_rttm
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig
from tests.pipeline_runs import set_brake

SETTINGS = Settings.from_seconds()
STEP_S, WINDOW_S = SETTINGS.step / SETTINGS.rate, SETTINGS.duration / SETTINGS.rate
_RELIEF_S = 8.0  # before the end of the recording the load is taken away
_NORMAL_S = 5.0  # after that the lag is to be normal


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one run came to; times in s, ``der`` in %."""

    der: float
    worst_lag: float
    skipped: int
    uncovered: float
    back_after: float
    whole: bool  # whether the regions that were said follow each other without a hole

    @property
    def is_good(self) -> bool:
        """Whether it is what is promised."""
        return self.worst_lag < WINDOW_S and not self.uncovered and self.whole and self.back_after < _NORMAL_S


def played(recording: Path, reference: Sequence[Any], folder: Path, slowness: float) -> Outcome:
    """One run at live pace, ``slowness`` times as slow as the clock (0: as fast as it is)."""
    import soundfile

    duration = soundfile.info(recording).duration
    relief = duration - _RELIEF_S
    brake = folder / f"brake-{slowness:g}"
    set_brake(brake, slowness * STEP_S)
    out = folder / f"{slowness:g}"
    source = SourceConfig(kind="paced", name="talk", path=str(recording))
    job = Job(sources=(source,), settings=SETTINGS, output=str(out), formats=("rttm", "jsonl"))

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["seconds"] > relief:
            set_brake(brake, 0)

    environment = {"DIART_MP_FAULTS": f"embedding:slow={brake}"}
    with LocalPipeline(job, Models(), on_event=on_event, environment=environment) as pipeline:
        summary = pipeline.run()
    lines = [json.loads(line) for line in (out / "talk.jsonl").read_text().splitlines()]
    late = [line["end"] for line in lines if line["latency_ms"] > 1000 * STEP_S and line["end"] > relief]
    return Outcome(
        der=100 * diarization_error(reference, load_rttm(out / "talk.rttm").get("talk", []), duration=duration).rate,
        worst_lag=max(line["latency_ms"] for line in lines) / 1000,
        skipped=summary.skipped,
        uncovered=summary.gaps_s,
        back_after=max(late, default=relief) - relief,
        whole=all(before["end"] == after["start"] for before, after in itertools.pairwise(lines)),
    )


def main() -> None:
    """Play and say what came of it; exit code 1 if a promise was not kept."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recording", type=Path, required=True)
    parser.add_argument("--reference", type=Path, required=True)
    parser.add_argument("--slow", type=float, nargs="*", default=[0.0, 1.0, 2.0, 4.0])
    arguments = parser.parse_args()
    (reference,) = load_rttm(arguments.reference).values()
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for slowness in arguments.slow:
            done = played(arguments.recording, reference, Path(folder), slowness)
            good &= done.is_good
            sys.stdout.write(
                f"{slowness:g} x: DER {done.der:.1f} %, worst lag {done.worst_lag:.2f} s, {done.skipped} windows skipped, "
                f"{done.uncovered:g} s not covered, normal {done.back_after:.1f} s after the load was gone\n"
            )
            sys.stdout.flush()
    if not good:
        raise SystemExit("the stream lagged too far behind, has a hole, or did not recover")


if __name__ == "__main__":
    main()
