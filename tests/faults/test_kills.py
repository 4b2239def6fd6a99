"""Any stage may be killed at any moment: what a run writes is byte for byte that of an undisturbed one.

The kill schedules are seeded. The negative control shows that the same comparison fails for a pipeline that loses state.
"""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from diart_mp.config import RATE, Settings
from diart_mp.transport.ring import ring_directory
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, Run, run, schedule

STAGES = ("capture", "segmentation", "embedding", "clustering")
SECONDS = 60.0
KILLS = 6  # per run; `make kills` has more runs
RESULTS = 120  # of a recording of 60 s at latency 5 s: (60 + 4.5 - 5) / 0.5 + 1
SETTINGS = Settings.from_seconds(latency=5.0)
# With more in flight, or at full speed, the recording ends before the last kill.
UNHURRIED: dict[str, Any] = {"max_in_flight": 12, "environment": {"DIART_MP_FAULTS": "segmentation:slow=0.005"}}


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One minute of four people humming."""
    path = tmp_path_factory.mktemp("kills") / "hum.wav"
    conversation(path, seconds=SECONDS, seed=11)
    return path


@pytest.fixture(scope="module")
def undisturbed(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that all others are compared with."""
    return run(recording, tmp_path_factory.mktemp("undisturbed"), settings=SETTINGS, models=TONE_MODELS)


def test_undisturbed_run_says_something(undisturbed: Run) -> None:
    assert undisturbed.summary.results == RESULTS
    assert undisturbed.files["hum.rttm"].count(b"SPEAKER hum 1 ") > 20
    assert undisturbed.files["hum.jsonl"].count(b"\n") == RESULTS


@pytest.mark.parametrize("victim", STAGES)
def test_killed_stage_changes_nothing(victim: str, recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    kills = schedule(seed=STAGES.index(victim), victims=[victim], kills=KILLS, results=RESULTS - 40)
    disturbed = run(recording, tmp_path, settings=SETTINGS, models=TONE_MODELS, kills=kills, **UNHURRIED)
    assert disturbed.kills == KILLS
    assert disturbed.summary.restarts == KILLS
    assert disturbed.files == undisturbed.files
    assert disturbed.shown == list(range(RESULTS))


def test_kills_change_nothing_for_the_adaptive_clustering_and_its_revisions_either(
    recording: Path, tmp_path: Path
) -> None:
    settings = replace(SETTINGS, latency=4 * RATE, clustering="adaptive")  # two results fewer
    quiet = run(recording, tmp_path / "quiet", settings=settings, models=TONE_MODELS)
    kills = schedule(seed=3, victims=["embedding", "clustering", "capture"], kills=KILLS, results=RESULTS - 40)
    kills.append(Kill(RESULTS - 8, ("clustering", "capture")))  # there is only the last word left to say
    disturbed = run(recording, tmp_path / "disturbed", settings=settings, models=TONE_MODELS, kills=kills, **UNHURRIED)
    assert disturbed.kills == KILLS + 2
    assert disturbed.files == quiet.files
    lines = [json.loads(line) for line in quiet.files["hum.jsonl"].splitlines()]
    assert [line["seq"] for line in lines if "revision" in line] == [19, 39, 59, 79, 99, RESULTS - 2]
    assert (lines[-1]["turns"], lines[-1]["revision"]["end"]) == ([], lines[-1]["end"])
    assert quiet.files["hum.rttm"].count(b"SPEAKER hum 1 ") > 20


@pytest.mark.parametrize("seed", [1])
def test_pairs_killed_together_change_nothing(seed: int, recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    kills = schedule(seed=seed, victims=STAGES, kills=10, results=RESULTS - 5, together=2)
    disturbed = run(recording, tmp_path, settings=SETTINGS, models=TONE_MODELS, kills=kills)
    assert disturbed.kills >= 12
    assert disturbed.files == undisturbed.files
    assert disturbed.shown == list(range(RESULTS))


@pytest.mark.parametrize(
    ("sabotage", "victim"), [("leaky_checkpoint", "clustering"), ("early_acknowledgement", "capture")]
)
def test_sabotage_is_found_out(sabotage: str, victim: str, recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    """Negative controls: a checkpoint without pending outputs, a result acknowledged before it is written."""
    path = os.pathsep.join([str(Path(__file__).parent / sabotage), os.environ.get("PYTHONPATH", "")])
    kills = schedule(seed=3, victims=[victim], kills=5, results=RESULTS - 5)
    disturbed = run(
        recording, tmp_path, settings=SETTINGS, models=TONE_MODELS, kills=kills, environment={"PYTHONPATH": path}
    )
    assert disturbed.kills > 0
    assert disturbed.files != undisturbed.files


def test_real_models_killed_in_mid_recording(shared: Path, tmp_path: Path) -> None:
    audio = shared / "data" / "sample.wav"
    calm = run(audio, tmp_path / "calm")
    kills = schedule(seed=5, victims=["segmentation", "embedding"], kills=3, results=40)
    disturbed = run(audio, tmp_path / "disturbed", kills=kills)
    assert disturbed.kills >= 2
    assert disturbed.files == calm.files


def test_nothing_is_left_behind(recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    kills = schedule(seed=9, victims=STAGES, kills=6, results=RESULTS - 5)
    disturbed = run(recording, tmp_path, settings=SETTINGS, models=TONE_MODELS, kills=kills)
    assert disturbed.files == undisturbed.files
    assert [pid for pid in disturbed.pids if Path(f"/proc/{pid}").exists()] == []
    assert disturbed.name
    assert [ring for ring in ring_directory().glob("diart-mp-*") if disturbed.name in ring.name] == []
