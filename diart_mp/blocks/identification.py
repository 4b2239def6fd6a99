"""Identification: which enrolled speaker, if any, each global speaker of a stream is.

Gathers the embeddings that the windows give of every global speaker and compares their mean with the enrolled voices, so a name
rests on all that was heard of somebody, or on the last of it where a global speaker may turn out to be several people. What all voices have in
common, the mean of the model's embeddings, says nothing of who talks and is taken from both sides first, where it is known. Pure NumPy; knows
nothing of turns, time or files. One object per stream in the identify stage.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

NEAREST = 3
"""So many of a speaker's enrolled embeddings, the nearest, decide how near somebody is to him."""

SHORTEST_S = 0.5
"""Seconds that somebody must have talked alone, all windows together, to be given a name."""

RIVAL = 0.05
"""So much nearer than the threshold must a global speaker be to somebody whose name another global speaker has who is nearer to him."""

HOLD = 0.03
"""So much nearer must another name be than the present one before it takes its place; keeps names from flickering."""


class Identification:
    """Names of the global speakers of one stream, from one window after another."""

    def __init__(
        self,
        voices: Mapping[str, NDArray[np.floating]],
        *,
        threshold: float,
        memory_s: float = math.inf,
        mean: NDArray[np.floating] | None = None,
    ) -> None:
        """``voices``: unit embeddings (n, dimension) by name; ``threshold``: cosine similarity from which somebody has a name.

        ``memory_s``: what was heard before so many seconds of somebody talking alone counts 1/e of what is heard now. ``mean``:
        (dimension,) of unit embeddings of many people, which is subtracted before anything is compared; None: nothing is.
        """
        self._names = list(voices)
        self._mean = mean
        self._voices = [self._apart(voices[name].astype(np.float64)) for name in self._names]
        self._threshold, self._memory_s = threshold, memory_s
        self._sums: dict[int, NDArray[np.float64]] = {}
        self._whole: dict[int, NDArray[np.float32]] = {}  # the same of all that was heard
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
            heard = alone * self._apart(embedding.astype(np.float64))
            self._sums[label] = kept * self._sums.get(label, 0.0) + heard
            self._whole[label] = (self._whole.get(label, 0.0) + heard).astype(np.float32)
            self._seconds[label] = self._seconds.get(label, 0.0) + alone
            self._name(label)

    def rename(self, moved: Mapping[int, int]) -> None:
        """Global speakers have other labels now ({before: now}, all at once); those of one label now were one person all along."""
        if not moved:
            return
        sums, whole, seconds, given = self._sums, self._whole, self._seconds, self._given
        self._sums, self._whole, self._seconds, self._given = {}, {}, {}, {}
        for label in sorted(sums, key=lambda label: label in moved):  # who keeps his label keeps his name
            now = moved.get(label, label)
            self._sums[now] = self._sums.get(now, 0.0) + sums[label]
            self._whole[now] = (self._whole.get(now, 0.0) + whole[label]).astype(np.float32)
            self._seconds[now] = self._seconds.get(now, 0.0) + seconds[label]
            if label in given:
                self._given.setdefault(now, given[label])
        for label in sorted({*moved.values()} & self._sums.keys()):
            self._name(label)

    def name(self, label: int) -> str | None:
        """Who ``label`` is, as far as is known by now."""
        return self._given.get(label)

    def names(self) -> dict[int, str]:
        """All global speakers that have a name."""
        return dict(self._given)

    def names_of_all(self) -> dict[int, str]:
        """All global speakers whose name rests on all that was ever heard of them: what was said long ago can be named by these."""
        found = dict[int, str]()
        for label, heard in self._whole.items():
            similarities = self._near(heard)
            if len(similarities) and similarities.max() >= self._threshold:
                found[label] = self._names[int(similarities.argmax())]
        return found

    def similarities(self, label: int) -> NDArray[np.float64]:
        """Cosine similarity of a global speaker to each enrolled one: the mean over the nearest embeddings of each."""
        return self._near(self._sums[label])

    def _near(self, heard: NDArray[np.floating]) -> NDArray[np.float64]:
        mean = heard / max(float(np.linalg.norm(heard)), 1e-12)
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
            "whole": np.array([self._whole[label] for label in labels], np.float32),
            "seconds": np.array([self._seconds[label] for label in labels], np.float64),
            "given": np.array([self._index(self._given.get(label)) for label in labels], np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave; KeyError, ValueError or TypeError if it is not such a state."""
        labels, given = state["labels"].tolist(), state["given"].tolist()
        self._sums = dict(zip(labels, state["sums"], strict=True))
        self._whole = dict(zip(labels, state["whole"], strict=True))
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
        for other, name in self._given.items():
            index = self._names.index(name)
            if other == label or similarities[index] < self._threshold:
                continue  # it makes no difference
            if self.similarities(other)[index] > similarities[index]:
                similarities[index] -= RIVAL
        best = int(similarities.argmax())
        if similarities[best] >= self._threshold:
            self._given[label] = self._names[best]
        else:
            self._given.pop(label, None)

    def _apart(self, embeddings: NDArray[np.float64]) -> NDArray[np.float64]:
        """Embeddings (..., dimension) without what all have in common, unit rows; as they are where that is not known."""
        if self._mean is None or embeddings.shape[-1] != len(self._mean):
            return embeddings
        rest = embeddings - self._mean
        unit: NDArray[np.float64] = rest / np.maximum(np.linalg.norm(rest, axis=-1, keepdims=True), 1e-12)
        return unit

    def _index(self, name: str | None) -> int:
        return -1 if name is None else self._names.index(name)


class ShownNames:
    """Under which names the turns of one stream were shown, so that what was said can be put right later.

    Names are not labels: two labels may have one name, and one label has several in turn. A name is changed in what was said only
    if all who were shown by it have the other one now; otherwise it stays.
    """

    def __init__(self, shown: Iterable[tuple[str, Iterable[str]]] = ()) -> None:
        """``shown``: what ``state`` gave."""
        self._labels = {name: set(labels) for name, labels in shown}

    def add(self, name: str, label: str) -> None:
        """A turn of ``label`` was shown as one of ``name``."""
        self._labels.setdefault(name, set()).add(label)

    def rename(self, moved: Mapping[str, str], names: Mapping[str, str]) -> dict[str, str]:
        """What to rename ({before: now}, all at once), labels having ``moved``, and being known by these ``names`` (others by none)."""
        renamed, after = dict[str, str](), dict[str, set[str]]()
        for shown in sorted(self._labels):
            labels = {moved.get(label, label) for label in self._labels[shown]}
            now = {names.get(label, label) for label in labels}
            name = now.pop() if len(now) == 1 else shown
            if name != shown:
                renamed[shown] = name
            after.setdefault(name, set()).update(labels)
        self._labels = after
        return renamed

    def state(self) -> list[tuple[str, list[str]]]:
        """All that is remembered."""
        return [(name, sorted(labels)) for name, labels in sorted(self._labels.items())]
