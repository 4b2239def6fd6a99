"""The error rate by hand, against pyannote.metrics, and against the scores of diart's own outputs."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from diart_mp.evaluation.der import DiarizationError, SpeakerTurn, diarization_error, pooled_error
from diart_mp.outputs.read import load_rttm

RECORDINGS = [
    "sample", "conv2", "conv3", "conv5", "ami_EN2001a", "ami_EN2001e", "ami_EN2003a", "ami_EN2004a", "ami_EN2005a",
    "ami_EN2006a", "ami_EN2009b", "ami_ES2003a", "ami_ES2003b",
]  # fmt: skip


def test_parts_by_hand() -> None:
    reference = [(0.0, 4.0, "anna"), (3.0, 6.0, "bert")]
    hypothesis = [(0.0, 3.5, "x"), (3.5, 5.0, "y"), (5.0, 5.5, "x"), (7.0, 8.0, "y")]
    # 0-3 right; 3-3.5 one of two missed; 3.5-4 the same; 4-5 right; 5-5.5 x for bert; 5.5-6 missed; 7-8 made up
    error = diarization_error(reference, hypothesis, duration=10.0)
    assert error == DiarizationError(false_alarm=1.0, missed=1.5, confusion=0.5, total=7.0)
    assert error.rate == pytest.approx(3 / 7)


def test_speakers_are_matched_for_the_least_error() -> None:
    reference = [(0.0, 10.0, "a"), (10.0, 16.0, "b")]
    hypothesis = [(0.0, 4.0, "y"), (4.0, 10.0, "x"), (10.0, 16.0, "y")]
    error = diarization_error(reference, hypothesis, duration=16.0)
    assert error == DiarizationError(false_alarm=0.0, missed=0.0, confusion=4.0, total=16.0)


def test_collar_is_the_total_width_around_boundaries_of_the_reference() -> None:
    reference = [(1.0, 2.0, "a"), (5.0, 8.0, "a")]
    hypothesis = [(0.8, 2.1, "x"), (5.0, 8.5, "x")]
    error = diarization_error(reference, hypothesis, duration=10.0, collar=0.5)
    assert error.false_alarm == pytest.approx(0.25)  # 8.25 to 8.5 only
    assert error.total == pytest.approx(0.5 + 2.5)
    assert error.missed == 0.0
    assert error.confusion == pytest.approx(0.0)


def test_overlap_may_be_left_out() -> None:
    reference = [(0.0, 4.0, "a"), (3.0, 6.0, "b")]
    error = diarization_error(reference, [(0.0, 3.0, "x")], duration=10.0, skip_overlap=True)
    assert error == DiarizationError(false_alarm=0.0, missed=2.0, confusion=0.0, total=5.0)


def test_only_the_parts_of_the_uem_count() -> None:
    error = diarization_error([(0.0, 10.0, "a")], [(2.0, 20.0, "x")], uem=[(1.0, 3.0), (9.0, 11.0), (10.0, 12.0)])
    assert error == DiarizationError(false_alarm=2.0, missed=1.0, confusion=0.0, total=3.0)


def test_turns_of_one_speaker_that_overlap_count_once() -> None:
    twice = [(0.0, 3.0, "a"), (2.0, 5.0, "a")]
    once = [(0.0, 5.0, "a")]
    assert diarization_error(twice, once) == diarization_error(once, twice) == DiarizationError(0, 0, 0, 5)


@pytest.mark.parametrize("how", [{}, {"duration": 10.0}, {"uem": []}, {"collar": 0.5, "skip_overlap": True}])
def test_nothing_said(how: dict[str, Any]) -> None:
    assert diarization_error([], [], **how) == DiarizationError(0, 0, 0, 0)
    assert diarization_error([], [], **how).rate == 0.0
    assert diarization_error([(3.0, 3.0, "a")], [], **how).total == 0.0


def test_speech_where_the_reference_has_none_is_wrong_altogether() -> None:
    assert diarization_error([], [(1.0, 2.0, "x")], duration=10.0).rate == 1.0
    assert diarization_error([(1.0, 2.0, "x")], [], duration=10.0).rate == 1.0


def test_pooled_error_adds_seconds() -> None:
    errors = [DiarizationError(1, 2, 3, 10), DiarizationError(0, 0, 0, 30)]
    assert pooled_error(iter(errors)) == DiarizationError(1, 2, 3, 40)
    assert pooled_error(errors).rate == pytest.approx(0.15)
    assert pooled_error([]).rate == 0.0


def annotation(turns: list[SpeakerTurn]) -> Any:
    from pyannote.core import Annotation, Segment

    result = Annotation()
    for track, (start, end, speaker) in enumerate(turns):
        result[Segment(start, end), track] = speaker
    return result


def by_pyannote(
    reference: list[SpeakerTurn], hypothesis: list[SpeakerTurn], uem: list[tuple[float, float]], **how: Any
) -> DiarizationError:
    from pyannote.core import Segment, Timeline
    from pyannote.metrics.diarization import DiarizationErrorRate

    parts = Timeline([Segment(*part) for part in uem]).support()
    found = DiarizationErrorRate(**how)(annotation(reference), annotation(hypothesis), uem=parts, detailed=True)
    return DiarizationError(found["false alarm"], found["missed detection"], found["confusion"], found["total"])


@st.composite
def one_side(draw: st.DrawFn) -> list[SpeakerTurn]:
    """Turns in tenths of a second; those of one speaker do not overlap (pyannote would count them twice)."""
    turns = []
    for speaker in draw(st.sets(st.sampled_from(["a", "b", "c", "d"]))):
        bounds = sorted(draw(st.lists(st.integers(0, 200), unique=True, max_size=8)))
        turns += [(start / 10, end / 10, speaker) for start, end in zip(bounds[::2], bounds[1::2], strict=False)]
    return draw(st.permutations(turns))


parts_of_recordings = st.lists(
    st.builds(lambda start, length: (start / 10, (start + length) / 10), st.integers(0, 150), st.integers(1, 100)),
    min_size=1,
    max_size=3,
)


@given(one_side(), one_side(), parts_of_recordings, st.sampled_from([0.0, 0.25, 0.5, 3.0]), st.booleans())
@example([(0.0, 1.0, "a"), (1.0, 2.0, "a")], [(0.0, 2.0, "b")], [(0.0, 5.0)], 0.5, False)
def test_pyannote_finds_the_same(
    reference: list[SpeakerTurn],
    hypothesis: list[SpeakerTurn],
    uem: list[tuple[float, float]],
    collar: float,
    skip_overlap: bool,
) -> None:
    ours = diarization_error(reference, hypothesis, uem=uem, collar=collar, skip_overlap=skip_overlap)
    theirs = by_pyannote(reference, hypothesis, uem, collar=collar, skip_overlap=skip_overlap)
    for part in ("false_alarm", "missed", "confusion", "total"):
        assert getattr(ours, part) == pytest.approx(getattr(theirs, part), abs=1e-6), part


@settings(max_examples=25)
@given(one_side().filter(len), one_side().filter(len))
def test_without_duration_the_common_extent_is_scored_as_by_pyannote(
    reference: list[SpeakerTurn], hypothesis: list[SpeakerTurn]
) -> None:
    from pyannote.metrics.diarization import DiarizationErrorRate

    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        theirs = DiarizationErrorRate()(annotation(reference), annotation(hypothesis))
    assert diarization_error(reference, hypothesis).rate == pytest.approx(theirs, abs=1e-6)


def lengths(shared: Path) -> dict[str, float]:
    import soundfile

    files = [path for path in (shared / "data").iterdir() if path.suffix in (".wav", ".flac")]
    return {path.stem: soundfile.info(path).duration for path in files}


@pytest.mark.parametrize("latency", ["0.5", "2.0", "5.0"])
def test_outputs_of_diart_score_as_they_did(shared: Path, latency: str) -> None:
    scores = json.loads((shared / "golden" / "turns" / "scores.json").read_text())[latency]
    duration = lengths(shared)
    rates = {}
    for name in RECORDINGS:
        reference = load_rttm(shared / "data" / f"{name}.rttm")[name]
        hypothesis = load_rttm(shared / "golden" / "turns" / f"latency{latency}" / f"{name}.rttm").get(name, [])
        error = diarization_error(reference, hypothesis, duration=duration[name])
        assert error.rate == pytest.approx(by_pyannote(reference, hypothesis, [(0, duration[name])]).rate, abs=1e-6)
        rates[name] = 100 * error.rate
    # the scores were made before the turns were rounded to milliseconds for RTTM: up to 0.02 points on 30 s
    assert rates == pytest.approx({name: score["der"] for name, score in scores["files"].items()}, abs=0.02)
    assert rates["sample"] == pytest.approx({"0.5": 20.95, "2.0": 10.88, "5.0": 6.77}[latency], abs=0.012)
    assert sum(rates.values()) / len(rates) == pytest.approx(scores["macro_der"], abs=0.01)
