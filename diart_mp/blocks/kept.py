"""The windows that hindsight keeps, small enough for a checkpoint, and the turns that follow from them and their labels.

Scores are kept in steps of 1/255 and embeddings in half precision, rounded when a window comes: what is restored is
what was there. Knows nothing of how labels come about. Runs in the clustering stage.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.clustering import UNMAPPED
from diart_mp.blocks.weights import clean_speech
from diart_mp.config import Settings

_STEPS = 255  # of a score


@dataclass(frozen=True, slots=True, eq=False)
class KeptWindow:
    """One window: first sample, scores (frames, local speakers) in 255ths, and for each local speaker what is known.

    embeddings: (local speakers, dimension), zeros where there is none. seconds: of clean speech behind each. talking: whether
    he talks at all. said: the label that was given at once. labels: the label with hindsight; -1 for nobody.
    """

    start: int
    scores: NDArray[np.uint8]
    embeddings: NDArray[np.float16]
    seconds: NDArray[np.float32]
    talking: NDArray[np.bool_]
    said: NDArray[np.int64]
    labels: NDArray[np.int64]

    @staticmethod
    def of(
        start: int,
        segmentation: NDArray[np.floating],
        embeddings: NDArray[np.floating],
        labels: NDArray[np.integer],
        settings: Settings,
    ) -> "KeptWindow":
        """What is kept of a window; rows of ``embeddings`` that are not finite count as not there."""
        clean = clean_speech(segmentation, settings.tau_active)
        seconds = clean.sum(axis=0) * (settings.duration / settings.rate / len(segmentation))
        there = np.isfinite(embeddings).all(axis=1)
        length = np.linalg.norm(np.where(there[:, None], embeddings, 0.0), axis=1)
        there &= length > 0
        unit = np.where(there[:, None], embeddings, 0.0) / np.where(there, length, 1.0)[:, None]
        return KeptWindow(
            start,
            np.rint(segmentation * _STEPS).astype(np.uint8),
            unit.astype(np.float16),
            np.where(there, seconds, 0.0).astype(np.float32),
            segmentation.max(axis=0) >= settings.tau_active,
            np.array(labels, np.int64),
            np.full(len(embeddings), UNMAPPED, np.int64),
        )

    def active_s(self, settings: Settings) -> NDArray[np.float64]:
        """Seconds for which each local speaker talks, alone or not."""
        frames = (self.scores >= settings.tau_active * _STEPS).sum(axis=0)
        found: NDArray[np.float64] = frames * (settings.duration / settings.rate / len(self.scores))
        return found


def turns_of(
    windows: Sequence[KeptWindow], start: int, end: int, settings: Settings
) -> tuple[tuple[int, int, int], ...]:
    """Turns (start, end, label) in [start, end) samples, sorted, from all scores of a moment under its labels.

    The windows' scores are added on a grid of frames, each weighted by its place in its window, and a speaker talks where
    the mean is above ``tau_active``. ``windows`` are in order and not empty.
    """
    speakers = np.unique(np.concatenate([window.labels for window in windows]))
    speakers = speakers[speakers != UNMAPPED]
    if not speakers.size:
        return ()
    frames, origin = len(windows[0].scores), windows[0].start
    frame = settings.duration / frames  # samples
    places = [round((window.start - origin) / frame) for window in windows]
    profile = np.hamming(frames)
    total, weight = np.zeros((places[-1] + frames, speakers.size)), np.zeros(places[-1] + frames)
    for window, place in zip(windows, places, strict=True):
        mapped = window.labels != UNMAPPED
        columns = np.searchsorted(speakers, window.labels[mapped])
        weight[place : place + frames] += profile
        total[place : place + frames, columns] += profile[:, None] * window.scores[:, mapped]
    active = np.zeros((len(total) + 2, speakers.size), np.int8)
    active[1:-1] = total > settings.tau_active * _STEPS * weight[:, None]
    edges = np.diff(active, axis=0)
    turns = []
    for column, speaker in enumerate(speakers.tolist()):
        begins, ends = (np.flatnonzero(edges[:, column] == sign) for sign in (1, -1))
        for first, last in zip(begins.tolist(), ends.tolist(), strict=True):
            low, high = (round(origin + (place + 0.5) * frame) for place in (first, last))
            if max(low, start) < min(high, end):
                turns.append((max(low, start), min(high, end), speaker))
    return tuple(sorted(turns))


def kept_state(windows: Sequence[KeptWindow]) -> dict[str, Any]:
    """The windows as arrays, one for each attribute, names beginning with ``kept_``."""
    return {
        "kept_starts": np.array([window.start for window in windows], np.int64),
        **{f"kept_{name}": np.array([getattr(window, name) for window in windows], kind) for name, kind in _KINDS},
    }


def kept_windows(state: Mapping[str, Any]) -> list[KeptWindow]:
    """The windows that ``kept_state`` was given; raises KeyError or ValueError if it is not such a state."""
    starts = np.array(state["kept_starts"], np.int64).tolist()
    columns = [np.array(state[f"kept_{name}"], kind) for name, kind in _KINDS]
    if any(len(column) != len(starts) for column in columns):
        msg = f"{len(starts)} starts and columns of {[len(column) for column in columns]} are no kept windows"
        raise ValueError(msg)
    return [KeptWindow(start, *row) for start, *row in zip(starts, *columns, strict=True)]


_KINDS: tuple[tuple[str, Any], ...] = (
    ("scores", np.uint8),
    ("embeddings", np.float16),
    ("seconds", np.float32),
    ("talking", np.bool_),
    ("said", np.int64),
    ("labels", np.int64),
)
