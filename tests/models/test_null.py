"""Models that compute nothing: their shapes are those of the built-in pair."""

import numpy as np

from diart_mp.models import null
from diart_mp.models.load import load_embedding, load_segmentation


def test_scores_are_silence_in_the_shape_of_the_built_in_model() -> None:
    model = load_segmentation(null.SEGMENTATION)
    scores = model(np.ones((4, 80_000), np.float32))
    assert scores.shape == (4, 293, 3)
    assert scores.dtype == np.float32
    assert not scores.any()
    assert model(np.ones((1, 100), np.float32)).shape == (1, 1, 3)


def test_nobody_has_an_embedding() -> None:
    model = load_embedding(null.EMBEDDING)
    active = np.array([[True, False, True], [False, False, False]])
    embeddings = model(np.ones((2, 80_000), np.float32), np.ones((2, 293, 3), np.float32), active)
    assert embeddings.shape == (2, 3, model.dimension) == (2, 3, 256)
    assert np.isnan(embeddings).all()
