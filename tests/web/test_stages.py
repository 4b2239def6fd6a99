"""A server with one more stage: the people who are enrolled have their names with all clients that want them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.cli import options
from diart_mp.speakers import EnrolledSpeakers
from tests.cli.command import Diart
from tests.cli.conftest import diart as diart
from tests.fakes import PITCHES, TONE_MODELS

from .conftest import Recording
from .rig import Serving, serving


@pytest.fixture(scope="module")
def naming(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    """Who hums at the third pitch is Ann, at the second one Bo."""
    file = tmp_path_factory.mktemp("team") / "team.json"
    voices = np.eye(len(PITCHES))
    team = EnrolledSpeakers(embedding=TONE_MODELS.embedding).add("Ann", voices[2:3]).add("Bo", voices[1:2])
    team.save(file)
    asked = dict.fromkeys(("chain", "insert", "replacing", "stage_options"), ())
    with serving(stages=options.stages({**asked, "speakers": file}, TONE_MODELS, "gateway")) as server:
        yield server


def finals(server: Serving, recording: Recording, **diarization: Any) -> Sequence[dict[str, Any]]:
    with server.client() as client:
        client.start(pace="fast", diarization=diarization)
        client.send(recording.samples)
        client.tell("stop")
        client.finish()
        return [segment for segment in client.of("segment") if segment["final"]]


def test_enrolled_people_have_their_names(naming: Serving, recordings: list[Recording]) -> None:
    said = finals(naming, recordings[0])
    named = [segment["speaker"] for segment in said]
    assert 0 < named.count("Ann") < len(named)
    assert {name for name in named if name not in ("Ann", "Bo")} <= {
        f"speaker{number}" for number in range(len(PITCHES))
    }
    # The same turns as without names, but for these.
    rows = [line.split() for line in recordings[0].rttm.splitlines()]
    assert [f"{segment['start']:.3f}" for segment in said] == [row[3] for row in rows]


def test_a_client_says_who_may_be_named(naming: Serving, recordings: list[Recording]) -> None:
    wishes: list[dict[str, Any]] = [{}, {"known_speakers": ["Ann"]}, {"known_speakers": []}]
    everybody, ann, nobody = (
        [segment["speaker"] for segment in finals(naming, recordings[0], **wish)] for wish in wishes
    )
    assert {"Ann", "Bo"} < set(everybody)
    assert [name == "Ann" for name in ann] == [name == "Ann" for name in everybody]
    assert "Bo" not in ann
    assert nobody == [row.split()[7] for row in recordings[0].rttm.splitlines()]


def test_the_command_says_who_may_be_named(
    diart: Diart, naming: Serving, recordings: list[Recording], tmp_path: Path
) -> None:
    arguments: list[str | Path] = [
        "--port",
        str(naming.port),
        "--fast",
        "--known-speaker",
        "Bo",
        "-o",
        tmp_path / "talk.rttm",
    ]
    assert diart("client", recordings[0].path, *arguments).code == 0
    said = {line.split()[7] for line in (tmp_path / "talk.rttm").read_text().splitlines()}
    assert "Bo" in said
    assert "Ann" not in said


def test_nobody_waits_for_somebody_who_is_not_enrolled(naming: Serving) -> None:
    with naming.client() as client:
        client.tell("start", diarization={"known_speakers": ["Ann", "Cy"]})
        client.finish()
    assert (client.of("error")[0]["code"], client.close_code) == ("bad_settings", 1002)
    assert "'Cy'" in client.of("error")[0]["message"]
