"""Links over real sockets: who gets a chunk, and what is left of a link when a process or a connection dies."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq

from diart_mp.bundles import decode_all
from diart_mp.errors import StageError
from diart_mp.headers import pack_control, unpack_control
from diart_mp.messages import AudioRef, Message, Plain, encode
from diart_mp.transport.link import Receiver, Sender
from diart_mp.transport.sockets import make_socket
from diart_mp.transport.waiting import LIVE

from .proxy import Proxy

Context = zmq.Context[zmq.Socket[bytes]]
RECEIVER = Path(__file__).with_name("receiver.py")


class Link:
    """Makes the ends of links and lets them talk until something has come true."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.stack = stack
        self.context = Context()
        stack.callback(self.context.destroy, linger=0)
        self.endpoint = f"ipc://{folder}/link"
        self.senders: list[Sender] = []
        self.receivers: list[Receiver] = []
        self.got: dict[Receiver, list[Message]] = {}

    def sender(self, epoch: int = 1, **options: Any) -> Sender:
        sender = Sender(self.context, self.endpoint, stage="this", epoch=epoch, **options)
        self.endpoint = sender.socket.last_endpoint.decode().rstrip("\0")  # type: ignore[union-attr]
        self.senders.append(sender)
        return sender

    def receiver(self, replica: int = 0, epoch: int = 1, capacity: int = 4, endpoint: str = "") -> Receiver:
        receiver = Receiver(
            self.context, [endpoint or self.endpoint], stage="next", replica=replica, epoch=epoch, capacity=capacity
        )
        self.receivers.append(receiver)
        self.got[receiver] = []
        return receiver

    def close(self, end: Sender | Receiver) -> None:
        end.close()
        self.senders = [sender for sender in self.senders if sender is not end]
        self.receivers = [receiver for receiver in self.receivers if receiver is not end]

    def seqs(self, receiver: Receiver) -> list[int]:
        return [message.seq for message in self.got[receiver]]

    def turn(self) -> None:
        """Everybody says and hears what there is."""
        for receiver in self.receivers:
            receiver.announce()
        for sender in self.senders:
            sender.socket.poll(2)
            sender.receive()
        for receiver in self.receivers:
            receiver.sockets[0].poll(2)
            self.got[receiver] += receiver.receive()

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            self.turn()

    def settle(self) -> None:
        """Until all that was announced before now has been heard, and all that was sent for it has come."""
        for _ in range(8):
            self.turn()


@pytest.fixture
def link(tmp_path: Path) -> Iterator[Link]:
    with ExitStack() as stack:
        yield Link(tmp_path, stack)


def chunk(seq: int, stream: str = "s") -> Message:
    return Message(kind="chunk", stream=stream, seq=seq, fields={"settings": Plain({"a": 1})})


def send(sender: Sender, seqs: Sequence[int], stream: str = "s") -> None:
    for seq in seqs:
        sender.send(chunk(seq, stream))


@pytest.mark.parametrize("endpoint", ["", "tcp://127.0.0.1:*"])
def test_room_is_respected_and_order_kept(link: Link, endpoint: str) -> None:
    link.endpoint = endpoint or link.endpoint
    sender = link.sender(epoch=7)
    receiver = link.receiver(capacity=4)
    send(sender, range(10))
    link.until(lambda: len(link.seqs(receiver)) >= 4)
    link.settle()
    assert link.seqs(receiver) == [0, 1, 2, 3]
    assert (sender.statistics().sent, sender.statistics().waiting) == (4, 6)
    receiver.done(3)
    link.until(lambda: len(link.seqs(receiver)) >= 7)
    link.settle()
    assert link.seqs(receiver) == list(range(7))
    receiver.done(4)
    link.until(lambda: len(link.seqs(receiver)) == 10)
    assert link.got[receiver][9] == replace(chunk(9), sender=("this", 7))
    assert receiver.received == 10
    assert sender.statistics().waiting == 0


def test_the_replica_with_the_most_room_gets_the_chunk(link: Link) -> None:
    sender = link.sender()
    small, large = link.receiver(0, capacity=2), link.receiver(1, capacity=8)
    link.until(lambda: sender.statistics().replicas == 2)
    link.settle()
    send(sender, range(6))
    link.until(lambda: len(link.seqs(large)) == 6)
    assert link.seqs(small) == []
    send(sender, range(6, 12))
    link.until(lambda: len(link.seqs(large)) + len(link.seqs(small)) == 10)
    link.settle()
    assert len(link.seqs(small)) == 2
    assert sender.statistics().waiting == 2


def test_live_chunks_go_first_and_find_room_beside_recordings(link: Link) -> None:
    """Of the eight places two stay free for more of them."""
    sender = link.sender()
    receiver = link.receiver(capacity=8)
    link.until(lambda: sender.statistics().replicas == 1)
    link.settle()

    def sent() -> list[tuple[str, int]]:
        link.settle()
        return [(message.stream, message.seq) for message in link.got[receiver]]

    live = [replace(chunk(seq, "live"), fields={LIVE: Plain(value=True)}) for seq in range(3)]
    sender.send(chunk(0), live[0], *map(chunk, range(1, 9)))
    assert sent() == [("live", 0), *(("s", seq) for seq in range(5))]
    sender.send(*live[1:])
    assert sent()[6:] == [("live", 1), ("live", 2)]
    assert sender.statistics().waiting == 4


@pytest.mark.parametrize("bundles", [True, False])
def test_chunks_share_multiparts_where_the_receiver_takes_that(link: Link, bundles: bool) -> None:
    sender = link.sender()
    stranger = link.context.socket(zmq.DEALER)  # a stage of somebody else, which knows of no bundles
    link.stack.callback(stranger.close, linger=0)
    stranger.identity = b"next/0/1"
    stranger.connect(link.endpoint)
    said = {"bundles": True} if bundles else {}
    sender.send(*(chunk(seq) for seq in range(4)))
    room = {"replica": 0, "epoch": 1, "received": 0, "limit": 9, **said}
    stranger.send(pack_control("room", **{"for": 0}, **room))
    stranger.send(pack_control("room", **{"for": 1}, **room))
    link.until(lambda: sender.statistics().sent == 4)
    assert stranger.poll(20_000)
    assert unpack_control(stranger.recv_multipart())["kind"] == "hello"
    assert stranger.poll(20_000)
    first = stranger.recv_multipart()
    seqs = [each.seq for each in decode_all(first) if isinstance(each, Message)]
    assert seqs == (list(range(4)) if bundles else [0])


def test_streams_stay_with_the_replica_that_their_name_picks(link: Link) -> None:
    """crc32 of "a" is 0xE8B7BE43, of "b" 0x71BEEFF9, of "d" 0x98DD4ACC."""
    sender = link.sender(shards=2)
    even = link.receiver(0, capacity=100)
    for seq in range(4):
        for stream in "abd":
            sender.send(chunk(seq, stream))
    link.until(lambda: len(link.seqs(even)) == 4)
    link.settle()
    assert {message.stream for message in link.got[even]} == {"d"}
    assert sender.statistics().waiting == 8
    odd = link.receiver(1, capacity=100)
    link.until(lambda: len(link.seqs(odd)) == 8)
    assert [(message.stream, message.seq) for message in link.got[odd]] == [(s, n) for n in range(4) for s in "ab"]


def test_what_is_obsolete_is_not_sent(link: Link) -> None:
    sender = link.sender()
    send(sender, range(3), "a")
    send(sender, range(3), "b")
    sender.forget(lambda message: message.stream == "a" and message.seq > 0)
    receiver = link.receiver(capacity=10)
    link.until(lambda: len(link.got[receiver]) == 4)
    assert [(message.stream, message.seq) for message in link.got[receiver]] == [("a", 0), ("b", 0), ("b", 1), ("b", 2)]


def test_samples_can_take_the_place_of_a_reference(link: Link) -> None:
    samples = np.arange(5, dtype=np.float32)
    sender = link.sender(inline=lambda message: message.with_fields({"audio": samples}))
    receiver = link.receiver()
    sender.send(chunk(0).with_fields({"audio": AudioRef("ring", 1, 0, 5)}))
    link.until(lambda: len(link.got[receiver]) == 1)
    assert link.got[receiver][0].array("audio").tolist() == [0, 1, 2, 3, 4]


def test_later_chunks_go_to_the_living_after_a_kill(link: Link) -> None:
    sender = link.sender()
    command = [sys.executable, str(RECEIVER), link.endpoint, "0", "1"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        link.until(lambda: sender.statistics().replicas == 1)
        sender.send(chunk(0))
        link.until(lambda: sender.statistics().sent == 1)
        assert process.stdout is not None
        assert process.stdout.readline() == b"0\n"
        process.kill()
    living = link.receiver(1, capacity=1000)
    seq = 1
    while sender.statistics().replicas != 1 or not link.got[living]:
        sender.send(chunk(seq))
        seq += 1
        link.turn()
        assert seq < 10_000
    send(sender, range(seq, seq + 20))
    link.until(lambda: seq + 19 in link.seqs(living))
    assert link.seqs(living)[-20:] == list(range(seq, seq + 20))


@pytest.mark.parametrize("epoch", [2, 1])
def test_a_restarted_receiver_takes_over(link: Link, epoch: int) -> None:
    """Also one that somebody started by hand, without a new epoch."""
    sender, first = link.sender(), link.receiver(capacity=3)
    send(sender, range(5))
    link.until(lambda: len(link.seqs(first)) == 3)
    link.close(first)
    second = link.receiver(epoch=epoch, capacity=3)
    link.until(lambda: len(link.seqs(second)) == 2)
    assert link.seqs(second) == [3, 4]
    second.done(2)
    send(sender, range(5, 8))
    link.until(lambda: link.seqs(second) == [3, 4, 5, 6, 7])
    assert sender.statistics().replicas == 1


def test_a_replaced_receiver_that_wakes_up_gets_nothing(link: Link) -> None:
    sender = link.sender()
    new = link.receiver(epoch=5, capacity=3)
    link.until(lambda: sender.statistics().replicas == 1)
    old = link.receiver(epoch=4, capacity=1000)
    link.settle()
    send(sender, range(5))
    link.until(lambda: len(link.seqs(new)) == 3)
    link.settle()
    assert link.seqs(old) == []
    assert sender.statistics().waiting == 2


@pytest.mark.parametrize("epoch", [9, 3])
def test_a_restarted_sender_is_met_again(link: Link, epoch: int) -> None:
    """Also one that somebody started by hand, without a new epoch."""
    first, receiver = link.sender(epoch=3), link.receiver(capacity=3)
    send(first, range(3))
    link.until(lambda: len(link.seqs(receiver)) == 3)
    receiver.done(2)
    link.close(first)
    second = link.sender(epoch=epoch)
    send(second, range(10, 20))
    link.until(lambda: len(link.seqs(receiver)) == 5)
    link.settle()
    assert link.seqs(receiver) == [0, 1, 2, 10, 11]
    receiver.done(3)
    link.until(lambda: len(link.seqs(receiver)) >= 8)
    link.settle()
    assert link.seqs(receiver)[5:] == [12, 13, 14]


def test_a_replaced_sender_that_wakes_up_is_ignored(link: Link) -> None:
    new, receiver = link.sender(epoch=5), link.receiver(capacity=10)
    new.send(chunk(0))
    link.until(lambda: link.seqs(receiver) == [0])
    link.close(new)
    old = link.sender(epoch=4)
    send(old, range(1, 4))
    link.until(lambda: old.statistics().replicas == 1)
    link.settle()
    assert link.seqs(receiver) == [0]


class RawSender:
    """A peer that says what it likes to a receiver."""

    def __init__(self, link: Link) -> None:
        self.socket = link.stack.enter_context(make_socket(link.context, zmq.ROUTER))
        self.socket.bind(link.endpoint)

    def say(self, *frames: Any) -> None:
        identity, *_ = self.socket.recv_multipart()
        self.socket.send_multipart([identity, *frames])


def test_garbage_is_counted_and_survived_by_receivers(link: Link) -> None:
    raw, receiver = RawSender(link), link.receiver()
    bad: list[list[Any]] = [
        [b""],
        [b"\xc1"],
        [b"\x00" * 10, b"\x00" * 1000],
        [msgpack.packb({"v": 1, "kind": "room"})],
        [msgpack.packb({"v": 1, "kind": "hello"})],
        [msgpack.packb({"v": 1, "kind": "hello", "from": "x"})],
        [msgpack.packb({"v": 1, "kind": "hello", "from": ["x", -1]})],
        [msgpack.packb({"v": 1, "kind": "hello", "from": ["x", [[[[[[]]]]]]]})],
        [msgpack.packb({"v": 2, "kind": "hello", "from": ["x", 1]})],
        [b"x"] * 70,
        encode(chunk(0))[:1] + [b"more"] * 64,
    ]
    for frames in bad:
        receiver.announce()
        raw.say(*frames)
    for epoch in (3, 2, 3):  # the second is of a process that was replaced
        receiver.announce()
        raw.say(*encode(replace(chunk(epoch), sender=("this", epoch))))
    link.until(lambda: len(link.seqs(receiver)) == 2)
    assert link.seqs(receiver) == [3, 3]
    assert receiver.refused == len(bad) + 1
    assert receiver.received == 2


def test_garbage_is_counted_and_survived_by_senders(link: Link) -> None:
    sender = link.sender()
    raw = link.stack.enter_context(make_socket(link.context, zmq.DEALER))
    raw.connect(link.endpoint)
    good = {"replica": 0, "epoch": 1, "for": 1, "received": 0, "limit": 5}
    bad: list[list[bytes]] = [
        [b""],
        [b"\xc1"],
        [b"", b"", b""],
        [pack_control("hello")],
        [pack_control("room")],
        [pack_control("room", **{**good, "replica": -1})],
        [pack_control("room", **{**good, "replica": 4096})],
        [pack_control("room", **{**good, "limit": True})],
        [pack_control("room", **{**good, "limit": 1.5})],
        [pack_control("room", **{**good, "for": None})],
        encode(chunk(0)),
    ]
    for frames in bad:
        raw.send_multipart(frames)
    link.until(lambda: sender.statistics().refused == len(bad))
    receiver = link.receiver(1, capacity=10)
    send(sender, range(3))
    link.until(lambda: link.seqs(receiver) == [0, 1, 2])


def test_room_is_for_the_stage_that_is_meant_and_by_its_own_name(link: Link) -> None:
    sender = link.sender(receiver="next")
    for identity, epoch in ((b"next/0/2", 1), (b"next/1/1", 1), (b"other/0/1", 1), (b"", 1)):
        raw = link.stack.enter_context(make_socket(link.context, zmq.DEALER))
        if identity:
            raw.identity = identity
        raw.connect(link.endpoint)
        raw.send(pack_control("room", **{"replica": 0, "epoch": epoch, "for": 1, "received": 0, "limit": 50}))
    link.until(lambda: sender.statistics().refused == 4)
    assert sender.statistics().replicas == 0
    receiver = link.receiver()
    send(sender, range(3))
    link.until(lambda: link.seqs(receiver) == [0, 1, 2])


def test_chunks_that_a_cut_connection_lost_take_up_no_room(link: Link) -> None:
    link.endpoint = "tcp://127.0.0.1:*"
    sender = link.sender()
    with Proxy(int(link.endpoint.rpartition(":")[2])) as proxy:
        receiver = link.receiver(capacity=4, endpoint=f"tcp://127.0.0.1:{proxy.port}")
        sender.send(chunk(0))
        link.until(lambda: link.seqs(receiver) == [0])
        receiver.done(1)
        link.settle()
        proxy.lossy = True
        send(sender, range(1, 5))
        link.until(lambda: sender.statistics().sent == 5 and proxy.lost > 0)
        proxy.cut()
        proxy.lossy = False
        send(sender, range(5, 8))
        link.until(lambda: link.seqs(receiver) == [0, 5, 6, 7])


def test_counts_of_before_a_cut_do_not_count_after_it(link: Link) -> None:
    link.endpoint = "tcp://127.0.0.1:*"
    sender = link.sender()
    with Proxy(int(link.endpoint.rpartition(":")[2])) as proxy:
        receiver = link.receiver(capacity=100, endpoint=f"tcp://127.0.0.1:{proxy.port}")
        send(sender, range(100))
        link.until(lambda: len(link.seqs(receiver)) == 100)
        receiver.done(96)  # no room for more than 96 from here on
        link.settle()
        proxy.cut(refusing=True)
        seq = 100
        while sender.statistics().replicas:  # until the sender has found out
            sender.send(chunk(seq))
            seq += 1
            link.turn()
        before = sender.statistics().sent
        proxy.refusing = False
        send(sender, range(seq, seq + 300))
        link.until(lambda: seq + 50 in link.seqs(receiver))
        link.settle()
        assert sender.statistics().sent - before <= 96


def test_places_that_cannot_be_used(link: Link) -> None:
    link.endpoint = "tcp://127.0.0.1:*"
    link.sender()
    with pytest.raises(StageError, match=r"cannot listen at tcp://127.0.0.1:\d+: Address already in use;"):
        link.sender()
    link.endpoint = "ipc:///nonexistent/folder/x"
    with pytest.raises(StageError, match="cannot listen at ipc:///nonexistent"):
        link.sender()
    with pytest.raises(StageError, match="cannot connect to tcp://nowhere"):
        link.receiver(endpoint="tcp://nowhere")
