"""Model references: one string that names a model, and the presets that name a pair of them.

What is here: parsing, presets and the checks that can be made without loading anything. Torch, the network and
the contents of model files are unknown here. The command line and every stage that runs a model use it.
"""

import difflib
import os.path
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from diart_mp.errors import ModelError

CHECKPOINT_SUFFIXES = (".ckpt", ".bin")
ONNX_SUFFIX = ".onnx"
CHECKPOINT_NAME = "pytorch_model.bin"  # what the model hub calls a checkpoint inside its folder

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_HUB = re.compile(r"(?P<name>[\w-][\w.-]*/[\w-][\w.-]*)(@(?P<revision>[\w./-]+))?")


class Form(StrEnum):
    """The forms that a model reference can have."""

    BUILTIN = "builtin"
    HUB = "hub"
    CHECKPOINT = "checkpoint"
    ONNX = "onnx"
    CLASS = "class"


@dataclass(frozen=True, slots=True)
class ModelReference:
    """A parsed model reference.

    Attributes:
        form: which of the forms it has.
        name: hub id, path or ``package.module:Class``; ``builtin`` for the built-in model.
        revision: branch, tag or commit of a hub model; None for its default branch.

    """

    form: Form
    name: str
    revision: str | None = None

    @property
    def path(self) -> Path:
        """File that a checkpoint or ONNX reference names (a folder stands for the checkpoint in it)."""
        path = Path(self.name).expanduser()
        return path / CHECKPOINT_NAME if path.is_dir() else path

    def __str__(self) -> str:
        return f"{self.name}@{self.revision}" if self.revision else self.name


@dataclass(frozen=True, slots=True)
class Preset:
    """A pair of models with the hyper-parameters that suit them.

    Attributes:
        segmentation: reference of the segmentation model.
        embedding: reference of the embedding model.
        tau_active: score in [0, 1] from which a speaker counts as active.
        rho_update: share of a chunk, in [0, 1], that a speaker must speak to update or found a centroid.
        delta_new: cosine distance, in [0, 2], from which a speaker is new.

    """

    segmentation: str
    embedding: str
    tau_active: float
    rho_update: float
    delta_new: float


# builtin: 0.35 was the best single delta of a sweep with tau 0.5 and rho 0.3 (GE2E distances are small). pyannote: the
# defaults of diart's command line. community: a starting point that was not tuned; powerset scores are 0 or 1, so that
# tau only has to lie between.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "builtin": Preset("builtin", "builtin", tau_active=0.5, rho_update=0.3, delta_new=0.35),
        "pyannote": Preset("pyannote/segmentation", "pyannote/embedding", 0.5, 0.3, 1.0),
        "community": Preset("pyannote/segmentation-3.0", "pyannote/wespeaker-voxceleb-resnet34-LM", 0.5, 0.3, 0.7),
    }
)


def preset(name: str) -> Preset:
    """Look up the preset called `name`; ModelError with the nearest known name where there is none."""
    if name in PRESETS:
        return PRESETS[name]
    msg = f"there is no model preset '{name}'{_nearest(name)}; presets are {', '.join(PRESETS)}"
    raise ModelError(msg)


def parse_reference(text: str) -> ModelReference:
    """Tell which form of reference `text` is, without looking at files (but an existing path wins).

    Raises:
        ModelError: `text` has none of the forms.

    """
    text = text.strip()
    if text == Form.BUILTIN:
        return ModelReference(Form.BUILTIN, text)
    if (form := _file_form(text)) is not None:
        return ModelReference(form, text)
    if _CLASS.fullmatch(text):
        return ModelReference(Form.CLASS, text)
    if match := _HUB.fullmatch(text):
        return ModelReference(Form.HUB, match["name"], match["revision"])
    msg = (
        f"{text!r} names no model{_nearest(text)}; use builtin, a hub id such as pyannote/segmentation[@revision], "
        "a path (.ckpt, .bin, .onnx) or package.module:Class"
    )
    raise ModelError(msg)


def check(reference: str) -> ModelReference:
    """Parse `reference` and find out what can be known of it without loading a model.

    Raises:
        ModelError: unknown form, missing file, or a class that cannot be imported.

    """
    parsed = parse_reference(reference)
    if parsed.form in (Form.CHECKPOINT, Form.ONNX) and not parsed.path.is_file():
        msg = f"there is no model file {parsed.path} (looked from {Path.cwd()}); check the path"
        raise ModelError(msg)
    if parsed.form is Form.CLASS:
        from diart_mp.models.custom import import_class

        import_class(parsed.name)
    return parsed


def not_faster(references: Iterable[str], device: str) -> str | None:
    """One line on what ``--precision fast`` leaves as it is, if anything; where the device is ``auto``, that may be anything."""
    if device not in ("cpu", "auto"):
        return f"--precision fast changes nothing on the device {device}: it is for CPUs"
    others = [each for each in dict.fromkeys(references) if each != Form.BUILTIN]
    if not others:
        return None
    return f"--precision fast changes nothing for {' and '.join(others)}: it is for the built-in models"


def _file_form(text: str) -> Form | None:
    if text.endswith(ONNX_SUFFIX):
        return Form.ONNX
    looks_like_path = text.endswith(CHECKPOINT_SUFFIXES) or text.startswith(("/", "./", "../", "~"))
    if looks_like_path or (text and os.path.exists(text)):
        return Form.CHECKPOINT
    return None


def _nearest(name: str) -> str:
    known = [*PRESETS, *(getattr(p, role) for p in PRESETS.values() for role in ("segmentation", "embedding"))]
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean '{close[0]}'?)" if close else ""
