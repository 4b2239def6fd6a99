"""The pipeline as a Python object: real stages in processes, streams in the test's own."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from diart_mp.audio.source import Source
from diart_mp.config import Settings
from diart_mp.errors import AudioError, OutputError, StageError, UsageError
from diart_mp.pipeline import AudioFile, Pipeline, PipelineConfig, to_annotation
from diart_mp.pipeline_stream import Stream
from diart_mp.runtime.chain import compose, with_options
from diart_mp.runtime.local import Models, default_stages
from diart_mp.turns import Revision, Turn, Update
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import run

CONFIG = PipelineConfig(settings=Settings.from_seconds(latency=2.0), models=TONE_MODELS)


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pipeline") / "hum.wav"
    conversation(path, seconds=12.0, seed=7)
    return path


@pytest.fixture(scope="module")
def expected(recording: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What the command line writes of the recording."""
    return run(recording, tmp_path_factory.mktemp("run"), settings=CONFIG.settings, models=TONE_MODELS).files[
        "hum.rttm"
    ]


@pytest.fixture(scope="module")
def pipeline() -> Iterator[Pipeline]:
    with Pipeline(CONFIG) as pipeline:
        yield pipeline


def rows(updates: list[Update]) -> list[tuple[int, int, int, tuple[tuple[int, int, str], ...]]]:
    return [
        (each.seq, each.start, each.end, tuple((turn.start, turn.end, turn.speaker) for turn in each.turns))
        for each in updates
    ]


def test_file_gives_what_the_command_line_gives(
    pipeline: Pipeline, recording: Path, expected: bytes, tmp_path: Path
) -> None:
    seen: list[Update] = []
    updates = list(pipeline.stream(AudioFile(recording), output=tmp_path, hooks=[seen.append]))
    assert (tmp_path / "hum.rttm").read_bytes() == expected
    assert [update.seq for update in updates] == list(range(len(updates)))
    assert rows(seen) == rows(updates)
    with pytest.raises(OutputError, match="exists already"):
        pipeline.stream(AudioFile(recording), output=tmp_path)


def test_pushed_samples_in_blocks_of_any_size_give_the_same(
    pipeline: Pipeline, recording: Path, expected: bytes, tmp_path: Path
) -> None:
    samples, _ = soundfile.read(recording, dtype="float32")
    stream = pipeline.open("hum", live=False, output=tmp_path)
    for block in np.split(samples, [1, 700, 16_000, 16_001, 90_000]):
        stream.write(block)
    stream.end()
    list(stream)
    assert (tmp_path / "hum.rttm").read_bytes() == expected


class Own(Source):
    """A source as a program may have one: blocks that are in memory already."""

    def __init__(self, name: str, blocks: list[NDArray[np.float32]], rate: int) -> None:
        self.name, self.rate, self.live, self.duration, self.read_time = name, rate, False, None, time.monotonic()
        self._blocks = blocks

    def read(self) -> NDArray[np.float32] | None:
        self.read_time = time.monotonic()
        return self._blocks.pop(0) if self._blocks else None

    def close(self) -> None:
        self._blocks = []


def test_source_of_ones_own_gives_the_same(
    pipeline: Pipeline, recording: Path, expected: bytes, tmp_path: Path
) -> None:
    samples, rate = soundfile.read(recording, dtype="float32")
    list(pipeline.stream(Own("hum", np.array_split(samples, 17), rate), output=tmp_path))
    assert (tmp_path / "hum.rttm").read_bytes() == expected


def test_several_streams_and_async(pipeline: Pipeline, recording: Path) -> None:
    async def collect() -> list[Update]:
        return [update async for update in pipeline.stream(AudioFile(recording))]

    async def all_of_them() -> list[list[Update]]:
        return await asyncio.gather(*(collect() for _ in range(3)))

    one, *others = map(rows, asyncio.run(all_of_them()))
    assert one
    assert others == [one, one]
    left = pipeline.open("left")  # it begins behind what is done for the others
    assert [stream for stream, _ in pipeline._streams.values()] == [left]
    assert len(list(pipeline._directory.path.glob("*.journal"))) == 1
    left.end()
    assert list(left) == []


def test_everything_from_an_event_loop(recording: Path, expected: bytes, tmp_path: Path) -> None:
    samples, _ = soundfile.read(recording, dtype="float32")

    async def push() -> int:
        async with Pipeline(CONFIG) as pipeline:
            stream = pipeline.open("hum", live=False, output=tmp_path)

            async def write() -> None:
                for block in np.array_split(samples, 30):
                    await stream.awrite(block)
                stream.end()

            writer = asyncio.create_task(write())
            count = len([update async for update in stream])
            await writer
            return count

    assert asyncio.run(push()) > 10
    assert (tmp_path / "hum.rttm").read_bytes() == expected


def test_more_streams_than_threads_of_the_event_loop(pipeline: Pipeline) -> None:
    """Whoever waits for an update holds no thread: with as many streams as there are threads, nobody could write any more."""

    async def call(number: int) -> int:
        stream = pipeline.open(f"call{number}", live=False)
        updates = asyncio.ensure_future(_count(stream))
        await asyncio.sleep(0)  # the reader waits
        await stream.awrite(np.zeros(120_000, np.float32))
        stream.end()
        return await updates

    async def all_of_them() -> list[int]:
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(2))
        return await asyncio.wait_for(asyncio.gather(*map(call, range(4))), 60)

    counts = asyncio.run(all_of_them())
    assert counts == [counts[0]] * 4
    assert counts[0] > 3


async def _count(stream: Stream) -> int:
    return len([update async for update in stream])


def test_reader_that_is_cancelled_loses_no_update(pipeline: Pipeline, recording: Path) -> None:
    samples, _ = soundfile.read(recording, dtype="float32")

    async def impatient() -> list[int]:
        stream = pipeline.open("left", live=False)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_count(stream), 0.05)
        stream.write(samples)
        stream.end()
        return [update.seq async for update in stream]

    seqs = asyncio.run(impatient())
    assert seqs == list(range(len(seqs)))
    assert len(seqs) > 10


def test_hook_that_raises_ends_its_stream_and_a_closed_one_is_let_go(pipeline: Pipeline, recording: Path) -> None:
    seen: list[int] = []

    def hook(update: Update) -> None:
        seen.append(update.seq)
        if update.seq == 2:
            msg = "the screen is full"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="the screen is full"):
        list(pipeline.stream(AudioFile(recording), hooks=[hook]))
    assert seen == [0, 1, 2]
    left = pipeline.open("left")
    left.close()
    left.close()
    assert list(left) == []
    assert list(pipeline.stream(AudioFile(recording)))  # behind what the owner had to do for the others
    assert pipeline._streams == {} or [each.name for each, _ in pipeline._streams.values()] == ["hum"]


def test_chunk_that_fails_is_told_at_the_end_and_as_it_happens(recording: Path) -> None:
    insert = ["once=tests.wrong_stages:Once@segmentation"]
    stages = with_options(compose(default_stages(TONE_MODELS), insert=insert), ["once.kind=Raises", "once.at=3"])
    events: list[dict[str, object]] = []
    updates: list[Update] = []
    with Pipeline(PipelineConfig(models=TONE_MODELS, stages=stages), on_event=events.append) as pipeline:
        stream = pipeline.stream(AudioFile(recording))
        with pytest.raises(StageError, match=r"chunks are missing in the turns: .*out of paper") as caught:
            updates.extend(stream)
    assert "\n" not in str(caught.value)
    assert [update.seq for update in updates] == list(range(len(updates)))
    assert len(updates) > 10
    (told,) = [event for event in events if event["event"] == "error"]
    assert (told["stream"], told["seq"]) == ("hum", 3)


def test_mistakes_of_the_program_are_one_line(recording: Path) -> None:
    pipeline = Pipeline(CONFIG)
    with pytest.raises(StageError, match="inside its with block"):
        pipeline.open("early")
    with (
        pytest.raises(UsageError, match="no stage of the chain gives 'turns'"),
        Pipeline(PipelineConfig(stages=default_stages(TONE_MODELS)[:2])),
    ):
        pass
    with pipeline:
        with pytest.raises(StageError, match="runs already"):
            pipeline.__enter__()
        first = list(pipeline.stream(AudioFile(recording)))
    with pytest.raises(StageError, match="inside its with block"):
        pipeline.open("late")
    with pipeline:  # again
        assert rows(list(pipeline.stream(AudioFile(recording)))) == rows(first)


def test_annotation_is_the_revised_one() -> None:
    pytest.importorskip("pyannote.core")
    first = Update("talk", 0, 0, 100, 100, (Turn(0, 50, "speaker0"), Turn(60, 90, "speaker1")))
    last = Update(
        "talk", 1, 100, 100, 100, (), revision=Revision(60, 100, (Turn(50, 95, "Ann"),), (("speaker0", "Ann"),))
    )
    labels = [(segment.start, segment.end, who) for segment, _, who in to_annotation([first, last]).itertracks(True)]
    assert labels == [(0.0, 0.95, "Ann")]


def test_annotation_on_request(pipeline: Pipeline, recording: Path, expected: bytes) -> None:
    pytest.importorskip("pyannote.core")
    annotation = to_annotation(pipeline.stream(AudioFile(recording)), uri="hum")
    spoken: dict[str, float] = {}
    for line in expected.decode().splitlines():
        fields = line.split()
        spoken[fields[7]] = spoken.get(fields[7], 0.0) + float(fields[4])
    assert {label: pytest.approx(seconds, abs=0.02) for label, seconds in spoken.items()} == dict(annotation.chart())


def test_killed_stage_changes_nothing(recording: Path, expected: bytes, tmp_path: Path) -> None:
    events: list[dict[str, object]] = []
    with Pipeline(CONFIG, on_event=events.append) as pipeline:
        samples, _ = soundfile.read(recording, dtype="float32")
        pushed = pipeline.open("hum", live=False, output=tmp_path)
        pushed.write(samples[:100_000])
        stream = iter(pushed)
        next(stream)
        folder = pipeline._directory.path
        for victim in ("segmentation", "clustering"):
            os.kill(pipeline.pids()[victim], signal.SIGKILL)
        pushed.write(samples[100_000:])
        pushed.end()
        list(stream)
    assert {event["stage"] for event in events if event["event"] == "restart"} == {"segmentation", "clustering"}
    assert (tmp_path / "hum.rttm").read_bytes() == expected
    assert not folder.exists()


def test_stage_that_cannot_start_is_one_line() -> None:
    bad = PipelineConfig(models=Models(segmentation="no_such:Model", embedding="tests.fakes:ToneEmbedding"))
    with pytest.raises(StageError, match="no_such") as caught, Pipeline(bad):
        pass
    assert "\n" not in str(caught.value)


def test_only_pushed_streams_are_written_and_a_left_stream_says_so(recording: Path) -> None:
    stages = compose(default_stages(TONE_MODELS), insert=["tests.runtime.stages:Mark@clustering"])
    with Pipeline(PipelineConfig(models=TONE_MODELS, stages=stages)) as pipeline:
        stream = pipeline.stream(AudioFile(recording))
        with pytest.raises(AudioError, match=r"only a stream of Pipeline\.open"):
            stream.write(np.zeros(3, np.float32))
        assert all(turn.speaker.endswith("!") for update in stream for turn in update.turns)
        pushed = pipeline.open("left")
    with pytest.raises(StageError, match="has ended before left"):
        list(pushed)
