"""Identification: which enrolled speaker, if any, each global speaker of a stream is.

Gathers the embeddings that the windows give of every global speaker and compares their mean with the enrolled voices, so a name
rests on all that was heard of somebody, or on the last of it where a global speaker may turn out to be several people. Pure NumPy; knows nothing of turns, time or files. One object per stream in the
identify stage.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAREST = 3
"""So many of a speaker's enrolled embeddings, the nearest, decide how near somebody is to him."""

SHORTEST_S = 0.5
"""Seconds that somebody must have talked alone, all windows together, to be given a name."""

HOLD = 0.03
"""So much nearer must another name be than the present one before it takes its place; keeps names from flickering."""


class Identification:
    """Names of the global speakers of one stream, from one window after another."""

    def __init__(
        self, voices: Mapping[str, NDArray[np.floating]], *, threshold: float, memory_s: float = math.inf
    ) -> None:
        """``voices``: unit embeddings (n, dimension) by name; ``threshold``: cosine similarity from which somebody has a name.

        ``memory_s``: what was heard before so many seconds of somebody talking alone counts 1/e of what is heard now.
        """
        self._names = list(voices)
        self._voices = [voices[name].astype(np.float64) for name in self._names]
        self._threshold, self._memory_s = threshold, memory_s
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._seconds: dict[int, float] = {}
        self._given: dict[int, str] = {}

    def learn(self, labels: Sequence[int], embeddings: NDArray[np.floating], seconds: NDArray[np.floating]) -> None:
        """Take in a window.

        Args:
            labels: global speaker of each local speaker, negative for nobody.
            embeddings: (local speakers, dimension), unit rows or NaN.
            seconds: (local speakers,), how long each talks alone; embeddings count for as much.

        Raises:
            ValueError: the enrolled voices have embeddings of another length.

        """
        for label, embedding, alone in zip(labels, embeddings, seconds.tolist(), strict=True):
            if label < 0 or alone <= 0 or not np.isfinite(embedding).all():
                continue
            kept = math.exp(-alone / self._memory_s)
            self._sums[label] = kept * self._sums.get(label, 0.0) + alone * embedding.astype(np.float64)
            self._seconds[label] = self._seconds.get(label, 0.0) + alone
            self._name(label)

    def name(self, label: int) -> str | None:
        """Who ``label`` is, as far as is known by now."""
        return self._given.get(label)

    def names(self) -> dict[int, str]:
        """All global speakers that have a name."""
        return dict(self._given)

    def similarities(self, label: int) -> NDArray[np.float64]:
        """Cosine similarity of a global speaker to each enrolled one: the mean over the nearest embeddings of each."""
        mean = self._sums[label] / max(float(np.linalg.norm(self._sums[label])), 1e-12)
        for name, voice in zip(self._names, self._voices, strict=True):
            if voice.shape[1] != len(mean):
                msg = f"{name} is enrolled with embeddings of {voice.shape[1]} numbers, the stream's have {len(mean)}; enrol with the model that runs"
                raise ValueError(msg)
        return np.array([np.sort(voice @ mean)[-NEAREST:].mean() for voice in self._voices])

    def state(self) -> dict[str, Any]:
        """All that is remembered: labels, sums of embeddings, seconds, and the index of each name given (-1: none)."""
        labels = sorted(self._sums)
        return {
            "labels": np.array(labels, np.int64),
            "sums": np.array([self._sums[label] for label in labels], np.float64),
            "seconds": np.array([self._seconds[label] for label in labels], np.float64),
            "given": np.array([self._index(self._given.get(label)) for label in labels], np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave; KeyError, ValueError or TypeError if it is not such a state."""
        labels, given = state["labels"].tolist(), state["given"].tolist()
        self._sums = dict(zip(labels, state["sums"], strict=True))
        self._seconds = dict(zip(labels, state["seconds"].tolist(), strict=True))
        named = [(label, index) for label, index in zip(labels, given, strict=True) if 0 <= index < len(self._names)]
        self._given = {label: self._names[index] for label, index in named}

    def _name(self, label: int) -> None:
        if self._seconds[label] < SHORTEST_S or not self._names:
            return
        similarities = self.similarities(label)
        held = self._index(self._given.get(label))
        if held >= 0:
            similarities[held] += HOLD
        best = int(similarities.argmax())
        if similarities[best] >= self._threshold:
            self._given[label] = self._names[best]
        else:
            self._given.pop(label, None)

    def _index(self, name: str | None) -> int:
        return -1 if name is None else self._names.index(name)
