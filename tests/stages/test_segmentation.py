"""What the segmentation stage says of windows besides their scores."""

import importlib

import numpy as np
import pytest

from diart_mp.audio.sound import QUIETEST
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.models.null import SEGMENTATION
from diart_mp.runtime.stage import Chunk
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader
from tests.stages.test_embedding import SETTINGS, WINDOW


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
