"""ONNX models: tiny ones (a maximum over time, a mean of the weights); skipped where onnxruntime is not installed."""

import base64
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from diart_mp.errors import ModelError
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.models.onnx import OnnxSegmentation

INSTALLED = find_spec("onnxruntime") is not None
needs_runtime = pytest.mark.skipif(not INSTALLED, reason="onnxruntime is not installed")

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


@pytest.mark.skipif(INSTALLED, reason="onnxruntime is installed")
def test_without_onnxruntime_the_message_names_the_package(files: dict[str, str]) -> None:
    for load in (load_segmentation, load_embedding):
        with pytest.raises(ModelError, match="pip install onnxruntime"):
            load(files["segmentation"])


@needs_runtime
def test_segmentation_takes_a_batch(files: dict[str, str]) -> None:
    model = load_segmentation(files["segmentation"], device="auto")
    waveforms = np.arange(600, dtype=np.float32).reshape(2, 300)
    assert (model.sample_rate, model.duration) == (16000, None)
    assert model(waveforms)[:, :, 0].tolist() == [[99, 199, 299], [399, 499, 599]]


@needs_runtime
def test_embedding_runs_for_active_speakers(files: dict[str, str]) -> None:
    model = load_embedding(files["embedding"])
    waveforms = np.array([[1, 5], [2, 7]], np.float32)
    weights = np.array([[[0, 1], [1, 1]], [[0, 0], [4, 0]]], np.float32)  # (batch, frames, speakers)
    found = model(waveforms, weights, np.array([[True, True], [True, False]]))
    assert model.dimension == 2
    assert found[0].tolist() == [[5, 0.5], [5, 1]]
    assert found[1, 0].tolist() == [7, 2]
    assert np.isnan(found[1, 1]).all()


@needs_runtime
def test_what_cannot_be_used_is_refused(files: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    with pytest.raises(ModelError, match="cannot read the ONNX model"):
        load_segmentation(str(tmp_path / "text.onnx"))
    with pytest.raises(ModelError, match=r"has no input weights; it has to take waveform and weights"):
        load_embedding(files["segmentation"])
    with pytest.raises(ModelError, match="cannot use the device npu"):
        OnnxSegmentation(Path(files["segmentation"]), device="npu")
