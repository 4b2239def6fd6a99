"""Online diarization of one stream: clustering, delayed aggregation and binarization in a row.

Gets the segmentation and the embeddings of one window after another and says who spoke in the region that the window
completes. Positions are samples on the window clock, which is 0 at the beginning of the first window: whoever calls
knows where that is in the stream. Knows nothing of models, audio or messages. One object per stream in the
clustering stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.adaptive import AdaptiveClustering
from diart_mp.blocks.aggregation import AggregatedRegion, DelayedAggregation
from diart_mp.blocks.binarize import binarize
from diart_mp.blocks.clustering import UNMAPPED, ClusteringSettings, IncrementalClustering
from diart_mp.blocks.hindsight import Hindsight, Revision
from diart_mp.blocks.steady import SteadyNames
from diart_mp.blocks.warmup import WarmUp
from diart_mp.config import Settings

_SURER = 0.05  # of the way from ``tau_active`` to 1: so much higher a score does speech need that is said with the adaptive clustering


@dataclass(frozen=True, slots=True)
class Region:
    """Who spoke in [start, end): turns (start, end, global speaker), sorted; everything in samples of the window clock.

    A turn may end half a frame after the region. ``labels`` are the global speakers of the window's local ones, -1 for nobody.
    ``revision``: with an early start, what the first complete window makes of all that was said before it (``blocks.warmup``).
    """

    start: int
    end: int
    turns: tuple[tuple[int, int, int], ...]
    labels: tuple[int, ...] = field(default=(), compare=False)
    revision: Revision | None = None


class OnlineDiarization:
    """The stateful part of diart's pipeline (blocks/diarization.py) for one stream."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        thresholds = ClusteringSettings(
            tau_active=settings.tau_active,
            rho_update=settings.rho_update,
            delta_new=settings.delta_new,
            max_speakers=settings.max_speakers,
        )
        adaptive = settings.clustering == "adaptive"
        self.clustering = AdaptiveClustering(settings) if adaptive else IncrementalClustering(thresholds)
        self._warm_up = _warm_up(settings) if settings.start == "early" else None
        self._final = self._warm_up is None  # what is said now is not said anew
        self._clock = 0  # where that of the aggregation begins, samples
        self._aggregation = DelayedAggregation(settings)
        self._hindsight = Hindsight(settings) if adaptive else None
        self._steady = SteadyNames(settings) if adaptive else None
        self._spoken = settings.tau_active + (_SURER * (1 - settings.tau_active) if adaptive else 0.0)

    def __call__(
        self,
        start: int,
        segmentation: NDArray[np.floating],
        embeddings: NDArray[np.floating],
        *,
        prepend: bool = False,
        silent: bool = False,
    ) -> Region:
        """Who spoke in the region that the window at sample ``start`` completes.

        Args:
            start: first sample of the window; windows come in order and may be left out.
            segmentation: local scores in [0, 1], shape (frames, local speakers).
            embeddings: shape (local speakers, dimension); rows of inactive speakers may be NaN.
            prepend: begin the very first region with the window instead of ``latency`` before its end, as diart does.
            silent: the window has no sound at all. With an early start nothing begins before there is a sound.

        Raises:
            ValueError: NaN or infinite scores, shapes that do not fit, a window out of order. Nothing has been
                learned from the window then.

        """
        said = self._said
        labels, aggregated = self.aggregate(start, segmentation, embeddings, prepend=prepend, silent=silent)
        rate, clock = self._settings.rate, self._clock
        found = (turn for part in aggregated.parts for turn in binarize(part, self._spoken))
        turns = tuple((clock + round(begin * rate), clock + round(end * rate), who) for begin, end, who in found)
        begin, end = clock + aggregated.start, clock + aggregated.end
        turns = turns if self._steady is None else self._steady(begin, end, turns)
        shown = tuple(labels.tolist())
        if begin >= said:
            return Region(begin, end, turns, shown)
        after = tuple((max(first, said), last, who) for first, last, who in turns if last > said)
        return Region(said, end, after, shown, Revision(begin, end, turns, {}))

    def revision(self, *, last: bool = False) -> Revision | None:
        """What is known better by now of all regions so far, if it is time for that or these were the ``last``."""
        if self._hindsight is None or not (last or self._hindsight.due):
            return None
        found = self._hindsight.revise(self._said)
        if found is not None and self._warm_up is not None:
            turns = tuple((start, end, self._shown_one(speaker)) for start, end, speaker in found.turns)
            renamed = {self._shown_one(before): self._shown_one(now) for before, now in found.renamed.items()}
            found = Revision(found.start, found.end, turns, renamed)
        if found is not None and self._steady is not None:
            self._steady.rename(found.renamed)
        return found

    def aggregate(
        self,
        start: int,
        segmentation: NDArray[np.floating],
        embeddings: NDArray[np.floating],
        *,
        prepend: bool = False,
        silent: bool = False,
    ) -> tuple[NDArray[np.intp], AggregatedRegion]:
        """The same up to the binarization: the labels of the local speakers and the aggregated scores of the region.

        With an early start the scores, and the region from the first complete window on, are on a clock that begins with that window.
        """
        self._aggregation.check(start - self._clock, segmentation, prepend=prepend)
        known = self._known()
        own, labels = self._label(start, segmentation, embeddings, silent=silent)
        prepend |= self._begins_anew(start)
        if self._hindsight is not None:
            self._hindsight.add(start, np.zeros_like(segmentation) if silent else segmentation, embeddings, own)
            if self._hindsight.has_thought and (self._warm_up is None or self._warm_up.is_over(start)):
                own = self._learn(self._hindsight, start, own, known)
                self._hindsight.tell(own)
                labels = self._shown(own).astype(np.intp)
        return labels, self._aggregation(start - self._clock, segmentation, labels, prepend=prepend)

    @property
    def _said(self) -> int:
        """Up to which sample turns were said."""
        return self._aggregation.end + self._clock

    def _begins_anew(self, start: int) -> bool:
        """Forget the incomplete windows of an early start once the first complete one is there, at ``start``.

        All goes on as with an exact start then, to the bit. Not where windows were left out and this one does not reach back
        to what was said last.
        """
        if self._final or self._warm_up is None or not self._warm_up.is_over(start):
            return False
        self._final = True
        if self._said < start:
            return False
        self._clock, self._aggregation = start, DelayedAggregation(self._settings)
        if self._hindsight is not None:
            self._hindsight, self._steady = Hindsight(self._settings), SteadyNames(self._settings)
        return True

    def _learn(
        self, hindsight: Hindsight, start: int, own: NDArray[np.intp], known: NDArray[np.int64]
    ) -> NDArray[np.intp]:
        """Correct the labels of coming regions by what is known by now; gives those of the newest window.

        Who was somebody known is who hindsight says; who was new keeps the new name, since hindsight is slow to give one.
        """
        found = hindsight.speakers()
        if found is None or not isinstance(self.clustering, AdaptiveClustering):
            return own
        self.clustering.learn(found[0])
        better = found[1].pop(start)
        self._aggregation.relabel({first - self._clock: self._shown(labels) for first, labels in found[1].items()})
        mixed = np.where(np.isin(own, known) & (better != UNMAPPED), better, own).astype(np.intp)
        told = mixed[mixed != UNMAPPED]
        return mixed if len(np.unique(told)) == len(told) else own

    def _known(self) -> NDArray[np.int64]:
        """Labels of the speakers that an adaptive clustering knows."""
        speakers = self.clustering.speakers if isinstance(self.clustering, AdaptiveClustering) else None
        return np.zeros(0, np.int64) if speakers is None else speakers.names

    def _shown(self, labels: NDArray[np.integer]) -> NDArray[np.integer]:
        """The names that are told for labels of the clustering."""
        return labels if self._warm_up is None else self._warm_up.shown(labels)

    def _shown_one(self, label: int) -> int:
        return int(self._shown(np.array([label]))[0])

    def _label(
        self, start: int, segmentation: NDArray[np.floating], embeddings: NDArray[np.floating], *, silent: bool
    ) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Labels of the clustering, -1 as long as it has not begun, and the names that are told."""
        nobody = np.full(len(embeddings), UNMAPPED)
        if self._warm_up is None:
            labels = self.clustering(segmentation, embeddings)
            return labels, labels
        if not self._warm_up.has_begun(start, silent=silent):
            return nobody, nobody
        if not self._warm_up.is_over(start):
            return nobody, self._warm_up.label(start, segmentation)
        labels = self.clustering(segmentation, embeddings)
        return labels, self._warm_up.translate(start, segmentation, labels)

    def state(self) -> dict[str, Any]:
        """All that is remembered, as one flat map of arrays, integers and booleans (see the parts)."""
        warm_up = self._warm_up.state() if self._warm_up is not None else {}
        hindsight = self._hindsight.state() if self._hindsight is not None else {}
        steady = self._steady.state() if self._steady is not None else {}
        own = {"final": self._final, "clock": self._clock}
        return {**own, **self.clustering.state(), **self._aggregation.state(), **warm_up, **hindsight, **steady}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave, bit for bit; raises ValueError if it is not such a state."""
        try:
            self._final, self._clock = bool(state["final"]), int(state["clock"])
            self.clustering.restore(state)
            self._aggregation.restore(state)
            if self._warm_up is not None:
                self._warm_up.restore(state)
            if self._hindsight is not None:
                self._hindsight.restore(state)
            if self._steady is not None:
                self._steady.restore(state)
        except (KeyError, TypeError) as error:
            msg = f"the checkpoint is damaged or from another version: {type(error).__name__} {error}"
            raise ValueError(msg) from error


def _warm_up(settings: Settings) -> WarmUp:
    return WarmUp(
        duration=settings.duration,
        step=settings.step,
        tau_active=settings.tau_active,
        max_speakers=settings.max_speakers,
    )
