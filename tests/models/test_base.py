"""The contracts that users subclass."""

import subprocess
import sys

import numpy as np
import pytest

from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray, SegmentationModel, no_embeddings


class Halves(SegmentationModel):
    """Scores two frames, one speaker: is the half of the chunk louder than 0.1?"""

    sample_rate = 8000

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        halves: FloatArray = np.abs(waveforms.reshape(len(waveforms), 2, -1)).max(axis=2, keepdims=True)
        return np.greater(halves, 0.1).astype(np.float32)


class Loudness(EmbeddingModel):
    """Embeds a speaker as the mean weight and the loudness of the chunk."""

    sample_rate = 8000
    dimension = 2

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        result = no_embeddings(active, self.dimension)
        for chunk, speaker in np.argwhere(active):
            result[chunk, speaker] = weights[chunk, :, speaker].mean(), np.abs(waveforms[chunk]).max()
        return result


def test_a_subclass_declares_and_computes() -> None:
    audio = np.array([[0, 0.5, 0, 0], [0, 0, 0, 0]], np.float32)
    segmentation = Halves()
    assert segmentation.duration is None
    assert segmentation(audio).tolist() == [[[1], [0]], [[0], [0]]]
    rows = Loudness()(audio, np.ones((2, 2, 1), np.float32), np.array([[True], [False]]))
    assert rows[0].tolist() == [[1, 0.5]]
    assert np.isnan(rows[1]).all()


def test_the_contracts_cannot_be_made_themselves() -> None:
    for contract in (SegmentationModel, EmbeddingModel):
        with pytest.raises(TypeError, match="abstract"):
            contract()  # type: ignore[abstract]


def test_no_embeddings_is_all_nan() -> None:
    rows = no_embeddings(np.array([[True, False], [False, False]]), 5)
    assert rows.shape == (2, 2, 5)
    assert rows.dtype == np.float32
    assert np.isnan(rows).all()


def test_subclassing_needs_numpy_alone() -> None:
    code = "import sys, diart_mp.models.base; print(sorted({'torch', 'scipy', 'platformdirs'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
