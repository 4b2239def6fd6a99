"""Speaking before a whole window of a stream has been heard: who is who in the first windows, and their names later on.

The first windows of a stream that starts early are mostly silence padded at the left: too little to found centroids on that
are never forgotten. But all that has been heard so far lies within each of them, so their local speakers are told apart by
the segmentation alone: whoever talks where somebody talked in the window before is the same. The first complete window starts the
clustering and the aggregation, exactly as if nothing had been said before, and its speakers keep the names that they have by
then; what was said before is revised (``blocks.diarization``). Not in diart. One object per stream in the clustering stage.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.clustering import UNMAPPED
from diart_mp.blocks.scipy_parts import linear_sum_assignment

Labels = NDArray[np.intp]


class WarmUp:
    """Gives names to local speakers before there is a clustering, and translates its labels into names afterwards.

    The warm-up begins with the first window that is not digital silence (a device that is off, a sink that plays nothing) and
    ends with the first one that has a whole ``duration`` of what follows. ``duration`` and ``step`` are in samples; a
    score from ``tau_active`` on is speech; names are 0 to ``max_speakers`` - 1.
    """

    def __init__(self, *, duration: int, step: int, tau_active: float, max_speakers: int) -> None:
        self._duration, self._step, self._tau, self._max_speakers = duration, step, tau_active, max_speakers
        self._begun: int | None = None  # first sample of the first window that was not silent
        self._start = 0  # first sample of the last window
        self._named: NDArray[np.bool_] = np.zeros((0, 0), np.bool_)  # (frames, names): who talked when in that window
        self._names: list[int] = []  # name of each label of the clustering, in order of their founding

    def has_begun(self, start: int, *, silent: bool) -> bool:
        """Whether there has been any sound up to the window that begins at sample ``start``."""
        if self._begun is None and not silent:
            self._begun = start
        return self._begun is not None

    def is_over(self, start: int) -> bool:
        """Whether the window that begins at sample ``start`` is complete."""
        return self._begun is not None and start >= self._begun + self._duration - self._step

    def label(self, start: int, segmentation: NDArray[np.floating]) -> Labels:
        """Names of the local speakers of an incomplete window that begins at sample ``start``, shape (local speakers,)."""
        talking = segmentation >= self._tau
        names = np.full(talking.shape[1], UNMAPPED)
        shared = self._shared(start, talking)
        for local, name in zip(*linear_sum_assignment(shared, maximize=True), strict=True):
            if shared[local, name] > 0:
                names[local] = name
        for local in np.flatnonzero(talking.any(axis=0) & (names == UNMAPPED)):
            names[local] = next((name for name in range(self._max_speakers) if name not in names), UNMAPPED)
        self._start = start
        self._named = np.zeros((len(talking), max(0, *(names + 1))), np.bool_)
        for local in np.flatnonzero(names != UNMAPPED):
            self._named[:, names[local]] = talking[:, local]
        return names

    def translate(self, start: int, segmentation: NDArray[np.floating], labels: Labels) -> Labels:
        """The names to show for the labels that the clustering gave to a complete window."""
        claimed = np.full(len(labels), UNMAPPED)
        if self._named.size:
            claimed = self.label(start, segmentation)
            self._named = self._named[:0, :0]
        for local in np.argsort(labels, kind="stable"):
            self._know(int(labels[local]) - 1, claimed)
            if labels[local] >= len(self._names):
                self._names.append(self._name(int(claimed[local]), claimed))
        return self.shown(labels)

    def shown(self, labels: NDArray[np.integer]) -> Labels:
        """The names of labels of the clustering; those that were never translated get the lowest free ones."""
        self._know(int(labels.max(initial=UNMAPPED)), np.zeros(0, np.intp))
        names: Labels = np.array([*self._names, UNMAPPED])[labels]
        return names

    def _know(self, label: int, claimed: Labels) -> None:
        """Have names up to that of ``label``."""
        while len(self._names) <= label:
            self._names.append(self._name(UNMAPPED, claimed))

    def _shared(self, start: int, talking: NDArray[np.bool_]) -> NDArray[np.float64]:
        """In how many frames each local speaker (row) talks where each name (column) talked in the last window."""
        shift = round((start - self._start) / self._duration * len(talking))
        before = self._named[shift:]
        return talking[: len(before)].T.astype(np.float64) @ before.astype(np.float64)

    def _name(self, wanted: int, claimed: Labels) -> int:
        """A name that no label has: the wanted one if that can be, else the lowest, best one that nobody claims."""
        taken = set(self._names)
        if wanted != UNMAPPED and wanted not in taken:
            return wanted
        free = [name for name in range(self._max_speakers) if name not in taken]
        return min(free, key=lambda name: (name in claimed, name))

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values."""
        return {
            "begun": -1 if self._begun is None else self._begun,
            "names": np.array(self._names, np.int64),
            "named": self._named.copy(),
            "named_start": self._start,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave; raises KeyError, TypeError or ValueError if it is not such a state."""
        self._names = [int(name) for name in state["names"]]
        self._named = np.array(state["named"], np.bool_)
        self._start = int(state["named_start"])
        self._begun = None if state["begun"] == -1 else int(state["begun"])
        if self._named.ndim != 2 or not all(0 <= name < self._max_speakers for name in self._names):
            msg = f"names {self._names} and activity of shape {self._named.shape} are no state of a warm-up"
            raise ValueError(msg)
