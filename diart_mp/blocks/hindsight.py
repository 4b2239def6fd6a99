"""Who is who, decided again with hindsight: the stream's own embeddings are clustered every few seconds, and labels revised.

An online label is decided once, on what was heard until then. Here the last half minute of windows is kept and all that was
heard is clustered again (``blocks.agglomerate``): each local speaker of a kept window gets the cluster that fits him and
nobody else of the window, and the scores of all windows of a moment are added up. Windows that leave that half
minute are settled: of them remain sums of embeddings, one voice per speaker, that later clusterings may still merge but
not split. So memory and time per window are the same after hours. One object per stream in the clustering stage; knows
nothing of messages or of names in outputs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks import adaptive
from diart_mp.blocks.adaptive import MOST_S, UNSURE_S, Speakers
from diart_mp.blocks.agglomerate import Voices, agglomerate
from diart_mp.blocks.clustering import UNMAPPED
from diart_mp.blocks.kept import KeptWindow, kept_state, kept_windows, turns_of
from diart_mp.blocks.scipy_parts import linear_sum_assignment
from diart_mp.config import Settings

HORIZON_S, EVERY_S, OFTEN_S = 30.0, 10.0, 0.5
"""Seconds of windows whose labels may still change one by one; from one revision to the next; and from one correction of the
live labels to the next."""

_MOST_WINDOWS = 150  # kept, however short the step: clustering takes time with their number squared
_APART = 0.57  # times ``delta_new``: distance between voices of which one was never heard without the other
_SHORTEST_S = 0.4  # clean speech of a local speaker from which he takes part in the clustering
_SOMEBODY_S = 1.0  # of such speech, counted in every window that has it, from which a cluster is somebody
_FOREVER_S = 1e9  # more than any stream: puts those who are settled first
_LOYALTY = 1.2  # a voice keeps its name unless another has this times its claim

Turns = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Revision:
    """What was said is taken back: in [start, end), in samples of the window clock, these are the turns.

    turns: (start, end, global speaker), sorted. renamed: {before: now}, all at once, for what lies before ``start``.
    """

    start: int
    end: int
    turns: Turns
    renamed: Mapping[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class _Speakers:
    """People: their names (speakers,), voices, and claims (speakers, names): seconds for which they were called so."""

    names: NDArray[np.int64]
    voices: Voices
    claims: NDArray[np.float64]


class _Opinion(NamedTuple):
    """A clustering of all that is known: settled speakers and the row of each, names by row, and who was heard in fresh windows.

    rows: (window, local speaker) of each voice in ``heard``. labels: row of each local speaker by window, -1 for nobody.
    """

    past: _Speakers
    old: NDArray[np.intp]
    names: NDArray[np.int64]
    rows: list[tuple[int, int]]
    heard: Voices
    labels: list[NDArray[np.int64]]


class Hindsight:
    """Keeps what is heard of one stream and says, when it is time, who really spoke."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        step_s = settings.step / settings.rate
        self._horizon = max(1, min(round(HORIZON_S / step_s), _MOST_WINDOWS))
        self._every = max(1, min(round(EVERY_S / step_s), _MOST_WINDOWS))
        self._often = max(1, round(OFTEN_S / step_s))
        self._windows: list[KeptWindow] = []  # by start
        self._settled = 0  # of the windows, the first
        self._since = 0  # windows since the last revision
        self._past: _Speakers | None = None  # of settled windows

    def add(
        self,
        start: int,
        segmentation: NDArray[np.floating],
        embeddings: NDArray[np.floating],
        labels: NDArray[np.integer],
    ) -> None:
        """Keep the next window: first sample, scores (frames, local speakers), embeddings of clean speech, labels said."""
        self._windows.append(KeptWindow.of(start, segmentation, embeddings, labels, self._settings))
        self._since += 1

    def tell(self, labels: NDArray[np.integer]) -> None:
        """The labels that were said of the newest window after all."""
        self._windows[-1] = replace(self._windows[-1], said=np.array(labels, np.int64))

    @property
    def has_thought(self) -> bool:
        """Whether it is time to correct the live labels (``speakers``)."""
        return self._since % self._often == 0

    @property
    def due(self) -> bool:
        """Whether it is time for a revision."""
        return self._since >= self._every

    def revise(self, end: int) -> Revision | None:
        """Cluster again what is known, and say who spoke up to sample ``end``. None if no window came since."""
        fresh = self._windows[self._settled :]
        if not self._since or not fresh:
            return None
        self._since = 0
        past, old, names, rows, heard, labels = self._cluster_all(fresh)
        renamed = {a: b for a, b in zip(past.names.tolist(), names[old].tolist(), strict=True) if a != b}
        self._relabel(renamed, [_named(*each, names) for each in zip(fresh, labels, strict=True)])
        turns = turns_of(self._windows, fresh[0].start, end, self._settings)
        leaving = max(0, len(fresh) - self._horizon)
        self._past = self._settle(past, old, names, rows, heard, labels, leaving)
        self._drop(leaving)
        return Revision(fresh[0].start, end, turns, renamed)

    def speakers(self) -> tuple[Speakers, dict[int, NDArray[np.int64]]] | None:
        """Who is known by now, and the labels of the windows that are not settled, by their first samples.

        Changes nothing. None if nobody was heard.
        """
        fresh = self._windows[self._settled :]
        if not fresh:
            return None
        past, old, names, rows, heard, labels = self._cluster_all(fresh)
        groups = np.concatenate([old, np.array([labels[index][local] for index, local in rows], np.intp)])
        voices = Voices.join(past.voices, heard).grouped(groups, len(names))
        order = np.argsort(names, kind="stable")
        order = order[voices.weights[order] > 0]
        found = Speakers(names[order], voices.only(order))
        return found, {window.start: _named(window, own, names) for window, own in zip(fresh, labels, strict=True)}

    def _cluster_all(self, fresh: list[KeptWindow]) -> "_Opinion":
        """Who the local speakers of ``fresh`` and the settled speakers are, by all that is known."""
        past = self._past or self._nobody(fresh[0].embeddings.shape[1])
        rows, heard = _heard(fresh)
        voices = Voices.join(past.voices, heard)
        group = self._cluster(past, rows, voices)
        count = int(group.max(initial=-1)) + 1
        sums = voices.grouped(group, count).sums
        labels = [_assign(window, sums) for window in fresh]
        old = group[: len(past.names)]
        names = self._name(past, old, self._claims(fresh, labels, count))
        return _Opinion(past, old, names, rows, heard, labels)

    def _nobody(self, dimension: int) -> _Speakers:
        none = np.zeros(0)
        voices = Voices(none, np.zeros((0, dimension)), none, none)
        return _Speakers(np.zeros(0, np.int64), voices, np.zeros((0, self._settings.max_speakers)))

    def _cluster(self, past: _Speakers, rows: list[tuple[int, int]], voices: Voices) -> NDArray[np.intp]:
        """Cluster of each voice, at most ``max_speakers`` of them; -1 for a voice that is too little to be somebody."""
        known = len(past.names)
        window = np.array([index for index, _ in rows], np.intp)
        beside = (window[:, None] == window[None, :]) & ~np.eye(len(rows), dtype=np.bool_)
        together = np.zeros((len(voices), len(voices)))
        seconds = voices.seconds[known:]
        together[known:, known:] = np.where(beside, np.minimum(seconds[:, None], seconds[None, :]), 0.0)
        scale = self._settings.delta_new
        found = agglomerate(
            voices, together, nearest=adaptive.NEAREST * scale, noise=adaptive.NOISE * scale, apart=_APART * scale
        )
        count = int(found.max(initial=-1)) + 1
        spoken = voices.grouped(found, count).seconds
        spoken[found[:known]] += _FOREVER_S  # whoever was settled stays
        ranked = np.argsort(-spoken, kind="stable")[: self._settings.max_speakers]
        kept = np.sort(ranked[spoken[ranked] >= min(_SOMEBODY_S, spoken.max(initial=0.0))])
        numbers = np.full(count, UNMAPPED)
        numbers[kept] = np.arange(kept.size)
        return numbers[found]

    def _claims(self, windows: list[KeptWindow], labels: list[NDArray[np.int64]], count: int) -> NDArray[np.float64]:
        """For how many seconds each of ``count`` speakers was called by each name when he spoke."""
        claims = np.zeros((count, self._settings.max_speakers))
        for window, own in zip(windows, labels, strict=True):
            both = (own != UNMAPPED) & (window.said != UNMAPPED)
            np.add.at(claims, (own[both], window.said[both]), window.active_s(self._settings)[both])
        return claims

    def _name(self, past: _Speakers, old: NDArray[np.intp], claims: NDArray[np.float64]) -> NDArray[np.int64]:
        """Names of the speakers: those by which they were called most, no name twice, and rather their old ones."""
        claims = claims.copy()
        np.add.at(claims, old, past.claims)
        claims[old, past.names] *= _LOYALTY
        claims -= 1e-6 * np.arange(claims.shape[1])  # without any claim: the lowest free
        speakers, names = linear_sum_assignment(claims, maximize=True)
        result = np.full(len(claims), UNMAPPED, np.int64)
        result[speakers] = names
        return result

    def _relabel(self, renamed: Mapping[int, int], labels: list[NDArray[np.int64]]) -> None:
        for index, window in enumerate(self._windows):
            if index < self._settled:
                now = np.array([renamed.get(label, label) for label in window.labels.tolist()], np.int64)
            else:
                now = labels[index - self._settled]
            self._windows[index] = replace(window, labels=now)

    def _settle(
        self,
        past: _Speakers,
        old: NDArray[np.intp],
        names: NDArray[np.int64],
        rows: list[tuple[int, int]],
        heard: Voices,
        labels: list[NDArray[np.int64]],
        leaving: int,
    ) -> _Speakers:
        """What is known of the speakers once the first ``leaving`` windows are settled too."""
        whose = [int(labels[index][local]) if index < leaving else UNMAPPED for index, local in rows]
        groups = np.concatenate([old, np.array(whose, np.intp)])
        voices = Voices.join(past.voices, heard).grouped(groups, len(names))
        claims = self._claims(self._windows[self._settled :][:leaving], labels[:leaving], len(names))
        np.add.at(claims, old, past.claims)
        there = voices.weights > 0
        return _Speakers(names[there], voices.only(there), claims[there])

    def _drop(self, leaving: int) -> None:
        """Settle ``leaving`` more windows, and forget those that reach into no coming revision."""
        self._settled += leaving
        start = self._windows[min(self._settled, len(self._windows) - 1)].start
        gone = sum(window.start + self._settings.duration <= start for window in self._windows[: self._settled])
        self._windows = self._windows[gone:]
        self._settled -= gone

    def state(self) -> dict[str, Any]:
        """All that is remembered, as one flat map of arrays and integers whose names begin with ``kept`` or ``past``."""
        past = self._past
        known: dict[str, Any] = {} if past is None else {"past_names": past.names, "past_claims": past.claims}
        if past is not None:
            known |= past.voices.to_map("past")
        counts = {"kept_settled": self._settled, "kept_since": self._since}
        return {**kept_state(self._windows), **counts, **known}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from what ``state()`` gave, bit for bit; raises KeyError or ValueError if it is not such a state."""
        self._windows = kept_windows(state)
        self._settled, self._since, self._past = int(state["kept_settled"]), int(state["kept_since"]), None
        if not 0 <= self._settled <= len(self._windows):
            msg = f"{self._settled} of {len(self._windows)} kept windows cannot be settled"
            raise ValueError(msg)
        if "past_names" in state:
            voices = Voices.from_map(state, "past")
            names = np.array(state["past_names"], np.int64)
            self._past = _Speakers(names, voices, np.array(state["past_claims"], np.float64))


def _heard(windows: list[KeptWindow]) -> tuple[list[tuple[int, int]], Voices]:
    """(window, local speaker) of all who can be clustered, and their voices."""
    rows = [
        (index, local)
        for index, window in enumerate(windows)
        for local in np.flatnonzero(window.talking & (window.seconds >= _SHORTEST_S)).tolist()
    ]
    embeddings = [windows[index].embeddings[local] for index, local in rows]
    shape = (len(rows), windows[0].embeddings.shape[1])
    seconds = np.array([windows[index].seconds[local] for index, local in rows], np.float64)
    return rows, Voices.single(np.array(embeddings, np.float64).reshape(shape), seconds, MOST_S)


def _named(window: KeptWindow, rows: NDArray[np.int64], names: NDArray[np.int64]) -> NDArray[np.int64]:
    """Names of the local speakers that are the speakers ``rows``; who is nobody keeps what he was called, if no speaker is called so."""
    found: NDArray[np.int64] = np.append(names, UNMAPPED)[rows]
    return np.where((rows == UNMAPPED) & window.talking & ~np.isin(window.said, names), window.said, found)


def _assign(window: KeptWindow, sums: NDArray[np.float64]) -> NDArray[np.int64]:
    """The speaker (row of ``sums``) of each local speaker that talks, none twice, by nearness weighted by seconds."""
    labels = np.full(len(window.seconds), UNMAPPED, np.int64)
    talking = np.flatnonzero(window.talking)
    if talking.size and len(sums):
        unit = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        nearness = 1 + window.embeddings[talking].astype(np.float64) @ unit.T  # without an embedding: 1 to everybody
        weights = np.clip(window.seconds[talking], UNSURE_S, MOST_S)
        rows, speakers = linear_sum_assignment(nearness * weights[:, None], maximize=True)
        labels[talking[rows]] = speakers
    return labels
