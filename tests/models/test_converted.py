"""Checkpoints of pyannote.audio that run without torch: the same numbers, made once, and torch where that cannot be."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diart_mp.errors import ModelError
from diart_mp.models import converted
from diart_mp.models.base import EmbeddingModel, FloatArray
from diart_mp.models.conversion import Refused, compare_embeddings, compare_scores, convert, described
from diart_mp.models.convert import outcome
from diart_mp.models.converted import Converted
from diart_mp.models.embedding_openvino import OpenVinoEmbedding
from diart_mp.models.fbank import Fbank
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.models.pyannote import PyannoteEmbedding, PyannoteSegmentation
from diart_mp.precision import Precision

from .checkpoints import Checkpoints

ONE_WAY = {"lstm": {"hidden_size": 12, "num_layers": 2, "bidirectional": False}, "linear": {"num_layers": 0}}
ACTIVE = np.array([[True, False, True], [False, False, False], [True, True, True]])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new cache folder."""
    monkeypatch.setenv("DIART_MP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def audio() -> FloatArray:
    return (np.random.default_rng(0).standard_normal((3, 24000)) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> FloatArray:
    return np.random.default_rng(1).random((3, 88, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def xvector(checkpoints: Checkpoints) -> str:
    return checkpoints.save(checkpoints.xvector(), "converted_xvector.ckpt")


@pytest.fixture(scope="module")
def powerset(checkpoints: Checkpoints) -> str:
    network = checkpoints.pyannet(checkpoints.powerset)
    with torch.no_grad():
        network.classifier.weight *= 50  # so that several classes win somewhere
    return checkpoints.save(network, "converted_powerset.ckpt")


def kept(found: Converted, path: Path) -> Converted:
    """As it comes back from its file."""
    found.write(path)
    read = Converted.read(path)
    assert read is not None
    return read


@pytest.mark.parametrize("settings", [{}, ONE_WAY])
@pytest.mark.usefixtures("cache")
def test_scores_are_those_of_torch(
    checkpoints: Checkpoints, audio: FloatArray, tmp_path: Path, settings: dict[str, Any]
) -> None:
    path = checkpoints.save(checkpoints.pyannet(checkpoints.multilabel, **settings), "any.ckpt")
    model = kept(convert(Path(path), "segmentation"), tmp_path / "any.safetensors").segmentation()
    expected = load_segmentation(path, precision=Precision.REFERENCE)
    assert (model.sample_rate, model.duration) == (expected.sample_rate, expected.duration)
    np.testing.assert_allclose(model(audio), expected(audio), rtol=0, atol=1e-5)


@pytest.mark.usefixtures("cache")
def test_powerset_scores_become_the_same_hard_labels(powerset: str, audio: FloatArray, tmp_path: Path) -> None:
    model = kept(convert(Path(powerset), "segmentation"), tmp_path / "any.safetensors").segmentation()
    scores = model(audio)
    assert scores.dtype == np.float32
    assert model.duration == 10.0
    assert len(np.unique(scores.reshape(-1, 3), axis=0)) > 1
    np.testing.assert_array_equal(scores, load_segmentation(powerset, precision=Precision.REFERENCE)(audio))


@pytest.mark.parametrize("kind", ["xvector", "wespeaker"])
def test_embeddings_are_those_of_torch(
    checkpoints: Checkpoints, audio: FloatArray, weights: FloatArray, tmp_path: Path, kind: str
) -> None:
    reference = load_embedding(
        checkpoints.save(getattr(checkpoints, kind)(), f"as_{kind}.ckpt"), precision=Precision.REFERENCE
    )
    assert isinstance(reference, PyannoteEmbedding)
    model = kept(described(reference.network), tmp_path / "any.safetensors").embedding()
    assert (model.sample_rate, model.dimension, model.duration) == (16000, reference.dimension, 5.0)
    found, expected = model(audio, weights, ACTIVE), reference(audio, weights, ACTIVE)
    np.testing.assert_array_equal(np.isnan(found).all(axis=2), ~ACTIVE)
    off = np.linalg.norm(found - expected, axis=2) / np.linalg.norm(expected, axis=2)
    assert np.nanmax(off) < 1e-4
    compare_speakers_and_batches(model, audio, weights, found)
    with pytest.raises(ModelError, match=r"a window of 300 samples .*too short"):
        model(audio[:, :300], weights, ACTIVE)


def compare_speakers_and_batches(
    model: EmbeddingModel, audio: FloatArray, weights: FloatArray, found: FloatArray
) -> None:
    """A window's numbers are the same alone; a speaker without weight has no embedding."""
    np.testing.assert_array_equal(model(audio[2:], weights[2:], ACTIVE[2:]), found[2:])
    assert np.isnan(model(audio[2:], weights[2:] * np.array([1, 0, 1], np.float32), ACTIVE[2:])[0, 1]).all()


def test_mel_energies_are_those_of_kaldi(checkpoints: Checkpoints, audio: FloatArray) -> None:
    with torch.inference_mode():
        expected = checkpoints.wespeaker().compute_fbank(torch.from_numpy(audio)[:, None]).numpy()
    for waveform, wanted in zip(audio, expected, strict=True):
        np.testing.assert_allclose(Fbank()(waveform).T, wanted, rtol=0, atol=2e-3)


def test_what_differs_is_refused(checkpoints: Checkpoints, xvector: str, cache: Path) -> None:
    network = checkpoints.pyannet(checkpoints.multilabel)
    changed = described(network)
    changed.weights["classifier.bias"][0] += 0.1
    with pytest.raises(Refused, match="scores are off by"):
        compare_scores(checkpoints.pyannet(checkpoints.multilabel), changed)
    model = PyannoteEmbedding(Path(xvector))
    found = described(model.network)
    longer = {**found.weights, "embedding.bias": found.weights["embedding.bias"] + np.float32(0.1)}
    with pytest.raises(Refused, match="embeddings are off by"):
        compare_embeddings(model, Converted("XVectorSincNet", 16000, 5.0, "", longer))
    with pytest.raises(Refused, match="KeyError"):
        compare_embeddings(model, Converted("XVectorSincNet", 16000, 5.0, "", {}))
    with pytest.raises(Refused, match="stride of its SincNet is 5"):
        described(checkpoints.pyannet(checkpoints.multilabel, sincnet={"stride": 5}))
    assert not (cache / "converted").exists()


SECOND = """
import sys
sys.modules.update({name: None for name in ("torch", "pyannote", "torchaudio", "lightning")})
"""
START = """
import sys
import numpy as np
from diart_mp.models.load import load_embedding, load_segmentation
audio = np.random.default_rng(0).standard_normal((2, 24000)).astype(np.float32) * 0.1
scores = load_segmentation(sys.argv[1])(audio)
rows = load_embedding(sys.argv[2])(audio, np.ones((2, 88, 2), np.float32), np.ones((2, 2), bool))
print(scores.sum(), rows.tobytes().hex(), {"torch", "pyannote"} & set(sys.modules) if len(sys.argv) == 3 else "")
"""


def start(code: str, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_stages_start_without_torch_and_pyannote(powerset: str, xvector: str, cache: Path) -> None:
    (cache / "converted").mkdir(parents=True)
    prefix, suffix = converted._name(Path(xvector))  # as if it had been converted before, which takes seconds
    described(PyannoteEmbedding(Path(xvector)).network).write(
        cache / "converted" / f"{prefix}-XVectorSincNet-{suffix}.safetensors"
    )
    first = start(START, powerset, xvector)
    assert first.endswith(" set()\n")  # what converts is a process of its own
    files = {path.name: path.stat().st_mtime_ns for path in (cache / "converted").iterdir()}
    assert sorted(name.split("-")[1] for name in files if name.endswith("safetensors")) == ["PyanNet", "XVectorSincNet"]
    assert start(SECOND + START, powerset, xvector, "second") == first.removesuffix("set()\n") + "\n"
    assert {path.name: path.stat().st_mtime_ns for path in (cache / "converted").iterdir()} == files


class Converter:
    """In place of the process that converts: counts, and says what it is told to."""

    def __init__(self, outcome: Callable[[Path, tuple[str, str]], dict[str, str]]) -> None:
        self.outcome, self.runs = outcome, 0

    def __call__(self, _checkpoint: Path, _role: str, folder: Path, name: tuple[str, str]) -> dict[str, str]:
        self.runs += 1
        return self.outcome(folder, name)


def installed(monkeypatch: pytest.MonkeyPatch, outcome: Callable[[Path, tuple[str, str]], dict[str, str]]) -> Converter:
    made = Converter(outcome)
    monkeypatch.setattr(converted, "_outcome", made)
    return made


@pytest.mark.usefixtures("cache")
def test_what_is_refused_runs_in_torch_and_is_not_tried_again(
    powerset: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    converter = installed(monkeypatch, lambda *_: {"refused": "it is odd"})
    for _ in range(2):
        assert isinstance(load_segmentation(powerset), PyannoteSegmentation)
    assert converter.runs == 1
    assert [record.message for record in caplog.records] == [f"{powerset} runs in torch: it is odd"] * 2


@pytest.mark.usefixtures("cache")
def test_a_conversion_that_ends_early_is_tried_again(powerset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    converter = installed(monkeypatch, lambda *_: {"said": "Killed"})
    for _ in range(2):
        assert isinstance(load_segmentation(powerset), PyannoteSegmentation)
    assert converter.runs == 2


@pytest.mark.usefixtures("cache")
def test_what_the_converter_says_of_a_bad_checkpoint_is_the_error(
    powerset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch, lambda *_: {"error": "it is no checkpoint"})
    with pytest.raises(ModelError, match="it is no checkpoint"):
        load_segmentation(powerset)


def test_a_damaged_file_is_made_anew(xvector: str, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good = described(PyannoteEmbedding(Path(xvector)).network)

    def write(folder: Path, name: tuple[str, str]) -> dict[str, str]:
        path = folder / f"{name[0]}-{good.architecture}-{name[1]}.safetensors"
        good.write(path)
        return {"file": str(path)}

    converter = installed(monkeypatch, write)
    assert isinstance(load_embedding(xvector), OpenVinoEmbedding)
    (file,) = (cache / "converted").glob("*.safetensors")
    whole = file.read_bytes()
    for damage in (whole[:1000], b"", whole[:-1] + bytes([whole[-1] ^ 1])):
        file.write_bytes(damage)
        assert isinstance(load_embedding(xvector), OpenVinoEmbedding)
        assert Converted.read(file) is not None
    assert converter.runs == 4
    with pytest.raises(ModelError, match="does not score speakers"):
        load_segmentation(xvector)


def test_without_a_cache_to_write_to_it_runs_in_torch(xvector: str, cache: Path) -> None:
    cache.write_text("not a folder")
    assert isinstance(load_embedding(xvector), PyannoteEmbedding)


def test_the_converter_ends_with_its_stage(xvector: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "diart_mp.models.convert", "embedding", xvector, str(tmp_path), "a", "b"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, list(tmp_path.iterdir())) == (1, "", [])


def test_what_the_converter_says(checkpoints: Checkpoints, xvector: str, tmp_path: Path) -> None:
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"no checkpoint")
    assert "bad.ckpt" in outcome("embedding", bad, tmp_path, "a", "b")["error"]
    assert "does not score speakers" in outcome("segmentation", Path(xvector), tmp_path, "a", "b")["error"]
    odd = checkpoints.save(checkpoints.pyannet(checkpoints.multilabel, sincnet={"stride": 5}), "odd.ckpt")
    assert "stride of its SincNet" in outcome("segmentation", Path(odd), tmp_path, "a", "b")["refused"]
    assert outcome("embedding", Path(xvector), tmp_path, "a", "b") == {
        "file": f"{tmp_path}/a-XVectorSincNet-b.safetensors"
    }
