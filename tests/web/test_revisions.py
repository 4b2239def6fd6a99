"""Revisions reach clients: folded into what was told, they are the turns that a run of the file writes at its end."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from diart_mp.config import Settings
from tests.cli.command import Diart
from tests.cli.conftest import diart as diart
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import run

from .conftest import Recording
from .rig import Serving, pcm16, rttm, serving

ADAPTIVE = Settings(clustering="adaptive")


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving(ADAPTIVE) as running:
        yield running


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Recording:
    """A conversation, and what a run of it with the adaptive clustering says in the end."""
    folder = tmp_path_factory.mktemp("revised")
    conversation(folder / "talk.wav", seconds=48.0, seed=5)
    files = run(folder / "talk.wav", folder / "out", models=TONE_MODELS, settings=ADAPTIVE).files
    return Recording(folder / "talk.wav", pcm16(folder / "talk.wav"), files["talk.rttm"].decode())


def fold(revisions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What is known after the last of ``revisions``, which covers all up to its end."""
    known: list[dict[str, Any]] = []
    for revision in revisions:
        before = [turn for turn in known if turn["start"] < revision["start"]]
        names = revision["renamed"]
        kept = [
            {**turn, "end": min(turn["end"], revision["start"]), "speaker": names.get(turn["speaker"], turn["speaker"])}
            for turn in before
        ]
        known = []
        for turn in sorted([*kept, *revision["turns"]], key=lambda turn: (turn["start"], turn["end"], turn["speaker"])):
            meets = [
                each for each in known if each["speaker"] == turn["speaker"] and turn["start"] - each["end"] < 0.05
            ]
            if meets:
                meets[-1]["end"] = max(meets[-1]["end"], turn["end"])
            else:
                known.append(dict(turn))
    return known


def test_what_is_known_in_the_end_is_what_a_run_of_the_file_writes(server: Serving, recording: Recording) -> None:
    with server.client() as client:
        client.start(pace="fast")
        client.send(recording.samples)
        client.tell("stop")
        client.finish()
    revisions = client.of("revision")
    assert len(revisions) == 5, "after each 20 of 87 windows, and at the end"
    assert rttm("talk", fold(revisions)) == recording.rttm
    assert client.said[-1]["type"] == "ended"


def test_who_comes_back_is_told_all_at_once(server: Serving, recording: Recording) -> None:
    client = server.client()
    token = client.start(pace="fast")["resume_token"]
    client.send(recording.samples[: 30 * 16_000])
    while len(client.of("revision")) < 2:
        client.hear("revision")
    client.websocket.socket.close()  # as when the network is gone
    with server.client() as again:
        again.tell("start", resume_token=token)
        position = again.hear("started")["samples"]
        again.send(recording.samples[position:])
        again.tell("stop")
        again.finish()
    first, *later = again.of("revision")
    assert (first["start"], first["renamed"]) == (0, {})
    assert later
    assert rttm("talk", fold([first, *later])) == recording.rttm


def test_the_command_writes_what_is_known_in_the_end(
    diart: Diart, server: Serving, recording: Recording, tmp_path: Path
) -> None:
    out = tmp_path / "talk.rttm"
    done = diart("client", recording.path, "--port", str(server.port), "--fast", "-o", out)
    assert (done.code, done.complaints) == (0, [])
    assert out.read_text() == recording.rttm
