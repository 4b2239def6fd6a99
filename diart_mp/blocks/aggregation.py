"""Delayed aggregation: the scores of one region of time from all windows that saw it.

``crop_range``, ``aggregate`` and ``prepend_first`` are the arithmetic, in float64 seconds and bit for bit that of diart
(blocks/aggregation.py) on pyannote.core's sliding windows. ``DelayedAggregation`` keeps the windows of one stream, in
samples, and decides which region a new window completes. Knows nothing of thresholds, turns or messages. Runs in the
clustering stage.
"""

import functools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from diart_mp.config import Settings

Strategy = Literal["hamming", "mean", "first"]
Cropping = Literal["loose", "center"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledWindow:
    """Local scores of one window and whose they are.

    ``scores`` has shape (frames, local speakers), the first frame begins at ``start`` and each lasts ``resolution``
    (seconds). ``labels`` are the global speakers of the columns, each at most once, -1 for nobody.
    """

    start: float
    resolution: float
    scores: NDArray[np.floating]
    labels: NDArray[np.integer]

    @property
    def end(self) -> float:
        """End of the last frame in seconds, rounded as in pyannote.core."""
        return self.start + len(self.scores) * self.resolution


@dataclass(frozen=True, slots=True, eq=False)
class Frames:
    """Aggregated scores, shape (frames, labels), of the global speakers ``labels`` (ascending).

    Frame i begins at ``start + i * resolution`` seconds. Speakers that are not in ``labels`` have the score 0.
    """

    start: float
    resolution: float
    scores: NDArray[np.float64]
    labels: NDArray[np.integer]

    def middle(self, frame: int) -> float:
        """Middle of a frame in seconds, with pyannote.core's rounding."""
        start = self.start + frame * self.resolution
        return 0.5 * (start + (start + self.resolution))


def crop_range(window: LabelledWindow, start: float, end: float, cropping: Cropping) -> tuple[int, int]:
    """First frame of ``window`` and number of frames for [start, end) (pyannote.core, ``crop`` with ``fixed``).

    "loose" takes every frame that touches the region, "center" the frames whose middles are nearest to its ends. The
    first frame may lie outside of the window.
    """
    resolution, duration = window.resolution, end - start
    if cropping == "loose":
        first = math.ceil((start - resolution - window.start) / resolution)
        return first, math.floor((duration + resolution) / resolution)
    first = round((start - window.start - 0.5 * resolution) / resolution)
    return first, max(1, round(duration / resolution))


def aggregate(
    windows: Sequence[LabelledWindow],
    start: float,
    end: float,
    *,
    strategy: Strategy = "hamming",
    cropping: Cropping = "loose",
) -> Frames:
    """Combine the scores of ``windows``, oldest first, over [start, end) seconds.

    "hamming" weighs a frame by its place in its window, "mean" does not, "first" takes the oldest window that has the
    frame. A window counts only for the frames that it has, and one more at each end, since frames do not meet
    the ends of a region exactly (its edge frame is repeated there, as in diart). All windows have the same number
    of frames and the same resolution; frames that no window has are 0.
    """
    found = {label for window in windows for label in window.labels.tolist() if label >= 0}
    labels = np.array(sorted(found), windows[0].labels.dtype)
    num_window_frames = len(windows[0].scores)
    _, num_frames = crop_range(windows[0], start, end, cropping)
    if not labels.size:  # nobody talks in any of them
        return Frames(start, (end - start) / num_frames, np.zeros((num_frames, 0)), labels)
    profile = _hamming(num_window_frames) if strategy == "hamming" else np.ones(num_window_frames)
    total, weight = np.zeros((num_frames, labels.size)), np.zeros(num_frames)
    for window in windows:
        frames, seen = _crop(window, start, end, cropping)
        weights = np.where(seen, profile[frames], 0.0)
        if strategy == "first":
            weights[weight > 0] = 0.0
        weight += weights
        mapped = window.labels >= 0
        columns = np.searchsorted(labels, window.labels[mapped])
        total[:, columns] += weights[:, np.newaxis] * window.scores[frames][:, mapped]
    scores = np.divide(total, weight[:, np.newaxis], out=total, where=weight[:, np.newaxis] > 0)
    return Frames(start, (end - start) / num_frames, scores, labels)


def prepend_first(window: LabelledWindow, frames: Frames, end: float) -> Frames:
    """What ``window``, the first of its stream, has before ``frames``, followed by ``frames`` themselves.

    diart says this when the first window comes, since no later window begins before it: [0, end) seconds.
    """
    first = aggregate([window], 0.0, end, strategy="first")
    first.scores[-len(frames.scores) :] = frames.scores
    return Frames(0.0, end / len(first.scores), first.scores, first.labels)


@functools.lru_cache(maxsize=8)
def _hamming(num_frames: int) -> NDArray[np.float64]:
    """NumPy's window, read-only: the windows of a stream all have the same number of frames."""
    profile = np.hamming(num_frames)
    profile.flags.writeable = False
    return profile


def _crop(
    window: LabelledWindow, start: float, end: float, cropping: Cropping
) -> tuple[NDArray[np.intp], NDArray[np.bool_]]:
    """Frames of ``window`` for [start, end), clipped to those it has, and which of them count as seen by it."""
    first, count = crop_range(window, start, end, cropping)
    wanted = np.arange(first, first + count)
    frames = np.clip(wanted, 0, len(window.scores) - 1)
    return frames, np.abs(wanted - frames) <= 1


@dataclass(frozen=True, slots=True, eq=False)
class AggregatedRegion:
    """The region [start, end) in samples that one window completed, and its scores.

    ``parts`` are the stretches of the region that any window has seen, in order: one, unless windows are missing.
    """

    start: int
    end: int
    parts: tuple[Frames, ...]


class DelayedAggregation:
    """Keeps the recent windows of one stream and says the region that each new one completes.

    With every window the end of what has been said moves to ``latency - step`` before the end of the window. The region
    begins where the previous one ended, so that it is one step long, or longer after windows that were left out:
    regions have neither holes nor overlaps, whatever comes. Windows are kept as long as they reach into a coming
    region; these are diart's ``round(latency / step)`` where the step divides the latency.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._end: int | None = None  # of the last region, samples
        self._windows: list[tuple[int, LabelledWindow]] = []  # by start in samples

    def __call__(
        self, start: int, scores: NDArray[np.floating], labels: NDArray[np.integer], *, prepend: bool = False
    ) -> AggregatedRegion:
        """Add the window that begins at sample ``start`` (never negative) and aggregate the region that it completes.

        Args:
            start: first sample of the window; later than that of the window before.
            scores: local scores, shape (frames, local speakers), kept as float32.
            labels: global speakers of the columns, each at most once, -1 for nobody.
            prepend: let the first region begin at sample 0 instead of ``latency`` before the window's end; only for a
                first window that begins at 0.

        Raises:
            ValueError: a window out of order, of another shape, or with ``prepend`` where it cannot be.

        """
        self.check(start, scores, prepend=prepend)
        settings = self._settings
        window = self._labelled(start, np.array(scores, dtype=np.float32), np.array(labels))
        self._windows.append((start, window))
        regular = start + settings.duration - settings.latency  # where the region begins if none is missing
        end = regular + settings.step
        begin = regular if self._end is None else self._end
        origin = window.end - settings.latency / settings.rate  # ``regular`` in seconds, rounded as in diart
        parts = tuple(
            self._part(origin + (low - regular) / settings.rate, origin + (high - regular) / settings.rate)
            for low, high in self._covered(begin, end)
        )
        if prepend:
            begin, parts = 0, (prepend_first(window, parts[0], origin + settings.step / settings.rate),)
        self._end = end
        self._windows = [(first, kept) for first, kept in self._windows if first + settings.duration > end]
        return AggregatedRegion(begin, end, parts)

    def relabel(self, labels: Mapping[int, NDArray[np.integer]]) -> None:
        """Other labels for windows whose scores coming regions still need, by first sample (those not kept are ignored)."""
        self._windows = [
            (start, replace(window, labels=np.array(labels[start])) if start in labels else window)
            for start, window in self._windows
        ]

    @property
    def end(self) -> int:
        """End of the last region, samples; 0 before there is one."""
        return self._end or 0

    def _part(self, start: float, end: float) -> Frames:
        return aggregate([window for _, window in self._windows], start, end)

    def _covered(self, begin: int, end: int) -> list[tuple[int, int]]:
        """The stretches of [begin, end) that any kept window has seen, in samples."""
        parts: list[tuple[int, int]] = []
        for start, _ in self._windows:
            low, high = max(start, begin), min(start + self._settings.duration, end)
            if parts and low <= parts[-1][1]:
                parts[-1] = (parts[-1][0], max(high, parts[-1][1]))
            elif low < high:
                parts.append((low, high))
        return parts

    def _labelled(self, start: int, scores: NDArray[np.float32], labels: NDArray[np.integer]) -> LabelledWindow:
        resolution = self._settings.duration / self._settings.rate / len(scores)
        return LabelledWindow(start / self._settings.rate, resolution, scores, labels)

    def check(self, start: int, scores: NDArray[np.floating], *, prepend: bool = False) -> None:
        """Raise ValueError if a window cannot follow the ones before; changes nothing."""
        settings = self._settings
        previous = None if self._end is None else self._end - settings.step - settings.duration + settings.latency
        if start < 0 or (previous is not None and start <= previous):
            after = "" if previous is None else f" after the one at sample {previous}"
            msg = f"a window at sample {start}{after}; the windows of a stream begin at 0 or later and come in order"
            raise ValueError(msg)
        if prepend and (start != 0 or previous is not None):
            msg = f"prepend is for a stream's first window, at sample 0, not for one at sample {start}"
            raise ValueError(msg)
        if self._windows and self._windows[-1][1].scores.shape != scores.shape:
            msg = f"scores of shape {scores.shape} in a stream whose windows so far had {self._windows[-1][1].scores.shape}"
            raise ValueError(msg)

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values and arrays over the kept windows.

        ``end`` (samples, -1 before the first window), ``starts`` (windows,) int64, ``segmentations`` (windows, frames,
        local speakers) float32, ``labels`` (windows, local speakers) int64.
        """
        windows = [window for _, window in self._windows]
        return {
            "end": -1 if self._end is None else self._end,
            "starts": np.array([start for start, _ in self._windows], dtype=np.int64),
            "segmentations": np.array([window.scores for window in windows], dtype=np.float32),
            "labels": np.array([window.labels for window in windows], dtype=np.int64),
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave, bit for bit; raises ValueError if it is not such a state."""
        starts = np.array(state["starts"], dtype=np.int64)
        scores = np.array(state["segmentations"], dtype=np.float32)
        labels = np.array(state["labels"], dtype=np.int64)
        if not self._fits(starts, scores, labels):
            msg = (
                f"{starts.shape} starts, {scores.shape} scores and {labels.shape} labels are no state of an aggregation "
                f"for at most {self._settings.max_speakers} speakers"
            )
            raise ValueError(msg)
        self._end = None if state["end"] < 0 else int(state["end"])
        self._windows = [
            (start, self._labelled(start, *window))
            for start, *window in zip(starts.tolist(), scores, labels, strict=True)
        ]

    def _fits(self, starts: NDArray[np.int64], scores: NDArray[np.float32], labels: NDArray[np.int64]) -> bool:
        """Whether these arrays can be the kept windows of a stream."""
        if starts.size == 0:
            return scores.size == labels.size == 0
        shapes_fit = scores.ndim == 3 and scores.size > 0 and starts.shape == scores.shape[:1]
        return (
            shapes_fit
            and labels.shape == scores.shape[::2]
            and bool(np.isfinite(scores).all() and (np.diff(starts, prepend=-1) > 0).all())
            and bool((labels >= -1).all() and (labels < self._settings.max_speakers).all())
        )
