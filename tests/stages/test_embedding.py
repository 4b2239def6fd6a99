"""What the embedding stage does before a window is whole."""

import importlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from diart_mp.config import Settings
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.models.base import BoolArray, EmbeddingModel, FloatArray
from diart_mp.runtime.stage import Chunk, work_ahead
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader, RingWriter

WINDOW, STEP = 80000, 8000
SETTINGS = Settings.from_seconds(latency=0.5, tau_active=0.5, rho_update=0.3, delta_new=0.35, start="exact")


@pytest.fixture(scope="module")
def stage() -> Any:
    """One for all tests: chunks of another stream make it begin anew."""
    made = importlib.import_module("diart_mp.stages.embedding").Embedding(
        StageConfig(name="embedding", model="builtin", device="cpu", threads=1)
    )
    made.open()
    return made


@pytest.fixture
def ring(tmp_path: Path) -> Iterator[RingWriter]:
    made = RingWriter(f"diart-mp-{tmp_path.name[-20:]}", capacity=4 * WINDOW, window=WINDOW, rate=16000, generation=1)
    made.write((np.random.default_rng(0).standard_normal(WINDOW) * 0.1).astype(np.float32))
    yield made
    made.close()


def chunk(ring: RingWriter, stream: str, seq: int, rings: RingReader, score: float = 0.9) -> Chunk:
    scores = np.zeros((293, 3), np.float32)
    scores[20:200, 1] = score
    fields: dict[str, FieldValue] = {
        "audio": ring.reference(seq * STEP, WINDOW),
        "segmentation": scores,
        "settings": Plain(SETTINGS.to_map()),
    }
    return Chunk(Message(kind="chunk", stream=stream, seq=seq, start=seq * STEP, rate=16000, fields=fields), rings)


def embed(stage: Any, *chunks: Chunk) -> Any:
    return np.stack([fields["embeddings"] for fields in stage.process(chunks)])


def test_the_next_window_is_worked_on_before_it_is_whole_and_gives_the_same(stage: Any, ring: RingWriter) -> None:
    rings = RingReader()
    fresh = importlib.import_module("diart_mp.stages.embedding").Embedding(
        StageConfig(name="embedding", model="builtin", device="cpu", threads=1)
    )
    fresh.open()
    embed(fresh, chunk(ring, "a", 0, rings))
    assert fresh.idle() == 0.25  # nobody else has been heard of
    ring.write((np.random.default_rng(1).standard_normal(4000) * 0.1).astype(np.float32))
    assert work_ahead(fresh) == math.inf  # all is done
    ring.write((np.random.default_rng(2).standard_normal(4000) * 0.1).astype(np.float32))
    ahead = embed(fresh, chunk(ring, "a", 1, rings))
    np.testing.assert_array_equal(ahead, embed(stage, chunk(ring, "a", 1, rings)))
    embed(fresh, chunk(ring, "b", 1, rings))
    assert fresh.idle() == math.inf
    embed(fresh, chunk(ring, "b", 1, rings))  # the other one has gone
    assert fresh.idle() == 0.25


def test_several_streams_and_whole_windows_leave_nothing_to_do(stage: Any, ring: RingWriter) -> None:
    rings = RingReader()
    embed(stage, chunk(ring, "b", 0, rings), chunk(ring, "c", 0, rings))
    assert stage.idle() == math.inf
    embed(stage, chunk(ring, "c", 0, rings))
    ring.write(np.zeros(STEP, np.float32))
    assert stage.idle() == math.inf


def test_while_nobody_talks_nothing_is_worked_on(stage: Any, ring: RingWriter) -> None:
    rings = RingReader()
    for score, waits in ((0.9, 0.25), (0.4, math.inf), (0.6, 0.25)):
        for _ in range(2):
            embed(stage, chunk(ring, "e", 0, rings, score))
        assert stage.idle() == waits


def test_a_ring_that_is_gone_is_no_harm(stage: Any, ring: RingWriter) -> None:
    rings = RingReader()
    for _ in range(2):
        embed(stage, chunk(ring, "d", 0, rings))
    rings.forget(ring.name)
    ring.close()
    assert work_ahead(stage) == math.inf


class Counting(EmbeddingModel):
    """Remembers what it was called with."""

    sample_rate, dimension = 8000, 2
    calls: ClassVar[list[tuple[tuple[int, ...], int, bool]]] = []

    def __init__(self, duration: float | None = 2.5) -> None:
        self.duration = duration

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        self.calls.append((waveforms.shape, int(active.sum()), bool(weights.all() and waveforms.any())))
        return np.zeros((*active.shape, 2), np.float32)


def without_duration() -> Counting:
    return Counting(None)


@pytest.mark.parametrize(("name", "expected"), [("Counting", [((1, 20000), 1, True)]), ("without_duration", [])])
def test_a_model_that_declares_a_duration_is_run_before_the_first_chunk(name: str, expected: list[Any]) -> None:
    Counting.calls.clear()
    config = StageConfig(name="embedding", model=f"{__name__}:{name}", device="cpu", threads=1)
    importlib.import_module("diart_mp.stages.embedding").Embedding(config).open()
    assert Counting.calls == expected


def test_the_built_in_model_has_run_before_the_first_chunk(stage: Any) -> None:
    assert stage._model.duration == WINDOW / 16000
