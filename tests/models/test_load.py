"""Loading by reference: devices, threads, and what a stage with built-in models does not import."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from diart_mp.errors import ModelError
from diart_mp.models.load import load_embedding, load_segmentation, prepare_torch
from diart_mp.precision import Precision

from .golden import Golden

WITHOUT_OPENVINO = """
import importlib.util
found = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "openvino" else found(name, *rest)
"""
BUILTIN = """
import json, sys
import numpy as np
from diart_mp.models.load import load_embedding, load_segmentation
audio = np.zeros((1, 80000), np.float32)
scores = load_segmentation("builtin", threads=1)(audio)
rows = load_embedding("builtin", threads=1)(audio + 0.1, np.ones_like(scores), np.ones((1, 3), bool))
print(json.dumps([scores.shape, rows.shape, sorted(sys.modules)]))
"""


@pytest.mark.parametrize("engine", ["openvino", "torch"])
def test_built_in_models_import_nothing_but_their_engine(engine: str) -> None:
    other = "import sys\nsys.modules['torch'] = None\n" if engine == "openvino" else WITHOUT_OPENVINO
    command = [sys.executable, "-W", "error", "-c", other + BUILTIN]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    scores, rows, modules = json.loads(done.stdout)
    assert (scores, rows) == ([1, 293, 3], [1, 3, 256])
    packages = {name.partition(".")[0] for name in modules} - ({"torch"} if engine == "openvino" else set())
    heavy = {"pyannote", "lightning", "torchaudio", "torchcodec", "asteroid_filterbanks", "huggingface_hub", "scipy"}
    assert packages & {"openvino", "torch", "safetensors"} == {engine, "safetensors"}
    assert packages & heavy == set()
    assert not {"torch._dynamo", "openvino.tools.ovc"} & set(modules)


def test_openvino_still_converts_models_for_who_asks_for_it() -> None:
    code = (
        "import diart_mp.models.openvino as ours, sys\n"
        "import numpy as np\n"
        "openvino = ours.load_openvino()\n"
        "assert 'openvino.tools.ovc' not in sys.modules and ours.load_openvino() is openvino\n"
        "try:\n"
        "    openvino.convert_model('nowhere.onnx')\n"
        "except Exception as error:\n"
        "    print(type(error).__name__, 'openvino.tools.ovc' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    name, loaded = done.stdout.split()
    assert (name != "ModuleNotFoundError", loaded) == (True, "True")


def test_reference_precision_gives_the_numbers_of_diart(golden: Golden) -> None:
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip(
            "the golden scores come from a processor with AVX-512, and other kernels of torch sum in another order"
        )
    chunks = slice(10, 22)  # those that differ most on other engines
    scores = load_segmentation("builtin", precision=Precision.REFERENCE)(golden.waveforms[chunks])
    np.testing.assert_allclose(scores, golden.segmentation[chunks], rtol=0, atol=1e-4)


def test_without_torch_the_message_says_what_to_install() -> None:
    code = (
        f"{WITHOUT_OPENVINO}import sys; sys.modules['torch'] = None\n"
        "from diart_mp.errors import ModelError\n"
        "from diart_mp.models.load import load_segmentation\n"
        "try: load_segmentation('builtin')\n"
        "except ModelError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'diart-mp[models]'" in done.stdout


def test_threads_are_set() -> None:
    prepare_torch("cpu", 2)
    assert torch.get_num_threads() == 2
    prepare_torch("cpu", 1)
    assert torch.get_num_threads() == 1


def test_devices_that_are_not_here() -> None:
    absent = f"cuda:{torch.cuda.device_count()}"
    with pytest.raises(ModelError, match=f"device {absent} is not here"):
        load_segmentation("builtin", device=absent)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_gives_the_scores_of_the_cpu() -> None:
    audio = (np.random.default_rng(2).standard_normal((3, 80000)) * 0.1).astype(np.float32)
    scores = load_segmentation("builtin")(audio)
    np.testing.assert_allclose(load_segmentation("builtin", device="cuda")(audio), scores, rtol=0, atol=1e-3)
    weights, active = np.ones_like(scores), np.ones((3, 3), bool)
    rows = load_embedding("builtin")(audio, weights, active)
    np.testing.assert_allclose(load_embedding("builtin", device="cuda")(audio, weights, active), rows, atol=1e-3)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_without_a_gpu_auto_is_the_cpu_and_its_engine() -> None:
    code = (
        "from diart_mp.models.load import load_embedding, load_segmentation\n"
        "made = [load('builtin', device='auto') for load in (load_segmentation, load_embedding)]\n"
        "print(type(made[0]._network).__name__, type(made[1]._encoder).__name__)"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["OpenVinoPyanNet", "OpenVinoEncoder"]
