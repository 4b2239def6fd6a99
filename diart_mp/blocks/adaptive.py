"""Adaptive clustering: who each local speaker of a window is, by clean speech, with patience, and with what hindsight knows.

Differs from ``IncrementalClustering`` in its evidence. A local speaker counts for as many seconds as he talks alone; what
the shortness of his speech, and of what is known of a speaker, adds to their distance is taken off; who has not talked alone for long enough
founds nobody. Until then he is the nearest free speaker, unless there is none or he is plainly somebody else: then he has the
lowest free name provisionally, which becomes his if he stays. A voice of which the segmentation was never sure is nobody new
once somebody is known. And with every window the speakers are replaced by those that a clustering of all that was heard finds
(``blocks.hindsight``). One object per stream in the clustering stage. Knows nothing of models, time or messages.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.agglomerate import Voices
from diart_mp.blocks.clustering import UNMAPPED, check_window
from diart_mp.blocks.scipy_parts import linear_sum_assignment
from diart_mp.blocks.weights import clean_speech
from diart_mp.config import Settings

NEAREST = 0.54
"""Times ``delta_new``: the corrected distance from which a voice is somebody else's."""

NOISE = 0.37
"""Times ``delta_new``: the distance that one second of speech adds."""

FOUNDING_S = 1.0
"""Seconds of clean speech in a window from which a local speaker may be somebody new."""

LEARNING_S = 0.8
"""Seconds of clean speech in a window from which a local speaker adds to what is known of the speaker that he is."""

SURE, SURE_S = 0.75, 0.1
"""Score from which the segmentation is sure that somebody talks, and seconds of it that a new name takes: what it hears in
breath, laughter and noise has scores little above ``tau_active``."""

_PLAIN_S = 0.3  # of clean speech from which a voice that is near nobody is not given to the nearest
MOST_S, UNSURE_S = 5.0, 0.05
"""Seconds of clean speech in one window that count at most, and as which none counts."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Speakers:
    """Global speakers: names (speakers,), ascending, and voices."""

    names: NDArray[np.int64]
    voices: Voices


class _Heard(NamedTuple):
    """Who talks in a window: places among its local speakers, seconds of clean speech, whether that is speech for sure, and
    nearness and corrected distances to the known speakers, (who talks, speakers).
    """

    locals_: NDArray[np.intp]
    seconds: Floats
    sure: NDArray[np.bool_]
    nearness: Floats
    distances: Floats


class AdaptiveClustering:
    """Maps the local speakers of one window after another to global speakers, which others may correct (``learn``)."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._speakers: Speakers | None = None

    @property
    def speakers(self) -> Speakers | None:
        """Who is known so far."""
        return self._speakers

    @property
    def centers(self) -> Floats:
        """Centroids of the known speakers, shape (known speakers, dimension): sums of their embeddings."""
        return np.zeros((0, 0)) if self._speakers is None else self._speakers.voices.sums.copy()

    def __call__(self, segmentation: NDArray[np.floating], embeddings: NDArray[np.floating]) -> NDArray[np.intp]:
        """Label the local speakers of the next window and learn from it; arguments, result, errors as in ``IncrementalClustering``."""
        check_window(segmentation, embeddings)
        labels = np.full(len(embeddings), UNMAPPED)
        locals_ = np.flatnonzero(segmentation.max(axis=0) >= self._settings.tau_active)
        if not locals_.size:
            return labels
        usable = np.isfinite(embeddings).all(axis=1) & embeddings.any(axis=1)
        units = np.where(usable[:, None], embeddings, 1.0).astype(np.float64)
        units /= np.linalg.norm(units, axis=1, keepdims=True)
        clean = clean_speech(segmentation, self._settings.tau_active)
        length_s = self._settings.duration / self._settings.rate
        seconds = np.where(usable, clean.sum(axis=0) * (length_s / len(segmentation)), 0.0)
        known = self._speakers or _nobody(embeddings.shape[1])
        if known.voices.sums.shape[1] != embeddings.shape[1]:
            msg = f"embeddings have {embeddings.shape[1]} dimensions, those of the stream so far {known.voices.sums.shape[1]}"
            raise ValueError(msg)
        sure = (segmentation[:, locals_] >= SURE).sum(axis=0) * (length_s / len(segmentation)) >= SURE_S
        compared = self._compare(units[locals_], seconds[locals_], usable[locals_], known.voices)
        heard = _Heard(locals_, seconds[locals_], sure, *compared)
        labels[locals_] = self._match(heard, known.names)
        learned = (labels != UNMAPPED) & (seconds >= LEARNING_S)
        founders = self._place(heard, known.names, labels)
        learned[founders] = True
        self._learn_from(known, labels[learned], units[learned], seconds[learned])
        return labels

    def learn(self, speakers: Speakers) -> None:
        """These are the speakers, from now on."""
        self._speakers = speakers

    def _compare(
        self, units: Floats, seconds: Floats, usable: NDArray[np.bool_], voices: Voices
    ) -> tuple[Floats, Floats]:
        """1 + cosine similarity, and corrected distance, (local speakers, speakers); without an embedding 1, and near."""
        lengths = np.maximum(np.linalg.norm(voices.sums, axis=1), 1e-12)
        nearness = np.where(usable[:, None], 1 + units @ (voices.sums / lengths[:, None]).T, 1.0)
        average = 1 - units @ (voices.sums / voices.weights[:, None]).T
        brevity = 1 / np.maximum(seconds, 0.2)[:, None] + (voices.brevity / voices.weights)[None, :]
        distances = average - NOISE * self._settings.delta_new * brevity
        return nearness, np.where(usable[:, None], distances, -1.0)

    def _match(self, heard: _Heard, names: NDArray[np.int64]) -> NDArray[np.intp]:
        """Names of those who talk and are near enough to somebody, none twice; -1 for the others."""
        labels = np.full(len(heard.locals_), UNMAPPED)
        near = heard.distances < NEAREST * self._settings.delta_new
        gains = np.where(near, heard.nearness * np.clip(heard.seconds, UNSURE_S, MOST_S)[:, None], -1.0)
        rows, columns = linear_sum_assignment(gains, maximize=True)
        for row, column in zip(rows, columns, strict=True):
            if near[row, column]:
                labels[row] = names[column]
        return labels

    def _place(self, heard: _Heard, names: NDArray[np.int64], labels: NDArray[np.intp]) -> list[int]:
        """Find names, in ``labels``, for those who are near nobody; gives the local speakers that are somebody new."""
        free = [name for name in range(self._settings.max_speakers) if name not in names]
        founders: list[int] = []
        rows = [row for row, local in enumerate(heard.locals_) if labels[local] == UNMAPPED]
        for row in sorted(rows, key=lambda row: -heard.seconds[row]):
            local, alone = int(heard.locals_[row]), heard.seconds[row]
            left = np.flatnonzero(~np.isin(names, labels))
            far = left.size and heard.distances[row, left].min() >= NEAREST * self._settings.delta_new
            new = alone >= FOUNDING_S or (alone >= _PLAIN_S and far) or not left.size
            if free and new and (heard.sure[row] or not names.size):
                labels[local] = free.pop(0)
                if alone >= FOUNDING_S:
                    founders.append(local)
            elif left.size:
                labels[local] = names[left[int(heard.nearness[row, left].argmax())]]
        return founders

    def _learn_from(self, known: Speakers, labels: NDArray[np.intp], units: Floats, seconds: Floats) -> None:
        names = np.union1d(known.names, labels).astype(np.int64)
        if not names.size:
            return
        heard = Voices.single(units, seconds, MOST_S)
        groups = np.concatenate([np.searchsorted(names, known.names), np.searchsorted(names, labels)])
        self._speakers = Speakers(names, Voices.join(known.voices, heard).grouped(groups, len(names)))

    def state(self) -> dict[str, Any]:
        """All that is remembered, as one flat map of arrays whose names begin with ``known_``."""
        known = self._speakers
        return {} if known is None else {"known_names": known.names, **known.voices.to_map("known")}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave, bit for bit; raises ValueError if it is not such a state."""
        self._speakers = None
        if "known_names" in state:
            names, voices = np.array(state["known_names"], np.int64), Voices.from_map(state, "known")
            if len(names) != len(voices) or not ((names >= 0) & (names < self._settings.max_speakers)).all():
                msg = f"names {names.tolist()} of {len(voices)} voices are no state of a clustering of {self._settings.max_speakers} speakers"
                raise ValueError(msg)
            self._speakers = Speakers(names, voices)


def _nobody(dimension: int) -> Speakers:
    none = np.zeros(0)
    return Speakers(np.zeros(0, np.int64), Voices(none, np.zeros((0, dimension)), none, none))
