"""Who goes on with the stream of a dead owner: whatever was written and whatever is damaged, the files are those of an undisturbed run."""

from functools import partial
from pathlib import Path

import pytest

from diart_mp.audio.file import FileSource
from diart_mp.errors import OutputError
from diart_mp.messages import Message
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime import intake as intake_module
from diart_mp.runtime.journal import Journal
from diart_mp.runtime.order import RESTORE
from diart_mp.runtime.replies import CHECKPOINT
from diart_mp.runtime.stream import OwnedStream
from diart_mp.transport.ring import PREFIX, ring_directory

from .answering import (
    WINDOWS,
    Events,
    Pipeline,
    die_after,
    drive,
    files,
    open_stream,
    recording,
    seqs,
    stream_id,
)
from .test_stream import Refusing, rings, undisturbed

__all__ = ["undisturbed"]  # a fixture

pytestmark = pytest.mark.usefixtures("no_rings_of_the_dead", "every_position_is_written_down")


@pytest.mark.parametrize("results", [0, 1, 3, 4, 5, 11, 28, 29])
def test_another_process_goes_on_where_the_first_one_died(
    tmp_path: Path, undisturbed: dict[str, bytes], results: int
) -> None:
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=results))
    stream = open_stream(tmp_path, FileSource(path), epoch=2)
    assert seqs(stream.shown(-1)) == list(range(results))
    assert seqs(stream.shown(results - 3)) == list(range(max(0, results - 2), results))
    updates = drive(stream, Pipeline())
    assert [update.seq for update in updates] == list(range(results, WINDOWS))
    assert files(tmp_path) == undisturbed
    journal = Journal(tmp_path, stream.id)
    assert seqs(journal.lines) == list(range(WINDOWS))
    journal.close()


def test_a_successor_that_cannot_begin_leaves_what_was_written(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=11))
    written = files(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(intake_module, "RingWriter", Refusing)
        with pytest.raises(OutputError, match="no shared memory"):
            open_stream(tmp_path, FileSource(path), epoch=2)
    assert files(tmp_path) == written
    drive(open_stream(tmp_path, FileSource(path), epoch=3), Pipeline())
    assert files(tmp_path) == undisturbed


def test_a_successor_whose_outputs_are_refused_leaves_no_ring(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=11))
    with monkeypatch.context() as patch:
        patch.setattr(OutputSet, "write", Refusing)
        with pytest.raises(OutputError, match="no shared memory"):
            open_stream(tmp_path, FileSource(path), epoch=2)
    assert not list(ring_directory().glob(f"{PREFIX}*{stream_id(tmp_path)}*"))
    drive(open_stream(tmp_path, FileSource(path), epoch=3), Pipeline())
    assert files(tmp_path) == undisturbed


def begin(folder: Path, path: Path, epoch: int, pipeline: Pipeline) -> None:
    drive(open_stream(folder, FileSource(path), epoch=epoch), pipeline, results=3)


def test_owners_and_pipelines_may_die_again_and_again(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    path, pipeline = recording(tmp_path), Pipeline()
    for epoch in range(1, 8):
        die_after(partial(begin, tmp_path, path, epoch, pipeline))
    stream = open_stream(tmp_path, FileSource(path), epoch=9)
    assert [ring.name for ring in rings(stream)] == [f"{PREFIX}{stream.id}-9"]  # those of the dead are gone
    drive(stream, pipeline)
    assert files(tmp_path) == undisturbed


@pytest.mark.parametrize("results", [3, 5, 12, WINDOWS])
def test_revisions_survive_the_death_of_owners(tmp_path: Path, undisturbed: dict[str, bytes], results: int) -> None:
    (tmp_path / "calm").mkdir()
    updates = drive(
        open_stream(tmp_path / "calm", FileSource(recording(tmp_path / "calm"))), pipeline := Pipeline(revising=True)
    )
    assert [update.seq for update in updates if update.revision is not None] == [4, 9, 14, 19, 24, WINDOWS]
    assert (updates[-1].turns, updates[-1].start) == ((), updates[-2].end), "the last word is an update of its own"
    calm = files(tmp_path / "calm")
    assert calm["talk.jsonl"] != undisturbed["talk.jsonl"]
    assert b"reviser" in calm["talk.rttm"]
    assert not [path for path in (tmp_path / "calm" / "out").iterdir() if path.suffix not in (".rttm", ".jsonl")]

    path = recording(tmp_path)
    pipeline = Pipeline(revising=True)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), pipeline, results=results))
    drive(open_stream(tmp_path, FileSource(path), epoch=2), Pipeline(revising=True))
    assert files(tmp_path) == calm


def test_a_last_word_that_was_written_is_not_written_again(tmp_path: Path) -> None:
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(revising=True)))
    whole = files(tmp_path)
    stream = open_stream(tmp_path, FileSource(path), epoch=2)
    assert [line["seq"] for line in stream.shown(WINDOWS - 2)] == [WINDOWS - 1, WINDOWS]
    assert drive(stream, Pipeline(revising=True)) == []
    assert files(tmp_path) == whole


def damage(file: Path) -> None:
    damaged = bytearray(file.read_bytes())
    damaged[len(damaged) // 2] ^= 4
    file.write_bytes(damaged)


@pytest.mark.parametrize(("results", "first"), [(2, 0), (14, 8), (26, 20)])
def test_a_damaged_checkpoint_costs_four_chunks_more(
    tmp_path: Path, undisturbed: dict[str, bytes], results: int, first: int
) -> None:
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=results))
    damage(next(tmp_path.glob("*.checkpoint")))
    stream, pipeline = open_stream(tmp_path, FileSource(path), epoch=2), Pipeline()
    message = stream.next_message()
    assert message is None
    assert stream.fill()
    message = stream.next_message()
    assert message is not None
    assert message.seq == first
    for each in stream.replay():
        for answer in pipeline.take(each):
            stream.on_result(answer)
    drive(stream, pipeline)
    assert files(tmp_path) == undisturbed


@pytest.mark.parametrize("results", [2, 14, 26])
def test_damage_costs_time_but_no_word(tmp_path: Path, undisturbed: dict[str, bytes], results: int) -> None:
    """A torn journal, and a checkpoint that is none: everything is computed again, and within the room of the ring."""
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=results))
    (journal,) = tmp_path.glob("*.journal")
    journal.write_bytes(journal.read_bytes()[:-20])
    for checkpoint in [*tmp_path.glob("*.checkpoint"), *tmp_path.glob("*.older")]:
        damage(checkpoint)
    events = Events()
    stream = open_stream(tmp_path, FileSource(path), epoch=2, report=events)
    updates = drive(stream, Pipeline(), results=1)
    again = stream.replay()  # what was computed again has its checkpoints like anything else
    assert again[0].seq == results // 4 * 4
    pipeline = Pipeline()
    for message in again:
        for answer in pipeline.take(message):
            update = stream.on_result(answer)
            updates += [update] if update is not None else []
    updates += drive(stream, pipeline)
    assert [update.seq for update in updates] == list(range(results - 1, WINDOWS))
    assert events.of("error") == []
    assert files(tmp_path) == undisturbed


def first_of_successor(folder: Path, path: Path) -> tuple[OwnedStream, Message]:
    """A new owner's stream, and the first chunk that it asks for."""
    stream = open_stream(folder, FileSource(path), epoch=2)
    stream.fill()
    first = stream.next_message()
    assert first is not None
    return stream, first


def answer_again(stream: OwnedStream, first: Message) -> None:
    """Answer the first chunk, whose result is written already, and all that follow."""
    pipeline = Pipeline()
    assert stream.on_result(pipeline.take(first)[0]) is None
    drive(stream, pipeline)


def test_a_recording_whose_position_was_not_written_down_yet(
    tmp_path: Path, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diart_mp.runtime.stream._SAVE_S", 1e9)
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=10))
    stream, first = first_of_successor(tmp_path, path)
    assert first.seq == 0
    answer_again(stream, first)
    assert files(tmp_path) == undisturbed


def test_a_missing_checkpoint_leaves_the_older_one(tmp_path: Path, undisturbed: dict[str, bytes]) -> None:
    class Forgetful(Pipeline):
        def take(self, message: Message) -> list[Message]:
            answers = super().take(message)
            for answer in answers:
                if answer.seq == 7:
                    del answer.fields[CHECKPOINT + "chain"]  # type: ignore[attr-defined]
            return answers

    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Forgetful(), results=10))
    stream, first = first_of_successor(tmp_path, path)
    assert (first.seq, first.plain(RESTORE)) == (4, 3)
    answer_again(stream, first)
    assert files(tmp_path) == undisturbed
