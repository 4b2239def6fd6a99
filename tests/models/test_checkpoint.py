"""Checkpoints are read without executing what is pickled in them."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from diart_mp.errors import ModelError
from diart_mp.models.checkpoint import StandIn, read_checkpoint


class Malicious:
    """Unpickling it in the usual way makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


class Settings:
    """Stands for a class of a training framework."""

    def __init__(self) -> None:
        self.rate = 16000


@pytest.mark.parametrize("zipped", [True, False])
def test_tensors_and_plain_values_are_read(tmp_path: Path, zipped: bool) -> None:
    content = {"state": OrderedDict(a=torch.arange(3.0)), "epoch": 7}
    torch.save(content, tmp_path / "x.ckpt", _use_new_zipfile_serialization=zipped)
    found = read_checkpoint(tmp_path / "x.ckpt")
    assert found["epoch"] == 7
    assert found["state"]["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_executed(tmp_path: Path, zipped: bool) -> None:
    path, folder = tmp_path / "x.ckpt", tmp_path / "made"
    torch.save({"a": Malicious(folder)}, path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(ModelError, match="never executed"):
        read_checkpoint(path)
    assert not folder.exists()
    torch.load(path, weights_only=False)  # shows that the file was armed
    assert folder.exists()


def test_objects_of_other_classes_are_inert(tmp_path: Path) -> None:
    torch.save({"settings": Settings(), "builtin": print}, tmp_path / "x.ckpt")
    found = read_checkpoint(tmp_path / "x.ckpt")
    assert isinstance(found["settings"], StandIn)
    assert found["settings"].state == {"rate": 16000}
    assert found["builtin"] is not print


def test_known_classes_are_themselves(tmp_path: Path) -> None:
    torch.save({"settings": Settings()}, tmp_path / "x.ckpt")
    name = f"{Settings.__module__}.{Settings.__name__}"
    assert read_checkpoint(tmp_path / "x.ckpt", {name: Settings})["settings"].rate == 16000


def test_what_is_no_checkpoint_is_refused_in_one_line(tmp_path: Path) -> None:
    torch.save([1, 2], tmp_path / "list.ckpt")
    (tmp_path / "text.ckpt").write_text("version https://git-lfs.github.com/spec/v1\n")
    (tmp_path / "empty.ckpt").touch()
    (tmp_path / "cut.ckpt").write_bytes((tmp_path / "list.ckpt").read_bytes()[:100])
    (tmp_path / "pickle.ckpt").write_bytes(pickle.dumps({"a": 1}))
    names = ["list", "text", "empty", "cut", "pickle", "missing"]
    for name in names:
        with pytest.raises(ModelError, match=rf"{name}\.ckpt") as caught:
            read_checkpoint(tmp_path / f"{name}.ckpt")
        assert len(str(caught.value).splitlines()) == 1
