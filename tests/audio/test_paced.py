"""A recording played by the clock: the same samples as from the file, none before its time."""

import select
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diart_mp.audio.file import FileSource
from diart_mp.audio.paced import PacedSource
from diart_mp.audio.source import Source
from diart_mp.errors import AudioError

RATE = 16_000


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """0.73 s of noise at 44.1 kHz."""
    path = tmp_path / "noise.wav"
    soundfile.write(path, np.random.default_rng(3).normal(0, 0.1, int(0.73 * 44_100)), 44_100)
    return path


def played(source: Source) -> Iterator[tuple[np.ndarray, float]]:
    """Blocks with the moment at which they were read, asleep between them; it gives up after 5 s without one."""
    descriptor = source.fileno()
    assert descriptor is not None
    while select.select([descriptor], [], [], 5)[0] and (block := source.read()) is not None:
        yield block, time.monotonic()


def test_samples_are_those_of_the_file(recording: Path) -> None:
    with FileSource(recording, rate=RATE) as file, PacedSource(recording, rate=RATE, block_s=0.05) as source:
        expected = []
        while (samples := file.read()) is not None:
            expected.append(samples)
        blocks = [block for block, _ in played(source)]
        assert (source.name, source.live, source.duration) == ("noise", True, file.duration)
        assert source.read() is None
    assert len(blocks) > 10
    np.testing.assert_allclose(np.concatenate(blocks), np.concatenate(expected), atol=1e-6)


def test_samples_come_by_the_clock(recording: Path) -> None:
    before = time.monotonic()
    with PacedSource(recording, rate=RATE, delay_s=0.1, block_s=0.05) as source:
        assert source.read() is not None  # nothing yet: empty, not the end
        begin = source.read_time
        assert begin >= before + 0.1
        count = 0
        for block, at in played(source):
            count += len(block)
            assert source.read_time == pytest.approx(begin + count / RATE)  # when the last sample was spoken
            assert at >= source.read_time
    assert count == round(0.73 * RATE)


def test_a_late_reader_loses_nothing_and_learns_when_it_was(recording: Path) -> None:
    with PacedSource(recording, rate=RATE, block_s=0.1) as source:
        source._thread.join()  # all has been played
        begin, count = source.read_time, 0
        for block, _ in played(source):
            count += len(block)
            assert source.read_time == pytest.approx(begin + count / RATE)
    assert count == round(0.73 * RATE)


def test_close_ends_the_player_at_once(recording: Path) -> None:
    source = PacedSource(recording, rate=RATE, delay_s=3600)
    players = [thread for thread in threading.enumerate() if thread.name == "player"]
    assert len(players) == 1
    source.close()
    source.close()
    assert not players[0].is_alive()
    assert source.read() is None


def test_damage_is_told_where_it_is_reached(tmp_path: Path) -> None:
    path = tmp_path / "torn.wav"
    soundfile.write(path, np.full(RATE // 2, np.nan), RATE, subtype="FLOAT")
    with PacedSource(path, rate=RATE) as source, pytest.raises(AudioError, match=r"torn\.wav"):
        list(played(source))
    with pytest.raises(AudioError, match="absent"):
        PacedSource(tmp_path / "absent.wav")
