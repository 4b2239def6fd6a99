"""Recordings with what a run of the file says of them, and a gateway that many tests share."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import run

from .rig import Serving, pcm16, serving

SECONDS = (20.0, 13.3, 7.4)


@dataclass(frozen=True, slots=True)
class Recording:
    path: Path
    samples: np.ndarray
    rttm: str

    @property
    def name(self) -> str:
        return self.path.stem


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> list[Recording]:
    """Conversations of people who hum, and what ``diart-mp run`` makes of them."""
    folder = tmp_path_factory.mktemp("recordings")
    found = []
    for seed, seconds in enumerate(SECONDS):
        path = folder / f"talk{seed}.wav"
        conversation(path, seconds=seconds, seed=seed + 3)
        files = run(path, folder / f"out{seed}", models=TONE_MODELS).files
        found.append(Recording(path, pcm16(path), files[f"talk{seed}.rttm"].decode()))
        assert found[-1].rttm.count("\n") > 2
    return found


@pytest.fixture(scope="module")
def server() -> Iterator[Serving]:
    with serving() as running:
        yield running
        running.until(lambda: running.metrics()["diart_mp_sessions"] == 0)
        running.until(lambda: running.left() == [])
