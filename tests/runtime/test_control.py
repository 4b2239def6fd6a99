"""The control socket as a stage uses it, with a bare socket as the supervisor."""

import logging
import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from diart_mp import __version__
from diart_mp.headers import pack_control, unpack_control
from diart_mp.runtime.control import Progress, StageControl
from diart_mp.transport.sockets import make_socket

Context = zmq.Context[zmq.Socket[bytes]]
IDENTITY = b"embedding/1/7"


class Supervisor:
    """Hears everything, by the identity of who said it."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.context = Context()
        stack.callback(self.context.destroy, linger=0)
        self.socket = make_socket(self.context, zmq.ROUTER)
        self.endpoint = f"ipc://{folder}/control"
        self.socket.bind(self.endpoint)

    def hear(self) -> tuple[bytes, dict[str, Any]]:
        assert self.socket.poll(20_000)
        identity, *frames = self.socket.recv_multipart()
        return identity, unpack_control(frames)

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart([IDENTITY, *frames])


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    with ExitStack() as stack:
        yield Supervisor(tmp_path, stack)


@pytest.fixture
def control(supervisor: Supervisor) -> Iterator[StageControl]:
    made = StageControl(supervisor.context, supervisor.endpoint, stage="embedding", replica=1, epoch=7)
    yield made
    made.close()


WHO = {"v": 1, "stage": "embedding", "replica": 1, "epoch": 7}


def test_a_stage_says_that_it_is_ready_and_what_happens(supervisor: Supervisor, control: StageControl) -> None:
    control.ready()
    control.send("event", event="note", text="x")
    assert supervisor.hear() == (IDENTITY, {**WHO, "kind": "ready", "pid": os.getpid(), "version": __version__})
    assert supervisor.hear() == (IDENTITY, {**WHO, "kind": "event", "event": "note", "text": "x"})


def test_commands_come_in_order_and_broken_ones_are_left_out(supervisor: Supervisor, control: StageControl) -> None:
    assert control.commands() == []
    control.ready()
    supervisor.hear()
    for frames in ([b"\xc1"], [b""], [pack_control("start", shown={"a": 3})], [b"", b""], [pack_control("stop")]):
        supervisor.say(*frames)
    heard: list[dict[str, Any]] = []
    while len(heard) < 2:
        assert control.socket is not None
        assert control.socket.poll(20_000)
        heard += control.commands()
    assert heard == [{"v": 1, "kind": "start", "shown": {"a": 3}}, {"v": 1, "kind": "stop"}]


def test_what_is_said_behind_a_command_is_left_for_later(supervisor: Supervisor, control: StageControl) -> None:
    control.ready()
    supervisor.hear()
    for kind in ("restarted", "start", "drain"):
        supervisor.say(pack_control(kind))
    heard: list[str] = []
    while "start" not in heard:
        assert control.socket is not None
        assert control.socket.poll(20_000)
        heard += [command["kind"] for command in control.commands(until="start")]
    assert heard == ["restarted", "start"]
    assert control.socket is not None
    assert control.socket.poll(20_000)
    assert [command["kind"] for command in control.commands()] == ["drain"]


def test_a_stage_is_heard_while_it_works(supervisor: Supervisor, control: StageControl) -> None:
    control.start_beats()
    _, first = supervisor.hear()
    assert {name: first[name] for name in ("kind", "done", "busy_s", "counters")} == {
        "kind": "beat",
        "done": 0,
        "busy_s": 0,
        "counters": {},
    }
    assert {name: first[name] for name in WHO} == WHO
    control.progress.busy_since = time.monotonic()
    control.progress.done, control.progress.counters["stale"] = 5, 1
    busy = [0.0]
    while len(busy) < 4:
        identity, beat = supervisor.hear()
        assert identity == IDENTITY + b"/beat"
        if beat["done"] == 5:
            assert beat["counters"] == {"stale": 1}
            assert beat["busy_s"] > busy[-1]
            busy.append(beat["busy_s"])


def test_last_words_are_delivered_and_beats_end(supervisor: Supervisor, control: StageControl) -> None:
    control.start_beats()
    control.send("fatal", text="no such model", code=2)
    control.close()
    control.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "beat"]
    while (message := supervisor.hear()[1])["kind"] == "beat":
        pass
    assert message == {**WHO, "kind": "fatal", "text": "no such model", "code": 2}


def test_a_stage_without_a_supervisor(caplog: pytest.LogCaptureFixture) -> None:
    context = Context()
    control = StageControl(context, "", stage="embedding", replica=0, epoch=1)
    control.start_beats()
    control.ready()
    with caplog.at_level(logging.WARNING):
        control.send("event", event="note", stream="talk", text="cut short")
    assert caplog.messages == ["talk: cut short"]
    assert control.commands() == []
    assert control.socket is None
    control.close()
    context.destroy()


def test_idle_is_not_busy() -> None:
    progress = Progress()
    assert progress.busy_s() == 0.0
    progress.busy_since = time.monotonic() - 3.0
    assert progress.busy_s() >= 3.0
