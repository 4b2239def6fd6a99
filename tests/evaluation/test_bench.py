"""Measuring: what a load asks for, the times in a result, the search for capacity, and whole runs of real pipelines."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.config import Settings
from diart_mp.errors import ProtocolError, StageError
from diart_mp.evaluation.bench import SUPERVISOR, ChunkTimes, Hop, Load, chunk_times, find_capacity, measure
from diart_mp.evaluation.bench_report import figures
from diart_mp.models import null
from diart_mp.models.base import FloatArray
from diart_mp.runtime.local import Models
from diart_mp.topology import CHAIN
from tests.fakes import TONE_MODELS, conversation

NULL_MODELS = Models(segmentation=null.SEGMENTATION, embedding=null.EMBEDDING)
SHORT = Settings.from_seconds(duration=1.0, step=0.25)


class DyingSegmentation(null.NullSegmentation):
    """Takes its process with it."""

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        os._exit(9)


class FailingSegmentation(null.NullSegmentation):
    """Gives what is no score."""

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        return np.full((len(waveforms), 10, 3), np.nan, np.float32)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three seconds of humming."""
    path = tmp_path_factory.mktemp("bench") / "hum.wav"
    conversation(path, seconds=3.0, seed=5)
    return path


def test_live_streams_begin_spread_over_a_step() -> None:
    load = Load(recordings=(Path("/a.wav"), Path("/b.wav")), streams=4, live=True)
    sources = load.job(Settings()).sources
    assert [source.delay_ms for source in sources] == [0, 125, 250, 375]
    assert [source.path for source in sources] == ["/a.wav", "/b.wav"] * 2
    assert len({source.name for source in sources}) == 4
    assert {source.kind for source in sources} == {"paced"}


def test_recorded_streams_run_together() -> None:
    job = Load(recordings=(Path("/a.wav"),), streams=3).job(Settings())
    assert job.jobs == len(job.sources) == 3
    assert {(source.kind, source.delay_ms) for source in job.sources} == {("file", 0)}


def test_times_of_a_result() -> None:
    update = {"stream": "talk", "seq": 4, "latency_ms": 2.5}
    trace = [["capture", 0, 1000, 2000], ["segmentation", 1, 3000, 4000, 5000, 8]]
    found = chunk_times({"event": "result", "update": update, "trace": trace})
    assert found == ChunkTimes("talk", 4, 1000, 2000, (Hop("segmentation", 1, 3000, 4000, 5000, 8),), 2_501_000)


@pytest.mark.parametrize("trace", [[], [["capture", 0, 1]], [["capture", 0, 1, 2], ["segmentation", 0, 3]]])
def test_a_torn_trace_is_refused(trace: list[list[object]]) -> None:
    with pytest.raises(ProtocolError, match="chunk 4 of talk"):
        chunk_times({"update": {"stream": "talk", "seq": 4, "latency_ms": 1.0}, "trace": trace})


@given(most=st.integers(1, 300), capacity=st.integers(0, 400))
def test_capacity_is_found_in_few_runs(most: int, capacity: int) -> None:
    tried: list[int] = []

    def holds(streams: int) -> bool:
        tried.append(streams)
        return streams <= capacity

    assert find_capacity(holds, most=most) == min(capacity, most)
    assert len(tried) == len(set(tried)) <= 2 * max(1, min(capacity, most)).bit_length() + 1
    assert all(1 <= streams <= most for streams in tried)


def test_throughput_of_concurrent_streams(recording: Path) -> None:
    found = measure(Load(recordings=(recording,), streams=3), TONE_MODELS, SHORT)
    assert sorted((chunk.stream, chunk.seq) for chunk in found.chunks) == [
        (f"stream{stream}", seq) for stream in range(3) for seq in range(9)
    ]  # 3 s: (3 - 1) / 0.25 + 1 windows
    for chunk in found.chunks:
        assert tuple(hop.stage for hop in chunk.hops) == CHAIN[1:]
        path = [chunk.captured, chunk.sent, *(at for hop in chunk.hops for at in (hop.arrived, hop.started, hop.done))]
        assert path == sorted(path)
        assert chunk.answered >= path[-1] - 1000  # rounded to us on its way
    assert found.audio_s == pytest.approx(9.0)
    assert 0 < found.start_s <= found.first_s
    assert found.pids.keys() == set(CHAIN)
    if Path("/proc/self/stat").exists():
        assert found.usage.keys() == {*CHAIN, SUPERVISOR}
        assert all(used.memory_mb > 5 and used.cpu_s >= 0 for used in found.usage.values())
    assert figures(found)["chunks"] == 27


def test_live_pace(recording: Path) -> None:
    found = measure(Load(recordings=(recording,), streams=2, live=True), NULL_MODELS, SHORT)
    assert found.wall_s >= 3.0
    assert found.skipped == 0
    assert len(found.chunks) == 18
    captured = np.diff([chunk.captured for chunk in found.chunks if chunk.stream == "stream0"]) / 1e9
    np.testing.assert_allclose(captured, 0.25, atol=0.11)  # blocks of 0.1 s, whose last sample counts
    assert captured.sum() == pytest.approx(2.0)


def test_a_failure_is_no_measurement(recording: Path) -> None:
    failing = Models(segmentation=f"{__name__}:FailingSegmentation", embedding=null.EMBEDDING)
    with pytest.raises(StageError, match="nothing was measured, since 9 chunks"):
        measure(Load(recordings=(recording,)), failing, SHORT)


def test_a_death_is_no_measurement(recording: Path) -> None:
    dying = Models(segmentation=f"{__name__}:DyingSegmentation", embedding=null.EMBEDDING)
    with pytest.raises(StageError, match="nothing was measured: segmentation ended with exit code 9"):
        measure(Load(recordings=(recording,)), dying, SHORT)


def test_no_audio_is_no_measurement(tmp_path: Path) -> None:
    path = tmp_path / "empty.wav"
    soundfile.write(path, np.zeros(0, np.int16), 16_000)
    with pytest.raises(StageError, match=r"nothing was measured: 0\.00 s of audio gave no result"):
        measure(Load(recordings=(path,)), NULL_MODELS, SHORT)
