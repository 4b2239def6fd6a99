"""What the torch models share: devices, and arrays to tensors.

What is here: small helpers on torch. Which model runs is unknown here. Runs in the stages that run a model.
"""

import numpy as np
import torch

from diart_mp.errors import ModelError
from diart_mp.models.base import FloatArray


def resolve_device(name: str) -> str:
    """Device that torch understands, from ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is the first CUDA device where there is one, else the CPU (``mps`` only by name).

    Raises:
        ModelError: unknown name, or no such device on this machine.

    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (index and (kind != "cuda" or not index.isdecimal())):
        msg = f"there is no device called '{name}'; use auto, cpu, cuda, cuda:N or mps"
        raise ModelError(msg)
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        build = "" if torch.version.cuda else f" (torch {torch.__version__} is a build without CUDA)"
        msg = f"device {name} is not here: torch sees {torch.cuda.device_count()} CUDA devices{build}; use auto or cpu"
        raise ModelError(msg)
    if kind == "mps" and not torch.backends.mps.is_available():
        msg = "device mps is not here: it needs macOS on Apple silicon; use auto or cpu"
        raise ModelError(msg)
    return name


def as_tensor(array: FloatArray, device: str) -> torch.Tensor:
    """Float32 tensor of `array` on `device`; read-only arrays (views of shared memory) are copied."""
    return torch.from_numpy(np.require(array, np.float32, ["C", "W"])).to(device)
