"""Delayed aggregation: the arithmetic by hand and against pyannote.core, and regions that tile any timeline."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diart_mp.blocks.aggregation import (
    AggregatedRegion,
    DelayedAggregation,
    Frames,
    LabelledWindow,
    Strategy,
    aggregate,
    crop_range,
    prepend_first,
)
from diart_mp.config import Settings

RATE = 4000


def window(
    start: float, *columns: list[float], labels: list[int] | None = None, resolution: float = 1.0
) -> LabelledWindow:
    names = np.arange(len(columns)) if labels is None else np.array(labels)
    return LabelledWindow(start, resolution, np.array(columns).T, names)


def delayed(duration: int, step: int, latency: int) -> DelayedAggregation:
    return DelayedAggregation(Settings(rate=RATE, duration=duration, step=step, latency=latency))


def test_crop_loose_takes_what_touches_and_center_what_is_nearest() -> None:
    half_seconds = window(0.0, [0.0] * 10, resolution=0.5)
    assert crop_range(half_seconds, 2.0, 3.0, "loose") == (3, 3)
    assert crop_range(half_seconds, 2.0, 3.0, "center") == (4, 2)
    assert crop_range(half_seconds, 0.0, 1.0, "loose") == (-1, 3)
    assert crop_range(half_seconds, 2.2, 2.3, "center")[1] == 1  # at least one frame


# Frames 0 and 1 of the region are frames 0 and 1 of the older window; the newer one repeats its first frame.
OLDER, NEWER = window(0.0, [0.1, 0.2, 0.3, 0.4]), window(1.0, [0.5, 0.6, 0.7, 0.8])


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        # numpy.hamming(4) = 0.08, 0.77, 0.77, 0.08
        ("hamming", [(0.08 * 0.1 + 0.08 * 0.5) / 0.16, (0.77 * 0.2 + 0.08 * 0.5) / 0.85]),
        ("mean", [0.3, 0.35]),
        ("first", [0.1, 0.2]),
    ],
)
def test_strategies(strategy: Strategy, expected: list[float]) -> None:
    frames = aggregate([OLDER, NEWER], 1.0, 2.0, strategy=strategy)
    np.testing.assert_allclose(frames.scores[:, 0], expected, rtol=1e-12)
    assert (frames.start, frames.resolution, frames.labels.tolist()) == (1.0, 0.5, [0])


def test_columns_follow_the_labels_and_unmapped_ones_vanish() -> None:
    one = window(0.0, [0.2] * 4, [0.4] * 4, [0.9] * 4, labels=[7, 3, -1])
    two = window(0.0, [0.6] * 4, [0.9] * 4, [0.8] * 4, labels=[3, -1, 5])
    frames = aggregate([one, two], 1.0, 2.0, strategy="mean")
    assert frames.labels.tolist() == [3, 5, 7]
    np.testing.assert_allclose(frames.scores[0], [0.5, 0.4, 0.1])


def test_frames_beyond_a_window_do_not_count_but_for_one_at_its_edge() -> None:
    frames = aggregate([window(0.0, [0.0, 0.0, 0.0, 1.0]), window(4.0, [0.5] * 4)], 3.0, 6.0, strategy="mean")
    # Frames 2, 3 and (repeated) 4 of the first window; frames -1 (repeated), 0 and 1 of the second.
    np.testing.assert_allclose(frames.scores[:, 0], [0.0, 0.75, 0.75, 0.5])
    lonely = aggregate([window(0.0, [1.0] * 4)], 3.0, 8.0)
    assert lonely.scores[:, 0].tolist() == [1.0, 1.0, 1.0, 0.0, 0.0, 0.0]


def test_first_window_is_prepended() -> None:
    first = window(0.0, [0.1, 0.2, 0.3, 0.4])
    frames = prepend_first(first, Frames(2.0, 0.5, np.array([[0.8], [0.9]]), np.array([0])), 3.0)
    assert (frames.start, frames.resolution) == (0.0, 0.75)
    np.testing.assert_allclose(frames.scores[:, 0], [0.1, 0.1, 0.8, 0.9])


shapes = st.tuples(st.integers(1, 40), st.integers(1, 12), st.integers(1, 12), st.integers(0, 20_000))


@settings(max_examples=200)
@given(shapes)
def test_regular_streams_meet_pyannote_core(shape: tuple[int, int, int, int]) -> None:
    """diart's formula on pyannote.core's own crop, for every way in which steps fit into latency and duration."""
    core = pytest.importorskip("pyannote.core")
    num_frames, num_steps, late, skipped = shape
    late = min(late, num_steps)
    random = np.random.default_rng(skipped)
    blocks = delayed(num_steps * 2000, 2000, late * 2000)
    duration, resolution = num_steps * 0.5, num_steps * 0.5 / num_frames
    kept: list[Any] = []
    for k in range(skipped, skipped + num_steps + 2):  # also late in a stream, where rounding differs
        scores = random.random((num_frames, 2), dtype=np.float32)
        sliding = core.SlidingWindow(start=k * 0.5, duration=resolution, step=resolution)
        kept = [*kept, core.SlidingWindowFeature(scores.astype(np.float64), sliding)][-late:]
        begin = kept[-1].extent.end - late * 0.5
        focus = core.Segment(begin, begin + 0.5)
        hamming = [core.SlidingWindowFeature(np.hamming(num_frames)[:, np.newaxis], w.sliding_window) for w in kept]
        weights = np.stack([w.crop(focus, fixed=focus.duration) for w in hamming])
        crops = np.stack([w.crop(focus, fixed=focus.duration) for w in kept])
        expected = np.sum(weights * crops, axis=0) / np.sum(weights, axis=0)
        region = blocks(k * 2000, scores, np.arange(2))
        (frames,) = region.parts
        assert (frames.start, frames.resolution) == (begin, focus.duration / len(expected))
        np.testing.assert_allclose(frames.scores, expected, rtol=1e-12)
        assert (region.start, region.end) == (round((k * 0.5 + duration - late * 0.5) * RATE), region.start + 2000)


@settings(max_examples=200)
@given(
    st.floats(0, 5000),
    st.floats(0, 5000),
    st.floats(1e-3, 10),
    st.integers(1, 600),
    st.sampled_from(["loose", "center"]),
)
def test_crop_is_that_of_pyannote_core(
    origin: float, start: float, length: float, num_frames: int, cropping: Any
) -> None:
    core = pytest.importorskip("pyannote.core")
    resolution = 5.0 / num_frames
    sliding = core.SlidingWindow(start=origin, duration=resolution, step=resolution)
    focus = core.Segment(start, start + length)
    ((first, end),) = sliding.crop(focus, mode=cropping, fixed=focus.duration, return_ranges=True)
    cropped = crop_range(window(origin, [0.0] * num_frames, resolution=resolution), focus.start, focus.end, cropping)
    assert cropped == (first, max(1, end - first) if cropping == "center" else end - first)


@st.composite
def timelines(draw: st.DrawFn) -> tuple[DelayedAggregation, Settings, list[int], int]:
    """Any step, latency and duration, and windows of which some are left out; also the number of frames."""
    duration = draw(st.integers(2, 3000))
    latency = draw(st.integers(1, duration))
    step = draw(st.integers(1, latency))
    jumps = draw(st.lists(st.sampled_from([1, 1, 1, 1, 2, 3, 10]), max_size=15))
    starts = np.cumsum([draw(st.integers(0, 2)), *jumps]) * step
    chosen = Settings(rate=RATE, duration=duration, step=step, latency=latency)
    return DelayedAggregation(chosen), chosen, starts.tolist(), draw(st.integers(1, 12))


def samples_of(region: AggregatedRegion) -> list[tuple[int, int]]:
    """The stretches that have scores, in samples."""
    ends = [(part.start, part.start + part.resolution * len(part.scores)) for part in region.parts]
    return [(round(low * RATE), round(high * RATE)) for low, high in ends]


@settings(max_examples=200)
@given(timelines())
def test_regions_tile_the_timeline_and_have_scores_wherever_a_window_has_been(timeline: Any) -> None:
    blocks, chosen, starts, num_frames = timeline
    said = starts[0] + chosen.duration - chosen.latency
    seen: set[int] = set()
    for start in starts:
        region = blocks(start, np.ones((num_frames, 1)), np.array([0]))
        assert (region.start, region.end) == (said, start + chosen.duration - chosen.latency + chosen.step)
        said = region.end
        seen.update(range(start, start + chosen.duration))
        scored = {sample for low, high in samples_of(region) for sample in range(low, high)}
        assert scored == seen & set(range(region.start, region.end))
        assert all(np.allclose(part.scores, 1.0) for part in region.parts)


def test_no_more_windows_are_kept_than_can_still_count() -> None:
    for step, latency, kept in [(500, 500, 0), (500, 2000, 3), (500, 1900, 3), (500, 2001, 4), (300, 500, 1)]:
        blocks = delayed(5000, step, latency)
        for k in range(10):
            blocks(k * step, np.ones((10, 2)), np.array([0, -1]))
        assert len(blocks.state()["starts"]) == kept


def test_a_window_that_ends_within_a_region_counts_up_to_there() -> None:
    blocks = delayed(1000, 300, 500)  # frames of ten samples
    blocks(0, np.full((100, 1), 0.9), np.array([0]))
    (frames,) = blocks(300, np.full((100, 1), 0.1), np.array([0])).parts
    # The region is 800 to 1100, from the frame that ends at 800 on; the first window ends at 1000 (and one frame).
    assert len(frames.scores) == 31
    assert (frames.scores[:22] > 0.11).all()
    np.testing.assert_allclose(frames.scores[22:], 0.1)
    (frames,) = blocks(600, np.full((100, 1), 0.5), np.array([0])).parts
    assert ((frames.scores > 0.1) & (frames.scores < 0.51)).all()  # the first window is forgotten
    assert frames.start == pytest.approx(1100 / RATE)


def test_windows_that_cannot_follow_are_refused() -> None:
    one, two, labels = np.ones((10, 1)), np.ones((9, 1)), np.array([0])
    with pytest.raises(ValueError, match="at sample -1"):
        delayed(1000, 500, 500)(-1, one, labels)
    with pytest.raises(ValueError, match=r"prepend.*at sample 500"):
        delayed(1000, 500, 500)(500, one, labels, prepend=True)
    blocks = delayed(1000, 500, 1000)
    blocks(500, one, labels)
    with pytest.raises(ValueError, match="at sample 500 after the one at sample 500"):
        blocks(500, one, labels)
    with pytest.raises(ValueError, match=r"shape \(9, 1\).*\(10, 1\)"):
        blocks(1000, two, labels)
    assert blocks(1000, one, labels).start == 1000


def test_the_scores_are_kept_as_a_copy() -> None:
    blocks, scores = delayed(1000, 500, 1000), np.ones((10, 1), dtype=np.float32)
    blocks(0, scores, np.array([0]))
    scores[:] = 0.0  # a buffer that is used again
    assert blocks.state()["segmentations"].all()


@pytest.mark.parametrize(
    "change",
    [
        {"starts": np.array([0, 500])},
        {"starts": np.array([-1])},
        {"segmentations": np.full((1, 10, 2), np.nan)},
        {"segmentations": np.ones((1, 10))},
        {"labels": np.array([[0, 20]])},
        {"labels": np.array([[0]])},
    ],
)
def test_a_state_that_cannot_be_is_refused(change: dict[str, NDArray[Any]]) -> None:
    blocks = delayed(1000, 500, 1000)
    blocks(0, np.ones((10, 2)), np.array([0, 1]))
    with pytest.raises(ValueError, match="no state of an aggregation"):
        delayed(1000, 500, 1000).restore({**blocks.state(), **change})
