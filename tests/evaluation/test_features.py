"""Features on disk: the same turns as through the pipeline, computed once, never mixed up, never taken when damaged."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from diart_mp.blocks.weights import overlap_aware_weights
from diart_mp.config import Settings
from diart_mp.errors import AudioError, OutputError
from diart_mp.evaluation.benchmark import Benchmark
from diart_mp.evaluation.feature_files import FeatureFiles
from diart_mp.evaluation.features import FeatureCache
from diart_mp.evaluation.replay import diarize
from diart_mp.models.base import SplitEmbeddingModel
from diart_mp.models.builtin import ensure
from diart_mp.models.load import load_embedding
from diart_mp.outputs.events import update_from_dict
from diart_mp.runtime.local import Models
from tests.fakes import RATE, TONE_MODELS, conversation


@pytest.fixture
def audio(corpus: Path) -> Path:
    return corpus / "audio" / "long.wav"


def cache_of(folder: Path) -> FeatureCache:
    return FeatureCache(TONE_MODELS, folder)


SETTINGS: Mapping[str, Settings] = {
    "fastest": Settings(),
    "latency": Settings.from_seconds(latency=3.2, tau_active=0.6, gamma=2.0),
    "early": Settings.from_seconds(latency=2.0, start="early"),
    "adaptive": Settings.from_seconds(latency=2.0, clustering="adaptive", tau_active=0.55),
    "uneven": Settings.from_seconds(duration=3.0, step=0.7, latency=1.5),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_said_is_what_the_pipeline_says(corpus: Path, tmp_path: Path, name: str) -> None:
    """Also for a recording shorter than a window, and for one that begins with silence."""
    settings, folder = SETTINGS[name], tmp_path / "audio"
    folder.mkdir()
    for path in (corpus / "audio").iterdir():
        (folder / path.name).symlink_to(path)
    samples, _ = soundfile.read(corpus / "audio" / "other.wav", dtype="int16")
    soundfile.write(folder / "late.wav", np.concatenate([np.zeros(3 * RATE + 77, np.int16), samples]), RATE)
    (tmp_path / "rttm").mkdir()
    for path in folder.iterdir():
        (tmp_path / "rttm" / f"{path.stem}.rttm").touch()
    Benchmark(folder, tmp_path / "rttm", tmp_path / "out", jobs=2)(settings, TONE_MODELS)
    cache = cache_of(tmp_path / "cache")
    cache.get(folder / "late.wav", replace(settings, latency=settings.step))  # what it keeps serves for all latencies
    for path in folder.iterdir():
        features = cache.get(path, settings)
        updates = diarize(features, cache.embeddings(path, features, settings), settings)
        record = updates_of(tmp_path / "out", path.stem)
        expected = [update_from_dict(line, rate=RATE) for line in record]
        assert [(u.seq, u.start, u.end, u.turns, u.revision) for u in updates] == [
            (u.seq, u.start, u.end, u.turns, u.revision) for u in expected
        ]


def updates_of(output: Path, name: str) -> Any:
    return json.loads((output / ".evaluation" / f"recording-{name}.json").read_text())["updates"]


def test_the_built_in_trunk_and_pooling_are_the_model() -> None:
    ensure("embedding")
    model = load_embedding("builtin")
    assert isinstance(model, SplitEmbeddingModel)
    generator = np.random.default_rng(0)
    waveforms = generator.normal(0, 0.1, (3, 5 * RATE)).astype(np.float32)
    scores = generator.random((3, 293, 3), np.float32)
    active = np.array([[True, True, False], [False, False, False], [True, True, True]])
    weights = overlap_aware_weights(scores)
    trunk = model.trunk(waveforms)
    assert trunk.shape == (3, 5, 256)
    np.testing.assert_array_equal(model.pool(trunk, weights, active, 5 * RATE), model(waveforms, weights, active))


def test_the_models_run_once(audio: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = cache_of(tmp_path).get(audio, Settings())
    embeddings = cache_of(tmp_path).embeddings(audio, first, Settings())

    def refuse(*_: Any) -> None:
        pytest.fail("a model was loaded")

    monkeypatch.setattr(FeatureCache, "_load_models", refuse)
    for settings in (
        Settings(),
        Settings.from_seconds(latency=5.0),
        Settings(tau_active=0.9, rho_update=0.0, delta_new=1.0),
    ):
        again = cache_of(tmp_path).get(audio, settings)
        count = min(len(first.starts), len(again.starts))
        np.testing.assert_array_equal(again.segmentation[:count], first.segmentation[:count])
        found = cache_of(tmp_path).embeddings(audio, again, settings)
        np.testing.assert_array_equal(found[:count], embeddings[:count])
        assert len(found) == len(again.starts)


@pytest.mark.parametrize(
    "other", [Settings.from_seconds(step=0.25), Settings.from_seconds(duration=4.0), Settings(start="early")]
)
def test_other_windows_are_other_features(audio: Path, tmp_path: Path, other: Settings) -> None:
    cache = cache_of(tmp_path)
    assert cache.get(audio, Settings()).key != cache.get(audio, other).key


def test_other_models_and_other_audio_are_other_features(audio: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.wav"
    copy.write_bytes(audio.read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"one")
    cache = tmp_path / "cache"
    key = cache_of(cache).get(audio, Settings()).key
    assert cache_of(cache).get(copy, Settings()).key == key  # it is the content that counts
    watching = cache_of(cache)
    assert watching.get(copy, Settings()).key == key
    conversation(copy, seconds=6.0, seed=9)
    os.utime(copy, ns=(1, 1))
    assert watching.get(copy, Settings()).key != key
    keys = set[str]()
    for data in (b"one", b"two"):
        (tmp_path / "model.onnx").write_bytes(data)
        models = Models(segmentation=TONE_MODELS.segmentation, embedding=str(tmp_path / "model.onnx"))
        keys.add(FeatureCache(models, cache)._key(audio, Settings())[0])
    assert len(keys | {key}) == 3


@pytest.mark.parametrize("damage", ["flipped", "cut", "other"])
def test_damaged_features_are_computed_again(audio: Path, tmp_path: Path, damage: str) -> None:
    before = cache_of(tmp_path).get(audio, Settings())
    path = tmp_path / f"{before.key}.npz"
    data = bytearray(path.read_bytes())
    if damage == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[:-100] if damage == "cut" else data)
    if damage == "other":
        np.savez(path, key=np.array("another"), starts=np.zeros(1))
    after = cache_of(tmp_path).get(audio, Settings())
    np.testing.assert_array_equal(after.segmentation, before.segmentation)
    assert FeatureFiles(tmp_path).read(before.key) is not None


def test_audio_that_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    with pytest.raises(AudioError, match=r"bad\.wav"):
        cache_of(tmp_path).get(tmp_path / "bad.wav", Settings())


def test_a_cache_that_cannot_be_written(audio: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="DIART_MP_CACHE"):
        cache_of(tmp_path / "file").get(audio, Settings())
