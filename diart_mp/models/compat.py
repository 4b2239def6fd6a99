"""Importing pyannote.audio beside any build of torch.

What is here: one function that makes ``import pyannote.audio`` work where torchaudio's compiled extension does not
load (it is built for one version and one CUDA; beside a CPU-only or newer torch it fails) and where torchcodec finds
no ffmpeg (pyannote.audio warns at length). We use no compiled part of either. Models are unknown here. Runs in the
stages that run a pyannote model, and nowhere else.
"""

import importlib
import os
import sys
import types
import warnings
from typing import Any, NoReturn

from diart_mp.errors import ModelError

_EXTENSION = "torchaudio._extension"


def import_pyannote() -> None:
    """Import pyannote.audio, without its telemetry (unless ``PYANNOTE_METRICS_ENABLED`` says otherwise).

    Raises:
        ModelError: it is not installed, or cannot be imported all the same.

    """
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "0")
    try:
        _import_torchaudio()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torchcodec without ffmpeg; deprecations inside its dependencies
            importlib.import_module("pyannote.audio")
    except (ImportError, OSError) as error:
        reason = " ".join(str(error).split())
        msg = (
            f"this model needs pyannote.audio, which cannot be imported ({reason}); run: pip install 'diart-mp[models]'"
        )
        raise ModelError(msg) from error


def _import_torchaudio() -> None:
    """Import torchaudio; where its compiled extension does not load, put a stand-in for that one module first."""
    try:
        importlib.import_module("torchaudio")
    except OSError:
        sys.modules[_EXTENSION] = _without_extension()
        importlib.import_module("torchaudio")


def _without_extension() -> types.ModuleType:
    """What torchaudio's Python code reads of its extension module, saying that nothing compiled is there."""

    def fail(*_: Any, **__: Any) -> NoReturn:
        msg = "this function of torchaudio needs its compiled extension, which does not load beside this torch"
        raise RuntimeError(msg)

    module = types.ModuleType(_EXTENSION)
    for name, value in {
        "_IS_TORCHAUDIO_EXT_AVAILABLE": False,
        "_IS_ALIGN_AVAILABLE": False,
        "_load_lib": lambda _name: False,
        "fail_if_no_align": lambda _function: fail,
    }.items():
        setattr(module, name, value)
    return module
