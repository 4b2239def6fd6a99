"""Bits of what an owner has written down that change before its successor reads them: found, told, and never other turns."""

from collections.abc import Callable
from pathlib import Path

import pytest

from diart_mp.audio.file import FileSource
from diart_mp.errors import AudioError

from .answering import WINDOWS, Events, Pipeline, die_after, drive, files, open_stream, recording, samples
from .test_live_stream import Pipe, answer, listen, make_pipe, take, undisturbed

__all__ = ["make_pipe", "undisturbed"]  # fixtures
RESULTS = 14  # before the owner dies; its checkpoints are of 7 and 11

pytestmark = pytest.mark.usefixtures("no_rings_of_the_dead", "every_position_is_written_down")


def damage(folder: Path, number: int) -> None:
    """Change a bit of a line of the journal: what it says is still JSON, and says something else."""
    (journal,) = folder.glob("*.journal")
    lines = journal.read_bytes().splitlines(keepends=True)
    at = lines[number].index(b'"seq": ') + len(b'"seq": ')
    lines[number] = lines[number][:at] + bytes([lines[number][at] ^ 1]) + lines[number][at + 1 :]
    journal.write_bytes(b"".join(lines))


@pytest.mark.parametrize("number", [0, 5, 9, 13])
def test_a_recording_goes_on_from_the_last_good_line(
    tmp_path: Path, undisturbed: dict[str, bytes], number: int
) -> None:
    path = recording(tmp_path)
    die_after(lambda: drive(open_stream(tmp_path, FileSource(path)), Pipeline(), results=RESULTS))
    before = files(tmp_path)
    damage(tmp_path, number)
    events = Events()
    stream = open_stream(tmp_path, FileSource(path), epoch=2, report=events)
    assert files(tmp_path) == before
    assert [update.seq for update in drive(stream, Pipeline())] == list(range(number, WINDOWS))
    (note,) = events.of("note")
    assert f"the journal of talk is damaged from result {number} on (bad memory or disk?)" in note["text"]
    assert files(tmp_path) == undisturbed


@pytest.mark.parametrize("number", [8, 12])
def test_a_pipe_goes_on_where_its_checkpoint_is_before_the_damage(
    tmp_path: Path, make_pipe: Callable[..., Pipe], undisturbed: dict[str, bytes], number: int
) -> None:
    pipe = make_pipe()
    pipe.write(samples())
    pipe.end()
    die_after(lambda: drive(open_stream(tmp_path, pipe.source()), Pipeline(), results=RESULTS))
    damage(tmp_path, number)
    updates = drive(open_stream(tmp_path, pipe.source(), epoch=2), Pipeline())
    assert [update.seq for update in updates] == list(range(number, WINDOWS))
    assert files(tmp_path) == undisturbed


@pytest.mark.parametrize("number", [0, 5])
@pytest.mark.parametrize("live", [False, True])
def test_what_cannot_be_read_again_ends_with_one_line(
    tmp_path: Path, make_pipe: Callable[..., Pipe], number: int, live: bool
) -> None:
    pipe = make_pipe(live)

    def begin() -> None:
        stream, pipeline = open_stream(tmp_path, pipe.source()), Pipeline()
        for _ in range(8):  # little by little, so that nothing live is skipped
            pipe.write(samples(640))
            listen(stream)
            answer(stream, pipeline, take(stream))

    die_after(begin)
    before = files(tmp_path)
    damage(tmp_path, number)
    with pytest.raises(AudioError, match=f"talk cannot go on after {number} results: the journal of talk is damaged"):
        open_stream(tmp_path, pipe.source(), epoch=2)
    assert files(tmp_path) == before


def test_a_pipe_without_a_checkpoint_is_not_taken_for_a_new_one(tmp_path: Path, make_pipe: Callable[..., Pipe]) -> None:
    """What has been read of it does not come again: the times of all that follows would be wrong."""
    pipe = make_pipe()
    pipe.write(samples())
    pipe.end()
    die_after(lambda: drive(open_stream(tmp_path, pipe.source()), Pipeline(), results=RESULTS))
    for checkpoint in [*tmp_path.glob("*.checkpoint"), *tmp_path.glob("*.older")]:
        checkpoint.write_bytes(b"?")
    with pytest.raises(AudioError, match="talk cannot go on after 14 results: both checkpoints of it are damaged"):
        open_stream(tmp_path, pipe.source(), epoch=2)
