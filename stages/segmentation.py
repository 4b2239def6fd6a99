"""The segmentation stage: who of a few local speakers talks when, in one window. Runs as the process of that name."""

import time
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.sound import has_sound
from diart_mp.errors import ModelError
from diart_mp.messages import FieldValue, Plain
from diart_mp.models.load import load_segmentation
from diart_mp.precision import Precision
from diart_mp.runtime.stage import Chunk, Stage, windows_at
from diart_mp.topology import StageConfig

SILENT: Mapping[str, FieldValue] = {"silent": Plain(value=True)}
_GLANCE = 64  # samples, in which there is sound wherever there is any, but for few windows


class Segmentation(Stage):
    """Adds ``segmentation`` (frames, local speakers), scores in [0, 1], and ``silent`` where there is no sound (``audio.sound``)."""

    name = "segmentation"
    consumes = ("audio",)
    produces = ("segmentation",)

    def __init__(self, config: StageConfig) -> None:
        self._config = config

    def open(self) -> None:
        """Load the model and run it once, so that the first chunk does not wait for what is set up at the first call."""
        config = self._config
        self._model = load_segmentation(
            config.model,
            device=config.device,
            threads=config.threads,
            precision=Precision(config.precision),
        )
        if self._model.duration is not None:
            self._model(np.zeros((1, round(self._model.duration * self._model.sample_rate)), np.float32))

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """One batch through the model."""
        waveforms = windows_at(chunks, self._model.sample_rate)
        began = time.process_time()
        scores = np.asarray(self._model(waveforms), np.float32)
        self.model_s += time.process_time() - began
        if scores.ndim != 3 or len(scores) != len(chunks) or not np.isfinite(scores).all():
            msg = (
                f"the model '{self._config.model}' gave scores of shape {scores.shape} for {len(chunks)} windows; "
                "wanted are finite numbers of shape (windows, frames, speakers)"
            )
            raise ModelError(msg)
        silent = [{} if _is_heard(waveform) else SILENT for waveform in waveforms]
        return [{"segmentation": each, **mark} for each, mark in zip(scores, silent, strict=True)]


def _is_heard(waveform: NDArray[np.float32]) -> bool:
    """Whether there is any sound. Looking at all samples costs ten times as much as at the last ones."""
    return has_sound(waveform[-_GLANCE:]) or has_sound(waveform)
