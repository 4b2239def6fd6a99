"""An owner in a thread: streams come and go while it turns, with real sockets and a pipeline that the test plays."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from diart_mp.audio.push import PushSource
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.runtime.stream import OwnedStream
from diart_mp.transport.ring import ring_directory

from .answering import RATE, Events, files, open_stream, samples
from .test_owner import World, undisturbed, world

__all__ = ["undisturbed", "world"]


class Host:
    """A hosted owner in a world, and what it said of itself."""

    def __init__(self, world: World) -> None:
        self.drained, self.ended = threading.Event(), threading.Event()
        self.error: BaseException | None = None
        self.hosted = HostedOwner(world.owner, on_drain=self.drained.set, on_end=self._on_end)
        self.hosted.start()

    def _on_end(self, error: BaseException | None) -> None:
        self.error = error
        self.ended.set()


@pytest.fixture
def host(world: World) -> Iterator[Host]:
    world.control.ready()
    host = Host(world)
    yield host
    host.hosted.stop()


def _open(host: Host, folder: Path, source: PushSource, events: Events) -> OwnedStream:
    """A stream, opened and added in the owner's thread."""
    made: list[OwnedStream] = []
    done = threading.Event()

    def open_it() -> None:
        made.append(open_stream(folder, source, epoch=2, report=events))
        host.hosted.owner.add(made[0])
        done.set()

    assert host.hosted.call(open_it)
    assert done.wait(10)
    return made[0]


def test_streams_are_added_while_it_runs_and_give_the_turns_of_the_file(
    world: World, host: Host, undisturbed: dict[str, bytes]
) -> None:
    said: list[tuple[Events, Path]] = []
    for number, block in enumerate((100, 7919)):
        folder = world.folder / f"push{number}"
        folder.mkdir()
        source, events = PushSource("a", live=False), Events()
        _open(host, folder, source, events)
        audio = samples()
        for begin in range(0, len(audio), block):
            source.write(audio[begin : begin + block])
        source.end()
        said.append((events, folder))
    world.until(lambda: all(events.of("done") for events, _ in said))
    for events, folder in said:
        assert files(folder) == undisturbed
        assert [event["update"]["seq"] for event in events.of("result")] == list(range(29))
    assert world.of("result") == []  # each stream's reports are its own


def test_covers_says_when_all_that_was_captured_is_answered(world: World, host: Host) -> None:
    source, events = PushSource("a", live=False), Events()
    (world.folder / "push").mkdir()
    stream = _open(host, world.folder / "push", source, events)
    source.write(samples()[:3300])
    assert not stream.covers(3300)  # nobody has answered yet
    world.until(lambda: len(events.of("result")) == 6)  # windows end at 1600, 1920 ... 3200
    world.until(lambda: stream.covers(3300))
    assert not stream.covers(3520)


def test_a_discarded_stream_leaves_nothing(world: World, host: Host) -> None:
    (world.folder / "push").mkdir()
    stream = _open(host, world.folder / "push", PushSource("a"), Events())
    assert list((world.folder / "push").glob("*.journal"))
    gone = threading.Event()

    def discard() -> None:
        host.hosted.owner.remove(stream)
        stream.discard()
        gone.set()

    host.hosted.call(discard)
    assert gone.wait(10)
    assert [path for path in (world.folder / "push").iterdir() if path.suffix in (".journal", ".checkpoint")] == []
    assert list(ring_directory().glob(f"diart-mp-{stream.id}-*")) == []


def test_the_end_of_the_loop_is_told_with_its_reason(world: World, host: Host) -> None:
    def fail() -> Any:
        msg = "a mistake"
        raise RuntimeError(msg)

    host.hosted.call(fail)
    assert host.ended.wait(10)
    assert isinstance(host.error, RuntimeError)
    host.hosted._thread.join(10)
    assert not host.hosted.alive
    assert not host.hosted.call(fail)


def test_a_drain_is_passed_on_and_a_stop_ends_it(world: World, host: Host) -> None:
    source, events = PushSource("a"), Events()
    (world.folder / "push").mkdir()
    _open(host, world.folder / "push", source, events)
    assert world.supervisor.poll(5000)
    world.say("drain")
    world.until(host.drained.is_set)
    source.write(np.zeros(RATE // 10, np.float32))  # a drain alone closes nothing: the writers are told, and end
    world.say("stop")
    world.until(host.ended.is_set)
    assert host.error is None
