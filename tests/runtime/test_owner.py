"""The owner's loop with real sockets: the pipeline, the results and the supervisor are the test's own."""

import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from diart_mp.audio.file import FileSource
from diart_mp.headers import pack_control, unpack_control
from diart_mp.messages import FieldValue, Message, Plain, encode
from diart_mp.runtime import owner as owner_module
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.owner import Owner
from diart_mp.runtime.replies import ERROR
from diart_mp.runtime.stream import OwnedStream
from diart_mp.topology import StageConfig, Topology
from diart_mp.transport.link import Receiver
from diart_mp.transport.sockets import make_socket

from .answering import WINDOWS, Pipeline, drive, files, open_stream, recording, seqs

Events = list[dict[str, Any]]


class World:
    """Everything around an owner. ``lose`` says which chunks get lost on their way."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        stages = (StageConfig(name="capture", bind=f"ipc://{folder}/capture"), StageConfig(name="last", keyed=True))
        self.topology = Topology(
            run="r",
            directory=str(folder),
            stages=stages,
            results=f"ipc://{folder}/results",
            control=f"ipc://{folder}/control",
        )
        self.context = zmq.Context[zmq.Socket[bytes]]()
        stack.callback(self.context.destroy, linger=0)
        self.supervisor = make_socket(self.context, zmq.ROUTER)
        self.supervisor.bind(self.topology.control)
        self.control = StageControl(self.context, self.topology.control, stage="capture", replica=0, epoch=2)
        self.owner = Owner(self.topology, stage="capture", epoch=2, control=self.control, context=self.context)
        self.receiver = Receiver(
            self.context, self.topology.stages[0].endpoints(), stage="last", replica=0, epoch=1, capacity=100
        )
        self.results = make_socket(self.context, zmq.DEALER)
        self.results.identity = b"last/0/1"
        self.results.connect(self.topology.results)
        for end in (self.supervisor, self.control, self.owner, self.receiver, self.results):
            stack.callback(end.close)
        self.pipeline = Pipeline()
        self.lose: Callable[[Message], bool] = lambda _: False
        self.deaf = False  # whether the next stage takes nothing
        self.sent: list[Message] = []
        self.events: Events = []

    def run(self, pending: Iterable[Callable[[], OwnedStream]], script: Callable[[], None], *, jobs: int = 1) -> None:
        """The owner in this thread, which has the signals; the script in another one."""
        self.control.ready()
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self._play, script)
            self.owner.run(pending, jobs=jobs)
            self.control.send("event", event="ended")
            done.result()

    def _play(self, script: Callable[[], None]) -> None:
        try:
            script()
            self.until(lambda: self.of("ended") != [])
        except BaseException:
            self.say("stop")
            raise

    def opener(self, name: str, folder: str) -> Callable[[], OwnedStream]:
        """Opens a recording that is there already."""

        def open_it() -> OwnedStream:
            (self.folder / folder).mkdir(exist_ok=True)
            source = FileSource(self.folder / f"{name}.wav", block_s=0.2)
            return open_stream(self.folder / folder, source, epoch=2, report=self.owner.report)

        return open_it

    def of(self, event: str) -> Events:
        return [each for each in self.events if each["event"] == event]

    def say(self, kind: str, **values: Any) -> None:
        self.supervisor.send_multipart([b"capture/0/2", pack_control(kind, **values)])

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.turn()

    def turn(self) -> None:
        if not self.deaf:
            self.receiver.announce()
        self.receiver.sockets[0].poll(2)
        for message in self.receiver.receive():
            self.receiver.done(1)
            self.sent.append(message)
            if not self.lose(message):
                for answer in self.pipeline.take(message):
                    self.results.send_multipart(encode(answer))
        while self.supervisor.poll(0):
            said = unpack_control(self.supervisor.recv_multipart()[1:])
            self.events += said.get("events", [said] if said["kind"] == "event" else [])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    before = signal.getsignal(signal.SIGTERM)
    for name in ("a", "b"):
        recording(tmp_path, name=name)
    with ExitStack() as stack:
        yield World(tmp_path, stack)
    signal.signal(signal.SIGTERM, before)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("undisturbed")
    drive(open_stream(folder, FileSource(recording(folder, name="a"))), Pipeline())
    return files(folder)


def nothing() -> None:
    """The world has only to go on."""


@pytest.mark.parametrize("jobs", [1, 2])
def test_recordings_are_done_one_after_the_other_or_side_by_side(
    world: World, undisturbed: dict[str, bytes], jobs: int
) -> None:
    world.run([world.opener("a", "1"), world.opener("b", "2")], nothing, jobs=jobs)
    assert files(world.folder / "1") == undisturbed
    assert [(event["stream"], event["results"]) for event in world.of("done")] == [("a", 30), ("b", 30)]
    assert [event["seconds"] for event in world.of("done")] == [0.625, 0.625]
    names = [event["update"]["stream"] for event in world.of("result")]
    for name in "ab":
        updates = [event["update"] for event in world.of("result") if event["update"]["stream"] == name]
        assert seqs(updates) == list(range(WINDOWS))
    assert (names == sorted(names)) == (jobs == 1)
    assert {event["duration"] for event in world.of("progress")} == {0.625}
    trace = world.of("result")[0]["trace"]
    assert trace == []  # of this pipeline; the owner's own entry is in the chunk
    assert world.sent[0].trace[0][0] == "capture"


def test_one_that_cannot_be_opened_does_not_stop_the_others(world: World) -> None:
    world.run([world.opener("none", "1"), world.opener("a", "2")], nothing)
    (failed,) = world.of("failed")
    assert "none.wav: cannot be opened" in failed["text"]
    assert [event["stream"] for event in world.of("done")] == ["a"]


def test_one_whose_outputs_are_there_already_does_not_stop_the_others(
    world: World, undisturbed: dict[str, bytes]
) -> None:
    (world.folder / "1" / "out").mkdir(parents=True)
    (world.folder / "1" / "out" / "b.rttm").touch()
    world.run([world.opener("b", "1"), world.opener("a", "2")], nothing, jobs=2)
    (failed,) = world.of("failed")
    assert "b.rttm exists already" in failed["text"]
    assert [event["stream"] for event in world.of("done")] == ["a"]
    assert files(world.folder / "2") == undisturbed


def test_one_that_cannot_be_read_to_its_end_gives_what_there_was(world: World) -> None:
    (world.folder / "a.wav").write_bytes((world.folder / "a.wav").read_bytes()[:9001])
    world.run([world.opener("a", "1")], nothing)
    assert [event["text"] for event in world.of("note")] != []
    assert world.of("done")[0]["seconds"] < 0.3
    assert (world.folder / "1/out/a.rttm").read_bytes() != b""


def test_what_was_lost_with_a_stage_is_sent_again(world: World, undisturbed: dict[str, bytes]) -> None:
    world.lose = lambda message: message.seq >= 5 and message.attempt < 2_000_002

    def script() -> None:
        for number in range(2):
            world.until(lambda: world.sent[-1:] != [] and world.sent[-1].seq >= 5 and world.sent[-1].attempt == last())
            world.pipeline = Pipeline()
            world.say("restarted", name="last", number=number)
            attempts.append(attempts[-1] + 1)

    attempts = [2_000_000]

    def last() -> int:
        return attempts[-1]

    world.run([world.opener("a", "1")], script)
    assert files(world.folder / "1") == undisturbed
    assert {message.attempt for message in world.sent} == {2_000_000, 2_000_001, 2_000_002}
    assert world.sent[-1].kind == "end"


def test_what_still_waits_is_not_sent_twice(world: World) -> None:
    world.deaf = True

    def script() -> None:
        for number in range(3):
            before = len(world.of("progress"))
            world.until(lambda before=before: len(world.of("progress")) > before)  # type: ignore[misc]
            world.say("restarted", name="last", number=number)
        before = len(world.of("progress"))
        world.until(lambda: len(world.of("progress")) > before + 1)
        world.deaf = False

    world.run([world.opener("a", "1")], script)
    assert {message.attempt for message in world.sent} == {2_000_003}
    assert seqs([event["update"] for event in world.of("result")]) == list(range(WINDOWS))


def test_nothing_for_long_is_a_reason_to_send_again(
    world: World, undisturbed: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner_module, "_PATIENCE_S", 0.1)
    world.lose = lambda message: message.seq >= 7 and message.attempt < 2_000_002
    world.run([world.opener("a", "1")], nothing)
    assert files(world.folder / "1") == undisturbed
    notes = [event["text"] for event in world.of("note")]
    assert len(notes) >= 2
    assert all("sending again what is in flight" in text for text in notes)


def test_results_of_strangers_are_refused_or_ignored(world: World, undisturbed: dict[str, bytes]) -> None:
    world.lose = lambda message: message.seq >= 3 and message.attempt == 2_000_000

    def script() -> None:
        world.until(lambda: any(message.seq == 3 for message in world.sent))
        stream = world.sent[0].stream
        fields: dict[str, FieldValue] = {"turns": Plain({"region": [0, 5], "turns": [[0, 5, "stranger"]]})}
        for frames in ([b""], [b"\xc1" * 30], [msgpack.packb({"v": 1, "kind": "result"})], [b""] * 70):
            world.results.send_multipart(frames)
        due = Message(kind="result", stream=stream, seq=3, attempt=2_000_000, sender=("last", 1), fields=fields)
        for change in ({"attempt": 7}, {"seq": 9}, {"seq": 2}, {"stream": "x"}):
            world.results.send_multipart(encode(replace(due, **change)))
        for sender in (("last", 2), ("other", 1), ("", 0)):  # whose socket that is not
            world.results.send_multipart(encode(replace(due, sender=sender)))
        world.until(lambda: world.control.progress.counters.get("refused") == 7)
        world.say("restarted", name="x", number=1)

    world.run([world.opener("a", "1")], script)
    (note,) = world.of("note")  # the others are only counted
    assert "a result was refused: a header that is not msgpack" in note["text"]
    assert files(world.folder / "1") == undisturbed


def test_a_trace_that_nobody_could_pack_again_costs_nothing_but_itself(world: World) -> None:
    """As deep as a message may be: what it would be put into for the supervisor is deeper."""
    deep: Any = 1
    for _ in range(1021):
        deep = [deep]

    def script() -> None:
        answer = world.pipeline.take

        def deeper(message: Message) -> list[Message]:
            return [replace(each, trace=((deep,),) if each.seq == 3 else each.trace) for each in answer(message)]

        world.pipeline.take = deeper  # type: ignore[method-assign]

    world.run([world.opener("a", "1")], script)
    results = world.of("result")
    assert seqs([event["update"] for event in results]) == list(range(WINDOWS))
    assert results[3]["trace"] == []


def test_a_chunk_that_was_set_aside_is_sent_as_an_error(world: World) -> None:
    world.lose = lambda message: message.seq >= 5 and message.attempt == 2_000_000

    def script() -> None:
        world.until(lambda: any(message.seq == 5 for message in world.sent))
        world.say("set_aside", stream="another", seq=5, text="no")
        world.say("set_aside", stream=world.sent[0].stream, seq=5, text="it kills")
        world.say("restarted", name="x", number=1)

    world.run([world.opener("a", "1")], script)
    assert [event["seq"] for event in world.of("error")] == [5]
    assert {message.seq for message in world.sent if ERROR in message.fields} == {5}
    assert seqs([event["update"] for event in world.of("result")]) == list(range(WINDOWS))


def test_a_drain_ends_what_runs_and_begins_nothing(world: World) -> None:
    world.lose = lambda message: message.seq >= 5 and message.attempt == 2_000_000

    def script() -> None:
        world.until(lambda: any(message.seq == 5 for message in world.sent))
        world.say("drain")
        world.say("restarted", name="x", number=1)

    world.run([world.opener("a", "1"), world.opener("b", "2")], script)
    (done,) = world.of("done")
    assert done["stream"] == "a"
    assert done["results"] < WINDOWS
    assert world.sent[-1].kind == "end"
    assert not (world.folder / "2").exists()


@pytest.mark.parametrize("how", ["command", "signal"])
def test_a_stop_ends_at_once_and_keeps_what_was_said(world: World, how: str) -> None:
    world.lose = lambda message: message.seq >= 5

    def script() -> None:
        world.until(lambda: len(world.of("result")) == 5)
        if how == "command":
            world.say("stop")
        else:
            os.kill(os.getpid(), signal.SIGTERM)

    world.run([world.opener("a", "1"), world.opener("b", "2")], script)
    assert world.of("done") == []
    world.owner.close()
    world.owner.close()
    assert len(files(world.folder / "1")["a.jsonl"].splitlines()) == 5
