"""What is recorded is what was captured and said, sample by sample, whenever the stage was killed; no file of anybody else is touched."""

import json
from pathlib import Path

import numpy as np
import soundfile

from diart_mp.config import Settings
from diart_mp.outputs.recording import Recording
from diart_mp.runtime.chain import compose, with_options
from diart_mp.runtime.local import default_stages
from diart_mp.testing import check_stage, chunks
from diart_mp.topology import StageConfig
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Kill, Run, run

SETTINGS = Settings.from_seconds(latency=2.0)


def recorded(audio: Path, folder: Path, kills: list[Kill]) -> Run:
    stages = with_options(
        compose(default_stages(TONE_MODELS), insert=["record@clustering"]), [f"record.folder={folder / 'kept'}"]
    )
    slow = {"DIART_MP_FAULTS": "clustering:slow=0.05"}  # so that there is work left whenever somebody is killed
    done = run(
        audio,
        folder / "out",
        settings=SETTINGS,
        models=TONE_MODELS,
        stages=stages,
        kills=kills,
        environment=slow,
        max_in_flight=8,
    )
    assert not done.summary.failures
    assert done.kills == sum(len(kill.victims) for kill in kills)
    return done


def test_audio_and_turns_are_those_of_the_stream_also_with_kills(tmp_path: Path) -> None:
    audio = tmp_path / "Talk 1.wav"
    conversation(audio, seconds=14.3, seed=3)  # ends in the middle of a step
    kills = [Kill(3, ("record",)), Kill(12, ("record", "clustering"))]
    for name, each in (("calm", []), ("killed", kills)):
        done = recorded(audio, tmp_path / name, each)
        files = sorted(path.name for path in (tmp_path / name / "kept").iterdir())
        assert files == ["Talk 1.turns.jsonl", "Talk 1.wav"]
        assert (tmp_path / name / "kept" / "Talk 1.turns.jsonl").read_bytes() == done.files["Talk 1.jsonl"]
        kept, rate = soundfile.read(tmp_path / name / "kept" / "Talk 1.wav", dtype="int16")
        expected, expected_rate = soundfile.read(audio, dtype="int16")
        assert rate == expected_rate
        np.testing.assert_array_equal(kept, expected)


def test_files_of_others_stay_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(b"mine")
    (tmp_path / "talk-2.turns.jsonl").write_bytes(b"mine too")
    one = Recording(tmp_path, "talk", stream="run-0", rate=8000)
    other = Recording(tmp_path, "talk", stream="run-1", rate=8000)
    again = Recording(tmp_path, "talk", stream="run-0", rate=8000)
    assert [each.audio.name for each in (one, other, again)] == ["talk-3.wav", "talk-4.wav", "talk-3.wav"]
    one.write(0, np.array([0.0, 0.5, -1.0, 2.0], np.float32))
    again.write(2, np.array([0.25], np.float32))  # the same place
    again.write(6, np.array([-0.5], np.float32))  # what nobody wrote is silence
    offset = one.write_turns(0, "a\n")
    again.write_turns(one.write_turns(offset, "long\n"), "lost\n")
    again.write_turns(offset, "b\n")
    samples, rate = soundfile.read(one.audio, dtype="int16")
    assert (samples.tolist(), rate) == ([0, 16384, 8192, 32767, 0, 0, -16384], 8000)
    one.cut(3)
    assert soundfile.read(one.audio, dtype="int16")[0].tolist() == [0, 16384, 8192]
    assert one.turns.read_text() == "a\nb\n"
    for each in (one, other, again):
        each.close()
    assert (tmp_path / "talk.wav").read_bytes() == b"mine"
    assert (tmp_path / "talk-2.turns.jsonl").read_bytes() == b"mine too"


def test_conformance(tmp_path: Path) -> None:
    config = StageConfig(name="record", keyed=True, options={"folder": str(tmp_path / "kept")})
    made = chunks(count=5)
    assert check_stage("diart_mp.stages.record:Record", made, config=config) == []
    lines = [json.loads(line) for line in (tmp_path / "kept" / "stream.turns.jsonl").read_text().splitlines()]
    assert [line["seq"] for line in lines] == [0, 1, 2, 3, 4]
