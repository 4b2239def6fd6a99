"""Audio in messages: nothing is lost, and it goes no further than it is read."""

from dataclasses import replace

import numpy as np
import pytest

from diart_mp.messages import Message, decode, encode
from diart_mp.runtime.inline import inline_of, pcm16
from diart_mp.runtime.stage import Chunk, windows
from diart_mp.topology import FOREIGN, StageConfig, Topology
from diart_mp.transport.ring import RingReader

EVERY_VALUE = (np.arange(-32768, 32768) / 32768).astype(np.float32)
CHAIN = ("capture", "segmentation", "embedding", "clustering")
TOPOLOGY = Topology(stages=tuple(StageConfig(name=name) for name in CHAIN))


def passed_on(topology: Topology, stage: str, audio: object) -> Message:
    """What arrives of a chunk behind ``stage``, over TCP."""
    inline = inline_of(topology, stage, "tcp://192.0.2.1:7100", RingReader())
    assert inline is not None
    message = Message(kind="chunk", stream="s", seq=0, fields={"audio": audio})  # type: ignore[dict-item]
    return decode([bytes(frame) for frame in encode(inline(message))])


def test_what_was_recorded_with_16_bits_travels_so_and_comes_out_bit_by_bit() -> None:
    message = passed_on(TOPOLOGY, "capture", EVERY_VALUE)
    assert message.array("audio").dtype == np.int16
    assert Chunk(message, RingReader()).audio.tobytes() == EVERY_VALUE.tobytes()


@pytest.mark.parametrize("value", [1.0, -1.1, 1e-7, 0.3, 1.5 / 32768, np.nan, np.inf, -np.inf])
def test_one_sample_that_16_bits_cannot_say_keeps_the_window_as_it_is(value: float) -> None:
    samples = EVERY_VALUE.copy()
    samples[1000] = value
    with np.errstate(all="raise"):
        assert pcm16(samples) is None
    message = passed_on(TOPOLOGY, "capture", samples)
    assert Chunk(message, RingReader()).audio.tobytes() == samples.tobytes()


def test_audio_goes_no_further_than_it_is_read() -> None:
    assert "audio" in passed_on(TOPOLOGY, "segmentation", EVERY_VALUE).fields
    assert "audio" not in passed_on(TOPOLOGY, "embedding", EVERY_VALUE).fields
    for own in ("somewhere.else:Stage", FOREIGN):
        stages = (*TOPOLOGY.stages[:3], StageConfig(name="own", implementation=own), TOPOLOGY.stages[3])
        assert "audio" in passed_on(replace(TOPOLOGY, stages=stages), "embedding", EVERY_VALUE).fields


def test_programs_of_other_people_get_float32() -> None:
    stages = (*TOPOLOGY.stages[:3], StageConfig(name="own", implementation=FOREIGN), TOPOLOGY.stages[3])
    message = passed_on(replace(TOPOLOGY, stages=stages), "capture", EVERY_VALUE)
    assert message.array("audio").dtype == np.float32


def test_windows_that_came_as_pcm_are_copied_into_one_batch() -> None:
    """Each is an array of its own: a view over several of them would be of memory that is freed at once."""
    chunks = [Chunk(passed_on(TOPOLOGY, "capture", EVERY_VALUE[n : n + 100].copy()), RingReader()) for n in (0, 50)]
    batch = windows(chunks)
    assert batch.base is None
    assert batch.tobytes() == EVERY_VALUE[:100].tobytes() + EVERY_VALUE[50:150].tobytes()


def test_links_on_one_host_carry_references() -> None:
    assert inline_of(TOPOLOGY, "capture", "ipc:///tmp/x", RingReader()) is None
