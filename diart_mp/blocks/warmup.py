"""Speaking before a whole window of a stream has been heard: provisional speakers, and their names later on.

The first windows of a stream that starts early are mostly silence padded at the left, too little to found centroids
on that are never forgotten. So they are clustered apart, by the same rules but with anyone active allowed to be somebody new; the
first complete window starts the real clustering afresh, exactly as if nothing had been said before, and its speakers
keep the provisional names of those they are. Not in diart. One object per stream in the clustering stage.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.clustering import UNMAPPED, ClusteringSettings, IncrementalClustering

Labels = NDArray[np.intp]
_PREFIX = "warmup_"  # of the keys in the state


class WarmUp:
    """Gives labels during the warm-up and translates those of the real clustering afterwards."""

    def __init__(self, settings: ClusteringSettings) -> None:
        self._max_speakers = settings.max_speakers
        self._provisional: IncrementalClustering | None = IncrementalClustering(replace(settings, rho_update=0.0))
        self._names: list[int] = []  # shown label of each label of the real clustering, in order of their founding

    def label(self, segmentation: NDArray[np.floating], embeddings: NDArray[np.floating]) -> Labels:
        """Provisional labels of the local speakers of an incomplete window, shape (local speakers,)."""
        if self._provisional is None:
            msg = "an incomplete window after a complete one: windows must come in order"
            raise ValueError(msg)
        return self._provisional(segmentation, embeddings)

    def translate(self, labels: Labels, segmentation: NDArray[np.floating], embeddings: NDArray[np.floating]) -> Labels:
        """The labels to show for those that the real clustering gave to a complete window."""
        shown = np.full(len(labels), UNMAPPED)
        if self._provisional is not None:
            shown, self._provisional = self._provisional(segmentation, embeddings), None
        for local in np.argsort(labels, kind="stable"):
            if labels[local] >= len(self._names):
                self._names.append(self._name(int(shown[local]), shown))
        known = np.array([*self._names, UNMAPPED])
        return known[labels]

    def _name(self, wanted: int, claimed: Labels) -> int:
        """A name that nobody has: the provisional one if there was one, else the lowest that nobody claims."""
        taken = set(self._names)
        if wanted != UNMAPPED and wanted not in taken:
            return wanted
        free = [name for name in range(self._max_speakers) if name not in taken]
        return min(free, key=lambda name: (name in claimed, name))

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values."""
        provisional = self._provisional.state() if self._provisional is not None else {}
        return {
            f"{_PREFIX}names": np.array(self._names, np.int64),
            **{_PREFIX + name: value for name, value in provisional.items()},
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave; raises ValueError or KeyError if it is not such a state."""
        self._names = [int(name) for name in state[f"{_PREFIX}names"]]
        if self._provisional is not None and f"{_PREFIX}centers" in state:
            self._provisional.restore(
                {name.removeprefix(_PREFIX): value for name, value in state.items() if name.startswith(_PREFIX)}
            )
        else:
            self._provisional = None
