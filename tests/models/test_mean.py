"""The mean of the built-in embeddings: without it, different people are far apart and one person is not."""

import itertools
from pathlib import Path

import numpy as np

from diart_mp.enrolment import enrol
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.models.mean import mean_embedding


def test_people_are_told_apart_better_without_what_they_have_in_common(shared: Path) -> None:
    mean = mean_embedding("builtin")
    assert mean is not None
    models = load_segmentation("builtin"), load_embedding("builtin")
    files = sorted((shared / "data" / "enrol").glob("*.flac"))  # nobody of these is among those whose mean it is
    voices = [enrol([file], *models)[0].mean(axis=0).astype(float) for file in files]
    likeness = {}
    for name, rows in (("plain", voices), ("apart", [voice - mean for voice in voices])):
        units = [row / np.linalg.norm(row) for row in rows]
        likeness[name] = float(np.mean([one @ other for one, other in itertools.combinations(units, 2)]))
    assert likeness["plain"] > 0.5
    assert abs(likeness["apart"]) < 0.15


def test_other_models_have_none() -> None:
    assert mean_embedding("pyannote/embedding") is None
