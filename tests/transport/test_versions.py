"""Stages of other versions of the protocol on a link: a newer minor works, another major is refused with a line for people."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgpack
import pytest
import zmq

from diart_mp.messages import Message
from diart_mp.transport.link import Receiver, Sender
from diart_mp.transport.sockets import make_socket

HERE = socket.gethostname()[:64]


class Peer:
    """A stage of another version, at either end of a link."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.endpoint = f"ipc://{folder}/link"
        self.context = zmq.Context[zmq.Socket[bytes]]()
        self._stack = stack
        stack.callback(self.context.destroy, linger=0)

    def end(self, made: Any) -> Any:
        """A socket or an end of a link, to be closed."""
        self._stack.callback(made.close)
        return made

    def until(self, done: Callable[[], object]) -> None:
        deadline = time.monotonic() + 20
        while not done():
            assert time.monotonic() < deadline


@pytest.fixture
def peer(short_path: Path) -> Iterator[Peer]:
    with ExitStack() as stack:
        yield Peer(short_path, stack)


def test_a_receiver_of_another_major_is_refused_by_a_line_with_versions_and_hosts(peer: Peer) -> None:
    sender = peer.end(Sender(peer.context, peer.endpoint, stage="segmentation", epoch=1, receiver="embedding"))
    other = peer.end(make_socket(peer.context, zmq.DEALER))
    other.identity = b"embedding/1/77"
    other.connect(peer.endpoint)
    room = {"v": 2, "kind": "room", "replica": 1, "epoch": 77, "for": 0, "received": 0, "limit": 9, "host": "gpu-box\n"}
    for _ in range(3):
        other.send(msgpack.packb(room))
    peer.until(lambda: sender.receive() or sender.statistics().refused == 3)
    assert sender.refusals.notes() == [
        f"embedding/1 on gpu-box? speaks protocol version 2, segmentation on {HERE} version 1: it is refused; upgrade the older one"
    ]
    assert sender.refusals.notes() == []
    assert sender.statistics().replicas == 0


def test_a_sender_of_another_major_is_refused_in_the_same_way(peer: Peer) -> None:
    other = peer.end(make_socket(peer.context, zmq.ROUTER))
    other.bind(peer.endpoint)
    receiver = peer.end(Receiver(peer.context, [peer.endpoint], stage="embedding", replica=0, epoch=5, capacity=4))
    receiver.announce()
    identity, _ = other.recv_multipart()
    other.send_multipart([identity, msgpack.packb({"v": 3, "kind": "hello", "from": ["segmentation", 1], "host": "B"})])
    peer.until(lambda: receiver.receive() or receiver.refused == 1)
    (note,) = receiver.refusals.notes()
    assert note.startswith(
        f"the stage at {peer.endpoint} on B speaks protocol version 3, embedding on {HERE} version 1"
    )


def test_a_newer_minor_is_understood_by_what_is_known_of_it(peer: Peer) -> None:
    sender = peer.end(Sender(peer.context, peer.endpoint, stage="segmentation", epoch=1, receiver="embedding"))
    other = peer.end(make_socket(peer.context, zmq.DEALER))
    other.identity = b"embedding/0/77"
    other.connect(peer.endpoint)
    new = {"v": 1, "minor": 9, "mood": ["good"], "host": 3}

    def announce(of: int) -> None:
        other.send(
            msgpack.packb({**new, "kind": "room", "replica": 0, "epoch": 77, "for": of, "received": 0, "limit": 9})
        )

    announce(0)
    peer.until(lambda: sender.receive() or sender.statistics().replicas == 1)
    assert msgpack.unpackb(other.recv())["kind"] == "hello"
    announce(1)
    sender.send(Message(kind="chunk", stream="s", seq=0))
    peer.until(lambda: sender.receive() or sender.statistics().sent == 1)
    assert msgpack.unpackb(other.recv_multipart()[0])["stream"] == "s"
    assert sender.statistics().refused == 0
    assert sender.refusals.notes() == []
