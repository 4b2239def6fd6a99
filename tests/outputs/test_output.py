"""Outputs of the user's own: in a run whose owner is killed, in a program, and where they fail."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.errors import OutputError, UsageError
from diart_mp.outputs.formats import known_formats
from diart_mp.outputs.output import Output
from diart_mp.outputs.writer import OutputSet, check_outputs
from diart_mp.pipeline import AudioFile, Pipeline, PipelineConfig
from diart_mp.turns import Update
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, run
from tests.wrong_outputs import Ctm, Right

SETTINGS = Settings.from_seconds(latency=2.0, clustering="adaptive")  # revises
RATE = 16_000


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("output") / "hum.wav"
    conversation(path, seconds=16.0, seed=7)
    return path


def test_in_a_run_whose_owner_is_killed(recording: Path, tmp_path: Path) -> None:
    formats = ("jsonl", "rttm", "tests.wrong_outputs:Right", "tests.wrong_outputs:Ctm")
    calm = run(recording, tmp_path / "calm", settings=SETTINGS, models=TONE_MODELS, formats=formats)
    kills = [Kill(5, ("capture",)), Kill(12, ("capture", "clustering"))]
    killed = run(
        recording,
        tmp_path / "killed",
        settings=SETTINGS,
        models=TONE_MODELS,
        formats=formats,
        kills=kills,
        max_in_flight=8,
    )
    assert not calm.summary.failures + killed.summary.failures
    assert killed.kills == 3
    assert killed.files == calm.files
    assert calm.files["hum.lines"] == calm.files["hum.jsonl"], "each update, in order"
    assert len(calm.files["hum.ctm"].splitlines()) == len(calm.files["hum.rttm"].splitlines()) > 3


class Told(Output):
    """Keeps in memory what it is told."""

    def __init__(self) -> None:
        super().__init__(Path(), "hum", RATE, recorded=True, resume=False)
        self.seqs = list[int]()
        self.closed = 0

    def write(self, update: Update) -> None:
        assert not self.closed
        self.seqs.append(update.seq)

    def close(self) -> None:
        self.closed += 1


class Torn(Told):
    def write(self, update: Update) -> None:
        super().write(update)
        if update.seq == 3:
            msg = "out of\npaper"
            raise ValueError(msg)


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline(PipelineConfig(settings=SETTINGS, models=TONE_MODELS)) as pipeline:
        yield pipeline


def test_attached_to_a_stream_of_a_program(pipeline: Pipeline, recording: Path, tmp_path: Path) -> None:
    told = Told()
    stream = pipeline.stream(AudioFile(recording), output=tmp_path, formats=["jsonl", Right, Ctm], hooks=[told])
    seqs = [update.seq for update in stream]
    assert (told.seqs, told.closed) == (seqs, 1)
    assert (tmp_path / "hum.lines").read_bytes() == (tmp_path / "hum.jsonl").read_bytes()
    assert (tmp_path / "hum.ctm").exists()
    with pytest.raises(OutputError, match=r"hum\.lines exists already"):
        pipeline.stream(AudioFile(recording), output=tmp_path, formats=[Right])


def test_attached_one_that_fails_ends_its_stream_and_is_closed(pipeline: Pipeline, recording: Path) -> None:
    torn, other = Torn(), Told()
    with pytest.raises(OutputError, match="the output Torn failed at update 3 of hum: ValueError: out of paper"):
        list(pipeline.stream(AudioFile(recording), hooks=[torn, other]))
    assert (torn.seqs, other.seqs) == ([0, 1, 2, 3], [0, 1, 2])
    assert (torn.closed, other.closed) == (1, 1)
    given_up = Told()
    left = pipeline.open("left", hooks=[given_up])
    left.close()
    left.close()
    assert given_up.closed == 1


def test_failure_in_a_run_is_one_line(recording: Path, tmp_path: Path) -> None:
    formats = ("rttm", "tests.wrong_outputs:Raises")
    done = run(recording, tmp_path, settings=SETTINGS, models=TONE_MODELS, formats=formats)
    (failure,) = done.summary.failures
    assert failure.endswith("the output tests.wrong_outputs:Raises failed: RuntimeError: out of paper")
    assert "\n" not in failure


class NoRoom(Right):
    extension = ".none"

    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        msg = "no room"
        raise OSError(msg)


def test_outputs_are_opened_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="the output NoRoom cannot be opened: OSError: no room"):
        OutputSet(tmp_path, "talk", ("rttm", Ctm, NoRoom), rate=RATE, recorded=True)
    assert list(tmp_path.iterdir()) == []


def test_names_are_checked_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "own_outputs.py").write_text(
        "from tests.wrong_outputs import Ctm\nclass Same(Ctm):\n    extension = '.rttm'\n"
    )
    for name, says in (
        ("no_such:Output", "cannot import the output no_such:Output: ModuleNotFoundError"),
        ("json:JSONDecoder", "is no subclass of"),
        ("ctm", "name your own as module:Class"),
    ):
        with pytest.raises(UsageError, match=says):
            known_formats([name])
    with pytest.raises(UsageError, match=r"rttm and own_outputs:Same would both write the file \*\.rttm"):
        known_formats(["rttm", "own_outputs:Same"])
    (tmp_path / "talk.ctm").write_text("")
    with pytest.raises(OutputError, match=r"talk\.ctm exists already"):
        check_outputs(tmp_path, ["talk"], ["rttm", "own_outputs:Ctm"], force=False)
    sys.modules.pop("own_outputs")
