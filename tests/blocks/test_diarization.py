"""One stream through clustering, aggregation and binarization."""

import itertools
from collections.abc import Iterator
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from diart_mp.blocks.adaptive import AdaptiveClustering, Speakers
from diart_mp.blocks.agglomerate import Voices
from diart_mp.blocks.diarization import OnlineDiarization, Region
from diart_mp.config import Settings

RATE = 4000
ANNA, BOB = np.array([1.0, 0.0]), np.array([0.0, 1.0])
# One second windows of ten frames; a frame is 400 samples.
SECOND = Settings(rate=RATE, duration=4000, step=1000, latency=2000, delta_new=0.5)

Conversation = tuple[Settings, list[int], list[tuple[int, int, int]]]  # settings, starts of windows, true turns


def steady(*scores: float) -> NDArray[np.float32]:
    """A window in which every local speaker has one score all the time."""
    return np.tile(np.array(scores, dtype=np.float32), (10, 1))


def test_one_speaker_all_the_time() -> None:
    diarization = OnlineDiarization(SECOND)
    # The region 2000 to 3000 touches three frames, now 333.3 samples each: from the middle of the first one to the
    # middle of the one after the last.
    first = diarization(0, steady(0.9, 0.1), np.array([ANNA, BOB]))
    assert first == Region(2000, 3000, ((2167, 3167, 0),))
    assert diarization(1000, steady(0.9, 0.1), np.array([ANNA, BOB])) == Region(3000, 4000, ((3167, 4167, 0),))


def test_speakers_keep_their_numbers_when_the_model_swaps_them() -> None:
    diarization = OnlineDiarization(SECOND)
    diarization(0, steady(0.9, 0.9), np.array([ANNA, BOB]))
    swapped = diarization(1000, steady(0.9, 0.0), np.array([BOB, np.full(2, np.nan)]))
    assert [speaker for _, _, speaker in swapped.turns] == [1]


def test_first_window_can_be_said_from_its_beginning() -> None:
    # 3000 samples touch eight frames, 375 samples each.
    region = OnlineDiarization(SECOND)(0, steady(0.9), np.array([ANNA]), prepend=True)
    assert region == Region(0, 3000, ((188, 3188, 0),))


def test_silence_is_a_region_without_turns() -> None:
    diarization = OnlineDiarization(SECOND)
    assert diarization(0, steady(0.1, 0.2), np.full((2, 2), np.nan)) == Region(2000, 3000, ())


def test_windows_left_out_make_a_longer_region() -> None:
    diarization = OnlineDiarization(SECOND)
    diarization(0, steady(0.9), np.array([ANNA]))
    region = diarization(4000, steady(0.9), np.array([ANNA]))
    assert (region.start, region.end) == (3000, 7000)
    ((start, end, speaker),) = region.turns
    assert 3000 <= start <= 3200
    assert 7000 <= end <= 7200
    assert speaker == 0


def test_what_no_window_has_seen_is_silent_however_long_it_is() -> None:
    diarization, far = OnlineDiarization(SECOND), 10**11
    diarization(0, steady(0.9), np.array([ANNA]))
    region = diarization(far, steady(0.9), np.array([ANNA]))
    assert (region.start, region.end) == (3000, far + 3000)
    (first, second) = region.turns  # the first window goes on to 4000
    assert first[2] == second[2] == 0
    assert 3000 <= first[0] < first[1] <= 4200
    assert far <= second[0] < second[1] <= far + 3200


def test_hindsight_decides_who_of_the_known_speakers_talks_in_the_newest_window() -> None:
    settings = Settings.from_seconds(rate=RATE, clustering="adaptive")
    diarization = OnlineDiarization(settings)
    both = np.repeat([[1.0, 0.0], [0.0, 1.0]], 5, axis=0).astype(np.float32)
    for index in range(6):
        diarization(index * settings.step, both, np.array([ANNA, BOB]))
    assert isinstance(diarization.clustering, AdaptiveClustering)
    misled = Voices.single(np.array([BOB, ANNA]), np.array([5.0, 5.0]), 5.0)
    diarization.clustering.learn(Speakers(np.array([0, 1]), misled))
    assert diarization(6 * settings.step, both, np.array([ANNA, BOB])).labels == (0, 1)


def bob_after_anna(windows: int, anna: int, bob: int) -> Iterator[Region]:
    """Anna alone in so many windows, then windows of ``anna`` frames of hers and ``bob`` of his: what is said of those."""
    settings = Settings.from_seconds(rate=RATE, clustering="adaptive")
    diarization = OnlineDiarization(settings)
    scores = np.repeat([[1.0, 0.0]], anna + bob, axis=0).astype(np.float32)
    for index in range(windows):
        diarization(index * settings.step, scores, np.array([ANNA, np.full(2, np.nan)]))
    scores[anna:] = (0.0, 1.0)
    for index in itertools.count(windows):
        yield diarization(index * settings.step, scores, np.array([ANNA, BOB]))


def test_somebody_new_has_a_name_at_once_though_hindsight_is_slower() -> None:
    region = next(bob_after_anna(4, anna=19, bob=1))  # for the last 0.25 s
    assert region.labels == (0, 1)
    assert [speaker for _, _, speaker in region.turns] == [0, 1]


def test_a_name_that_one_window_makes_up_in_mid_speech_is_not_said() -> None:
    twice = [*itertools.islice(bob_after_anna(24, anna=38, bob=12), 2)]  # for the last 1.2 s
    assert [region.labels for region in twice] == [(0, 1), (0, 1)]
    assert [{speaker for *_, speaker in region.turns} for region in twice] == [{0}, {1}]


@pytest.mark.parametrize(
    ("clustering", "score", "said"), [("exact", 0.51, 1), ("adaptive", 0.51, 0), ("adaptive", 0.53, 1)]
)
def test_what_adaptive_says_at_once_has_a_score_above_the_threshold(clustering: str, score: float, said: int) -> None:
    diarization = OnlineDiarization(Settings.from_seconds(rate=RATE, tau_active=0.5, clustering=clustering))
    assert len(diarization(0, steady(score), np.array([ANNA])).turns) == said


def test_a_window_that_is_refused_leaves_no_trace() -> None:
    diarization, other = OnlineDiarization(SECOND), OnlineDiarization(SECOND)
    embeddings = np.array([ANNA, BOB])
    for each in (diarization, other):
        each(0, steady(0.9, 0.0), embeddings)
    with pytest.raises(ValueError, match="20 of 20 segmentation scores are NaN"):
        diarization(1000, steady(np.nan, np.nan), embeddings)
    with pytest.raises(ValueError, match="at sample 0 after the one at sample 0"):
        diarization(0, steady(0.0, 0.9), embeddings)
    with pytest.raises(ValueError, match="do not fit together"):
        diarization(1000, steady(0.0, 0.9), embeddings[:1])
    assert pack(diarization.state()) == pack(other.state())


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Settings in which nothing need divide anything, starts of windows, and who really talks when."""
    duration = draw(st.integers(2000, 8000))
    latency = draw(st.integers(200, duration))
    step = draw(st.integers(200, latency))
    most = max(1, duration // step)  # so that no sample is left out
    skips = draw(st.lists(st.integers(1, min(3, most)), min_size=1, max_size=10))
    starts = [0, *(np.cumsum(skips) * step).tolist()]
    pauses = draw(st.lists(st.integers(400, 4000), min_size=2, max_size=16))
    edges = np.cumsum(pauses).tolist()
    # Both talk in the very first frames, so that nobody is unknown later.
    truth = [(0, 400, 0), (0, 400, 1)]
    truth += [
        (400 + low, 400 + high, k % 2) for k, (low, high) in enumerate(zip(edges[::2], edges[1::2], strict=False))
    ]
    return Settings(rate=RATE, duration=duration, step=step, latency=latency, delta_new=0.5), starts, truth


def window_of(truth: list[tuple[int, int, int]], start: int, frames: NDArray[np.floating]) -> NDArray[np.float32]:
    """What a perfect model says: 1 where the middle of a frame lies in a turn of the speaker."""
    at = start + frames
    columns = [np.any([(low <= at) & (at < high) for low, high, who in truth if who == k], axis=0) for k in (0, 1)]
    return np.stack([np.broadcast_to(column, at.shape) for column in columns], axis=1).astype(np.float32)


@settings(max_examples=150)
@given(conversations(), st.booleans())
def test_times_are_right_whatever_the_step(conversation: Conversation, prepend: bool) -> None:
    chosen, starts, truth = conversation
    num_frames = 200
    frame = chosen.duration / num_frames
    middles = (np.arange(num_frames) + 0.5) * frame
    diarization = OnlineDiarization(chosen)
    names = np.array([ANNA, BOB])
    said = np.zeros((2, starts[-1] + 2 * chosen.duration), dtype=bool)
    last = [-RATE, -RATE]
    begin = 0 if prepend else chosen.duration - chosen.latency
    end = begin
    for k, start in enumerate(starts):
        region = diarization(start, window_of(truth, start, middles), names, prepend=prepend and k == 0)
        assert region.start == end
        end = region.end
        for low, high, who in region.turns:
            gap = low - last[who] < RATE // 20  # turns of consecutive regions less than 50 ms apart are one turn
            said[who, last[who] if gap else low : high] = True
            last[who] = high
    close = int(3 * frame) + 1  # samples: frames do not meet regions, and regions round
    for who in (0, 1):
        talks = np.zeros(said.shape[1], dtype=bool)
        for low, high, speaker in truth:
            talks[low:high] |= speaker == who
        edges = [*np.flatnonzero(np.diff(talks, prepend=False)).tolist(), begin, end]
        sure = np.zeros(said.shape[1], dtype=bool)
        sure[begin:end] = True
        for edge in edges:
            sure[max(0, edge - close) : edge + close] = False
        np.testing.assert_array_equal(said[who][sure], talks[sure])


def pack(state: dict[str, Any]) -> bytes:
    """A state as it may travel: msgpack, arrays as type, shape and bytes."""
    plain = {
        name: [value.dtype.str, list(value.shape), value.tobytes()] if isinstance(value, np.ndarray) else value
        for name, value in state.items()
    }
    packed: bytes = msgpack.packb(plain)
    return packed


def unpack(packed: bytes, chosen: Settings) -> OnlineDiarization:
    state = {
        name: np.frombuffer(value[2], dtype=value[0]).reshape(value[1]) if isinstance(value, list) else value
        for name, value in msgpack.unpackb(packed).items()
    }
    diarization = OnlineDiarization(chosen)
    diarization.restore(state)
    return diarization


@settings(max_examples=40)
@given(conversations(), st.integers(0, 2**32 - 1))
def test_restored_at_any_point_it_goes_on_bit_for_bit(conversation: Conversation, seed: int) -> None:
    chosen, starts, _ = conversation
    random = np.random.default_rng(seed)
    diarization = OnlineDiarization(chosen)
    for k, start in enumerate(starts):
        state = diarization.state()
        packed = pack(state)
        restored = unpack(packed, chosen)
        window = random.random((20, 3), dtype=np.float32), random.normal(size=(3, 4)).astype(np.float32)
        here, there = (each(start, *window, prepend=k == 0) for each in (diarization, restored))
        assert here == there
        assert pack(diarization.state()) == pack(restored.state())
        assert pack(state) == packed  # a state is a snapshot


def test_state_is_small() -> None:
    chosen = Settings.from_seconds(latency="max")
    diarization = OnlineDiarization(chosen)
    random = np.random.default_rng(0)
    for k in range(12):
        diarization(k * chosen.step, random.random((293, 3)), random.normal(size=(3, 256)))
    # Nine windows of 293 frames of three float32, and at most 20 centroids of 256 float64.
    assert len(pack(diarization.state())) < 9 * 293 * 3 * 4 + 20 * 256 * 8 + 1000


@pytest.mark.parametrize(
    "state", [{}, {"started": True, "centers": None}, {"started": True, "centers": np.zeros((0, 0))}]
)
def test_a_damaged_checkpoint_is_refused(state: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"checkpoint is damaged|no state of a clustering"):
        OnlineDiarization(SECOND).restore(state)
