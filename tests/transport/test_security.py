"""CURVE on links: who has no key that is known gets nothing through, is counted, and disturbs nobody."""

import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import zmq

from diart_mp.errors import OutputError, UsageError
from diart_mp.keys import authorize, authorized_keys, new_key, own_key, peer_key
from diart_mp.messages import Message
from diart_mp.transport.link import Receiver, Sender
from diart_mp.transport.security import OPEN, Curve, Open
from tests.transport.ports import free_port
from tests.transport.proxy import Proxy

PATIENCE_S = 10.0
_GREETING = 64  # bytes
_HELLO = _GREETING + 2 + 200  # where the second command of a client begins
_WELCOME = 2 + 168  # bytes of what a server says to the first


class Rig:
    """Hosts A and B that know each other, and C whom nobody knows; a sender at A."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        for name in "ABC":
            new_key(folder / name, name)
        self.introduce("A", "B")
        authorize(folder / "C", folder / "A" / "A.public")
        self.endpoint = f"tcp://127.0.0.1:{free_port()}"
        self.guard = self.guard_at("A")
        self.sender = Sender(
            self.guard._context, self.endpoint, stage="capture", epoch=1, receiver="segmentation", guard=self.guard
        )
        stack.callback(self.sender.close)
        self._seq = 0

    def introduce(self, one: str, other: str) -> None:
        for host, known in ((one, other), (other, one)):
            authorize(self.folder / host, self.folder / known / f"{known}.public")

    def guard_at(self, host: str, endpoint: str = "") -> Curve:
        context = zmq.Context[zmq.Socket[bytes]]()
        self._stack.callback(context.destroy, linger=0)
        guard = Curve(self.folder / host, host, {endpoint or self.endpoint: "A"}, context)
        self._stack.callback(guard.close)
        return guard

    def receiver(
        self, guard: Open, context: "zmq.Context[zmq.Socket[bytes]]", replica: int = 0, endpoint: str = ""
    ) -> Receiver:
        made = Receiver(
            context,
            [endpoint or self.endpoint],
            stage="segmentation",
            replica=replica,
            epoch=1,
            capacity=4,
            guard=guard,
        )
        self._stack.callback(made.close)
        return made

    def until(self, done: Callable[[], bool], *receivers: Receiver) -> bool:
        """Turn sender and receivers until ``done``; False after a while."""
        deadline = time.monotonic() + PATIENCE_S
        while not done():
            if time.monotonic() > deadline:
                return False
            for each in receivers:
                each.announce()
            self.sender.receive()
            self.sender.socket.poll(10)
        return True

    def told(self, guard: Curve, *receivers: Receiver) -> list[str]:
        """The first notes that ``guard`` has for the user."""
        found: list[str] = []

        def heard() -> bool:
            found.extend(guard.notes())
            return bool(found)

        assert self.until(heard, *receivers)
        return found

    def gets_through(self, receiver: Receiver) -> bool:
        """Whether a chunk travels from A to ``receiver``."""
        got: list[Message] = []
        self.sender.send(Message(kind="chunk", stream="s", seq=self._seq))
        self._seq += 1

        def arrived() -> bool:
            got.extend(receiver.receive())
            receiver.done(len(got))
            return bool(got)

        return self.until(arrived, receiver)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(tmp_path, stack)


def test_only_known_keys_get_anything_through(rig: Rig) -> None:
    unknown = rig.guard_at("C")
    stranger = rig.receiver(unknown, unknown._context, replica=1)
    plain_context = zmq.Context[zmq.Socket[bytes]]()
    plain = rig.receiver(OPEN, plain_context, replica=2)
    assert rig.until(lambda: rig.guard.counts()["unknown_keys"] > 0, stranger, plain)
    assert rig.until(lambda: rig.guard.counts()["not_let_in"] > 1, stranger, plain)
    assert rig.sender.statistics().replicas == 0
    known = rig.guard_at("B")
    receiver = rig.receiver(known, known._context)
    assert rig.gets_through(receiver)
    assert rig.sender.statistics().replicas == 1
    assert stranger.receive() == plain.receive() == []
    assert rig.told(unknown, stranger) == [
        f"A ({rig.endpoint}) does not let us in; there: diart-mp keys authorize C.public"
    ]
    plain.close()
    plain_context.destroy(linger=0)


def test_a_key_may_be_authorized_while_its_owner_knocks(rig: Rig) -> None:
    guard = rig.guard_at("C")
    receiver = rig.receiver(guard, guard._context)
    assert rig.until(lambda: rig.guard.counts()["unknown_keys"] > 0, receiver)
    rig.introduce("A", "C")
    assert rig.gets_through(receiver)


def test_a_listener_with_another_key_than_expected_is_not_spoken_to(rig: Rig) -> None:
    (rig.folder / "B" / "authorized" / "A.public").unlink()
    other = new_key(rig.folder / "other", "A")
    authorize(rig.folder / "B", other)
    guard = rig.guard_at("B")
    receiver = rig.receiver(guard, guard._context)
    assert rig.told(guard, receiver) == [
        f"no encrypted link to A ({rig.endpoint}); is it of this pipeline, and is authorized/A.public its key?"
    ]
    assert rig.sender.statistics().replicas == 0


def test_a_key_file_that_is_none_keeps_others_out_only_for_as_long_as_it_is_there(rig: Rig) -> None:
    broken = rig.folder / "A" / "authorized" / "X.public"
    broken.write_text(f'version = 1\nname = "X"\npublic = "{"#" * 40}"')
    guard = rig.guard_at("B")
    receiver = rig.receiver(guard, guard._context)
    assert rig.until(lambda: rig.guard.counts()["unknown_keys"] > 0, receiver)
    (note,) = rig.guard.notes()
    assert note.startswith("the keys cannot be read, so nobody new is let in:")
    assert "X.public is no public key file" in note
    broken.unlink()
    assert rig.gets_through(receiver)


def test_nobody_is_let_in_when_the_guard_has_gone(rig: Rig) -> None:
    rig.guard.close()
    guard = rig.guard_at("B")
    receiver = rig.receiver(guard, guard._context)
    watch = guard_monitor(receiver)
    assert rig.until(lambda: watch.poll(0) != 0, receiver)
    watch.close()
    assert rig.sender.statistics().replicas == 0


def test_what_a_known_host_has_said_is_of_no_use_to_somebody_else(rig: Rig) -> None:
    """Handshake, announcements and all, said again by who has listened to them: byte for byte, each when it is asked for."""
    port = int(rig.endpoint.rpartition(":")[2])
    with Proxy(port) as tapped:
        through = f"tcp://127.0.0.1:{tapped.port}"
        guard = rig.guard_at("B", through)
        receiver = rig.receiver(guard, guard._context, endpoint=through)
        assert rig.gets_through(receiver)
        said = bytes(tapped.said)
        assert b"CURVE" in said[:_GREETING]
        assert said[_GREETING + 2 :].startswith(b"\x05HELLO")
        assert said[_HELLO:].count(b"INITIATE") == 1
        not_let_in = rig.guard.counts()["not_let_in"]
        for _ in range(3):
            assert say_again(said, port) == b""
        assert rig.until(lambda: rig.guard.counts()["not_let_in"] == not_let_in + 3, receiver)
        assert rig.gets_through(receiver)  # it has not been taken for somebody else, nor its place been taken
        assert rig.sender.statistics().replicas == 1
        assert rig.sender.statistics().refused == 0


def say_again(said: bytes, port: int) -> bytes:
    """Say what a client has said; what is answered to the last part of its handshake and what follows."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as other:
        for part, answer in ((said[:_GREETING], _GREETING), (said[_GREETING:_HELLO], _WELCOME)):
            other.sendall(part)
            while answer:
                answer -= len(other.recv(answer))
        with suppress(ConnectionError):
            other.sendall(said[_HELLO:])
            return other.recv(1)
    return b""


def guard_monitor(receiver: Receiver) -> "zmq.Socket[bytes]":
    """Reports of failed handshakes of a receiver."""
    return receiver.sockets[0].get_monitor_socket(
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_AUTH | zmq.EVENT_DISCONNECTED
    )


def test_garbage_leaves_a_link_alone(rig: Rig) -> None:
    guard = rig.guard_at("B")
    receiver = rig.receiver(guard, guard._context)
    assert rig.gets_through(receiver)
    port = int(rig.endpoint.rpartition(":")[2])
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    garbage = (b"GET / HTTP/1.1\r\n\r\n", os.urandom(400), greeting, greeting.replace(b"NULL\0", b"CURVE"), b"")
    before = rig.guard.counts()["not_let_in"]
    for number in range(300):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(garbage[number % len(garbage)])
        if number % 50 == 0:
            assert rig.gets_through(receiver)
    assert rig.until(lambda: rig.guard.counts()["not_let_in"] >= before + 300, receiver)
    assert rig.gets_through(receiver)
    second = rig.receiver(guard, guard._context, replica=1)
    assert rig.until(lambda: rig.sender.statistics().replicas == 2, receiver, second)


@pytest.mark.parametrize("anywhere", [False, True])
def test_addresses_of_version_6_work(anywhere: bool) -> None:
    guard, endpoint = Open(anywhere=anywhere), f"tcp://[::1]:{free_port()}"
    with zmq.Context[zmq.Socket[bytes]]() as context, context.socket(zmq.PAIR) as one, context.socket(zmq.PAIR) as two:
        one.linger = two.linger = 0
        one.bind(guard.listening(one, endpoint))
        guard.connecting(two, endpoint)
        two.connect(endpoint)
        two.send(b"here")
        assert one.poll(5000)


def test_secret_files_are_private_and_never_replaced(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        public = new_key(tmp_path / "keys", "B")
    finally:
        os.umask(before)
    secret = tmp_path / "keys" / "B.secret"
    assert secret.stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    key = own_key(tmp_path / "keys", "B")
    assert key.secret in secret.read_text()
    assert key.secret not in public.read_text() + repr(key)
    with pytest.raises(OutputError, match=r"cannot make .*B.secret: File exists"):
        new_key(tmp_path / "keys", "B")
    secret.chmod(0o640)
    with pytest.raises(UsageError, match=r"can be read or changed by others \(mode 0640\)"):
        own_key(tmp_path / "keys", "B")
    with pytest.raises(
        OutputError, match=r"there is no key .*C.secret; make one on this host with: diart-mp keys new C"
    ):
        own_key(tmp_path / "keys", "C")
    with pytest.raises(OutputError, match=r"copy C.public from C to this host"):
        peer_key(tmp_path / "keys", "C")


def test_what_is_no_public_key_is_not_authorized(tmp_path: Path) -> None:
    public = new_key(tmp_path / "keys", "B")
    with pytest.raises(UsageError, match="unknown key 'secret'"):  # a secret that somebody copied by mistake
        authorize(tmp_path / "keys", tmp_path / "keys" / "B.secret")
    for text in (
        "version = 1",
        public.read_text().replace('name = "B"', 'name = "../B"'),
        public.read_text()[:-5] + '"\n',
        f'version = 1\nname = "X"\npublic = "{"#" * 40}"',  # characters of Z85, but larger than a key can be
    ):
        (tmp_path / "x.public").write_text(text)
        with pytest.raises(UsageError, match="is no public key file"):
            authorize(tmp_path / "keys", tmp_path / "x.public")
    assert authorized_keys(tmp_path / "keys") == []
    other = new_key(tmp_path / "other", "B")
    assert authorize(tmp_path / "keys", other) == authorize(tmp_path / "keys", other)
    with pytest.raises(OutputError, match="another key of that name"):
        authorize(tmp_path / "keys", public)
    with pytest.raises(UsageError, match="a key is called like the place"):
        new_key(tmp_path, "a/b")
