"""ONNX models: tiny ones (a maximum over time, a mean of the weights), on onnxruntime or, without it, on OpenVINO."""

import base64
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from diart_mp.errors import ModelError
from diart_mp.models import onnx
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.models.onnx import OnnxSegmentation

RUNTIMES = [name for name in ("onnxruntime", "openvino") if find_spec(name) is not None]

# waveform (b, 1, n) to segmentation (b, n / 100, 1): maximum of each 100 samples.
SEGMENTATION = (
    "CAgSADq3AQo7Cgh3YXZlZm9ybRIBcCIHTWF4UG9vbCoTCgxrZXJuZWxfc2hhcGVAZKABByoOCgdzdHJpZGVzQGSgAQcKLQoBcBIMc2VnbWVudGF0"
    "aW9uIglUcmFuc3Bvc2UqDwoEcGVybUAAQAJAAaABBxIBZ1ogCgh3YXZlZm9ybRIUChIIARIOCgMSAWIKAggBCgMSAW5iJAoMc2VnbWVudGF0aW9u"
    "EhQKEggBEg4KAxIBYgoDEgFmCgIIAUIECgAQDQ=="
)
# waveform (b, 1, n) and weights (b, f) to embedding (b, 2): maximum of the waveform, mean of the weights.
EMBEDDING = (
    "CAgSADqLAgo4Cgh3YXZlZm9ybRIBbSIJUmVkdWNlTWF4Kg0KBGF4ZXNAAUACoAEHKg8KCGtlZXBkaW1zGAGgAQIKDwoBbRIBYSIHRmxhdHRlbgo2"
    "Cgd3ZWlnaHRzEgF3IgpSZWR1Y2VNZWFuKgsKBGF4ZXNAAaABByoPCghrZWVwZGltcxgBoAECCiYKAWEKAXcSCWVtYmVkZGluZyIGQ29uY2F0KgsK"
    "BGF4aXMYAaABAhIBZ1ogCgh3YXZlZm9ybRIUChIIARIOCgMSAWIKAggBCgMSAW5aGwoHd2VpZ2h0cxIQCg4IARIKCgMSAWIKAxIBZmIcCgllbWJl"
    "ZGRpbmcSDwoNCAESCQoDEgFiCgIIAkIECgAQDQ=="
)


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    for name, content in (("segmentation", SEGMENTATION), ("embedding", EMBEDDING)):
        (tmp_path / f"{name}.onnx").write_bytes(base64.b64decode(content))
    return {name: str(tmp_path / f"{name}.onnx") for name in ("segmentation", "embedding")}


@pytest.fixture(params=["onnxruntime", "openvino"])
def runtime(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """One of the libraries that run such files, with the other one not to be found."""
    if request.param not in RUNTIMES:
        pytest.skip(f"{request.param} is not installed")
    only(request.param, monkeypatch)
    return str(request.param)


def only(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx, "find_spec", lambda name: find_spec(name) if name == runtime else None)


def test_without_a_runtime_the_message_names_the_package(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    only("", monkeypatch)
    for load in (load_segmentation, load_embedding):
        with pytest.raises(ModelError, match="pip install onnxruntime"):
            load(files["segmentation"])


def test_segmentation_takes_a_batch(files: dict[str, str], runtime: str) -> None:
    model = load_segmentation(files["segmentation"], device="auto")
    waveforms = np.arange(600, dtype=np.float32).reshape(2, 300)
    assert (model.sample_rate, model.duration) == (16000, None)
    assert model(waveforms)[:, :, 0].tolist() == [[99, 199, 299], [399, 499, 599]]


def test_embedding_runs_for_active_speakers(files: dict[str, str], runtime: str) -> None:
    model = load_embedding(files["embedding"])
    waveforms = np.array([[1, 5], [2, 7]], np.float32)
    weights = np.array([[[0, 1], [1, 1]], [[0, 0], [4, 0]]], np.float32)  # (batch, frames, speakers)
    found = model(waveforms, weights, np.array([[True, True], [True, False]]))
    assert model.dimension == 2
    assert found[0].tolist() == [[5, 0.5], [5, 1]]
    assert found[1, 0].tolist() == [7, 2]
    assert np.isnan(found[1, 1]).all()


def metadata(name: str, value: str) -> bytes:
    """An entry of a file's metadata: field 14 of the model, with a key (1) and a value (2)."""
    key, text = name.encode(), value.encode()
    body = b"\x0a" + bytes([len(key)]) + key + b"\x12" + bytes([len(text)]) + text
    return b"\x72" + bytes([len(body)]) + body


def test_rate_and_duration_come_from_the_metadata(files: dict[str, str], runtime: str) -> None:
    path = Path(files["segmentation"])
    plain = path.read_bytes()
    path.write_bytes(plain + metadata("sample_rate", "8000") + metadata("duration", "2.5"))
    model = load_segmentation(str(path))
    assert (model.sample_rate, model.duration) == (8000, 2.5)
    path.write_bytes(plain + metadata("sample_rate", "fast"))
    with pytest.raises(ModelError, match="has sample_rate = 'fast'; it has to be a positive number"):
        load_segmentation(str(path))


def test_what_cannot_be_used_is_refused(files: dict[str, str], tmp_path: Path, runtime: str) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "other.onnx").write_bytes(base64.b64decode(SEGMENTATION).replace(b"waveform", b"wavefoam"))
    with pytest.raises(ModelError, match="cannot read the ONNX model"):
        load_segmentation(str(tmp_path / "text.onnx"))
    with pytest.raises(ModelError, match="has no input waveform; it has to take waveform"):
        load_embedding(str(tmp_path / "other.onnx"))
    with pytest.raises(ModelError, match=r"cannot use the device npu|on npu needs onnxruntime"):
        OnnxSegmentation(Path(files["segmentation"]), device="npu")
