"""Scores by hand: Jaccard error, speaker counts, and what only streaming has."""

import numpy as np
import pytest

from diart_mp.config import Settings
from diart_mp.evaluation.der import compare, jaccard_error
from diart_mp.evaluation.scores import Scoring, file_values, score, streaming, total_values
from diart_mp.turns import Revision, Turn, Update

REFERENCE = [(0.0, 4.0, "ann"), (4.0, 10.0, "bob")]
HYPOTHESIS = [(0.0, 5.0, "x"), (5.0, 8.0, "y"), (11.0, 12.0, "z")]


def test_jaccard_error_by_hand() -> None:
    found = jaccard_error(REFERENCE, HYPOTHESIS, duration=12.0)
    assert found.speakers == 2
    assert found.error == pytest.approx((1 - 4 / 5) + (1 - 3 / 6))
    assert found.rate == pytest.approx(0.35)


def test_jaccard_error_counts_who_is_not_found_as_one() -> None:
    assert jaccard_error(REFERENCE, [(0.0, 10.0, "x")], duration=12.0).rate == pytest.approx((1 + 1 - 6 / 10) / 2)
    assert jaccard_error(REFERENCE, [], duration=12.0).rate == 1.0


def test_jaccard_error_without_speech() -> None:
    assert jaccard_error([], [], duration=1.0).rate == 0.0
    assert jaccard_error([], [(0.0, 1.0, "x")], duration=1.0).rate == 1.0
    assert jaccard_error(REFERENCE, HYPOTHESIS, uem=[(0.0, 4.0)]).rate == 0.0


def test_where_the_errors_are() -> None:
    found = compare(REFERENCE, HYPOTHESIS, duration=12.0)
    assert found.matched == {"x": "ann", "y": "bob"}
    assert found.errors == [(4.0, 5.0, "confusion"), (8.0, 10.0, "missed"), (11.0, 12.0, "false_alarm")]


def test_a_score_has_its_parts_and_counts_speakers() -> None:
    values = file_values(score(REFERENCE, HYPOTHESIS, duration=12.0), None)
    parts = {name: values[name] for name in ("der", "false_alarm", "missed", "confusion")}
    assert parts == {"der": 40.0, "false_alarm": 10.0, "missed": 20.0, "confusion": 10.0}
    assert (values["speakers"], values["speakers_found"], values["speaker_count_error"]) == (2, 3, 1)
    collar = score(REFERENCE, HYPOTHESIS, duration=12.0, scoring=Scoring(collar=2.0)).error
    assert (collar.total, collar.confusion, collar.missed) == (6.0, 0.0, 1.0)


def test_long_recordings_weigh_more_in_the_total() -> None:
    good = score([(0.0, 90.0, "ann")], [(0.0, 90.0, "x")], duration=90.0)
    bad = score([(0.0, 10.0, "ann")], [], duration=10.0)
    total = total_values([good, bad], [None, None], 0.0)
    assert (total["der"], total["jer"], total["speaker_count_error"]) == (10.0, 50.0, 0.5)
    assert "real_time_factor" not in total


def test_label_latency_is_the_age_of_a_moment_when_it_is_named() -> None:
    settings = Settings.from_seconds(duration=5.0, step=0.5, latency=2.0, rate=4000)
    updates = [Update("talk", seq, 2000 * seq, 2000 * (seq + 1), 4000, ()) for seq in range(100)]
    found = streaming(updates, settings, audio_s=50.0, work_s=5.0)
    assert found.label_latency_s == pytest.approx((1.75, 1.975), abs=0.011)  # from 1.5 to 2 s, evenly
    assert found.real_time_factor == 0.1
    assert (found.revisions, found.flickers) == (0, 0)


def test_label_latency_of_all_recordings_is_that_of_all_moments() -> None:
    """Of a recording with long regions the 95th percentile lies far from the mean of both."""
    settings = Settings.from_seconds(duration=5.0, step=0.5, latency=0.5, rate=4000)
    quick = [Update("a", seq, 2000 * seq, 2000 * (seq + 1), 4000, ()) for seq in range(180)]
    slow = [Update("b", 0, 0, 40_000, 4000, ())]
    found = [streaming(quick, settings, audio_s=90.0, work_s=0.0), streaming(slow, settings, audio_s=10.0, work_s=0.0)]
    assert [each.label_latency_s[1] for each in found] == pytest.approx([0.475, 9.5], abs=0.011)
    empty = score([], [], duration=1.0)
    total = total_values([empty, empty], found, 0.0)
    moments = [0.5 - 0.01 * (k + 0.5) for k in range(50)] * 180 + [10.0 - 0.01 * (k + 0.5) for k in range(1000)]
    expected = np.percentile(moments, [50, 95])
    assert (total["label_latency_p50_s"], total["label_latency_p95_s"]) == pytest.approx(expected, abs=0.002)


def test_what_is_said_again_is_a_revision() -> None:
    settings = Settings.from_seconds(rate=4000)
    spans = [(0, 4000), (4000, 8000), (2000, 10000)]
    updates = [Update("talk", seq, start, end, 4000, ()) for seq, (start, end) in enumerate(spans)]
    found = streaming(updates, settings, audio_s=60.0, work_s=1.0)
    assert (found.revisions, found.revised_s) == (1, 1.5)


RECENT = (Turn(6000, 7000, "a"), Turn(7000, 9000, "c"), Turn(9500, 10000, "b"))


@pytest.mark.parametrize(
    ("revision", "count", "seconds"),
    [
        (None, 0, 0.0),
        (Revision(6000, 10000, RECENT), 0, 0.0),  # what was said already
        (Revision(6000, 10000, RECENT, (("d", "e"),)), 0, 0.0),  # nobody of that name
        (Revision(6000, 10000, (Turn(6000, 8000, "a"), *RECENT[1:])), 1, 0.25),  # c alone, now both
        (Revision(6000, 10000, ()), 1, 0.875),
        (Revision(6000, 10000, RECENT, (("a", "b"),)), 1, 1.5),
        (Revision(8000, 10000, (Turn(8000, 9500, "c"), RECENT[2]), (("a", "b"), ("b", "a"))), 1, 1.875),
    ],
)
def test_what_is_taken_back_counts_where_labels_change(revision: Revision | None, count: int, seconds: float) -> None:
    """a until 1.75 s, c until 2.25 s, b from 2.375 s to the end at 2.5 s."""
    said = (Turn(0, 7000, "a"), Turn(7000, 9000, "c"), Turn(9500, 10000, "b"))
    updates = [Update("talk", 0, 0, 10000, 4000, said), Update("talk", 1, 10000, 10000, 4000, (), revision=revision)]
    found = streaming(updates, Settings.from_seconds(rate=4000), audio_s=60.0, work_s=1.0)
    assert (found.revisions, found.revised_s) == (count, seconds)


def test_revisions_follow_each_other() -> None:
    settings = Settings.from_seconds(rate=4000)
    said, known = (Turn(0, 4000, "a"),), (Turn(0, 4000, "b"),)
    updates = [
        Update(
            "talk", seq, 0, 4000 if seq == 0 else 0, 4000, said if seq == 0 else (), revision=Revision(0, 4000, known)
        )
        for seq in range(2)
    ]
    found = streaming(updates, settings, audio_s=60.0, work_s=1.0)
    assert (found.revisions, found.revised_s) == (1, 1.0)


def test_what_is_known_in_the_end_has_a_score_of_its_own() -> None:
    said = score([(0.0, 10.0, "ann")], [], duration=10.0)
    known = score([(0.0, 10.0, "ann")], [(0.0, 9.0, "x")], duration=10.0)
    other = score([(0.0, 30.0, "bob")], [(0.0, 27.0, "x")], duration=30.0)
    values = file_values(said, None, known)
    assert (values["der"], values["revised_der"], values["revised_jer"]) == (100.0, 10.0, 10.0)
    total = total_values([said, other], [None, None], 0.0, [known, None])
    assert (total["der"], total["revised_der"], total["revised_jer"]) == (32.5, 10.0, 10.0)
    assert "revised_der" not in total_values([said, other], [None, None], 0.0, [None, None])


@pytest.mark.parametrize(
    ("turns", "flickers"),
    [
        ([(0.0, 4.0, "a"), (4.0, 6.0, "b"), (6.0, 9.0, "a")], 0),
        ([(0.0, 4.0, "a"), (4.0, 4.4, "b"), (4.4, 9.0, "a")], 1),
        ([(0.0, 4.0, "a"), (4.4, 9.0, "a")], 1),
        ([(0.0, 4.0, "a"), (4.5, 9.0, "a")], 0),
        ([(0.0, 9.0, "a"), (3.0, 3.2, "b"), (5.0, 5.2, "b")], 2),
        ([(0.0, 1.0, "a"), (1.0, 1.3, "b"), (1.3, 3.0, "c")], 0),
    ],
)
def test_a_change_that_is_taken_back_at_once_is_a_flicker(turns: list[tuple[float, float, str]], flickers: int) -> None:
    said = tuple(Turn(round(4000 * begin), round(4000 * stop), speaker) for begin, stop, speaker in turns)
    update = Update("talk", 0, 0, 36000, 4000, said)
    found = streaming([update], Settings.from_seconds(rate=4000), audio_s=30.0, work_s=1.0)
    assert found.flickers == flickers
    assert found.flicker_per_minute == 2 * flickers
