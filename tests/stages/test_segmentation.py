"""What the segmentation stage says of windows besides their scores."""

import importlib
import os

import numpy as np
import pytest

from diart_mp.audio.sound import QUIETEST
from diart_mp.bundles import decode_all, encode_all
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.models.null import SEGMENTATION
from diart_mp.runtime.stage import Chunk, windows_at
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader, RingWriter
from tests.stages.test_embedding import SETTINGS, STEP, WINDOW


@pytest.mark.parametrize("heard", [None, 0, WINDOW // 2, WINDOW - 1])
def test_a_window_is_silent_where_no_sample_is_a_sound(heard: int | None) -> None:
    stage = importlib.import_module("diart_mp.stages.segmentation").Segmentation(
        StageConfig(name="segmentation", model=SEGMENTATION)
    )
    stage.open()
    samples = np.full(WINDOW, 0.99 * QUIETEST, np.float32)
    if heard is not None:
        samples[heard] = -QUIETEST
    fields: dict[str, FieldValue] = {"audio": samples, "settings": Plain(SETTINGS.to_map())}
    chunk = Chunk(Message(kind="chunk", stream="a", seq=0, rate=16000, fields=fields), RingReader())
    (said,) = stage.process([chunk])
    assert ("silent" in said) == (heard is None)
    assert said["segmentation"].shape == (293, 3)


@pytest.mark.parametrize("count", [1, 5])
def test_on_one_host_no_window_is_copied_on_its_way_to_a_model(count: int) -> None:
    ring = RingWriter(
        f"diart-mp-copies-{os.getpid()}-{count}", capacity=4 * WINDOW, window=WINDOW, rate=16000, generation=1
    )
    try:
        ring.write(np.random.default_rng(0).standard_normal(2 * WINDOW).astype(np.float32))
        references = [ring.reference(seq * STEP, WINDOW) for seq in range(count)]
        sent = [
            Message(kind="chunk", stream="a", seq=seq, fields={"audio": each, "settings": Plain(SETTINGS.to_map())})
            for seq, each in enumerate(references)
        ]
        ((_, frames),) = encode_all(sent, ("capture", 1))
        assert sum(map(len, frames)) < 1000 * count  # a window has 320,000 bytes
        rings = RingReader()
        chunks = [Chunk(message, rings) for message in decode_all(frames) if isinstance(message, Message)]
        batch = windows_at(chunks, 16000)
        for window, reference in zip(batch, references, strict=True):
            there = rings.view(reference)
            assert window.ctypes.data == there.ctypes.data
            np.testing.assert_array_equal(window, there)
    finally:
        ring.close()
