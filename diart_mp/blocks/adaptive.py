"""Adaptive clustering: `exact`'s cannot-link assignment, on embeddings of clean speech and with patience.

Two things differ from ``IncrementalClustering``: a local speaker counts for as many seconds as he talks alone
(his embedding comes from that speech only), and who has not talked alone for long enough founds nobody, also not in the first
window: until then he is the nearest known speaker that nobody else of the window is. One object per stream in the
clustering stage. Knows nothing of models, time or messages.
"""

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.clustering import FORBIDDEN, UNMAPPED, ClusteringSettings, IncrementalClustering, assign
from diart_mp.blocks.weights import clean_speech

FOUNDING_S = 0.6
"""Seconds of clean speech from which a local speaker may be somebody new."""

LEARNING_S = 0.8
"""Seconds of clean speech in a window from which a local speaker moves the centroid that he is given."""

NEARNESS = 1.1
"""Clean embeddings lie further apart than weighted ones: somebody is new from this times ``delta_new`` on."""


class AdaptiveClustering(IncrementalClustering):
    """Maps the local speakers of one window after another to global speakers, by clean speech.

    ``rho_update`` has no meaning here. Centroids are sums of embeddings, each weighted by its seconds of clean speech.
    """

    def __init__(self, settings: ClusteringSettings, *, window_s: float) -> None:
        """``window_s``: seconds of a window."""
        super().__init__(settings)
        self._window_s = window_s
        self._limit = NEARNESS * settings.delta_new

    def _label(
        self,
        segmentation: NDArray[np.floating],
        embeddings: NDArray[np.floating],
        talking: NDArray[np.bool_],
        usable: NDArray[np.bool_],
        *,
        first: bool,
    ) -> NDArray[np.intp]:
        clean = clean_speech(segmentation, self.settings.tau_active)
        seconds = np.where(usable, clean.sum(axis=0) * (self._window_s / len(segmentation)), 0.0)
        costs = self._distances(embeddings, talking, usable)
        links = np.where(costs < self._limit, costs, FORBIDDEN)
        labels = assign(links)
        labels[links[np.arange(len(links)), labels] == FORBIDDEN] = UNMAPPED  # got what was left, not what is near
        known = labels.copy()
        founders = self._place_clean(np.flatnonzero(talking & (labels == UNMAPPED)), seconds, costs, labels)
        for local in np.flatnonzero((known != UNMAPPED) & (seconds >= LEARNING_S)):
            self._centers[known[local]] += seconds[local] * embeddings[local]
        if founders:
            labels[founders] = self._open(seconds[founders, np.newaxis] * embeddings[founders])
        return labels

    def _distances(
        self, embeddings: NDArray[np.floating], talking: NDArray[np.bool_], usable: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """Costs as in ``_costs``; for a talking speaker without an embedding every known one is as near as may be."""
        costs = self._costs(embeddings, np.flatnonzero(talking & usable))
        unheard = self._limit * (1 - 1e-6)  # takes only what nobody who was heard wants
        costs[np.ix_(talking & ~usable, np.arange(len(self._centers)))] = unheard
        return costs

    def _place_clean(
        self,
        missed: NDArray[np.intp],
        seconds: NDArray[np.float64],
        costs: NDArray[np.float64],
        labels: NDArray[np.intp],
    ) -> list[np.intp]:
        """Who of ``missed`` is somebody new; the others get, in ``labels``, the nearest speaker who is free, or nobody."""
        founders: list[np.intp] = []
        known = len(self._centers)
        for local in missed[np.argsort(-seconds[missed], kind="stable")]:
            if seconds[local] >= FOUNDING_S and known + len(founders) < self.settings.max_speakers:
                founders.append(local)
                continue
            free = np.setdiff1d(np.arange(known), labels)
            if free.size:
                labels[local] = free[np.argmin(costs[local, free])]
        return founders
