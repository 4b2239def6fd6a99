"""Which windows a stream has: diart's rules, however the audio comes, and what may be left out of a live stream."""

import math
from collections.abc import Iterator
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from diart_mp.audio.windows import WindowPlan
from diart_mp.config import RATE, Settings


def make_settings(duration: int, step: int, latency: int, start: str = "exact") -> Settings:
    return Settings(rate=4000, duration=duration, step=step, latency=latency, start=start)


@st.composite
def any_settings(draw: st.DrawFn, *, dividing: bool = False, start: str | None = None) -> Settings:
    step = draw(st.integers(1, 20))
    duration = step * draw(st.integers(1, 12)) + (0 if dividing else draw(st.integers(0, 5)))
    latency = draw(st.integers(step, duration))
    return make_settings(duration, step, latency, start or draw(st.sampled_from(["exact", "early"])))


def diart_starts(length: int, settings: Settings) -> list[int]:
    """Windows as diart makes them of a file: padded at both ends, cut into blocks of a step, a buffer that slides.

    (base.py:81-85, utils.py:69-87, sources.py:94-120, operators.py:44-100; starts on the clock of the file)
    """
    right = settings.latency - settings.step
    left = max(0, settings.duration - (length + right))
    blocks = math.ceil((left + length + right) / settings.step)
    buffered, starts = 0, []
    for block in range(blocks):
        buffered = min(settings.duration, buffered + settings.step)
        if buffered == settings.duration:
            starts.append((block + 1) * settings.step - settings.duration - left)
    return starts


def drain(plan: WindowPlan) -> Iterator[int]:
    while (window := plan.take()) is not None:
        assert (window.skipped, window.uncovered) == (0, 0)
        yield window.start


def all_starts(length: int, settings: Settings) -> list[int]:
    plan = WindowPlan(settings)
    plan.advance(length)
    plan.finish()
    starts = list(drain(plan))
    assert plan.finished
    assert not plan.ready
    return starts


@given(st.integers(1, 400), any_settings(dividing=True, start="exact"))
@example(30 * RATE, Settings())
@example(30 * RATE, Settings(latency=5 * RATE))
@example(3 * RATE, Settings(latency=3 * RATE))
@example(1, Settings())
def test_exact_windows_are_those_of_diart(length: int, settings: Settings) -> None:
    assert all_starts(length, settings) == diart_starts(length, settings)


def test_numbers_of_windows_of_the_golden_runs() -> None:
    """30 s in 5 s windows every 0.5 s: 51 windows with a latency of 0.5 s, 60 with one of 5 s (tests/data/README.md)."""
    assert len(all_starts(30 * RATE, Settings())) == 51
    assert len(all_starts(30 * RATE, Settings(latency=5 * RATE))) == 60


@given(st.integers(1, 400), any_settings())
@example(100, make_settings(10, 3, 5, "exact"))
def test_windows_are_a_step_apart_and_end_when_all_is_answered(length: int, settings: Settings) -> None:
    starts = all_starts(length, settings)
    assert starts == [starts[0] + seq * settings.step for seq in range(len(starts))]
    wanted = length + settings.latency - settings.step  # the end of the silence that is appended
    assert starts[-1] + settings.duration >= wanted
    assert all(start + settings.duration < wanted for start in starts[:-1])
    early = settings.step - settings.duration
    assert starts[0] == (early if settings.start == "early" else min(0, wanted - settings.duration))


@given(st.data(), any_settings())
def test_windows_do_not_depend_on_how_audio_comes(data: st.DataObject, settings: Settings) -> None:
    blocks = data.draw(st.lists(st.integers(0, 60), max_size=12))
    plan, starts = WindowPlan(settings), []
    for block in blocks:
        plan.advance(block)
        assert not plan.finished
        if data.draw(st.booleans()):
            for start in drain(plan):
                assert start + settings.duration <= plan.samples
                starts.append(start)
            assert not plan.ready
            assert plan.backlog < 0
    plan.finish()
    starts += drain(plan)
    assert starts == (all_starts(sum(blocks), settings) if sum(blocks) else [])
    assert plan.samples == sum(blocks)


@given(st.data(), st.integers(1, 300), any_settings())
def test_a_stream_goes_on_at_any_window(data: st.DataObject, length: int, settings: Settings) -> None:
    starts = all_starts(length, settings)
    seq = data.draw(st.integers(0, len(starts)))
    plan = WindowPlan(settings)
    plan.resume(starts[0], starts[0] + seq * settings.step)
    plan.advance(length)
    assert plan.next == starts[0] + seq * settings.step
    plan.finish()
    assert list(drain(plan)) == starts[seq:]
    assert plan.origin == starts[0]


@pytest.mark.parametrize("start", ["exact", "early"])
def test_an_empty_stream_has_no_windows(start: str) -> None:
    plan = WindowPlan(make_settings(10, 2, 4, start))
    assert not plan.finished
    plan.finish()
    assert plan.take() is None
    assert plan.finished


def test_exact_start_is_not_known_before_a_window_or_the_end_is_there() -> None:
    plan = WindowPlan(make_settings(10, 2, 4))
    plan.advance(9)
    assert (plan.next, plan.origin, plan.ready) == (None, None, False)
    plan.advance(1)
    assert plan.ready
    assert (plan.next, plan.origin) == (0, 0)
    plan.advance(5)
    assert plan.backlog == 5


def test_overload_skips_to_the_newest_window_that_leaves_nothing_out() -> None:
    plan = WindowPlan(make_settings(10, 2, 2))
    plan.advance(23)
    first = plan.take(newest=True)
    assert first is not None
    assert (first.start, first.skipped) == (0, 0)  # never left out
    second = plan.take(newest=True)
    assert second is not None
    assert (second.start, second.skipped, second.uncovered) == (10, 4, 0)
    third = plan.take(newest=True)
    assert third is not None
    assert (third.start, third.skipped) == (12, 0)  # the newest of all


def test_audio_is_given_up_only_when_a_whole_window_would_wait_behind() -> None:
    plan = WindowPlan(make_settings(10, 2, 2))
    plan.advance(10)
    assert plan.take() is not None
    plan.advance(21)  # up to 31: the window at 10 would leave 11 waiting
    window = plan.take(newest=True)
    assert window is not None
    assert (window.start, window.skipped, window.uncovered) == (20, 9, 10)


def test_after_an_outage_no_audio_is_given_up_although_more_than_a_window_waits() -> None:
    plan = WindowPlan(make_settings(10, 2, 2))
    plan.advance(10)
    assert plan.take() is not None
    plan.advance(40)
    starts = []
    for _ in range(4):
        window = plan.take(newest=True, behind=3)
        assert window is not None
        assert window.uncovered == 0
        starts.append(window.start)
    assert starts == [10, 20, 30, 40]  # each window ends where the next one begins
    plan.advance(50)
    window = plan.take(newest=True, behind=3)  # 40 would wait behind the window at 50
    assert window is not None
    assert (window.start, window.uncovered) == (90, 40)


@given(st.data(), any_settings())
def test_every_sample_is_in_a_window_or_counted(data: st.DataObject, settings: Settings) -> None:
    plan, windows = WindowPlan(settings), []
    for block in data.draw(st.lists(st.integers(0, 3 * settings.duration), min_size=1, max_size=15)):
        plan.advance(block)
        newest = data.draw(st.booleans())
        waiting = plan.backlog
        window = plan.take(newest=newest)
        if window is not None:
            windows.append(window)
            assert window.start + settings.duration <= plan.samples
            assert newest or window.skipped == 0
            assert window.uncovered == 0 or waiting > settings.duration
    plan.finish()
    while (window := plan.take(newest=data.draw(st.booleans()))) is not None:
        windows.append(window)
    if not plan.samples:
        assert not windows
        return
    assert windows[0].start == plan.origin
    assert windows[0].start <= 0
    assert windows[0].start + settings.duration > 0
    for before, after in pairwise(windows):
        assert after.start == before.start + (after.skipped + 1) * settings.step
        assert after.uncovered == max(0, after.start - before.start - settings.duration)
    assert windows[-1].start + settings.duration >= plan.samples + settings.latency - settings.step


@given(st.data(), st.integers(0, 100), st.integers(1, 300), any_settings(start="early"))
def test_an_early_start_counts_anew_from_the_first_sound(
    data: st.DataObject, silence: int, length: int, settings: Settings
) -> None:
    """However it is read: windows of the silence, then those of the same audio without it."""
    plan, starts = WindowPlan(settings), list[int]()
    cuts = sorted(data.draw(st.lists(st.integers(0, silence + length), max_size=6)))
    for begin, end in pairwise([0, *cuts, silence + length]):
        if begin <= silence < end:
            plan.begin_at(silence)
        plan.advance(end - begin)
        if data.draw(st.booleans()):
            starts += drain(plan)
            assert plan.backlog < 0
    plan.finish()
    starts += drain(plan)
    if silence < settings.step:  # no device that is not on yet: that is how the recording begins
        assert starts == all_starts(silence + length, settings)
        return
    silent = [start for start in starts if start + settings.duration <= silence]
    assert silent == [settings.step * (seq + 1) - settings.duration for seq in range(silence // settings.step)]
    assert starts[len(silent) :] == [silence + start for start in all_starts(length, settings)]


@given(st.integers(0, 100), st.integers(0, 30), any_settings(start="early"))
def test_it_goes_on_at_any_window_of_the_silence(silence: int, seq: int, settings: Settings) -> None:
    plan = WindowPlan(settings)
    plan.begin_at(silence)
    plan.advance(silence + 50)
    plan.finish()
    starts = list(drain(plan))
    seq = min(seq, len(starts) - 1)
    again = WindowPlan(settings)
    again.resume(settings.step - settings.duration, starts[seq])
    again.begin_at(silence)
    again.advance(silence + 50)
    again.finish()
    assert list(drain(again)) == starts[seq:]


def test_an_exact_start_does_not_wait_for_sound() -> None:
    plan = WindowPlan(make_settings(10, 2, 2))
    plan.begin_at(7)
    plan.advance(20)
    assert list(drain(plan)) == [0, 2, 4, 6, 8, 10]
