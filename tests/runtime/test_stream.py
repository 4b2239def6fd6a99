"""A stream and its owner's files: whatever dies when, what is written is what an undisturbed run writes."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.audio.file import FileSource
from diart_mp.config import Settings
from diart_mp.errors import OutputError
from diart_mp.messages import AudioRef, FieldValue, Message, Plain
from diart_mp.runtime import intake as intake_module
from diart_mp.runtime.chunks import BUNDLES
from diart_mp.runtime.order import RESTORE
from diart_mp.runtime.replies import ERROR
from diart_mp.runtime.stream import OwnedStream
from diart_mp.transport.ring import PREFIX, ring_directory

from .answering import (
    RATE,
    SAMPLES,
    SETTINGS,
    WINDOWS,
    Events,
    Pipeline,
    drive,
    files,
    open_stream,
    recording,
    samples,
    seqs,
)

pytestmark = pytest.mark.usefixtures("no_rings_of_the_dead", "every_position_is_written_down")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The files of a run in which nothing happens."""
    folder = tmp_path_factory.mktemp("undisturbed")
    drive(open_stream(folder, FileSource(recording(folder))), Pipeline())
    return files(folder)


def rings(stream: OwnedStream) -> list[Path]:
    return list(ring_directory().glob(f"{PREFIX}{stream.id}-*"))


def test_every_window_of_a_recording_is_sent_and_written_once(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    pipeline, stream = Pipeline(), open_stream(tmp_path, FileSource(recording(tmp_path)))
    updates = drive(stream, pipeline)
    assert [update.seq for update in updates] == list(range(WINDOWS))
    assert stream.results == WINDOWS + 1  # the end is answered too
    assert (stream.seconds, stream.duration) == (SAMPLES / RATE, SAMPLES / RATE)
    padded = np.concatenate([samples() / np.float32(32768), np.zeros(SETTINGS.duration, np.float32)])
    assert [start for start, _ in pipeline.windows] == [320 * seq for seq in range(WINDOWS)]
    for seq, (_, window) in enumerate(pipeline.windows):
        np.testing.assert_array_equal(window, padded[320 * seq : 320 * seq + 1600])
    lines = [json.loads(line) for line in undisturbed["talk.jsonl"].splitlines()]
    assert seqs(lines) == list(range(WINDOWS))
    assert lines[-1]["end"] >= SAMPLES / RATE
    assert files(tmp_path) == undisturbed
    assert rings(stream) == []


@pytest.mark.parametrize("start", ["early", "exact"])
@pytest.mark.parametrize("count", [0, 1, 700, 1600, 1601])
def test_short_recordings(tmp_path: Path, start: str, count: int) -> None:
    settings = Settings(duration=1600, step=320, latency=640, start=start)
    stream = open_stream(tmp_path, FileSource(recording(tmp_path, count)), settings=settings)
    pipeline = Pipeline()
    updates = drive(stream, pipeline)
    assert stream.complete
    if not count:
        assert pipeline.windows == []
        return
    windows = [window for _, window in pipeline.windows]
    heard = np.concatenate([windows[0], *(window[-320:] for window in windows[1:])])
    sound = samples(count) / np.float32(32768)
    first = 1280 if start == "early" else max(0, 1600 - (count + 320))  # of silence
    np.testing.assert_array_equal(heard[first : first + count], sound)
    assert not np.any(heard[:first])
    assert updates[-1].end >= count
    assert rings(stream) == []


class Refusing:
    """In the place of the ring's class: there is no shared memory left."""

    def __init__(self, *_: object, **__: object) -> None:
        raise OutputError("no shared memory")


def test_a_stream_that_cannot_begin_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, descriptors = FileSource(recording(tmp_path)), len(os.listdir("/proc/self/fd")) - 1
    monkeypatch.setattr(intake_module, "RingWriter", Refusing)
    with pytest.raises(OutputError, match="no shared memory") as caught:
        open_stream(tmp_path, source)
    assert len(os.listdir("/proc/self/fd")) == descriptors
    assert not list(tmp_path.glob("*.journal"))
    assert not (tmp_path / "out").exists()
    assert caught.value.__traceback__ is not None  # the half-made stream has not been collected yet


@pytest.mark.parametrize(
    "revision",
    [
        3,
        {"start": 0, "end": 320, "turns": []},
        {"start": 320, "end": 0, "turns": [], "renamed": []},
        {"start": 0, "end": 320, "turns": [[0, 1]], "renamed": []},
        {"start": 0, "end": 320, "turns": [], "renamed": [["a"]]},
        {"start": 0, "end": 320, "turns": [], "renamed": [["a", 3]]},
    ],
)
def test_a_malformed_last_word_costs_nothing_else(tmp_path: Path, revision: Any) -> None:
    class Babbling(Pipeline):
        def _revision(self, message: Message) -> dict[str, Any]:
            said: dict[str, Any] = revision if message.kind == "end" else super()._revision(message)
            return said

    events = Events()
    stream = open_stream(tmp_path, FileSource(recording(tmp_path)), report=events)
    assert [update.seq for update in drive(stream, Babbling(revising=True))] == list(range(WINDOWS))
    assert stream.complete
    (note,) = events.of("note")
    assert "revision" in note["text"]
    assert len(files(tmp_path)["talk.jsonl"].splitlines()) == WINDOWS


@pytest.mark.parametrize("results", [0, 2, 4, 13, 29])
def test_a_new_pipeline_goes_on_for_a_dead_one(tmp_path: Path, undisturbed: dict[str, bytes], results: int) -> None:
    stream = open_stream(tmp_path, FileSource(recording(tmp_path)))
    drive(stream, Pipeline(), results=results)
    pipeline, old = Pipeline(), Pipeline()
    stream.fill()
    replayed = stream.replay()
    again = stream.replay()  # the first attempt is lost as well
    assert [message.seq for message in again] == [message.seq for message in replayed]
    answers = [answer for message in again for answer in pipeline.take(message)]
    assert [stream.on_result(answer) for message in replayed for answer in old.take(message)] == [None] * len(replayed)
    for answer in answers:
        stream.on_result(answer)
        assert stream.on_result(answer) is None
    drive(stream, pipeline)
    assert files(tmp_path) == undisturbed


def test_no_more_chunks_than_allowed_are_in_flight(tmp_path: Path) -> None:
    stream, pipeline = open_stream(tmp_path, FileSource(recording(tmp_path)), max_in_flight=3), Pipeline()
    sent: list[Message] = []
    for _ in range(20):
        stream.fill()
        while (message := stream.next_message()) is not None:
            sent.append(message)
    assert [message.seq for message in sent] == [0, 1, 2]
    assert stream.waiting
    assert not stream.fill()  # no audio that cannot be sent
    for answer in pipeline.take(sent[0]):
        stream.on_result(answer)
    stream.fill()
    following = stream.next_message()
    assert following is not None
    assert following.seq == 3
    assert stream.next_message() is None
    stream.close()


def test_chunks_say_what_a_stage_needs(tmp_path: Path) -> None:
    stream = open_stream(tmp_path, FileSource(recording(tmp_path)), epoch=4)
    drive(stream, Pipeline(), results=5)
    messages = {message.seq: message for message in stream.replay()}
    assert min(messages) == 4
    first, second = messages[4], messages[5]
    assert (first.kind, first.stream, first.start, first.origin, first.rate) == ("chunk", stream.id, 1280, 0, RATE)
    assert first.attempt == second.attempt == 4_000_001
    assert first.reply_to == "ipc:///results"
    assert first.plain("settings") == SETTINGS.to_map()
    assert first.plain(RESTORE) == 3
    assert len(first.array(f"{RESTORE}.chain")) == 8
    assert second.fields.keys() == {"audio", "settings", BUNDLES}
    audio = second.fields["audio"]
    assert isinstance(audio, AudioRef)
    assert (audio.ring, audio.generation, audio.count) == (f"{PREFIX}{stream.id}-4", 4, 1600)
    stream.close()
    stream.close()
    assert rings(stream) == []


BAD_TURNS: list[FieldValue | None] = [
    None,
    np.zeros(3),
    *map(
        Plain,
        [
            3,
            [],
            {"region": [0, 320]},
            {"region": [320, 0], "turns": []},
            {"region": [0, 1 << 60], "turns": []},
            {"region": [0, True], "turns": []},
            {"region": [0, 320], "turns": [[0, 320]]},
            {"region": [0, 320], "turns": [[0, 320, ""]]},
            {"region": [0, 320], "turns": [[0, -1 << 60, "x"]]},
            {"region": [0, 320], "turns": [[0, 320, "x" * 300]]},
            {"region": [0, 320], "turns": [[0, 1, "x"]] * 10_001},
            {"region": [0, 320], "turns": [[[[[[[[[[]]]]]]]]]]},
        ],
    ),
]


@pytest.mark.parametrize("turns", BAD_TURNS)
def test_a_malformed_result_costs_its_chunk_only(tmp_path: Path, turns: FieldValue | None) -> None:
    events = Events()
    path = recording(tmp_path)
    stream, pipeline = open_stream(tmp_path, FileSource(path), report=events), Pipeline()
    drive(stream, pipeline, results=2)
    fields = {} if turns is None else {"turns": turns}
    (attempt,) = {message.attempt for message in stream.replay()}
    bad = Message(kind="result", stream=stream.id, seq=2, attempt=attempt, fields=fields)
    for message in (
        *(Message(kind="result", stream="x", seq=seq, attempt=attempt, fields=GOOD) for seq in (0, 1)),
        bad,
    ):
        update = stream.on_result(message)
    assert update is not None
    assert (update.seq, update.turns, update.start, update.end) == (2, (), 1600, 1600)  # behind what was said before
    (event,) = events.of("error")
    assert "chunk 2" in event["text"]
    assert len(event["text"]) < 1100
    stream.close()
    assert (
        drive(open_stream(tmp_path, FileSource(path), epoch=2), Pipeline())[0].seq == 3
    )  # the journal has a line for it


GOOD: dict[str, FieldValue] = {"turns": Plain({"region": [0, 320], "turns": []})}


def test_errors_are_told_and_the_stream_goes_on(tmp_path: Path) -> None:
    events = Events()
    stream = open_stream(tmp_path, FileSource(recording(tmp_path)), report=events)
    stream.set_aside(3, "chunk 3 was set aside")
    updates = drive(stream, Pipeline())
    assert [update.seq for update in updates] == list(range(WINDOWS))
    assert [bool(update.turns) for update in updates] == [seq != 3 for seq in range(WINDOWS)]
    assert [event["seq"] for event in events.of("error")] == [3]
    assert "chunk 3 was set aside" in events.of("error")[0]["text"]


def test_what_a_source_finds_at_its_end_is_told(tmp_path: Path) -> None:
    path, events = recording(tmp_path), Events()
    path.write_bytes(path.read_bytes()[:-4001])
    drive(open_stream(tmp_path, FileSource(path), report=events), Pipeline())
    assert [event["text"] for event in events.of("note")] != []
    assert "cut short" in events.of("note")[0]["text"]


def test_closing_early_keeps_what_was_said(tmp_path: Path) -> None:
    stream = open_stream(tmp_path, FileSource(recording(tmp_path)))
    drive(stream, Pipeline(), results=6)
    stream.close()
    assert not stream.complete
    assert len(files(tmp_path)["talk.jsonl"].splitlines()) == 6
    assert files(tmp_path)["talk.rttm"] != b""
    assert rings(stream) == []


def test_an_error_text_is_no_turn(tmp_path: Path) -> None:
    stream = open_stream(tmp_path, FileSource(recording(tmp_path)), report=(events := Events()))
    stream.fill()
    message = stream.next_message()
    assert message is not None
    fields: dict[str, FieldValue] = {**GOOD, ERROR: Plain("x" * 10_000)}
    update = stream.on_result(Message(kind="error", stream="s", seq=0, attempt=message.attempt, fields=fields))
    assert update is not None
    assert (update.turns, update.start, update.end) == ((), 0, 0)
    assert len(events.of("error")[0]["text"]) <= 1000
    stream.close()
