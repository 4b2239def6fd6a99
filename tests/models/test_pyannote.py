"""Checkpoints of pyannote.audio in torch: small ones with random weights, made by pyannote.audio itself."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diart_mp.errors import ModelError
from diart_mp.models import load
from diart_mp.models.base import FloatArray
from diart_mp.models.pyannote import PyannoteEmbedding
from diart_mp.precision import Precision

from .checkpoints import Checkpoints
from .test_checkpoint import Malicious

SAMPLES = 24000  # 1.5 s
load_segmentation = partial(load.load_segmentation, precision=Precision.REFERENCE)
load_embedding = partial(load.load_embedding, precision=Precision.REFERENCE)
ACTIVE = np.array([[True, False, True], [False, False, False], [False, True, False], [True, True, True]])


@pytest.fixture(scope="module")
def audio() -> FloatArray:
    return (np.random.default_rng(0).standard_normal((4, SAMPLES)) * 0.1).astype(np.float32)


@pytest.fixture(scope="module")
def weights() -> FloatArray:
    return np.random.default_rng(1).random((4, 88, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def xvector(checkpoints: Checkpoints) -> tuple[Any, PyannoteEmbedding]:
    network = checkpoints.xvector()
    model = load_embedding(checkpoints.save(network, "xvector.ckpt"))
    assert isinstance(model, PyannoteEmbedding)
    return network, model


def test_multilabel_scores_are_kept(checkpoints: Checkpoints, audio: FloatArray) -> None:
    network = checkpoints.pyannet(checkpoints.multilabel)
    model = load_segmentation(checkpoints.save(network, "multilabel.ckpt"))
    assert (model.sample_rate, model.duration) == (16000, 5.0)
    with torch.inference_mode():
        expected = network(torch.from_numpy(audio).unsqueeze(1)).numpy()
    np.testing.assert_allclose(model(audio), expected, rtol=0, atol=1e-6)


def test_powerset_scores_become_hard_labels(checkpoints: Checkpoints, audio: FloatArray) -> None:
    network = checkpoints.pyannet(checkpoints.powerset)
    with torch.no_grad():
        network.classifier.weight *= 50  # so that several classes win somewhere
    model = load_segmentation(checkpoints.save(network, "powerset.bin"))
    assert model.duration == 10.0
    classes = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0], [1, 0, 1], [0, 1, 1]])
    with torch.inference_mode():
        winners = network(torch.from_numpy(audio).unsqueeze(1)).numpy().argmax(axis=2)
    assert len(np.unique(winners)) > 1
    scores = model(audio)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, classes[winners])


def test_embeddings_are_pooled_as_before_3_1(
    xvector: tuple[Any, PyannoteEmbedding], audio: FloatArray, weights: FloatArray
) -> None:
    network, model = xvector
    found = model(audio, weights, ACTIVE)
    assert (model.sample_rate, model.dimension) == (16000, 16)
    np.testing.assert_array_equal(np.isnan(found).all(axis=2), ~ACTIVE)
    with torch.inference_mode():
        frames = network.sincnet(torch.from_numpy(audio).unsqueeze(1))
        for layer in network.tdnns:
            frames = layer(frames)
    for chunk, speaker in np.argwhere(ACTIVE):
        x = frames[chunk].numpy().astype(np.float64)
        centres = (np.arange(x.shape[1]) + 0.5) * 88 / x.shape[1] - 0.5
        w = np.interp(centres, np.arange(88), weights[chunk, :, speaker])
        mean = (x * w).sum(axis=1) / w.sum()
        variance = (w * (x - mean[:, None]) ** 2).sum(axis=1) / (w.sum() - (w**2).sum() / w.sum())
        pooled = torch.from_numpy(np.concatenate([mean, np.sqrt(variance)])).float()
        with torch.inference_mode():
            expected = network.embedding(pooled).numpy()
        np.testing.assert_allclose(found[chunk, speaker], expected, rtol=0, atol=1e-5)


@pytest.fixture
def trunk_runs(xvector: tuple[Any, PyannoteEmbedding]) -> Iterator[list[int]]:
    """Waveforms that went through the trunk, one number per pass."""
    runs: list[int] = []
    first_layer = xvector[1].network.sincnet
    handle = first_layer.register_forward_hook(lambda _module, inputs, _output: runs.append(len(inputs[0])))
    yield runs
    handle.remove()


def test_the_trunk_runs_once_per_chunk_with_a_speaker(
    xvector: tuple[Any, PyannoteEmbedding], audio: FloatArray, weights: FloatArray, trunk_runs: list[int]
) -> None:
    xvector[1](audio, weights, ACTIVE)
    assert trunk_runs == [1, 1, 1]
    assert np.isnan(xvector[1](audio, weights, np.zeros_like(ACTIVE))).all()
    assert trunk_runs == [1, 1, 1]


def test_a_network_that_does_not_split_runs_per_active_speaker(
    xvector: tuple[Any, PyannoteEmbedding], audio: FloatArray, weights: FloatArray, trunk_runs: list[int]
) -> None:
    whole = PyannoteEmbedding.__new__(PyannoteEmbedding)
    whole.__dict__.update({**xvector[1].__dict__, "_parts": None})
    expected = xvector[1](audio, weights, ACTIVE)
    trunk_runs.clear()
    np.testing.assert_allclose(whole(audio, weights, ACTIVE), expected, rtol=0, atol=1e-6)
    assert trunk_runs == [2, 1, 3]


def test_a_batch_does_not_change_the_numbers(
    xvector: tuple[Any, PyannoteEmbedding], audio: FloatArray, weights: FloatArray
) -> None:
    together = xvector[1](audio, weights, ACTIVE)
    for i in range(4):
        alone = xvector[1](audio[i : i + 1], weights[i : i + 1], ACTIVE[i : i + 1])
        np.testing.assert_array_equal(alone[0], together[i])


def test_wespeaker_runs_its_trunk_once_too(checkpoints: Checkpoints, audio: FloatArray, weights: FloatArray) -> None:
    network = checkpoints.wespeaker()
    model = load_embedding(checkpoints.save(network, "wespeaker.ckpt"))
    assert isinstance(model, PyannoteEmbedding)
    runs: list[int] = []
    model.network.resnet.conv1.register_forward_hook(lambda _module, inputs, _output: runs.append(len(inputs[0])))
    flat = np.ones_like(weights)
    found = model(audio[:2], flat[:2], ACTIVE[:2])
    assert runs == [1]
    with torch.inference_mode():
        expected = network(torch.from_numpy(audio[:1]).unsqueeze(1)).numpy()  # no weights: the same as flat ones
    np.testing.assert_allclose(found[0, [0, 2]], np.repeat(expected, 2, axis=0), rtol=0, atol=1e-5)


def test_a_model_for_the_other_purpose_is_refused(
    checkpoints: Checkpoints, xvector: tuple[Any, PyannoteEmbedding]
) -> None:
    with pytest.raises(ModelError, match="XVectorSincNet that does not score speakers"):
        load_segmentation(str(checkpoints.folder / "xvector.ckpt"))
    network = checkpoints.pyannet(checkpoints.multilabel)
    with pytest.raises(ModelError, match="PyanNet that makes no embeddings"):
        load_embedding(checkpoints.save(network, "segmentation.ckpt"))


def test_what_a_checkpoint_says_is_not_executed(checkpoints: Checkpoints, tmp_path: Path) -> None:
    network = checkpoints.pyannet(checkpoints.multilabel)
    armed = checkpoints.save(network, "armed.ckpt", callbacks=Malicious(tmp_path / "made"))
    with pytest.raises(ModelError, match="never executed"):
        load_segmentation(armed)
    assert not (tmp_path / "made").exists()
    meta = {"architecture": {"module": "subprocess", "class": "Popen"}, "specifications": checkpoints.multilabel}
    changed = {"pyannote.audio": meta, "hyper_parameters": {"args": ["touch", str(tmp_path / "made")]}}
    with pytest.raises(ModelError, match=r"subprocess\.Popen, which pyannote\.audio does not have"):
        load_segmentation(checkpoints.save(network, "foreign.ckpt", **changed))
    assert not (tmp_path / "made").exists()


def test_incomplete_checkpoints_are_refused(checkpoints: Checkpoints) -> None:
    network = checkpoints.pyannet(checkpoints.multilabel)
    state = {name: tensor for name, tensor in network.state_dict().items() if not name.startswith("classifier")}
    with pytest.raises(ModelError, match=r"lacks 2 tensors of its PyanNet, the first is classifier\.weight"):
        load_segmentation(checkpoints.save(network, "part.ckpt", state_dict=state))
    torch.save({"weights": torch.zeros(1)}, checkpoints.folder / "other.ckpt")
    with pytest.raises(ModelError, match=r"other\.ckpt is no checkpoint of a pyannote\.audio model"):
        load_segmentation(str(checkpoints.folder / "other.ckpt"))


def test_models_come_from_the_hub_cache_without_a_network(checkpoints: Checkpoints, tmp_path: Path) -> None:
    files = {
        "powerset": checkpoints.save(checkpoints.pyannet(checkpoints.powerset), "hub_powerset.bin"),
        "xvector": checkpoints.save(checkpoints.xvector(), "hub_xvector.bin"),
    }
    for name, file in files.items():
        snapshot = tmp_path / "hub" / f"models--tiny--{name}" / "snapshots" / ("0" * 40)
        snapshot.mkdir(parents=True)
        shutil.copy(file, snapshot / "pytorch_model.bin")
        (snapshot.parents[1] / "refs").mkdir()
        (snapshot.parents[1] / "refs" / "v1").write_text("0" * 40)
    code = (
        "import numpy as np\n"
        "from diart_mp.models.load import load_embedding, load_segmentation\n"
        "from diart_mp.precision import Precision\n"
        "audio, active = np.zeros((1, 24000), np.float32), np.array([[True, False]])\n"
        "print(load_segmentation('tiny/powerset@v1', precision=Precision.REFERENCE)(audio).shape)\n"
        "print(load_embedding('tiny/xvector@v1', precision=Precision.REFERENCE)(audio, np.ones((1, 50, 2), np.float32), active).shape)\n"
    )
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-W", "error", "-c", code]  # the warnings of what we import stay inside
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.split("\n"), done.stderr) == (0, ["(1, 86, 3)", "(1, 2, 16)", ""], "")
