"""A server with one more stage: the people who are enrolled have their names with all clients."""

from pathlib import Path

import numpy as np

from diart_mp.cli import options
from diart_mp.speakers import EnrolledSpeakers
from tests.fakes import PITCHES, TONE_MODELS

from .conftest import Recording
from .rig import serving


def test_enrolled_people_have_their_names(recordings: list[Recording], tmp_path: Path) -> None:
    voice = np.eye(len(PITCHES))[2:3]  # who hums at the third pitch
    EnrolledSpeakers(embedding=TONE_MODELS.embedding).add("Ann", voice).save(tmp_path / "team.json")
    asked = dict.fromkeys(("chain", "insert", "replacing", "stage_options"), ())
    stages = options.stages({**asked, "speakers": tmp_path / "team.json"}, TONE_MODELS, "gateway")
    with serving(stages=stages) as server, server.client() as client:
        client.start(pace="fast")
        client.send(recordings[0].samples)
        client.tell("stop")
        client.finish()
        finals = [segment for segment in client.of("segment") if segment["final"]]
    named = [segment["speaker"] for segment in finals]
    assert 0 < named.count("Ann") < len(named)
    assert {name for name in named if name != "Ann"} <= {f"speaker{number}" for number in range(len(PITCHES))}
    # The same turns as without names, but for these.
    rows = [line.split() for line in recordings[0].rttm.splitlines()]
    assert [f"{segment['start']:.3f}" for segment in finals] == [row[3] for row in rows]
