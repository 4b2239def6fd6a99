"""Links: how chunks pass from one stage to the next.

The sender binds a ROUTER, each receiver connects a DEALER and speaks first. A receiver announces how far it
has room, as a cumulative number (``limit`` = chunks received from this sender so far + free places), so that lost,
repeated or late announcements do no harm; the sender gives a chunk to the replica with the most room, or for a
keyed stage to the replica that the crc32 of the stream id picks, and keeps no copy. What finds no
room waits here, live streams in front; how much that can be is bounded by the owners (``max_in_flight``), never by ZeroMQ's queues.

    receiver -> sender   room  {replica, epoch, for: epoch of the sender it knows (0: none), received, limit,
                                bundles: whether it takes several chunks in one multipart (diart_mp.bundles),
                                leaving: whether it wants nothing more, whatever limit it has announced}
    sender -> receiver   hello {from: [stage, epoch]}   count from 0; whenever the two do not count the same chunks

The counts are for one acquaintance: hello begins a new one. A receiver that has got nothing for a second asks for one, so
that what a cut connection lost does not take up room for ever. A new epoch displaces the older one, of a receiver
as of a sender. A chunk that was sent to a process that died is gone: its owner sends it again. Over TCP an audio reference is replaced by the samples. Runs in every stage.
"""

import time
import zlib
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Any

import zmq

from diart_mp.bundles import decode_all, encode_all
from diart_mp.errors import ProtocolError, StageError, VersionError
from diart_mp.headers import decode_header, integer, pack_control, shown, unpack_control
from diart_mp.messages import Message, encode
from diart_mp.transport.security import OPEN, Open
from diart_mp.transport.sockets import listen, make_socket, readable
from diart_mp.transport.versions import Refusals
from diart_mp.transport.waiting import Waiting

_MOST_ROOMS = 20  # announcements kept for a sender that is not there, maybe for days
_KEPT_FREE = 2  # places of a receiver that has many, for live chunks, while those come
_QUIET_S = 1.0  # without a chunk before a receiver asks its sender to count from 0 again


@dataclass(slots=True)
class _Replica:
    identity: bytes
    index: int
    epoch: int
    bundles: bool  # whether it takes several chunks in one multipart
    limit: int = 0
    sent: int = 0
    most: int = 0  # room that it had when it had most

    @property
    def room(self) -> int:
        return self.limit - self.sent

    @property
    def kept_free(self) -> int:
        return min(_KEPT_FREE, self.most // 4)


@dataclass(frozen=True, slots=True)
class SenderStatistics:
    """What a sender did so far: chunks sent and waiting, replicas known, announcements refused."""

    sent: int
    waiting: int
    replicas: int
    refused: int
    replaced: int = 0  # times that a receiver's new process took the place of an older one


def identity_of(stage: str, replica: int, epoch: int) -> bytes:
    """The ZeroMQ identity of a stage's process."""
    return f"{stage}/{replica}/{epoch}".encode()


class Sender:
    """The sending end of a link.

    ``shards`` is the number of replicas of a keyed receiver, 0 if the receivers are stateless. ``inline`` turns
    a message with an audio reference into one with samples (for links that leave the host). ``receiver`` is the
    stage that may announce room here: a socket of any other identity than STAGE/REPLICA/EPOCH is refused.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        stage: str,
        epoch: int,
        shards: int = 0,
        inline: Callable[[Message], Message] | None = None,
        receiver: str = "",
        guard: Open = OPEN,
    ) -> None:
        self._receiver = receiver
        self.refusals = Refusals(stage)
        self.socket = make_socket(context, zmq.ROUTER)
        listen(self.socket, endpoint, guard)
        self._sender = (stage, epoch)
        self._shards = shards
        self._inline = inline
        self._replicas: dict[int, _Replica] = {}
        self._waiting: dict[int, Waiting[Message]] = {}
        self._sent = 0
        self._refused = 0
        self._replaced = 0
        self._epochs: dict[int, int] = {}  # of receivers, also of those that are gone

    def send(self, *messages: Message) -> None:
        """Pass ``messages`` on, in order, as soon as a receiver has room."""
        for message in messages:
            shard = zlib.crc32(message.stream.encode()) % self._shards if self._shards else -1
            if shard not in self._waiting:
                self._waiting[shard] = Waiting(lambda message: message)
            self._waiting[shard].append(message)
        for shard in self._waiting:
            self._flush(shard)

    def forget(self, is_obsolete: Callable[[Message], bool]) -> None:
        """Drop waiting messages that a replay has made obsolete."""
        for queue in self._waiting.values():
            queue.drop(is_obsolete)

    def receive(self) -> None:
        """Take in all announcements that have arrived; a bad one is counted and dropped."""
        while readable(self.socket):
            identity, *frames = self.socket.recv_multipart()
            try:
                self._on_room(identity, unpack_control(frames))
            except VersionError as error:
                self._refused += 1
                self.refusals.add(_shown_name(identity), error)
            except ProtocolError:
                self._refused += 1
        for shard in self._waiting:
            self._flush(shard)

    def statistics(self) -> SenderStatistics:
        """Counters since the start."""
        waiting = sum(len(queue) for queue in self._waiting.values())
        return SenderStatistics(self._sent, waiting, len(self._replicas), self._refused, self._replaced)

    def close(self) -> None:
        """Close the socket; idempotent."""
        self.socket.close()

    def _on_room(self, identity: bytes, header: dict[str, Any]) -> None:
        if header["kind"] != "room":
            msg = f"a sender takes 'room', not '{header['kind']}'"
            raise ProtocolError(msg)
        index, epoch = integer(header, "replica", high=4095), integer(header, "epoch")
        if self._receiver and identity != identity_of(self._receiver, index, epoch):
            msg = f"room announced by {identity!r:.60}, which is not replica {index} of {self._receiver}"
            raise ProtocolError(msg)
        known = self._replicas.get(index)
        if known is not None and epoch < known.epoch:
            return  # a replaced process that woke up
        meant, received, limit = integer(header, "for"), integer(header, "received"), integer(header, "limit")
        if known is None or epoch > known.epoch or known.identity != identity:
            self._replaced += self._epochs.get(index, epoch) < epoch
            self._epochs[index] = epoch
            known = self._replicas[index] = _Replica(identity, index, epoch, header.get("bundles") is True)
        if meant == self._sender[1] and received <= known.sent:
            known.limit = known.sent if header.get("leaving") is True else max(known.limit, limit)
            known.most = max(known.most, known.room)
        else:
            known.limit = known.sent = 0
            self._transmit(known, [pack_control("hello", **{"from": list(self._sender)}, host=self.refusals.host)])

    def _flush(self, shard: int) -> None:
        """Give what waits to those who have room, each the chunks that it gets at once; what cannot be sent waits again."""
        queue, given = self._waiting[shard], dict[int, list[Message]]()
        while queue and (replica := self._choose(shard, spare=queue.expects_live and not queue.has_live)) is not None:
            message = queue.pop()
            given.setdefault(replica.index, []).append(message if self._inline is None else self._inline(message))
            replica.sent += 1
        for index, messages in given.items():
            known = self._replicas.get(index)  # it may have turned out to be gone when another one did
            sent = self._hand_over(known, messages) if known is not None else 0
            self._sent += sent
            if sent < len(messages):
                queue.put_back(messages[sent:])
                self._flush(shard)

    def _hand_over(self, replica: _Replica, messages: Sequence[Message]) -> int:
        """Send to one replica until it turns out to be gone; the number of messages sent."""
        sent = 0
        multiparts = (
            encode_all(messages, self._sender)
            if replica.bundles
            else ((1, encode(each, self._sender)) for each in messages)
        )
        for count, frames in multiparts:
            if not self._transmit(replica, frames):
                break
            sent += count
        return sent

    def _choose(self, shard: int, *, spare: bool) -> _Replica | None:
        """Who gets a message, if anybody has room; with ``spare``, some of it stays free."""
        candidates = [
            replica
            for replica in self._replicas.values()
            if replica.room > (replica.kept_free if spare else 0) and shard in (-1, replica.index)
        ]
        return (
            max(candidates, key=lambda replica: replica.room) if len(candidates) > 1 else next(iter(candidates), None)
        )

    def _transmit(self, replica: _Replica, frames: Sequence[Any]) -> bool:
        """Send to one replica; one that is gone is forgotten."""
        try:
            self.socket.send_multipart([replica.identity, *frames], flags=zmq.DONTWAIT, copy=False)
        except zmq.ZMQError as error:
            if error.errno not in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                raise
            self._replicas.pop(replica.index, None)
            return False
        return True


class Receiver:
    """The receiving end of the links from all replicas of the previous stage.

    ``capacity`` is how many chunks this stage wants to have waiting, per sender.
    """

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoints: Sequence[str],
        *,
        stage: str,
        replica: int,
        epoch: int,
        capacity: int,
        guard: Open = OPEN,
    ) -> None:
        self._replica, self._epoch, self._capacity = replica, epoch, capacity
        self._guard, self.refusals = guard, Refusals(stage)
        identity = identity_of(stage, replica, epoch)
        self._links = [_Upstream(_connect(context, each, identity, guard), each) for each in endpoints]
        self._waiting = 0
        self.leaving = False  # nothing new is wanted
        self.received = 0
        self.refused = 0

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """What to poll for reading."""
        return [link.socket for link in self._links]

    def receive(self, happened: Container[object] | None = None) -> list[Message]:
        """All chunks (and ends of streams) that have arrived; bad ones, and those of replaced senders, are counted in
        ``refused`` and dropped. ``happened``: the sockets that have something, if that is known.
        """
        messages: list[Message] = []
        for link in self._links:
            more = readable(link.socket) if happened is None else link.socket in happened
            while more:
                self._take(link, link.socket.recv_multipart(copy=False), messages)
                more = readable(link.socket)
        self._waiting += len(messages)
        return messages

    def done(self, count: int) -> None:
        """``count`` chunks were processed: their places are free again."""
        self._waiting -= count

    def announce(self, worth: int = 0) -> None:
        """Tell every sender how far there is room. Harmless to repeat.

        With ``worth``, only those whose room has grown by so many chunks since they were told.
        """
        free = 0 if self.leaving else max(0, self._capacity - self._waiting)
        for link in self._links:
            if worth and link.received + free < link.told + worth:
                continue
            link.doubt()
            self._guard.mend(link.socket)
            link.told = link.received + free
            room = pack_control(
                "room",
                replica=self._replica,
                epoch=self._epoch,
                received=link.received,
                limit=link.received + free,
                bundles=True,
                leaving=self.leaving,
                host=self.refusals.host,
                **{"for": link.met},
            )
            try:
                link.socket.send(room, flags=zmq.DONTWAIT)
            except zmq.Again:
                continue  # not connected yet: said again soon

    def close(self) -> None:
        """Close the sockets; idempotent."""
        for link in self._links:
            link.socket.close()

    def _take(self, link: "_Upstream", frames: Sequence[Any], messages: list[Message]) -> None:
        try:
            header = decode_header(frames)
            if header.get("kind") == "hello":
                self._on_hello(link, header)
                return
        except VersionError as error:
            self.refused += 1
            self.refusals.add(f"the stage at {link.endpoint}", error)
            return
        except ProtocolError:
            self.refused += 1
            return
        for message in decode_all(frames, header):
            if isinstance(message, ProtocolError) or not link.count(message.sender[1]):
                self.refused += 1
                continue
            messages.append(message)
            self.received += 1

    def _on_hello(self, link: "_Upstream", header: dict[str, Any]) -> None:
        sender = header.get("from")
        if not isinstance(sender, list) or len(sender) != 2:
            msg = f"'from' of a hello must be [stage, epoch], not {shown(sender)}"
            raise ProtocolError(msg)
        link.meet(integer({"epoch": sender[1]}, "epoch"))
        self.announce()


class _Upstream:
    """One sender as its receiver sees it: its newest epoch, the one it has met, and chunks since they met."""

    def __init__(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.socket, self.endpoint = socket, endpoint
        self.epoch = self.met = 0
        self.received = 0
        self.told = 0  # the last limit that was announced
        self.heard = time.monotonic()

    def meet(self, epoch: int) -> None:
        if epoch >= self.epoch:
            self.epoch = self.met = epoch
            self.received = 0

    def count(self, epoch: int) -> bool:
        """Count a chunk; False for one of a sender that a newer one has replaced."""
        if epoch < self.epoch:
            return False
        self.epoch, self.heard = epoch, time.monotonic()
        self.received += 1
        return True

    def doubt(self) -> None:
        if time.monotonic() - self.heard > _QUIET_S:
            self.met, self.received, self.heard = 0, 0, time.monotonic()


def _shown_name(identity: bytes) -> str:
    """Who a socket says it is, for people."""
    return ascii(identity.rpartition(b"/")[0] or identity)[2:-1][:80]


def _connect(context: zmq.Context[zmq.Socket[bytes]], endpoint: str, identity: bytes, guard: Open) -> zmq.Socket[bytes]:
    socket = make_socket(context, zmq.DEALER)
    socket.sndhwm = _MOST_ROOMS
    socket.identity = identity
    guard.connecting(socket, endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        socket.close()
        msg = f"cannot connect to {endpoint}: {zmq.strerror(error.errno or 0)}; is it written as tcp://HOST:PORT or ipc://PATH?"
        raise StageError(msg) from error
    return socket
