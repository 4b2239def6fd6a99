"""Devices, and tensors of borrowed arrays."""

import numpy as np
import pytest
import torch

from diart_mp.errors import ModelError
from diart_mp.models.inference import as_tensor, resolve_device


def test_devices_that_are_here() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") == ("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cpu:0", "", "mps:1"])
def test_devices_that_do_not_exist(name: str) -> None:
    with pytest.raises(ModelError, match=f"no device called '{name}'"):
        resolve_device(name)


def test_read_only_arrays_are_copied() -> None:
    array = np.arange(4, dtype=np.float32)
    array.flags.writeable = False
    tensor = as_tensor(array, "cpu")
    tensor += 1
    assert array.tolist() == [0, 1, 2, 3]
    assert tensor.tolist() == [1, 2, 3, 4]


def test_any_layout_and_type_becomes_float32() -> None:
    array = np.arange(6).reshape(2, 3).T
    tensor = as_tensor(array, "cpu")  # type: ignore[arg-type]
    assert tensor.dtype == torch.float32
    assert tensor.is_contiguous()
    assert tensor.tolist() == [[0, 3], [1, 4], [2, 5]]
