"""Checkpoints of pyannote.audio as this package's own OpenVINO graphs: converted once, then loaded without torch and pyannote.audio.

What is here: the files in the cache folder (plain weights, and what has to be known beside them), the models made of them, and how a
file comes about: by a process that ends (``convert``), so that nothing of torch stays in memory. Where checkpoints come from is unknown
here. The segmentation and embedding stages use it on CPUs.
"""

import hashlib
import json
import logging
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from diart_mp import __version__
from diart_mp.errors import ModelError
from diart_mp.models.base import WINDOW_S, EmbeddingModel, FloatArray, SegmentationModel
from diart_mp.models.builtin import cache_folder, locked, tensors_digest
from diart_mp.models.embedding_openvino import OpenVinoEmbedding, ResNetTrunk, Trunk, XVectorTrunk
from diart_mp.models.openvino import openvino_version
from diart_mp.models.pyannet import BuiltinSegmentation
from diart_mp.models.pyannet_openvino import OpenVinoPyanNet

POWERSET = "powerset.mapping"
"""Name of the array (classes, speakers) that says which speakers each class stands for."""
SEGMENTATION = "PyanNet"
TRUNKS: Mapping[str, type[Trunk]] = MappingProxyType({"XVectorSincNet": XVectorTrunk, "WeSpeakerResNet34": ResNetTrunk})

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Converted:
    """What a converted checkpoint holds.

    Attributes:
        architecture: class of pyannote.audio.
        sample_rate: samples per second.
        duration: window that it was trained on, in seconds.
        activation: of the last layer of a segmentation network: ``sigmoid`` or ``log_softmax``.
        weights: parameters by their name in the checkpoint.

    """

    architecture: str
    sample_rate: int
    duration: float
    activation: str
    weights: Mapping[str, FloatArray]

    def segmentation(self, threads: int = 1, *, reproducible: bool = False) -> SegmentationModel:
        """The model, if it is one."""
        network = OpenVinoPyanNet(self.weights, threads=threads, activation=self.activation)
        return ConvertedSegmentation(network, self, reproducible=reproducible)

    def embedding(self, threads: int = 1) -> EmbeddingModel:
        """The model, if it is one."""
        return OpenVinoEmbedding(TRUNKS[self.architecture](self.weights, threads), self.weights, self.sample_rate)

    def serves(self, role: str) -> bool:
        """Whether it is for ``role``: segmentation or embedding."""
        return self.architecture in ((SEGMENTATION,) if role == "segmentation" else TRUNKS)

    def write(self, path: Path) -> None:
        """Into a file, which is there as a whole or not at all."""
        from safetensors.numpy import save

        about = {
            "architecture": self.architecture,
            "sample_rate": str(self.sample_rate),
            "duration": str(self.duration),
            "activation": self.activation,
            "tensors": tensors_digest(self.weights),
        }
        draft = path.with_suffix(".draft")  # of nobody else: whoever writes holds the lock
        draft.write_bytes(save(dict(self.weights), metadata=about))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "Converted | None":
        """From a file; None where it is damaged."""
        from safetensors import SafetensorError, safe_open

        try:
            with safe_open(path, framework="np") as file:
                about = file.metadata() or {}
                weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
            rate, duration = int(about["sample_rate"]), float(about["duration"])
            found = cls(about["architecture"], rate, duration, about["activation"], weights)
        except (SafetensorError, OSError, KeyError, ValueError):
            return None
        return found if tensors_digest(weights) == about.get("tensors") else None


class ConvertedSegmentation(SegmentationModel):
    """A segmentation network: multi-label scores as they are, powerset ones as hard 0 or 1."""

    def __init__(self, network: OpenVinoPyanNet, about: Converted, *, reproducible: bool = False) -> None:
        self._scores = BuiltinSegmentation(network, reproducible=reproducible)
        self._mapping = about.weights.get(POWERSET)
        self.sample_rate, self.duration = about.sample_rate, about.duration
        if about.duration != WINDOW_S:  # what is set up at the first call with the usual window, beside its own
            self(np.zeros((1, round(WINDOW_S * self.sample_rate)), np.float32))

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Score (batch, samples)."""
        scores = self._scores(waveforms)
        return scores if self._mapping is None else self._mapping[scores.argmax(axis=2)]


def load_converted(checkpoint: Path, role: str) -> Converted | None:
    """The converted form of a checkpoint, made first where there is none; None where it has to run in torch.

    Raises:
        ModelError: the checkpoint cannot be read, or is not for ``role``.

    """
    prefix, suffix = _name(checkpoint)
    folder = cache_folder() / "converted"
    found = _look(folder, prefix, suffix)
    if found is None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with locked(folder / f"{prefix}.lock"):  # stages that start at once wait for the first
                found = _look(folder, prefix, suffix) or _convert(checkpoint, role, folder, (prefix, suffix))
        except OSError as error:
            _LOG.warning("%s runs in torch: nothing can be written to %s (%s)", checkpoint, folder, error.strerror)
            return None
    if isinstance(found, str):
        _LOG.warning("%s runs in torch: %s", checkpoint, found)
        return None
    return found if found.serves(role) else None  # torch's loader says what is wrong with it


def _name(checkpoint: Path) -> tuple[str, str]:
    """How names of files begin and end that were made of a checkpoint: what is between is the architecture."""
    try:
        with checkpoint.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"cannot read the model file {checkpoint}: {error.strerror or error}"
        raise ModelError(msg) from error
    runtime = re.sub(r"[^\w.]+", "_", "-".join(openvino_version().split("-")[:2]))
    return digest, f"diart-mp-{__version__}-openvino-{runtime}"


def _look(folder: Path, prefix: str, suffix: str) -> Converted | str | None:
    """What is in the cache; text: why the checkpoint cannot be converted; None: nothing, or something damaged."""
    for path in folder.glob(f"{prefix}-*-{suffix}.safetensors"):
        return Converted.read(path)
    refused = folder / f"{prefix}-{suffix}.refused"
    return refused.read_text(errors="replace") if refused.is_file() else None


def _convert(checkpoint: Path, role: str, folder: Path, name: tuple[str, str]) -> Converted | str:
    """Convert in a process of its own; gives the outcome, or why there is none, which is kept if it will be so again."""
    outcome = _outcome(checkpoint, role, folder, name)
    if "error" in outcome:
        raise ModelError(outcome["error"])
    if "file" in outcome:
        return Converted.read(Path(outcome["file"])) or "what was converted cannot be read again"
    if "refused" in outcome:
        (folder / f"{'-'.join(name)}.refused").write_text(outcome["refused"])
        return outcome["refused"]
    return f"its conversion ended early ({outcome.get('said', '')})"


def _outcome(checkpoint: Path, role: str, folder: Path, name: tuple[str, str]) -> dict[str, str]:
    """The last line that the process says, as a map."""
    command = [sys.executable, "-P", "-m", "diart_mp.models.convert", role, str(checkpoint), str(folder), *name]
    process = subprocess.Popen(  # noqa: S603  # our own interpreter and module
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    try:
        said, _ = (process.stdout.read() if process.stdout else b""), process.wait()
    finally:
        process.kill()  # does nothing once it has ended
        process.wait()
        for pipe in filter(None, (process.stdin, process.stdout)):
            pipe.close()
    last = (said.decode(errors="replace").strip().splitlines() or [f"exit code {process.returncode}"])[-1]
    try:
        found = json.loads(last)
    except ValueError:
        found = None
    return found if isinstance(found, dict) else {"said": last[:200]}
