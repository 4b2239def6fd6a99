"""Raw PCM through real pipes, in pieces of any size."""

import itertools
import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.audio.pcm import PcmSource
from diart_mp.errors import AudioError

NOISE = np.random.default_rng(5).integers(-20000, 20000, 3000).astype("<i2")


def through_pipe(pieces: list[bytes], make: Callable[[int], PcmSource]) -> tuple[np.ndarray, PcmSource]:
    """What the source reads when each piece is written after the one before was read."""
    reading, writing = os.pipe()
    with make(reading) as source:
        blocks = [np.zeros(0, np.float32)]
        for piece in pieces:
            os.write(writing, piece)
            given_now = source.read()
            assert given_now is not None
            blocks.append(given_now)
        os.close(writing)
        while (block := source.read()) is not None:
            blocks.append(block)
    os.close(reading)
    return np.concatenate(blocks), source


def readable(source: PcmSource, timeout: float | None = 0) -> bool:
    descriptor = source.fileno()
    return select.select([descriptor], [], [], timeout)[0] == [descriptor]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[first:last] for first, last in itertools.pairwise(edges) if last > first]


@given(cuts=st.lists(st.integers(0, 6000), max_size=15), channels=st.integers(1, 3))
def test_pieces_do_not_matter(cuts: list[int], channels: int) -> None:
    samples, source = through_pipe(cut(NOISE.tobytes(), cuts), lambda fd: PcmSource(fd, channels=channels))
    np.testing.assert_array_equal(samples, (NOISE.astype(np.float32) / 32768).reshape(-1, channels).mean(axis=1))
    assert source.warnings() == []


@given(cuts=st.lists(st.integers(0, 12000), max_size=15))
def test_pieces_do_not_matter_to_the_resampler(cuts: list[int]) -> None:
    signal = NOISE.astype("<f4") / 32768
    samples, _ = through_pipe(cut(signal.tobytes(), cuts), lambda fd: PcmSource(fd, encoding="f32le", input_rate=44100))
    np.testing.assert_allclose(samples, soxr.resample(signal, 44100, 16000), atol=1e-6)


def test_one_channel_can_be_chosen() -> None:
    samples, _ = through_pipe([NOISE.tobytes()], lambda fd: PcmSource(fd, channels=2, channel=1))
    np.testing.assert_array_equal(samples, NOISE[1::2].astype(np.float32) / 32768)


def test_waits_for_nothing_and_says_when_there_is_something() -> None:
    reading, writing = os.pipe()
    with PcmSource(reading) as source:
        assert source.fileno() == reading
        assert os.get_blocking(reading)
        for piece, samples in [
            (b"ab", 0),
            (b"c", 0),
            (b"def", 3),
        ]:  # nothing is given before four bytes could be looked at
            assert not readable(source)
            assert np.array_equal(source.read(), np.zeros(0))  # type: ignore[arg-type]
            before = source.read_time
            os.write(writing, piece)
            assert readable(source)
            assert len(source.read()) == samples  # type: ignore[arg-type]
            assert source.read_time > before
        os.close(writing)
        assert readable(source)
        assert len(source.read()) == 0  # type: ignore[arg-type]
        assert source.read() is None
    os.close(reading)


def test_an_incomplete_frame_at_the_end_is_reported() -> None:
    samples, source = through_pipe([NOISE.tobytes()[:4003]], lambda fd: PcmSource(fd, channels=2))
    assert len(samples) == 1000
    assert source.warnings() == [
        "stdin: 3 byte(s) at the end are no whole frame of 4 bytes and were dropped; "
        "are encoding (s16le) and channels (2) right?"
    ]
    assert source.warnings() == []


@pytest.mark.parametrize("data", [b"", b"\0\0", b"\0\0\0"])
def test_hardly_any_audio(data: bytes) -> None:
    samples, source = through_pipe([data] if data else [], PcmSource)
    assert len(samples) == len(data) // 2
    assert len(source.warnings()) == len(data) % 2


def test_not_a_number() -> None:
    signal = np.zeros(16000, "<f4")
    signal[12000] = np.nan
    with pytest.raises(AudioError, match=r"phone: the sample at 0\.750 s is not a finite number"):
        through_pipe(
            [signal.tobytes()[:40000], signal.tobytes()[40000:]],
            lambda fd: PcmSource(fd, encoding="f32le", name="phone"),
        )


@pytest.mark.parametrize(("magic", "kind"), [(b"RIFF", "WAV"), (b"fLaC", "FLAC"), (b"OggS", "Ogg")])
def test_a_file_with_a_header_is_not_raw(magic: bytes, kind: str) -> None:
    with pytest.raises(AudioError, match=f"stdin: this is a {kind} file, not raw PCM"):
        through_pipe([magic[:1], magic[1:] + bytes(100)], PcmSource)


def test_settings_that_cannot_be() -> None:
    with pytest.raises(AudioError, match="unknown PCM encoding 'mp3'; known are s16le, s24le, s32le, f32le"):
        PcmSource(0, encoding="mp3")  # type: ignore[arg-type]
    with pytest.raises(AudioError, match="0 Hz makes no sense"):
        PcmSource(0, input_rate=0)
    with pytest.raises(AudioError, match="no audio channels"):
        PcmSource(0, channels=0)


def test_a_pipe_cannot_be_resumed() -> None:
    with pytest.raises(AudioError, match="stdin: cannot go on at sample 8000"):
        PcmSource(0).skip(8000)


def test_a_descriptor_that_is_not_open() -> None:
    reading, writing = os.pipe()
    os.close(writing)
    os.close(reading)
    with pytest.raises(AudioError, match=r"stdin: cannot be read any more \(bad file descriptor\)"):
        PcmSource(reading).read()


def test_a_redirected_file(tmp_path: Path) -> None:
    path = tmp_path / "a.pcm"
    path.write_bytes(NOISE.tobytes() * 100)
    with path.open("rb") as stream, PcmSource(stream, name="a") as source:
        samples = 0
        while (block := source.read()) is not None:
            samples += len(block)
        assert samples == 300_000
        assert source.read() is None


def test_another_process_writes() -> None:
    """64 KiB pieces from a writer that the pipe makes wait, and the end when it exits."""
    script = "import os, sys; sys.stdout.buffer.write(bytes(range(256)) * 4000)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as writer:
        assert writer.stdout is not None
        blocks = []
        with PcmSource(writer.stdout, live=True) as source:
            assert source.live
            while readable(source, None) and (block := source.read()) is not None:
                blocks.append(block)
    expected = np.tile(np.arange(256, dtype=np.uint8), 4000).view("<i2").astype(np.float32) / 32768
    np.testing.assert_array_equal(np.concatenate(blocks), expected)
