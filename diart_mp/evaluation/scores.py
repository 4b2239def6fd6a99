"""What an evaluation measures of a recording and of a whole corpus, and its form as JSON.

Errors from turns, and what only streaming has from updates. Knows nothing of files, models or processes. Runs in the
command.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from diart_mp.config import Settings
from diart_mp.evaluation.der import (
    DiarizationError,
    JaccardError,
    SpeakerTurn,
    diarization_error,
    jaccard_error,
    pooled_error,
)
from diart_mp.evaluation.revisions import revisions
from diart_mp.turns import Update

_FLICKER_S = 0.5  # a change that is taken back within this time is a flicker
_GRID_S = 0.01  # of the label latencies

Parts = Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring:
    """How errors are counted. ``collar``: seconds around each boundary of the reference, total width (pyannote)."""

    collar: float = 0.0
    skip_overlap: bool = False


@dataclass(frozen=True, slots=True)
class Score:
    """The errors of one recording."""

    error: DiarizationError
    jaccard: JaccardError
    speakers: int
    speakers_found: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Streaming:
    """What only streaming has.

    waits: how much later than a moment its label is said, on the clock of the audio, computing left out: how many moments, 10 ms
    apart, by milliseconds. revisions, revised_s: how often something that was said was taken back, and
    how much audio then had other labels. flickers: changes of who talks that were taken back within 0.5 s. real_time_factor: seconds
    of work per second of audio, with as many recordings side by side as there were.
    """

    audio_s: float
    waits: Mapping[int, int]
    revisions: int
    revised_s: float
    flickers: int
    real_time_factor: float

    @property
    def label_latency_s(self) -> tuple[float, float]:
        """The 50th and the 95th percentile of the waits."""
        return _percentile(self.waits, 50), _percentile(self.waits, 95)

    @property
    def flicker_per_minute(self) -> float:
        """Flickers per minute of audio."""
        return 60 * self.flickers / self.audio_s if self.audio_s else 0.0


def score(
    reference: Sequence[SpeakerTurn],
    hypothesis: Sequence[SpeakerTurn],
    *,
    duration: float | None = None,
    uem: Parts | None = None,
    scoring: Scoring | None = None,
) -> Score:
    """Score a recording: the parts in ``uem``, or 0 to ``duration`` (s), or the common extent of both sides."""
    scoring = scoring or Scoring()
    error = diarization_error(
        reference, hypothesis, duration=duration, uem=uem, collar=scoring.collar, skip_overlap=scoring.skip_overlap
    )
    jaccard = jaccard_error(reference, hypothesis, duration=duration, uem=uem)
    parts = uem if uem is not None else None if duration is None else [(0.0, duration)]
    return Score(error, jaccard, len(_heard(reference, parts)), len(_heard(hypothesis, parts)))


def _heard(turns: Sequence[SpeakerTurn], parts: Parts | None) -> set[str]:
    """Who talks in the parts (None: anywhere)."""
    return {
        speaker
        for start, end, speaker in turns
        if parts is None or any(min(end, high) > max(start, low) for low, high in parts)
    }


def streaming(updates: Sequence[Update], settings: Settings, *, audio_s: float, work_s: float) -> Streaming:
    """Measure the updates of one recording, in order."""
    rate = settings.rate
    delay = (settings.latency - settings.step) / rate  # from the end of a region to the end of its window
    waits = Counter[int]()
    for update in updates:
        length = (update.end - update.start) / rate
        late = delay + length - _GRID_S * (np.arange(int(length / _GRID_S)) + 0.5)
        waits.update(np.rint(1000 * late).astype(int).tolist())
    count, revised = revisions(updates)
    return Streaming(
        audio_s=audio_s,
        waits=waits,
        revisions=count,
        revised_s=revised / rate,
        flickers=_flickers([(turn.start / rate, turn.end / rate, turn.speaker) for u in updates for turn in u.turns]),
        real_time_factor=work_s / audio_s if audio_s else 0.0,
    )


def _percentile(counts: Mapping[int, int], percent: float) -> float:
    """Of values in ms that occur so often, in seconds, between neighbours as numpy's does; 0 of none."""
    if not counts:
        return 0.0
    values = np.array(sorted(counts))
    last = np.cumsum([counts[value] for value in values.tolist()]) - 1  # place of each value's last occurrence, from 0
    place = percent / 100 * float(last[-1])
    low, high = values[np.searchsorted(last, [math.floor(place), math.ceil(place)])].tolist()
    return float(round((low + (place - math.floor(place)) * (high - low)) / 1000, 3))


def _flickers(turns: Sequence[SpeakerTurn]) -> int:
    """How often the set of those who talk changes and changes back within ``_FLICKER_S``."""
    edges = sorted({round(time, 3) for start, end, _ in turns for time in (start, end)})
    deltas: dict[float, list[tuple[str, int]]] = {}
    for start, end, speaker in turns:
        if round(end, 3) > round(start, 3):
            deltas.setdefault(round(start, 3), []).append((speaker, 1))
            deltas.setdefault(round(end, 3), []).append((speaker, -1))
    talking: dict[str, int] = {}
    states: list[tuple[float, frozenset[str]]] = [(0.0, frozenset())]
    for edge in edges:
        for speaker, change in deltas.get(edge, []):
            talking[speaker] = talking.get(speaker, 0) + change
        now = frozenset(speaker for speaker, count in talking.items() if count > 0)
        if now != states[-1][1]:
            states.append((edge, now))
    triples = zip(states, states[1:], states[2:], strict=False)
    return sum(before[1] == after[1] and after[0] - middle[0] < _FLICKER_S for before, middle, after in triples)


def percent(error: DiarizationError) -> dict[str, float]:
    """The error rate and its parts in percent of the reference's speech."""
    total = error.total or 1.0
    return {
        "der": round(100 * error.rate, 3),
        "false_alarm": round(100 * error.false_alarm / total, 3),
        "missed": round(100 * error.missed / total, 3),
        "confusion": round(100 * error.confusion / total, 3),
    }


def file_values(score: Score, streaming: Streaming | None, revised: Score | None = None) -> dict[str, Any]:
    """What the reports say of one recording; ``revised``: the score of what is known in the end, where that is something else."""
    values: dict[str, Any] = {
        **percent(score.error),
        "jer": round(100 * score.jaccard.rate, 3),
        "speech_s": round(score.error.total, 3),
        "speakers": score.speakers,
        "speakers_found": score.speakers_found,
        "speaker_count_error": abs(score.speakers_found - score.speakers),
    }
    return values | _revised_values([score], [revised]) | _streaming_values(streaming)


def total_values(
    scores: Iterable[Score],
    streamings: Iterable[Streaming | None],
    work_s: float,
    revised: Sequence[Score | None] = (),
) -> dict[str, Any]:
    """What the reports say of all recordings: seconds and speakers are added up, so long recordings weigh more."""
    scores, found = list(scores), [each for each in streamings if each is not None]
    errors = [abs(each.speakers_found - each.speakers) for each in scores]
    values: dict[str, Any] = {
        **percent(pooled_error(each.error for each in scores)),
        "jer": _jer(scores),
        "speech_s": round(sum(each.error.total for each in scores), 3),
        "speaker_count_error": round(sum(errors) / len(errors), 3) if errors else 0.0,
    }
    return values | _revised_values(scores, revised) | _streaming_values(_all(found, work_s))


def _jer(scores: Iterable[Score]) -> float:
    """The mean over all speakers of all recordings (percent)."""
    found = [each.jaccard for each in scores]
    error = JaccardError(sum(each.error for each in found), sum(each.speakers for each in found))
    return round(100 * error.rate, 3)


def _revised_values(scores: Sequence[Score], revised: Sequence[Score | None]) -> dict[str, float]:
    """The errors of what is known in the end; nothing where nowhere anything was taken back."""
    if not any(revised):
        return {}
    known = [after or before for before, after in zip(scores, revised, strict=True)]
    der = percent(pooled_error(each.error for each in known))["der"]
    return {"revised_der": der, "revised_jer": _jer(known)}


def _all(found: Sequence[Streaming], work_s: float) -> Streaming | None:
    """Over all recordings together."""
    audio_s = sum(each.audio_s for each in found)
    if not found or not audio_s:
        return None
    waits = Counter[int]()
    for each in found:
        waits.update(each.waits)
    return Streaming(
        audio_s=audio_s,
        waits=waits,
        revisions=sum(each.revisions for each in found),
        revised_s=sum(each.revised_s for each in found),
        flickers=sum(each.flickers for each in found),
        real_time_factor=work_s / audio_s,
    )


def _streaming_values(found: Streaming | None) -> dict[str, Any]:
    if found is None:
        return {}
    return {
        "audio_s": round(found.audio_s, 3),
        "label_latency_p50_s": found.label_latency_s[0],
        "label_latency_p95_s": found.label_latency_s[1],
        "revisions": found.revisions,
        "revised_s": round(found.revised_s, 3),
        "flicker_per_minute": round(found.flicker_per_minute, 3),
        "real_time_factor": round(found.real_time_factor, 4),
    }
