"""Enrolled people have their names in the turns, others have none, and a killed stage changes nothing."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diart_mp.cli import options
from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.runtime.chain import compose, with_options
from diart_mp.runtime.local import Models, default_stages
from diart_mp.speakers import EnrolledSpeakers
from diart_mp.testing import check_stage, chunks
from diart_mp.topology import StageConfig
from tests.fakes import PITCHES, RATE, TONE_MODELS, conversation
from tests.pipeline_runs import Kill, run

PROGRAM = Path(sys.executable).with_name("diart-mp")
ROOT = Path(__file__).resolve().parents[2]
MODELS = ["--segmentation", TONE_MODELS.segmentation, "--embedding", TONE_MODELS.embedding]
ENROLLED = {"Ann": 0, "Bo": 2}  # their pitches
SETTINGS = Settings.from_seconds(latency=2.0)


def speakers_command(*arguments: str, file: Path) -> subprocess.CompletedProcess[str]:
    command = [str(PROGRAM), "speakers", *arguments, "--speakers", str(file)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)


def hum(path: Path, *pitches: float, seconds: float = 6.0) -> str:
    """A recording of people who hum one after the other."""
    each = np.arange(round(seconds * RATE / len(pitches))) / RATE
    samples = np.concatenate([0.3 * np.sin(2 * np.pi * pitch * each) for pitch in pitches])
    soundfile.write(path, samples, RATE)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``speakers.json`` with two enrolled people."""
    folder = tmp_path_factory.mktemp("identify")
    for name, pitch in ENROLLED.items():
        recording = hum(folder / f"{name}.wav", PITCHES[pitch])
        done = speakers_command("enroll", name, recording, *MODELS, file=folder / "speakers.json")
        assert done.returncode == 0, done.stderr
        assert "s of speech, in" in done.stdout
    return folder


def test_enrolled_speakers_are_listed_and_taken_out(folder: Path, tmp_path: Path) -> None:
    listed = speakers_command("list", file=folder / "speakers.json").stdout.splitlines()
    assert [line.split("\t")[0] for line in listed[:2]] == ["Ann", "Bo"]
    EnrolledSpeakers.load(folder / "speakers.json").save(tmp_path / "copy.json")
    assert speakers_command("remove", "Ann", file=tmp_path / "copy.json").returncode == 0
    assert list(EnrolledSpeakers.load(tmp_path / "copy.json").voices) == ["Bo"]


@pytest.mark.parametrize(
    ("pitches", "seconds", "says"),
    [(PITCHES[:2] * 3, 12.0, "give recordings of one person"), (PITCHES[:1], 1.0, "at least 1.5 s are needed")],
)
def test_useless_recordings_are_refused(pitches: tuple[float, ...], seconds: float, says: str, tmp_path: Path) -> None:
    recording = hum(tmp_path / "hum.wav", *pitches, seconds=seconds)
    done = speakers_command("enroll", "Cy", recording, *MODELS, file=tmp_path / "speakers.json")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert says in done.stderr
    assert not (tmp_path / "speakers.json").exists()


@pytest.mark.parametrize("clustering", ["exact", "adaptive"])
def test_names_are_right_and_survive_kills(clustering: str, folder: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, clustering=clustering)  # the adaptive one revises what was named
    audio = tmp_path / "hum.wav"
    truth = conversation(audio, seconds=30.0, seed=3)
    stages = with_options(
        compose(default_stages(TONE_MODELS), insert=["identify@clustering"]),
        [f"identify.speakers={folder / 'speakers.json'}"],
    )
    calm = run(audio, tmp_path / "calm", settings=settings, models=TONE_MODELS, stages=stages)
    kills = [Kill(4, ("identify",)), Kill(16, ("clustering", "identify"))]
    killed = run(
        audio, tmp_path / "killed", settings=settings, models=TONE_MODELS, stages=stages, kills=kills, max_in_flight=12
    )
    assert not calm.summary.failures + killed.summary.failures
    assert killed.kills == 3
    assert killed.files == calm.files
    said = [line.split() for line in calm.files["hum.rttm"].decode().splitlines()]
    named = np.zeros((len(ENROLLED), 30_000), bool)  # in ms
    hummed = np.zeros((len(PITCHES), 30_000), bool)
    for row, name in enumerate(ENROLLED):
        for fields in said:
            if fields[7] == name:
                named[row, round(1000 * float(fields[3])) :][: round(1000 * float(fields[4]))] = True
    for start, end, pitch in truth:
        hummed[pitch, round(1000 * start) : round(1000 * end)] = True
    others = hummed[[pitch for pitch in range(len(PITCHES)) if pitch not in ENROLLED.values()]].any(axis=0)
    for row, pitch in enumerate(ENROLLED.values()):
        assert (named[row] & hummed[pitch]).sum() > 0.9 * hummed[pitch].sum() > 0
    alone = others & ~hummed[list(ENROLLED.values())].any(axis=0)
    assert (named.any(axis=0) & alone).sum() < 0.05 * alone.sum()


def test_run_takes_the_file_and_refuses_one_of_another_model(folder: Path) -> None:
    values = dict.fromkeys(("chain", "insert", "replacing", "stage_options"), ())
    named = {**values, "speakers": folder / "speakers.json"}
    stages = options.stages(named, TONE_MODELS)
    assert [stage.name for stage in stages][-2:] == ["clustering", "identify"]
    assert stages[-1].options == {"speakers": str(folder / "speakers.json")}
    with pytest.raises(UsageError, match="numbers of different models cannot be compared"):
        options.stages(named, Models())


def test_conformance(folder: Path, tmp_path: Path) -> None:
    dimension = 16  # of the made-up chunks
    EnrolledSpeakers().add("Ann", np.ones((1, dimension))).save(tmp_path / "speakers.json")
    config = StageConfig(name="identify", keyed=True, options={"speakers": str(tmp_path / "speakers.json")})
    assert check_stage("diart_mp.stages.identify:Identify", chunks(), config=config) == []
