"""Streams whose source cannot go back: pipes, and live ones, which cannot even wait."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diart_mp.audio.file import FileSource
from diart_mp.audio.pcm import PcmSource
from diart_mp.audio.push import PushSource
from diart_mp.errors import AudioError
from diart_mp.messages import Message
from diart_mp.runtime.journal import Journal
from diart_mp.runtime.stream import OwnedStream
from diart_mp.transport.ring import PREFIX, ring_directory

from .answering import (
    RATE,
    SAMPLES,
    SETTINGS,
    WINDOWS,
    Events,
    Pipeline,
    die_after,
    drive,
    files,
    open_stream,
    recording,
    samples,
    seqs,
    stream_id,
)

EARLY = replace(SETTINGS, start="early")

pytestmark = pytest.mark.usefixtures("no_rings_of_the_dead")


class Pipe:
    """A pipe with raw samples in it, and the source that reads them in this process or a child of it."""

    def __init__(self, *, live: bool = False) -> None:
        self.reading, self._writing = os.pipe()
        self._live = live
        self._ended = False

    def source(self) -> PcmSource:
        return PcmSource(self.reading, rate=RATE, name="talk", live=self._live)

    def write(self, what: np.ndarray) -> None:
        assert os.write(self._writing, what.tobytes()) == what.nbytes

    def end(self) -> None:
        if not self._ended:
            os.close(self._writing)
        self._ended = True

    def close(self) -> None:
        self.end()
        os.close(self.reading)


@pytest.fixture
def make_pipe() -> Iterator[Callable[[bool], Pipe]]:
    made: list[Pipe] = []

    def make(live: bool = False) -> Pipe:
        made.append(Pipe(live=live))
        return made[-1]

    yield make
    for pipe in made:
        pipe.close()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    drive(open_stream(folder, FileSource(recording(folder))), Pipeline())
    return files(folder)


@pytest.mark.parametrize("results", [0, 2, 4, 15, 28, 29])
def test_a_pipe_goes_on_with_what_the_dead_process_had_read(
    tmp_path: Path, make_pipe: Callable[[], Pipe], undisturbed: dict[str, bytes], results: int
) -> None:
    """Also what it had put behind the end: that silence is not taken for audio."""
    pipe = make_pipe()
    pipe.write(samples())
    pipe.end()
    die_after(lambda: drive(open_stream(tmp_path, pipe.source()), Pipeline(), results=results))
    updates = drive(open_stream(tmp_path, pipe.source(), epoch=2), Pipeline())
    assert [update.seq for update in updates] == list(range(results, WINDOWS))
    assert files(tmp_path) == undisturbed


def test_a_process_that_dies_before_it_has_begun_loses_nothing_either(
    tmp_path: Path, make_pipe: Callable[[], Pipe], undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has copied the audio of the process before it, and not yet written down where to."""
    pipe = make_pipe()
    pipe.write(samples())
    pipe.end()
    die_after(lambda: drive(open_stream(tmp_path, pipe.source()), Pipeline(), results=15))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "save", lambda *_: os._exit(0))
        die_after(lambda: open_stream(tmp_path, pipe.source(), epoch=2))
    events = Events()
    drive(open_stream(tmp_path, pipe.source(), epoch=3, report=events), Pipeline())
    assert events.of("note") == []
    assert files(tmp_path) == undisturbed


def test_a_pipe_is_left_alone_while_enough_is_in_flight(tmp_path: Path, make_pipe: Callable[[], Pipe]) -> None:
    pipe = make_pipe()
    stream = open_stream(tmp_path, pipe.source(), max_in_flight=2)
    assert stream.fileno() == pipe.reading
    assert stream.listens
    assert not stream.fill()
    pipe.write(samples())
    assert stream.fill()
    assert [message.seq for message in take(stream)] == [0, 1]
    assert not stream.listens
    pipe.write(samples())
    assert not stream.fill()
    assert stream.seconds == SAMPLES / RATE
    stream.close()
    assert stream.fileno() is None


def take(stream: OwnedStream) -> list[Message]:
    messages = []
    while (message := stream.next_message()) is not None:
        messages.append(message)
    return messages


def test_audio_that_died_with_its_ring_is_told(tmp_path: Path, make_pipe: Callable[[], Pipe]) -> None:
    pipe = make_pipe()
    pipe.write(samples())
    die_after(lambda: drive(open_stream(tmp_path, pipe.source()), Pipeline(), results=5))
    (ring,) = ring_directory().glob(f"{PREFIX}{stream_id(tmp_path)}-*")
    ring.unlink()
    pipe.end()
    events = Events()
    stream = open_stream(tmp_path, pipe.source(), epoch=2, report=events)
    assert "audio in flight was lost" in events.of("note")[0]["text"]
    drive(stream, Pipeline())
    assert stream.complete


@pytest.mark.parametrize("results", [0, 2, 5, 7, 9, 14, 17])
@pytest.mark.parametrize("silence", [0, 1000, 2500])
@pytest.mark.parametrize("piped", [False, True])
def test_an_early_start_after_silence_goes_on_as_it_began(
    tmp_path: Path, make_pipe: Callable[[], Pipe], silence: int, results: int, piped: bool
) -> None:
    """Which windows the silence has must not depend on where reading went on, nor on a later silence."""
    path, pipe, pipeline = tmp_path / "talk.wav", make_pipe(), Pipeline()
    heard = np.concatenate([np.zeros(silence, "<i2"), samples(1500), np.zeros(3333, "<i2"), samples(1500)])
    soundfile.write(path, heard, RATE, subtype="PCM_16")
    (tmp_path / "undisturbed").mkdir()
    drive(open_stream(tmp_path / "undisturbed", FileSource(path), settings=EARLY), pipeline)
    starts = [start for start, _ in pipeline.windows]
    assert starts[silence // 320 :][:3] == [silence - 1280, silence - 960, silence - 640]
    pipe.write(heard)
    pipe.end()
    first, second = (pipe.source() if piped else FileSource(path, block_s=block_s) for block_s in (0.5, 0.01))
    die_after(lambda: drive(open_stream(tmp_path, first, settings=EARLY), Pipeline(), results=results))
    drive(open_stream(tmp_path, second, settings=EARLY, epoch=2), Pipeline())
    assert files(tmp_path) == files(tmp_path / "undisturbed")


def test_an_early_start_takes_ripples_for_silence(tmp_path: Path) -> None:
    """What resampling spreads ahead of the first sound moves no window."""
    starts = []
    for number, ripple in enumerate((0.0, 1e-6)):
        folder, pipeline = tmp_path / str(number), Pipeline()
        folder.mkdir()
        heard = np.concatenate([np.full(1000, ripple), samples(1500) / 32768])
        soundfile.write(folder / "talk.wav", heard, RATE, subtype="FLOAT")
        drive(open_stream(folder, FileSource(folder / "talk.wav"), settings=EARLY), pipeline)
        starts.append([start for start, _ in pipeline.windows])
    assert starts[0] == starts[1]


@pytest.mark.parametrize("silence", [1, 128, 319])
def test_an_early_start_counts_from_the_first_sample_where_less_than_a_step_is_silent(
    tmp_path: Path, silence: int
) -> None:
    """Whoever writes step by step has the result of a step with it, also where a recording begins with a moment of silence."""
    source, pipeline = PushSource("talk", RATE, RATE, live=False), Pipeline()
    stream = open_stream(tmp_path, source, settings=EARLY)
    source.write(np.concatenate([np.zeros(silence, np.int16), samples(3000)]))
    source.end()
    drive(stream, pipeline)
    assert [start for start, _ in pipeline.windows][:9] == [320 * number - 1280 for number in range(9)]


def answer(stream: OwnedStream, pipeline: Pipeline, messages: list[Message]) -> None:
    for message in messages:
        for result in pipeline.take(message):
            assert stream.on_result(result) is not None


def listen(stream: OwnedStream) -> None:
    while stream.fill():
        pass


@pytest.mark.parametrize(
    ("heard", "starts", "skipped", "lost"),
    [
        (320, [0, 320], [], 0),
        (1960, [0, 1600, 1920], [4], 0),
        (5000, [0, 1600, 3200], [4, 4], 0),
        (
            600_000,
            [0, 600_000],
            [1874],
            598_400,
        ),  # more than the 30 s that are kept for a pipeline which has not been slow
    ],
)
def test_overload_of_a_live_stream(
    tmp_path: Path, make_pipe: Callable[[bool], Pipe], heard: int, starts: list[int], skipped: list[int], lost: int
) -> None:
    """Windows are skipped; audio only where more of it waits than can be caught up with; and all of it is told."""
    pipe, events, pipeline = make_pipe(True), Events(), Pipeline()
    stream = open_stream(tmp_path, pipe.source(), max_in_flight=3, report=events)
    pipe.write(samples(1600))
    listen(stream)
    sent = take(stream)
    for begin in range(0, heard, 5000):  # nobody answers meanwhile, but all of it is taken in
        pipe.write(samples(min(5000, heard - begin)))
        assert stream.listens
        listen(stream)
    assert stream.seconds == (1600 + heard) / RATE
    sent += take(stream)
    assert [message.start for message in sent] == starts
    assert [event["windows"] for event in events.of("skipped")] == skipped
    assert sum(event["seconds"] for event in events.of("gap")) == pytest.approx(lost / RATE)
    answer(stream, pipeline, sent)
    levels = [-30 < event["dbfs"] < 0 for event in events.of("level")]
    assert len(levels) >= 2
    assert all(levels)
    pipe.end()
    drive(stream, pipeline)
    assert stream.complete


@pytest.mark.parametrize("steps", [0, 3, 9])
def test_a_live_stream_reports_the_time_that_nobody_listened(
    tmp_path: Path, make_pipe: Callable[[bool], Pipe], steps: int
) -> None:
    pipe, events = make_pipe(True), Events()

    def begin() -> None:
        stream, pipeline = open_stream(tmp_path, pipe.source()), Pipeline()
        for _ in range(steps):
            pipe.write(samples(640))
            listen(stream)
            answer(stream, pipeline, take(stream))
        pipe.write(samples(100))
        listen(stream)

    die_after(begin)
    journal = Journal(tmp_path, stream_id(tmp_path))
    position = journal.load()
    assert position is not None
    journal.save(replace(position, clock=position.clock - 1.0))  # as if that had been a second ago
    journal.close()
    stream = open_stream(tmp_path, pipe.source(), epoch=2, report=events)
    (gap,) = events.of("gap")
    assert gap["text"] == "capture was restarted"
    assert gap["start"] == pytest.approx((steps * 640 + 100) / RATE)
    assert (
        gap["seconds"] > 1.0 - 10 * 640 / RATE
    )  # audio came faster than it should, so some of it is that much younger
    end = gap["start"] + gap["seconds"]
    assert stream.seconds == pytest.approx(end)
    pipe.write(samples(2000))
    pipe.end()
    pipeline = Pipeline()
    drive(stream, pipeline)
    assert stream.seconds == pytest.approx(end + 2000 / RATE)
    heard = [samples(640)] * steps + [
        samples(100),
        np.zeros(round(gap["seconds"] * RATE)),
        samples(2000),
        np.zeros(1600),
    ]
    sound = np.concatenate(heard) / np.float32(32768)
    for start, window in pipeline.windows:  # each sample where it belongs, the lost ones as silence
        np.testing.assert_array_equal(window, sound[start : start + 1600])
    journal = Journal(tmp_path, stream.id)
    lines = journal.lines
    journal.close()
    assert seqs(lines) == list(range(len(lines)))
    assert lines[-1]["end"] >= stream.seconds - 1e-6


def test_a_live_stream_that_cannot_go_on_says_so(tmp_path: Path, make_pipe: Callable[[bool], Pipe]) -> None:
    """Without a checkpoint its speakers and times are gone; results that look right but are not would be worse."""
    pipe = make_pipe(True)

    def begin() -> None:
        stream, pipeline = open_stream(tmp_path, pipe.source()), Pipeline()
        for _ in range(6):
            pipe.write(samples(640))
            listen(stream)
            answer(stream, pipeline, take(stream))

    die_after(begin)
    before = files(tmp_path)
    for checkpoint in [*tmp_path.glob("*.checkpoint"), *tmp_path.glob("*.older")]:
        checkpoint.write_bytes(b"?")
    with pytest.raises(AudioError, match=r"talk cannot go on after \d+ results: both checkpoints of it are damaged"):
        open_stream(tmp_path, pipe.source(), epoch=2)
    assert files(tmp_path) == before
