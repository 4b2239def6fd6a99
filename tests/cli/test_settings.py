"""Hyper-parameters from options and from a file: what they do to the turns, and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest

from diart_mp.cli import options
from diart_mp.speakers import EnrolledSpeakers
from tests.fakes import conversation

from .command import TONES, Diart, Turns, der, speech, turns

SECONDS = 20.0  # of the humming


@pytest.mark.parametrize("limit", [1, 2])
def test_fewer_speakers_than_there_are(diart: Diart, talk: Path, free: Turns, tmp_path: Path, limit: int) -> None:
    done = diart("run", talk, *TONES, "--quiet", "--max-speakers", str(limit), "-o", tmp_path)
    found = turns(tmp_path / "talk.rttm")
    assert (done.code, done.err) == (0, "")
    assert {speaker for _, _, speaker in free} == {f"speaker{number}" for number in range(3)}
    assert {speaker for _, _, speaker in found} == {f"speaker{number}" for number in range(limit)}
    # Who finds no place is left out or taken for one who has: nothing is said where nobody spoke.
    assert der(speech([*free, *found]), speech(free), SECONDS) < 0.1


@pytest.fixture(scope="session")
def free(diart: Diart, talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Turns:
    """Turns with room for everybody."""
    folder = tmp_path_factory.mktemp("free")
    assert diart("run", talk, *TONES, "--quiet", "-o", folder).code == 0
    return turns(folder / "talk.rttm")


def test_as_many_speakers_as_there_are(diart: Diart, talk: Path, free: Turns, tmp_path: Path) -> None:
    assert diart("run", talk, *TONES, "--quiet", "--max-speakers", "3", "-o", tmp_path).code == 0
    assert turns(tmp_path / "talk.rttm") == free


def test_a_step_that_does_not_divide_the_window(diart: Diart, sample: Path, shared: Path, tmp_path: Path) -> None:
    """300 ms fit 16.7 times into the window: the times must not wander off, as the end of the recording shows."""
    done = diart("run", sample, "--latency", "5", "--step", "0.3", "-o", tmp_path, "--format", "rttm,jsonl")
    assert (done.code, done.complaints) == (0, [])
    found, wanted = turns(tmp_path / "sample.rttm"), turns(shared / "golden" / "turns" / "latency5.0" / "sample.rttm")
    assert abs(found[0][0] - wanted[0][0]) < 0.02  # a frame of the model is 17 ms
    assert der(speech(wanted), speech(found), 30.0) < 1.0
    assert der(wanted, found, 30.0) < 5.0  # other windows, so now and then another speaker
    ends = [json.loads(line)["end"] for line in (tmp_path / "sample.jsonl").read_text().splitlines()]
    assert ends == pytest.approx([ends[0] + 0.3 * number for number in range(len(ends))], abs=1e-9)


def test_options_from_a_file_and_the_command_line_wins(diart: Diart, talk: Path, tmp_path: Path) -> None:
    file = tmp_path / "diart.toml"
    output = tmp_path / "out"
    lines = [
        f'segmentation = "{TONES[1]}"',
        f'embedding = "{TONES[3]}"',
        "step = 1.0",
        'format = ["jsonl", "srt"]',
        f'output = "{output}"',
        "quiet = true",
        "max_speakers = 3",
        'latency = "min"',
    ]
    file.write_text("\n".join(lines))
    done = diart("run", talk, "--config", file)
    assert (done.code, done.out, done.err) == (0, "", "")
    assert sorted(path.name for path in output.iterdir()) == ["talk.jsonl", "talk.srt"]
    assert len((output / "talk.jsonl").read_text().splitlines()) == 16
    done = diart("run", talk, "--config", file, "--step", "2.5", "--format", "jsonl", "--force")
    assert done.code == 0
    assert len((output / "talk.jsonl").read_text().splitlines()) == 7


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("steep = 0.5", "unknown option 'steep'; did you mean 'step'?"),
        ("step = 'half'", "step must be a number, not 'half'"),
        ("step = [0.5]", "step must be a number, not [0.5]"),
        ("max-speakers = 1.5", "max-speakers must be a whole number, not 1.5"),
        ("max-speakers = true", "max-speakers must be a whole number, not True"),
        ("output = 3", "output must be text in quotes, not 3"),
        ("quiet = 'yes'", "quiet must be true or false, not 'yes'"),
        ("latency = [1]", "latency must be a number of seconds, or 'min' or 'max', not [1]"),
        ("step = ", "is not valid TOML"),
        ("[run]\nstep = 0.5", "unknown option 'run'"),
    ],
)
def test_a_file_that_makes_no_sense(diart: Diart, talk: Path, tmp_path: Path, line: str, complaint: str) -> None:
    file = tmp_path / "diart.toml"
    file.write_text(line)
    done = diart("run", talk, "--config", file)
    assert done.code == 2
    assert len(done.complaints) == 1
    assert complaint in done.complaints[0]
    assert str(file) in done.complaints[0]


def test_what_is_most_likely_not_what_somebody_wants_is_said(diart: Diart, tmp_path: Path) -> None:
    conversation(tmp_path / "talk.wav", seconds=3.0, seed=1)
    EnrolledSpeakers().add("Ann", np.ones((1, 256))).save(tmp_path / "team.json")
    models = ["--segmentation", TONES[1], "--preset", "ami"]
    done = diart("run", tmp_path / "talk.wav", *models, "--speakers", tmp_path / "team.json")
    assert done.code == 0
    notes = [line for line in done.err.splitlines() if line.startswith("# --")]
    assert len(notes) == 2
    assert notes[0].startswith(
        "# --preset ami is tuned for --models pyannote; with the built-in embedding its delta_new of 1.057"
    )
    assert notes[1].endswith("together with --clustering adaptive")


def test_nothing_is_said_of_what_makes_sense() -> None:
    plain = {
        "preset": None,
        "speakers": None,
        "models": "builtin",
        "embedding": None,
        "delta_new": None,
        "clustering": "exact",
    }
    for more in (
        {},
        {"preset": "ami", "models": "pyannote"},
        {"preset": "ami", "embedding": "pyannote/embedding"},
        {"preset": "ami", "delta_new": 0.4},
        {"speakers": Path("team.json"), "clustering": "adaptive"},
    ):
        assert options.hints({**plain, **more}) == []
