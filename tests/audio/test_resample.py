"""The down-mix and the streaming resampler, against soxr on the whole signal and against signals known by formula."""

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.audio.resample import StreamResampler, resample_windows
from diart_mp.errors import AudioError

RATES = [8000, 11025, 22050, 32000, 44100, 48000, 96000]


def in_blocks(resampler: StreamResampler, signal: np.ndarray, cuts: list[int]) -> np.ndarray:
    """All output for ``signal`` cut at ``cuts``."""
    pieces = np.split(signal, sorted(cuts))
    return np.concatenate([*(resampler.push(piece) for piece in pieces), resampler.flush()])


def noise(samples: int, channels: int = 1) -> np.ndarray:
    shape = samples if channels == 1 else (samples, channels)
    return np.random.default_rng(samples).uniform(-0.5, 0.5, shape).astype(np.float32)


@given(rate=st.sampled_from(RATES), cuts=st.lists(st.integers(0, 6007), max_size=12))
def test_blocks_do_not_matter(rate: int, cuts: list[int]) -> None:
    signal = noise(6007)
    once = soxr.resample(signal, rate, 16000, quality="HQ")
    streamed = in_blocks(StreamResampler(rate, 16000), signal, cuts)
    assert streamed.dtype == np.float32
    np.testing.assert_allclose(streamed, once, atol=1e-6)


@given(cuts=st.lists(st.integers(0, 500), max_size=12), channels=st.integers(1, 3))
def test_equal_rates_keep_every_sample(cuts: list[int], channels: int) -> None:
    signal = noise(500, channels)
    expected = signal if channels == 1 else signal.mean(axis=1)
    np.testing.assert_array_equal(in_blocks(StreamResampler(16000, 16000, channels=channels), signal, cuts), expected)


@given(rate=st.sampled_from(RATES), samples=st.integers(0, 30000))
def test_length_is_that_of_the_signal(rate: int, samples: int) -> None:
    resampled = in_blocks(StreamResampler(rate, 16000), noise(samples), [samples // 2])
    assert abs(len(resampled) - round(samples * 16000 / rate)) <= 1


@pytest.mark.parametrize("rate", RATES)
def test_an_impulse_stays_where_it_is(rate: int) -> None:
    signal = np.zeros(2 * rate, np.float32)
    signal[rate // 4 * 3] = 1
    resampled = in_blocks(StreamResampler(rate, 16000), signal, [100, 999, rate])
    assert abs(int(np.argmax(np.abs(resampled))) - rate // 4 * 3 * 16000 / rate) <= 1


@pytest.mark.parametrize("rate", RATES)
def test_a_tone_keeps_level_and_phase(rate: int) -> None:
    signal = (0.5 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype(np.float32)
    resampled = in_blocks(StreamResampler(rate, 16000), signal, [rate // 3])
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(resampled)) / 16000)
    np.testing.assert_allclose(resampled[500:-500], expected[500:-500], atol=1e-4)


def test_channels_are_mixed_before_resampling() -> None:
    stereo = np.stack([noise(4000), -noise(4000)], axis=1)
    assert not in_blocks(StreamResampler(44100, 16000, channels=2), stereo, []).any()


@pytest.mark.parametrize("channel", [0, 1, 2])
def test_one_channel_can_be_chosen(channel: int) -> None:
    signal = noise(300, 3)
    chosen = in_blocks(StreamResampler(16000, 16000, channels=3, channel=channel), signal, [7])
    np.testing.assert_array_equal(chosen, signal[:, channel])


def test_delay_and_position_follow_the_stream() -> None:
    resampler = StreamResampler(48000, 16000)
    given_out = 0
    for block in np.split(noise(48000), 40):
        given_out += len(resampler.push(block))
        assert resampler.position() == resampler.in_frames // 3
        assert resampler.delay == pytest.approx(resampler.in_frames / 48000 - given_out / 16000)
    assert 0 < resampler.delay < 0.1
    resampler.flush()
    assert resampler.delay == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate", [16000, 48000])
def test_what_is_not_a_number_is_found_at_its_place(rate: int, bad: float) -> None:
    resampler = StreamResampler(rate, 16000, channels=2, name="talk.wav")
    resampler.push(np.zeros((rate, 2), np.float32))
    block = np.zeros((rate, 2), np.float32)
    block[rate // 4, 1] = bad
    with pytest.raises(AudioError, match=r"talk\.wav: the sample at 1\.250 s is not a finite number"):
        resampler.push(block)
    assert resampler.in_frames == rate


def test_opposite_infinities_and_overflow_are_found() -> None:
    for pair in ([np.inf, -np.inf], [3e38, 3e38]):
        with pytest.raises(AudioError, match="not a finite number"):
            StreamResampler(16000, 16000, channels=2).push(np.array([pair], np.float32))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"in_rate": 0}, "0 Hz makes no sense"),
        ({"in_rate": 2**31}, "2147483648 Hz makes no sense"),
        ({"out_rate": -1}, "-1 Hz makes no sense"),
        ({"channels": 0}, "no audio channels"),
        ({"channels": 2, "channel": 2}, "no channel 2; it has 2"),
        ({"channel": -1}, "no channel -1"),
    ],
)
def test_settings_that_cannot_be(settings: dict[str, int], words: str) -> None:
    with pytest.raises(AudioError, match=words):
        StreamResampler(**{"in_rate": 16000, "out_rate": 16000, **settings})  # type: ignore[arg-type]


def test_a_block_of_other_channels_is_refused() -> None:
    with pytest.raises(AudioError, match=r"\(10, 3\) does not have 2 channel"):
        StreamResampler(16000, 16000, channels=2).push(np.zeros((10, 3), np.float32))


def test_windows_for_a_model_of_another_rate() -> None:
    times = np.arange(16_000) / 16_000
    windows = np.stack([np.sin(2 * np.pi * pitch * times) for pitch in (200, 900)]).astype(np.float32)
    halved = resample_windows(windows, 16_000, 8_000)
    assert halved.shape == (2, 8_000)
    inside = slice(400, -400)  # its ends are a little off
    assert np.abs(halved - windows[:, ::2])[:, inside].max() < 1e-3
    assert resample_windows(windows, 16_000, 16_000) is windows
