"""The push source and its queue, with real threads on either side."""

import select
import threading
from collections.abc import Iterator

import numpy as np
import pytest
import soxr
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.audio.block_queue import BlockQueue
from diart_mp.audio.push import PushSource
from diart_mp.errors import AudioError

NOISE = np.random.default_rng(9).integers(-20000, 20000, 30000).astype(np.int16)


def readable(source: PushSource, timeout: float | None = 0) -> bool:
    descriptor = source.fileno()
    return select.select([descriptor], [], [], timeout)[0] == [descriptor]


def blocks_of(source: PushSource) -> Iterator[np.ndarray]:
    """Blocks as they come, asleep between them; it gives up after 5 s without one."""
    while readable(source, 5) and (block := source.read()) is not None:
        yield block


@given(cuts=st.lists(st.integers(0, 30000), max_size=10), floats=st.booleans())
def test_blocks_do_not_matter(cuts: list[int], floats: bool) -> None:
    signal = NOISE.astype(np.float32) / 32768
    with PushSource("client", 16000, 44100) as source:
        for piece in np.split(signal if floats else NOISE, sorted(cuts)):
            source.write(piece)
        source.end()
        read = np.concatenate(list(blocks_of(source)))
        assert source.read() is None
    np.testing.assert_allclose(read, soxr.resample(signal, 44100, 16000), atol=1e-6)


def test_a_fast_writer_waits_for_a_slow_reader() -> None:
    source = PushSource("client", channels=2, max_s=0.25)
    stereo = NOISE.reshape(-1, 2)

    def write() -> None:
        for start in range(0, len(stereo), 1000):
            source.write(stereo[start : start + 1000])
        source.end()

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    read = []
    for block in blocks_of(source):
        read.append(block)
        assert source._queue.waiting < 4000 + 1000
    writer.join()
    source.close()
    np.testing.assert_array_equal(np.concatenate(read), (stereo.astype(np.float32) / 32768).mean(axis=1))


def test_a_writer_that_does_not_wait_is_told() -> None:
    with PushSource("client", max_s=1) as source:
        source.write(NOISE[:15999])
        source.write(NOISE[:16000], timeout=0)
        with pytest.raises(AudioError, match=r"client: 2\.0 s of audio wait already"):
            source.write(NOISE[:10], timeout=0)
        with pytest.raises(AudioError, match="wait already"):
            source.write(NOISE[:10], timeout=0.001)
        assert len(source.read()) == 15999  # type: ignore[arg-type]
        assert len(source.read()) == 16000  # type: ignore[arg-type]
        source.write(NOISE[:10], timeout=0)
        assert len(source.read()) == 10  # type: ignore[arg-type]


def test_closing_frees_a_writer_that_waits() -> None:
    source = PushSource("client", max_s=0.1)
    source.write(NOISE)
    problems: list[str] = []

    def write() -> None:
        try:
            source.write(NOISE)
        except AudioError as error:
            problems.append(str(error))

    writer = threading.Thread(target=write, daemon=True)
    writer.start()
    source.close()
    source.close()
    writer.join()
    assert problems == ["client: nothing can be written, since the stream has ended"]
    assert source.read() is None


def test_the_descriptor_follows_what_waits() -> None:
    with PushSource("client") as source:
        assert not readable(source)
        assert len(source.read()) == 0  # type: ignore[arg-type]
        source.write(NOISE[:10])
        source.write(NOISE[:10])
        source.read()
        assert readable(source)
        source.read()
        assert not readable(source)
        source.end()
        assert readable(source)
        source.read()
        assert source.read() is None
        assert readable(source)


def test_read_time_is_when_it_was_written() -> None:
    with PushSource("client") as source:
        made = source.read_time
        source.write(NOISE)
        source.write(NOISE)
        source.read()
        first = source.read_time
        source.read()
        assert made < first < source.read_time


def test_the_writer_may_use_its_buffer_again() -> None:
    buffer = np.full(100, 0.5, np.float32)
    with PushSource("client") as source:
        source.write(buffer)
        buffer[:] = 0
        np.testing.assert_array_equal(source.read(), np.full(100, 0.5))


@pytest.mark.parametrize(
    ("samples", "words"),
    [
        (np.zeros((10, 3), np.int16), r"\(10, 3\) does not have 1 channel"),
        (np.zeros(10, np.int64), "type int64 are not supported"),
        (np.array([0, np.nan]), r"sample at 0\.000 s is not a finite number"),
    ],
)
def test_a_bad_block_is_the_writers_error_alone(samples: np.ndarray, words: str) -> None:
    with PushSource("client") as source:
        with pytest.raises(AudioError, match=words):
            source.write(samples)
        assert len(source.read()) == 0  # type: ignore[arg-type]
        source.write(NOISE)
        assert len(source.read()) == len(NOISE)  # type: ignore[arg-type]


def test_nothing_after_the_end() -> None:
    with PushSource("client") as source:
        source.write(NOISE)
        source.end()
        with pytest.raises(AudioError, match="nothing can be written, since the stream has ended"):
            source.write(NOISE)
        assert [len(block) for block in blocks_of(source)] == [len(NOISE), 0]


def test_the_queue_refuses_when_full_ended_or_closed() -> None:
    queue: BlockQueue[str] = BlockQueue(10)
    assert queue.put("a", 9)
    assert queue.put("b", 9)
    assert not queue.put("c", 1)
    assert not queue.wait_for_room(0)
    assert (queue.peek(), queue.get(), queue.get(), queue.get()) == ("a", "a", "b", None)
    assert queue.wait_for_room(None)
    queue.end()
    assert not queue.put("d", 1)
    assert queue.over
    queue.close()
    assert not queue.put("e", 1)
    assert queue.fileno() == -1
