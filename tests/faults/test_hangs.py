"""Stages that are stopped, stuck or crash on a chunk: noticed, replaced, and the outputs are those of a quiet run."""

import os
import re
import signal
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Run, run

STAGES = ("capture", "segmentation", "embedding", "clustering")
SECONDS = 30.0
SETTINGS = Settings.from_seconds(latency=2.0)
SILENCE_S = 1.0


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Half a minute of four people humming."""
    path = tmp_path_factory.mktemp("hangs") / "hum.wav"
    conversation(path, seconds=SECONDS, seed=12)
    return path


@pytest.fixture(scope="module")
def undisturbed(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """The run that all others are compared with."""
    return run(recording, tmp_path_factory.mktemp("undisturbed"), settings=SETTINGS, models=TONE_MODELS)


@pytest.mark.parametrize("victim", STAGES)
def test_stopped_stage_is_replaced(victim: str, recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    stopped: list[int] = []

    def stop_once(pipeline: LocalPipeline, so_far: Run) -> None:
        if not stopped and len(so_far.shown) > 8 and victim in pipeline.supervisor.ready():
            stopped.append(pipeline.supervisor.pids()[victim])
            os.kill(stopped[0], signal.SIGSTOP)

    disturbed = run(
        recording,
        tmp_path,
        settings=SETTINGS,
        models=TONE_MODELS,
        each_step=stop_once,
        silence_s=SILENCE_S,
        max_in_flight=8,  # so that much is left to do for whoever is stopped
    )
    restarts = [event["text"] for event in disturbed.events if event["event"] == "restart"]
    assert len(restarts) == 1
    silent = re.search(rf"{victim} gave no sign of life for ([\d.]+) s", restarts[0])
    assert silent
    assert SILENCE_S <= float(silent[1]) < 30  # a new process has 60 s
    assert disturbed.files == undisturbed.files
    assert not Path(f"/proc/{stopped[0]}").exists()


def test_endless_batch_is_ended_and_its_stacks_are_kept(recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    """The chunk hangs each time, so in the end it is set aside; the log says where it hung."""
    disturbed = run(
        recording,
        tmp_path,
        settings=SETTINGS,
        models=TONE_MODELS,
        environment={"DIART_MP_FAULTS": "embedding:hang@20"},
        stuck_s=1.0,
    )
    restarts = [event for event in disturbed.events if event["event"] == "restart"]
    assert len(restarts) == 3
    assert all("has worked on one batch for" in event["text"] for event in restarts)
    assert all("faults.py" in "".join(event["log"]) for event in restarts)
    assert [failure for failure in disturbed.summary.failures if "chunk 20 was set aside" in failure]


def test_slow_stage_that_works_is_left_alone(recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    disturbed = run(
        recording,
        tmp_path,
        settings=SETTINGS,
        models=TONE_MODELS,
        environment={"DIART_MP_FAULTS": "clustering:slow=0.15"},
        silence_s=SILENCE_S,
        stuck_s=1.0,
    )
    assert disturbed.summary.restarts == 0
    assert disturbed.files == undisturbed.files


@pytest.mark.parametrize("fault", ["embedding:crash@20", "segmentation:exit@20", "clustering:crash@20"])
def test_chunk_that_kills_is_set_aside(fault: str, recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    disturbed = run(recording, tmp_path, settings=SETTINGS, models=TONE_MODELS, environment={"DIART_MP_FAULTS": fault})
    assert disturbed.summary.restarts == 3
    assert len(disturbed.summary.failures) == 1
    assert "chunk 20 (from 10.0 s) was not diarized: chunk 20 was set aside" in disturbed.summary.failures[0]
    assert disturbed.shown == undisturbed.shown
    before = [line for line in undisturbed.files["hum.jsonl"].splitlines() if b'"seq": 19,' in line]
    assert before
    assert before[0] in disturbed.files["hum.jsonl"].splitlines()


def test_chunk_that_raises_costs_nobody_a_restart(recording: Path, undisturbed: Run, tmp_path: Path) -> None:
    disturbed = run(
        recording,
        tmp_path,
        settings=SETTINGS,
        models=TONE_MODELS,
        environment={"DIART_MP_FAULTS": "segmentation:raise@20"},
    )
    assert disturbed.summary.restarts == 0
    assert disturbed.summary.failures == [
        "hum: chunk 20 (from 10.0 s) was not diarized: segmentation: RuntimeError: fault point segmentation"
    ]
    assert disturbed.shown == undisturbed.shown
