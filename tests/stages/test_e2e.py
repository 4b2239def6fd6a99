"""A model that gives activity with identity by itself, in the chain ``capture,e2e``: right turns, in order, whenever it is killed."""

import importlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.models.base import FloatArray
from diart_mp.runtime.chain import chain_of, check_chain, make_stage, with_options
from diart_mp.runtime.local import default_stages
from diart_mp.runtime.stage import Chunk
from diart_mp.testing import check_stage, chunks
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader
from tests.fakes import PITCHES, TONE_MODELS, ToneActivity, conversation
from tests.pipeline_runs import Kill, run, set_brake

MODEL = "tests.fakes:ToneActivity"
CONFIG = StageConfig(name="e2e", keyed=True, model=MODEL)
SETTINGS = Settings.from_seconds(latency=1.0)


def test_turns_are_right_and_survive_kills(tmp_path: Path) -> None:
    audio = tmp_path / "hum.wav"
    truth = conversation(audio, seconds=15.0, seed=3)
    stages = with_options(check_chain(chain_of("capture,e2e", default_stages(TONE_MODELS))), [f"e2e.model={MODEL}"])
    calm = run(audio, tmp_path / "calm", settings=SETTINGS, stages=stages)
    kills = [Kill(3, ("e2e",)), Kill(10, ("e2e", "capture"))]
    set_brake(tmp_path / "brake", 0.02)  # or all is said before anything can be killed
    slow = {"DIART_MP_FAULTS": f"e2e:slow={tmp_path / 'brake'}"}
    killed = run(
        audio, tmp_path / "killed", settings=SETTINGS, stages=stages, kills=kills, max_in_flight=6, environment=slow
    )
    assert not calm.summary.failures + killed.summary.failures
    assert killed.kills == 3
    assert killed.files == calm.files
    assert killed.shown == sorted(set(killed.shown))
    people = list(dict.fromkeys(pitch for *_, pitch in truth))  # in the order in which they come
    expected, found = (np.zeros((len(PITCHES), 1500), bool) for _ in range(2))  # each 10 ms
    for start, end, pitch in truth:
        expected[people.index(pitch), round(100 * start) : round(100 * end)] = True
    for line in calm.files["hum.rttm"].decode().splitlines():
        fields = line.split()
        begin, length = float(fields[3]), float(fields[4])
        found[int(fields[7].removeprefix("speaker")), round(100 * begin) : round(100 * (begin + length))] = True
    assert (expected != found).sum() < 0.03 * expected.sum()


def test_conformance() -> None:
    assert check_stage("diart_mp.stages.e2e:EndToEnd", chunks(count=6, settings=SETTINGS), config=CONFIG) == []


def opened(model: str = MODEL) -> Any:
    kind = importlib.import_module("diart_mp.stages.e2e").EndToEnd  # this folder lies elsewhere in the checkout
    stage = make_stage(replace(CONFIG, model=model), kind)
    stage.open()
    return stage


class Counting(ToneActivity):
    """Counts the samples that it gets."""

    def __init__(self) -> None:
        self.pieces: list[int] = []

    def __call__(self, samples: FloatArray, state: Mapping[str, Any] | None) -> tuple[FloatArray, Mapping[str, Any]]:
        self.pieces.append(len(samples))
        return super().__call__(samples, state)


def test_pieces_are_those_of_a_step_and_gaps_are_silence() -> None:
    stage, rings, model = opened(), RingReader(), Counting()
    stage._model = model
    first, second, third = chunks(count=3, settings=Settings.from_seconds(latency=1.0, duration=1.2))
    given = [stage.process([Chunk(each, rings)])[0]["turns"] for each in (first, second, replace(third, start=40_000))]
    assert model.pieces == [8000, 8000, 3200, 8000, 8000, 8000, 8000, 8000]
    assert [turns.value["region"] for turns in given] == [[0, 11_200], [11_200, 19_200], [19_200, 51_200]]


def test_wrong_models_are_one_line() -> None:
    with pytest.raises(Exception, match=r"e2e\.model=package\.module:Class") as caught:
        opened("builtin")
    assert "\n" not in str(caught.value)
    stage = opened()
    with pytest.raises(Exception, match=r"looks 0\.5 s ahead: --latency must be at least 1"):
        stage.process([Chunk(chunks(count=1)[0], RingReader())])
    with pytest.raises(UsageError, match="turns"):
        check_chain(chain_of("capture,segmentation", default_stages(TONE_MODELS)))
