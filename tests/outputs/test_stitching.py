"""The stitcher against a picture of the time line painted sample by sample, and against what diart itself made."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.outputs.stitching import Stitcher
from diart_mp.turns import Turn, Update

RATE = 100  # small, so that a time line can be painted: 50 ms are 5 samples, an early start is at most 10
LENGTH = 600

turns_of_streams = st.lists(
    st.builds(
        lambda start, length, speaker: Turn(start, start + length, speaker),
        st.integers(-20, LENGTH - 1),
        st.integers(0, 120),
        st.sampled_from(["speaker0", "speaker1", "speaker2"]),
    ),
    max_size=12,
)


def painted(turns: list[Turn]) -> list[Turn]:
    """Stitching by other means: paint the samples of each speaker, fill holes of less than 5, read the runs off."""
    found = []
    for speaker in {turn.speaker for turn in turns}:
        line = np.zeros(LENGTH + 200, dtype=bool)
        for turn in turns:
            if turn.speaker == speaker and turn.end > 0:
                line[max(turn.start, 0) : turn.end] = True
        text = "".join("#" if spoken else "." for spoken in line)
        for hole in ("#....#", "#...#", "#..#", "#.#"):
            while hole in text:
                text = text.replace(hole, "#" * len(hole))
        found += [Turn(start, end, speaker) for start, end in runs(text)]
    return sorted(found)


def runs(text: str) -> list[tuple[int, int]]:
    starts = [i for i, char in enumerate(text) if char == "#" and (i == 0 or text[i - 1] == ".")]
    ends = [i + 1 for i, char in enumerate(text) if char == "#" and (i + 1 == len(text) or text[i + 1] == ".")]
    return list(zip(starts, ends, strict=True))


def cut(turns: list[Turn], bounds: list[int], early: int, late: int) -> list[Update]:
    """One update per region, which says its turns from ``early`` samples before it to ``late`` samples after it."""
    updates = []
    regions = list(zip([-30, *bounds], [*bounds, LENGTH + 200], strict=True))
    for seq, (start, end) in enumerate(regions):
        low = start - early if seq else start
        pieces = [Turn(max(t.start, low), min(t.end, end + late), t.speaker) for t in turns]
        updates.append(update(start, end, *(piece for piece in pieces if piece.start < piece.end), seq=seq))
    return updates


def update(start: int, end: int, *turns: Turn, seq: int = 0, rate: int = RATE) -> Update:
    return Update("talk", seq, start, end, rate, turns)


@given(
    turns_of_streams,
    st.lists(st.integers(1, LENGTH), max_size=12, unique=True).map(sorted),
    st.integers(0, 10),
    st.integers(0, 10),
)
def test_any_cutting_into_regions_gives_the_same_turns(
    turns: list[Turn], bounds: list[int], early: int, late: int
) -> None:
    stitcher = Stitcher(RATE)
    final = []
    for piece in cut(turns, bounds, early, late):
        final += stitcher.push(piece)
        assert painted(turns)[: len(final)] == final, "given out although it could still change, or out of order"
    assert final + stitcher.finish() == painted(turns)
    assert stitcher.open_turns() == stitcher.finish() == []


@given(turns_of_streams)
def test_open_turns_show_what_was_not_given_out_yet(turns: list[Turn]) -> None:
    stitcher = Stitcher(RATE)
    final = stitcher.push(update(0, LENGTH // 2, *turns))
    assert sorted(final + stitcher.open_turns()) == painted(turns)
    assert stitcher.open_turns() == stitcher.finish()


@pytest.mark.parametrize(
    ("rate", "longest_joined"), [(16000, 799), (44100, 2204), (11025, 551), (8000, 399), (48000, 2399)]
)
def test_gap_must_be_strictly_shorter_than_50_ms(rate: int, longest_joined: int) -> None:
    for gap, count in [(longest_joined, 1), (longest_joined + 1, 2)]:
        stitcher = Stitcher(rate)
        turns = [Turn(1000, 2000, "a"), Turn(2000 + gap, 9000, "a")]
        assert len(stitcher.push(update(0, 20 * rate, *turns, rate=rate))) == count


def test_turn_is_final_150_ms_after_its_end_and_not_before() -> None:
    stitcher = Stitcher(16000)
    assert stitcher.push(update(0, 10_399, Turn(0, 8000, "a"), rate=16000)) == []
    assert stitcher.push(update(10_399, 10_400, rate=16000)) == [Turn(0, 8000, "a")]


def test_turn_waits_for_an_earlier_one_that_is_still_open() -> None:
    stitcher = Stitcher(RATE)
    assert stitcher.push(update(0, 100, Turn(0, 100, "a"), Turn(20, 40, "b"))) == []
    assert stitcher.open_turns() == [Turn(0, 100, "a"), Turn(20, 40, "b")]
    assert stitcher.push(update(100, 200, Turn(100, 130, "a"))) == [Turn(0, 130, "a"), Turn(20, 40, "b")]


def test_new_turn_joins_two_that_were_apart() -> None:
    stitcher = Stitcher(RATE)
    stitcher.push(update(0, 30, Turn(0, 20, "a"), Turn(26, 30, "a")))
    assert stitcher.push(update(30, 90, Turn(21, 24, "a"))) == [Turn(0, 30, "a")]


def test_times_before_zero_are_cut_off() -> None:
    stitcher = Stitcher(RATE)
    stitcher.push(update(-50, 10, Turn(-40, -20, "a"), Turn(-5, 8, "a"), Turn(-7, 0, "b")))
    assert stitcher.finish() == [Turn(0, 8, "a")]


def test_turn_that_comes_far_too_late_is_not_lost() -> None:
    stitcher = Stitcher(RATE)
    assert stitcher.push(update(0, 100, Turn(10, 20, "a"))) == [Turn(10, 20, "a")]
    assert stitcher.push(update(100, 200, Turn(30, 40, "a"))) == [Turn(30, 40, "a")]


def test_memory_does_not_grow_with_the_stream() -> None:
    stitcher = Stitcher(RATE)
    for seq in range(2000):
        start = seq * 50
        stitcher.push(update(start, start + 50, Turn(start, start + 30, f"speaker{seq % 7}"), seq=seq))
        assert len(stitcher.open_turns()) <= 2
    assert len(stitcher._open) <= 2


def test_updates_are_left_as_they_were() -> None:
    first = update(0, 50, Turn(0, 50, "a"))
    stitcher = Stitcher(RATE)
    stitcher.push(first)
    stitcher.push(update(50, 100, Turn(50, 100, "a")))
    assert first == update(0, 50, Turn(0, 50, "a"))


@pytest.mark.parametrize(
    "run",
    [
        "sample_lat0.5_tau0.5_rho0.3_delta0.2",
        "sample_lat0.5_tau0.5_rho0.3_delta1.0",
        "sample_lat5.0_tau0.5_rho0.3_delta1.0",
        "trn05_lat2.0_tau0.5_rho0.1_delta0.2",
    ],
)
def test_steps_of_diart_give_its_rttm(shared: Path, run: str) -> None:
    folder = shared / "golden" / "steps"
    arrays = np.load(folder / f"{run}.npz")
    stitcher = Stitcher(1_000_000)  # diart's turns have microseconds
    final = []
    for seq, turns in enumerate(json.loads((folder / f"{run}.json").read_text())["per_chunk_annotation"]):
        start = arrays["agg_start"][seq]
        end = start + arrays["agg_step"][seq] * arrays["agg_frames"][seq]
        micro = [Turn(round(s * 1e6), round(e * 1e6), f"speaker{who}") for s, e, who in turns]
        final += stitcher.push(update(round(start * 1e6), round(end * 1e6), *micro, seq=seq, rate=1_000_000))
    final += stitcher.finish()

    expected = [line.split() for line in (folder / f"{run}.rttm").read_text().splitlines()]
    assert [turn.speaker for turn in final] == [fields[7] for fields in expected]
    ours = [[turn.start / 1e6, (turn.end - turn.start) / 1e6] for turn in final]
    # diart writes 3 digits per step before it joins, so two roundings may add up
    np.testing.assert_allclose(ours, [[float(fields[3]), float(fields[4])] for fields in expected], atol=0.0011)
