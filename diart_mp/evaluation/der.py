"""Diarization and Jaccard error rates: how much of a reference's speech was missed, made up or given to the wrong person.

Exact, from the boundaries of the turns (no frames), in a few matrix products; the definitions are those of NIST's md-eval
and pyannote.metrics (DER) and of the DIHARD challenges (JER). Knows nothing of files or of the pipeline. Runs in the
command.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

SpeakerTurn: TypeAlias = tuple[float, float, str]
"""Start and end in seconds, and who speaks."""


@dataclass(frozen=True, slots=True)
class DiarizationError:
    """The parts of a diarization error, in seconds of speech (two people talking for 1 s are 2 s)."""

    false_alarm: float
    missed: float
    confusion: float
    total: float

    @property
    def rate(self) -> float:
        """The error rate, 0.2 for 20 %, may exceed 1. With no speech in the reference: 0 if nothing is wrong, else 1."""
        error = self.false_alarm + self.missed + self.confusion
        if self.total == 0:
            return float(error > 0)
        return error / self.total


def pooled_error(errors: Iterable[DiarizationError]) -> DiarizationError:
    """The error over several recordings: seconds are added up, so long recordings weigh more (pyannote's TOTAL)."""
    parts = [(error.false_alarm, error.missed, error.confusion, error.total) for error in errors]
    return (
        DiarizationError(*(sum(column) for column in zip(*parts, strict=True)))
        if parts
        else DiarizationError(0, 0, 0, 0)
    )


def diarization_error(
    reference: Sequence[SpeakerTurn],
    hypothesis: Sequence[SpeakerTurn],
    *,
    duration: float | None = None,
    uem: Sequence[tuple[float, float]] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> DiarizationError:
    """Score ``hypothesis`` against ``reference``; speakers are matched one to one, so that the error is least.

    Args:
        reference: Turns of the reference; where turns of one speaker overlap, it counts once (in pyannote twice).
        hypothesis: Turns to score, likewise.
        duration: Length of the recording in seconds: what lies in 0 to ``duration`` is scored.
        uem: Parts to score instead, (start_s, end_s). With neither of the two, the common extent of both sides is
            scored, as pyannote does, which depends on what was said: give one of them to compare systems.
        collar: Seconds around each boundary of the reference that are not scored: the *total* width, half on each
            side, as in pyannote. NIST's and dscore's 0.25 on each side is 0.5 here.
        skip_overlap: Leave out where two or more speakers of the reference talk at once.

    """
    cells = _cells(reference, hypothesis, duration, uem, collar, skip_overlap)
    return _components(cells.spoken, cells.said, cells.durations)


@dataclass(frozen=True, slots=True)
class JaccardError:
    """How badly the speakers of a reference are found: the sum of ``1 - shared / united`` time over ``speakers``."""

    error: float
    speakers: int

    @property
    def rate(self) -> float:
        """Mean over the speakers of the reference, from 0 to 1; with none of them: 0 if nobody was heard, else 1."""
        return self.error / self.speakers if self.speakers else self.error


def jaccard_error(
    reference: Sequence[SpeakerTurn],
    hypothesis: Sequence[SpeakerTurn],
    *,
    duration: float | None = None,
    uem: Sequence[tuple[float, float]] | None = None,
) -> JaccardError:
    """Match speakers one to one so that the error is least (DIHARD; no collar, overlap counts); arguments as for DER."""
    from scipy.optimize import linear_sum_assignment

    cells = _cells(reference, hypothesis, duration, uem, 0.0, skip_overlap=False)
    spoken, said = (side[side @ cells.durations > 0] for side in (cells.spoken, cells.said))
    if not len(spoken):
        return JaccardError(float(len(said) > 0), 0)
    shared = (spoken * cells.durations) @ said.T.astype(np.float64)
    united = (spoken @ cells.durations)[:, None] + (said @ cells.durations)[None, :] - shared
    indices = shared / united
    found = indices[linear_sum_assignment(indices, maximize=True)].sum()
    return JaccardError(float(len(spoken) - found), len(spoken))


@dataclass(frozen=True, slots=True)
class Comparison:
    """Where a hypothesis errs, for people to see.

    ``errors``: (start_s, end_s, kind), kind being ``false_alarm``, ``missed`` or ``confusion``, in order of time.
    ``matched``: the speaker of the reference for each speaker of the hypothesis that has one. ``scored``: the parts that count,
    (start_s, end_s), without collars and overlap where these are left out.
    """

    errors: list[tuple[float, float, str]]
    matched: dict[str, str]
    scored: list[tuple[float, float]]


def compare(
    reference: Sequence[SpeakerTurn],
    hypothesis: Sequence[SpeakerTurn],
    *,
    duration: float | None = None,
    uem: Sequence[tuple[float, float]] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> Comparison:
    """Find the places of the errors that DER counts; where there are several kinds at once, confusion is named first."""
    from scipy.optimize import linear_sum_assignment

    cells = _cells(reference, hypothesis, duration, uem, collar, skip_overlap=skip_overlap)
    together = (cells.spoken * cells.durations) @ cells.said.T.astype(np.float64)
    pairs = [(r, h) for r, h in zip(*linear_sum_assignment(together, maximize=True), strict=True) if together[r, h] > 0]
    correct = np.zeros(len(cells.durations), np.int64)
    for r, h in pairs:
        correct += cells.spoken[r] & cells.said[h]
    here, there = cells.spoken.sum(axis=0), cells.said.sum(axis=0)
    confused = np.minimum(here, there) > correct
    kinds = np.select([confused, here > there, there > here], ["confusion", "missed", "false_alarm"], "")
    counts = cells.durations > 0
    errors = _merged(np.where(counts, kinds, ""), cells.edges)
    scored = [(start, end) for start, end, _ in _merged(np.where(counts, "scored", ""), cells.edges)]
    names = _speakers(reference), _speakers(hypothesis)
    return Comparison(errors, {names[1][h]: names[0][r] for r, h in pairs}, scored)


def _merged(kinds: NDArray[np.str_], edges: NDArray[np.float64]) -> list[tuple[float, float, str]]:
    """The cells that have a kind (cells,), neighbours of the same kind as one."""
    found: list[tuple[float, float, str]] = []
    for kind, start, end in zip(kinds.tolist(), edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if kind:
            begin = found.pop()[0] if found and found[-1][1:] == (start, kind) else start
            found.append((begin, end, kind))
    return found


@dataclass(frozen=True, slots=True)
class _Cells:
    """Time cut at every boundary: ``edges`` (cells + 1,), scored seconds (cells,), activity (speakers, cells)."""

    edges: NDArray[np.float64]
    durations: NDArray[np.float64]
    spoken: NDArray[np.bool_]
    said: NDArray[np.bool_]


def _cells(
    reference: Sequence[SpeakerTurn],
    hypothesis: Sequence[SpeakerTurn],
    duration: float | None,
    uem: Sequence[tuple[float, float]] | None,
    collar: float,
    skip_overlap: bool,
) -> _Cells:
    sides = [[turn for turn in side if turn[1] > turn[0]] for side in (reference, hypothesis)]
    parts = _scored_parts(sides, duration, uem)
    bounds = [edge for start, end, _ in sides[0] for edge in (start, end)]
    collars = [(bound - collar / 2, bound + collar / 2) for bound in bounds] if collar > 0 else []
    times = [t for side in sides for start, end, _ in side for t in (start, end)]
    edges = np.unique(np.array([*times, *(t for pair in (*parts, *collars) for t in pair)], dtype=np.float64))

    spoken, said = (_activity(side, edges) for side in sides)
    scored = _painted(parts, edges) & ~_painted(collars, edges)
    if skip_overlap:
        scored &= spoken.sum(axis=0) < 2
    return _Cells(edges, np.where(scored, np.diff(edges), 0.0), spoken, said)


def _speakers(turns: Sequence[SpeakerTurn]) -> list[str]:
    """In the order of the rows of ``_activity``."""
    return list(dict.fromkeys(speaker for start, end, speaker in turns if end > start))


def _scored_parts(
    sides: Sequence[Sequence[SpeakerTurn]], duration: float | None, uem: Sequence[tuple[float, float]] | None
) -> Sequence[tuple[float, float]]:
    if uem is not None:
        return uem
    if duration is not None:
        return [(0.0, duration)]
    turns = [turn for side in sides for turn in side]
    return [(min(start for start, _, _ in turns), max(end for _, end, _ in turns))] if turns else []


def _painted(parts: Iterable[tuple[float, float]], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which of the cells between neighbouring ``edges`` lie in ``parts``, whose bounds are edges. Shape (cells,)."""
    depth = np.zeros(len(edges), dtype=np.int64)
    for start, end in parts:
        if end > start:
            depth[np.searchsorted(edges, start)] += 1
            depth[np.searchsorted(edges, end)] -= 1
    return np.cumsum(depth)[:-1] > 0


def _activity(turns: Sequence[SpeakerTurn], edges: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Who talks in which cell. Shape (speakers, cells)."""
    by_speaker: dict[str, list[tuple[float, float]]] = {}
    for start, end, speaker in turns:
        by_speaker.setdefault(speaker, []).append((start, end))
    rows = [_painted(parts, edges) for parts in by_speaker.values()]
    return np.array(rows, dtype=np.bool_).reshape(len(rows), max(len(edges) - 1, 0))


def _components(spoken: NDArray[np.bool_], said: NDArray[np.bool_], durations: NDArray[np.float64]) -> DiarizationError:
    """From activity of reference and hypothesis (speakers, cells) and the scored seconds of each cell (cells,)."""
    from scipy.optimize import linear_sum_assignment

    together = (spoken * durations) @ said.T.astype(np.float64)  # seconds, (reference, hypothesis)
    correct = together[linear_sum_assignment(together, maximize=True)].sum()
    here, there = spoken.sum(axis=0), said.sum(axis=0)
    return DiarizationError(
        false_alarm=float(durations @ np.maximum(there - here, 0)),
        missed=float(durations @ np.maximum(here - there, 0)),
        confusion=float(durations @ np.minimum(here, there) - correct),
        total=float(durations @ here),
    )
