"""Constrained incremental clustering: which global speaker each local speaker of a window is.

One object per stream, kept by the clustering stage. Knows the scores and the embeddings of one window at a time and the
centroids so far; nothing of time, audio or messages. The rules are those of diart (blocks/clustering.py, mapping.py) and
of Coria et al. 2021, section 2.3: two local speakers of a window are never the same person (cannot-link), which a minimum
cost assignment guarantees. Importing SciPy takes half a second: import this module where it is used.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.scipy_parts import cosine_distances, linear_sum_assignment

UNMAPPED = -1  # label of a local speaker that is nobody
FORBIDDEN = 1e10  # cost of a link that must not be; the assignment cannot deal with infinity


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusteringSettings:
    """Thresholds of the clustering, named as in diart.

    A local speaker is active if its highest score is at least ``tau_active``; it may found or move a centroid if its
    mean score is at least ``rho_update``; it is somebody new if its cosine distance to the centroid that it would get is
    at least ``delta_new``. Labels are 0 to ``max_speakers`` - 1.
    """

    tau_active: float
    rho_update: float
    delta_new: float
    max_speakers: int


class IncrementalClustering:
    """Maps the local speakers of one window after another to global speakers, by the centroids of these."""

    def __init__(self, settings: ClusteringSettings) -> None:
        self.settings = settings
        self._started = False
        self._centers: NDArray[np.float64] = np.zeros((0, 0))

    @property
    def centers(self) -> NDArray[np.float64]:
        """Centroids of the known speakers, shape (known speakers, dimension): sums of their embeddings."""
        return self._centers.copy()

    def __call__(self, segmentation: NDArray[np.floating], embeddings: NDArray[np.floating]) -> NDArray[np.intp]:
        """Label the local speakers of the next window and learn from it.

        Args:
            segmentation: local scores in [0, 1], shape (frames, local speakers).
            embeddings: one per local speaker, shape (local speakers, dimension). Rows with NaN, infinity or zeros only
                count as not there: inactive speakers need no embedding.

        Returns:
            Global label of each local speaker, shape (local speakers,); -1 for a speaker that is mapped to nobody.

        Raises:
            ValueError: NaN or infinite scores, or shapes that do not fit together.

        """
        check_window(segmentation, embeddings)
        first, self._started = not self._started, True
        scores = np.ascontiguousarray(segmentation.T)  # a maximum over neighbours in memory takes a quarter of the time
        talking = scores.max(axis=1) >= self.settings.tau_active
        if not talking.any():
            return np.full(len(embeddings), UNMAPPED)
        usable = np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)
        if len(self._centers) and embeddings.shape[1] != self._centers.shape[1] and (talking & usable).any():
            msg = (
                f"embeddings have {embeddings.shape[1]} dimensions, those of the stream so far {self._centers.shape[1]}"
            )
            raise ValueError(msg)
        return self._label(segmentation, embeddings, talking, usable, first=first)

    def _label(
        self,
        segmentation: NDArray[np.floating],
        embeddings: NDArray[np.floating],
        talking: NDArray[np.bool_],
        usable: NDArray[np.bool_],
        *,
        first: bool,
    ) -> NDArray[np.intp]:
        """Labels of a window in which somebody talks; ``usable``: who has an embedding."""
        active = np.flatnonzero(talking & usable)
        if active.size == 0:
            return np.full(len(embeddings), UNMAPPED)
        if first:
            return self._open_first(embeddings, active)
        return self._identify(segmentation, embeddings, active)

    def _open_first(self, embeddings: NDArray[np.floating], active: NDArray[np.intp]) -> NDArray[np.intp]:
        """In the very first window every active speaker is new, as far as there is room."""
        founders = active[: self.settings.max_speakers]
        self._open(embeddings[founders])
        labels = np.full(len(embeddings), UNMAPPED)
        labels[founders] = np.arange(founders.size)
        return labels

    def _identify(
        self, segmentation: NDArray[np.floating], embeddings: NDArray[np.floating], active: NDArray[np.intp]
    ) -> NDArray[np.intp]:
        is_long = segmentation.mean(axis=0) >= self.settings.rho_update
        costs = self._costs(embeddings, active)
        links = costs.copy()
        labels = assign(links)
        too_far = (labels == UNMAPPED) | (costs[np.arange(len(costs)), labels] >= self.settings.delta_new)
        links[too_far] = FORBIDDEN
        missed = [local for local in active if too_far[local]]
        founders = self._place(missed, is_long, costs, links)

        labels = assign(links)
        for local in active:
            if is_long[local] and not too_far[local] and labels[local] != UNMAPPED:
                self._centers[labels[local]] += embeddings[local]
        if founders:
            links[founders, self._open(embeddings[founders])] = 0.0
            labels = assign(links)
        return labels

    def _costs(self, embeddings: NDArray[np.floating], active: NDArray[np.intp]) -> NDArray[np.float64]:
        """Cosine distances, shape (local speakers, max_speakers); forbidden where either side is not in use."""
        costs = np.full((len(embeddings), self.settings.max_speakers), FORBIDDEN)
        known = len(self._centers)
        if known:
            distances = cosine_distances(embeddings[active], self._centers)
            # A centroid whose embeddings cancelled out is at no distance from anybody.
            costs[active, :known] = np.where(np.isnan(distances), FORBIDDEN, distances)
        return costs

    def _place(
        self,
        missed: list[np.intp],
        is_long: NDArray[np.bool_],
        costs: NDArray[np.float64],
        links: NDArray[np.float64],
    ) -> list[np.intp]:
        """Find a place for active speakers that are near nobody.

        Who has talked for long enough is somebody new while there is room; the others become, in ``links``, the
        nearest known speaker whom nobody else of the window is, at whatever distance, or nobody.

        Returns:
            The local speakers that found a centroid.

        """
        known = len(self._centers)
        founders: list[np.intp] = []
        for local in missed:
            if is_long[local] and known + len(founders) < self.settings.max_speakers:
                founders.append(local)
                continue
            taken = set(assign(links).tolist())
            free = [label for label in range(known) if label not in taken]
            if free:
                links[local, min(free, key=lambda label: costs[local, label])] = 0.0
        return founders

    def _open(self, embeddings: NDArray[np.floating]) -> NDArray[np.intp]:
        """Make each of ``embeddings`` the centroid of a new speaker and give their labels."""
        known = len(self._centers)
        new = embeddings.astype(np.float64)
        self._centers = np.vstack((self._centers, new)) if known else new
        return np.arange(known, len(self._centers))

    def state(self) -> dict[str, Any]:
        """All that is remembered, as plain values: ``started`` (bool), ``centers`` (known speakers, dimension)."""
        return {"started": self._started, "centers": self._centers.copy()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave, bit for bit; raises ValueError if it is not such a state."""
        centers = np.array(state["centers"], dtype=np.float64)
        if centers.ndim != 2 or len(centers) > self.settings.max_speakers or not np.isfinite(centers).all():
            msg = f"centers of shape {centers.shape} are no state of a clustering of {self.settings.max_speakers} speakers"
            raise ValueError(msg)
        self._started, self._centers = bool(state["started"]), centers


def check_window(segmentation: NDArray[np.floating], embeddings: NDArray[np.floating]) -> None:
    """Raise ValueError unless scores and embeddings of a window fit together and all scores are finite."""
    if (
        segmentation.ndim != 2
        or embeddings.ndim != 2
        or segmentation.shape[1] != len(embeddings)
        or not segmentation.size
    ):
        msg = (
            f"segmentation of shape {segmentation.shape} and embeddings of shape {embeddings.shape} do not fit together: "
            "they must be (frames, speakers) and (speakers, dimension)"
        )
        raise ValueError(msg)
    if np.isfinite(segmentation.sum()):  # then each of them is
        return
    finite = np.isfinite(segmentation)
    if not finite.all():
        msg = (
            f"{segmentation.size - np.count_nonzero(finite)} of {segmentation.size} segmentation scores are NaN or "
            "infinite; the segmentation model gave no valid output (overflow in reduced precision?)"
        )
        raise ValueError(msg)


def assign(costs: NDArray[np.float64]) -> NDArray[np.intp]:
    """Label of each local speaker at the lowest total cost, no label twice; -1 for rows that are all forbidden.

    With more local speakers than labels some get none, so row and column indices of the solution both count.
    """
    rows, columns = linear_sum_assignment(costs)
    labels = np.full(len(costs), UNMAPPED)
    labels[rows] = columns
    labels[costs.min(axis=1) == FORBIDDEN] = UNMAPPED
    return labels
