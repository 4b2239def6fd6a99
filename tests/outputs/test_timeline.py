"""Rows of block characters against turns counted by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.outputs.timeline import Span, axis, clock, meter, span_before, strips
from diart_mp.turns import Turn

RATE = 1000
SHARE = {" ": 0, "▌": 1, "▐": 1, "█": 2}


def test_first_minute_starts_at_zero_and_then_the_picture_moves_by_whole_characters() -> None:
    assert span_before(0, rate=RATE, columns=60) == Span(first=0, cell=500, columns=60)
    assert span_before(60_000, rate=RATE, columns=60).start == 0
    assert [span_before(end, rate=RATE, columns=60).start for end in (60_001, 61_000, 61_001)] == [1000, 1000, 2000]


@given(st.integers(-1000, 10**9), st.integers(10, 300), st.sampled_from([8000, 16_000, 44_100]))
def test_span_ends_at_or_just_behind_the_newest_sample(end: int, columns: int, rate: int) -> None:
    span = span_before(end, rate=rate, columns=columns)
    last = span.start + 2 * span.cell * columns
    assert span.start >= 0
    assert last >= end
    assert span.start == 0 or last - end < 2 * span.cell
    assert span.first % 2 == 0


def test_half_characters_are_filled_where_half_of_their_time_is_spoken() -> None:
    span = Span(first=0, cell=100, columns=5)  # halves of 100 samples
    assert strips([Turn(0, 1000, "a")], span) == {"a": "█████"}
    assert strips([Turn(100, 400, "a")], span) == {"a": "▐█   "}
    assert strips([Turn(49, 251, "a")], span) == {"a": "█▌   "}
    assert strips([Turn(51, 249, "a")], span) == {"a": "▐    "}
    assert strips([Turn(0, 100, "a"), Turn(300, 400, "b"), Turn(600, 730, "a")], span) == {"a": "▌  ▌ ", "b": " ▐   "}


def test_short_turns_are_seen_and_parts_of_a_half_add_up() -> None:
    span = Span(first=0, cell=100, columns=2)
    assert strips([Turn(310, 312, "a")], span) == {"a": " ▐"}
    assert strips([Turn(0, 30, "a"), Turn(60, 90, "a")], span) == {"a": "▌ "}


def test_what_lies_outside_is_not_shown() -> None:
    span = Span(first=10, cell=100, columns=2)  # 1000 to 1400
    turns = [Turn(0, 999, "early"), Turn(1400, 1500, "late"), Turn(900, 1100, "a"), Turn(1350, 9000, "a")]
    assert strips(turns, span) == {"a": "▌▐"}


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 50)), max_size=5), st.integers(1, 40))
def test_filled_share_is_about_the_spoken_share(lengths: list[tuple[int, int]], cell: int) -> None:
    turns, position = [], 0
    for gap, length in lengths:
        turns.append(Turn(position + gap, position + gap + length, "a"))
        position += gap + length
    span = Span(0, cell, 300)
    filled = sum(SHARE[char] for char in strips(turns, span).get("a", "")) * cell
    assert abs(filled - sum(length for _, length in lengths)) <= len(turns) * 2 * cell


@pytest.mark.parametrize(
    ("columns", "end", "expected"),
    [
        (60, 0, "0:00      0:10      0:20      0:30      0:40      0:50"),
        (30, 0, "0:00      " + " " * 5 + "0:30"),
        (60, 75_000, "     0:20      0:30      0:40      0:50      1:00      1:10"),
        (12, 0, "0:00"),
    ],
)
def test_axis_names_round_times_at_their_place(columns: int, end: int, expected: str) -> None:
    assert axis(span_before(end, rate=RATE, columns=columns), RATE) == expected


@given(st.integers(0, 10**8), st.integers(10, 300))
def test_axis_fits(end: int, columns: int) -> None:
    line = axis(span_before(end, rate=RATE, columns=columns), RATE)
    assert len(line) <= columns


def test_clock_is_short() -> None:
    assert [clock(s) for s in (0, 7.9, 754, 3723, 360_000)] == ["0:00", "0:07", "12:34", "1:02:03", "100:00:00"]


def test_meter_stays_in_its_columns() -> None:
    assert [meter(value, 4) for value in (-1.0, 0.0, 0.5, 1.0, 7.0, float("nan"), float("inf"))] == [
        "────", "────", "━━──", "━━━━", "━━━━", "────", "━━━━",
    ]  # fmt: skip
