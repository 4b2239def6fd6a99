"""Hostile messages at every socket: refused and counted, no stage dies, no output changes. `make fuzz` throws a million at each."""

from pathlib import Path

from diart_mp.config import Settings
from tests.fakes import TONE_MODELS, conversation
from tests.faults.hostile import all_counted, attacked_receiver, attacked_run
from tests.pipeline_runs import run

COUNT = 5_000


def test_hostile_messages_change_nothing(tmp_path: Path) -> None:
    audio = tmp_path / "hum.wav"
    conversation(audio, seconds=30.0, seed=3)
    calm = run(audio, tmp_path / "calm", settings=Settings.from_seconds(), models=TONE_MODELS)
    attacked, refused = attacked_run(audio, tmp_path / "attacked", seed=7, count=COUNT)
    assert attacked.summary.restarts == 0
    assert attacked.files == calm.files
    assert all_counted(refused, COUNT), refused


def test_a_mad_neighbour_is_survived(short_path: Path) -> None:
    refused, taken = attacked_receiver(f"ipc://{short_path}/a", seed=8, count=COUNT)
    assert refused > COUNT / 2
    assert taken < COUNT / 10
