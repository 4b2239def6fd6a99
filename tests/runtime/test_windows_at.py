"""Models get audio at their own rate, whatever rate the stream has."""

import importlib
from typing import Any

import numpy as np

from diart_mp.models.base import FloatArray, SegmentationModel
from diart_mp.runtime.stage import Chunk, windows_at
from diart_mp.testing import chunks
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader


class Narrow(SegmentationModel):
    """Says how many samples it got."""

    sample_rate = 8000

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        return np.full((len(waveforms), 10, 1), waveforms.shape[1] / 100_000, np.float32)


def test_windows_are_resampled_for_a_model_of_another_rate() -> None:
    given = [Chunk(message, RingReader()) for message in chunks(count=2)]
    assert windows_at(given, 8000).shape == (2, 40_000)
    np.testing.assert_array_equal(windows_at(given, 16_000), np.stack([chunk.audio for chunk in given]))
    kind: Any = importlib.import_module("diart_mp.stages.segmentation").Segmentation
    stage = kind(StageConfig(name="segmentation", model="tests.runtime.test_windows_at:Narrow"))
    stage.open()
    assert [fields["segmentation"][0, 0].round(3) for fields in stage.process(given)] == [np.float32(0.4)] * 2
