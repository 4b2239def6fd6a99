"""A client's audio on its way into its stream: what comes after the end, and what may come at once after an outage."""

import asyncio

import numpy as np
import pytest

from diart_mp.config import Settings
from diart_mp.web.audio import ClientAudio
from diart_mp.web.client import CatchUp
from diart_mp.web.protocol import ClientError, Start

RATE = 16_000
START = Start(Settings())
SECOND = bytes(2 * RATE)


def audio() -> ClientAudio:
    return ClientAudio("talk", START, max_rate=2.0, burst_s=10.0)


async def take(taken: ClientAudio, seconds: int) -> int:
    """Have it take so many seconds at once, and read them; the number of samples."""
    read = 0
    for _ in range(seconds):
        await taken.take(SECOND)
        block = taken.source.read()
        read += 0 if block is None else len(block)
    return read


def test_what_comes_after_the_end_is_dropped() -> None:
    ended = audio()
    assert asyncio.run(take(ended, 2)) == 2 * RATE
    ended.source.end()
    assert asyncio.run(take(ended, 2)) == 0
    assert ended.frames == 2 * RATE


def test_who_comes_back_to_a_new_process_may_send_what_was_said_meanwhile() -> None:
    with pytest.raises(ClientError, match="faster than 2 times real time"):
        asyncio.run(take(audio(), 30))
    resumed = audio()
    resumed.go_on_at(100 * RATE)
    assert asyncio.run(take(resumed, 60)) == 60 * RATE
    assert resumed.frames == 160 * RATE


def test_samples_are_the_clients() -> None:
    taken = audio()
    ramp = np.arange(100, dtype="<i2")
    asyncio.run(taken.take(ramp.tobytes()[:51]))
    asyncio.run(taken.take(ramp.tobytes()[51:]))
    blocks = [taken.source.read(), taken.source.read()]
    assert np.array_equal(np.concatenate([each for each in blocks if each is not None]) * 2**15, ramp)


def test_what_piled_up_is_sent_at_a_pace_that_the_stages_follow() -> None:
    pace = CatchUp(20.0, 2.0, 100.0)
    assert pace.wait_s(21.0, 100.0) == 0  # a second at once
    assert pace.wait_s(26.0, 100.0) == 2.5
    assert pace.wait_s(26.0, 102.0) == 0.5
    assert pace.wait_s(50.0, 130.0) == 0  # at the pace of the clock, nothing waits
