"""CURVE on TCP links: who is let in, and whom a stage talks to. Unix sockets are guarded by the mode of their folder.

Each process with links between hosts has one ``Curve``. Its thread answers ZeroMQ's question whether a key is known (ZAP), from the folder of
authorized keys as it is at that moment, and counts who was not let in. Every listening socket has a ZAP domain that is enforced: were the
thread gone, nobody would be let in any more. ``Open`` is for pipelines without keys. Runs in stages and the supervisor.
"""

import errno
import itertools
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq
from zmq.utils import z85

from diart_mp.endpoints import leaves_host
from diart_mp.errors import DiartMpError
from diart_mp.keys import authorized_keys, own_key, own_keys, peer_key
from diart_mp.places import endpoints_by_place
from diart_mp.topology import Topology

Context = zmq.Context[zmq.Socket[bytes]]

_ZAP = "inproc://zeromq.zap.01"
_DOMAIN = b"diart-mp"
_HANDSHAKE_MS = 3000  # that a connection may take to say who it is
_BACKLOG = 1024  # connections that wait to be accepted
_AGAIN_S = 1.0  # before who was not let in knocks again
_FRESH_S = 0.5  # for which the folder of authorized keys is not read again
_FAILED = zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL | zmq.EVENT_HANDSHAKE_FAILED_AUTH
_MOST_NOTES = 20


class Open:
    """No keys: sockets stay as they are. ``anywhere``: TCP ports are opened on all interfaces, whatever name others reach them by."""

    def __init__(self, *, anywhere: bool = False) -> None:
        self._anywhere = anywhere

    def listening(self, socket: zmq.Socket[bytes], endpoint: str) -> str:
        """Prepare a socket that is about to listen for those who connect to ``endpoint``; where to bind it."""
        _take_addresses(socket, endpoint)
        return f"tcp://*:{endpoint.rpartition(':')[2]}" if self._anywhere and leaves_host(endpoint) else endpoint

    def connecting(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """Prepare a socket that is about to connect to ``endpoint``; OutputError if who listens there is not known."""
        _take_addresses(socket, endpoint)

    def mend(self, socket: zmq.Socket[bytes]) -> None:
        """Connect again what was not let in; to be called now and then by who uses the socket."""

    def counts(self) -> Mapping[str, int]:
        """Who was not let in so far: names of counters with their values."""
        return {}

    def notes(self) -> list[str]:
        """What the user should know, since the last call."""
        return []

    def close(self) -> None:
        """Let nobody in any more; idempotent."""


OPEN = Open()


def guard_of(topology: Topology, place: str, context: Context) -> Open:
    """What guards the links of a process at ``place``; errors where it has no key. To be closed before the context."""
    if not topology.keys:
        return Open(anywhere=topology.anywhere)
    where = endpoints_by_place(topology)
    return Curve(Path(topology.keys), place, where, context, anywhere=topology.anywhere)


class Curve(Open):
    """CURVE for all TCP links of one process. ``places``: endpoint -> name of the key of who listens there."""

    def __init__(
        self, folder: Path, place: str, places: Mapping[str, str], context: Context, *, anywhere: bool = False
    ) -> None:
        super().__init__(anywhere=anywhere)
        self._folder, self._places, self._context = folder, places, context
        self._key = own_key(folder, place)
        self._known: frozenset[bytes] = frozenset()
        self._read_at = -_FRESH_S
        self._notes: deque[str] = deque(maxlen=_MOST_NOTES)
        self._told: set[str] = set()
        self._numbers = itertools.count()
        self._denied = self._accepted = self._let_in = 0
        self._handler = context.socket(zmq.ROUTER)
        self._handler.linger = 0
        self._handler.bind(_ZAP)
        self._poller = zmq.Poller()
        self._poller.register(self._handler, zmq.POLLIN)
        self._monitors: dict[
            Any, tuple[str, str]
        ] = {}  # by monitor: its endpoint, and whom a connecting socket talks to
        self._connections: dict[zmq.Socket[bytes], tuple[str, str]] = {}  # endpoint of the link, and of its monitor
        self._refused_at: dict[str, float] = {}  # by endpoint of the monitor, monotonic s
        self._orders = [context.socket(zmq.PAIR) for _ in range(2)]
        for each, join in zip(self._orders, ("bind", "connect"), strict=True):
            each.linger = 0
            getattr(each, join)(f"inproc://guard-{id(self)}")
        self._poller.register(self._orders[0], zmq.POLLIN)
        self._thread = threading.Thread(target=self._run, name="guard of links", daemon=True)
        self._thread.start()

    def listening(self, socket: zmq.Socket[bytes], endpoint: str) -> str:
        """See ``Open.listening``."""
        if not leaves_host(endpoint):
            return endpoint
        socket.curve_server = True
        socket.curve_secretkey = self._key.secret.encode()
        socket.zap_domain = _DOMAIN
        socket.set(zmq.ZAP_ENFORCE_DOMAIN, 1)
        socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        socket.set(zmq.BACKLOG, _BACKLOG)
        self._watch(socket, "", zmq.EVENT_ACCEPTED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        return super().listening(socket, endpoint)

    def connecting(self, socket: zmq.Socket[bytes], endpoint: str) -> None:
        """See ``Open.connecting``."""
        if not leaves_host(endpoint):
            return
        super().connecting(socket, endpoint)
        place = self._places[endpoint]
        socket.curve_serverkey = peer_key(self._folder, place).public.encode()
        socket.curve_publickey = self._key.public.encode()
        socket.curve_secretkey = self._key.secret.encode()
        socket.set(zmq.HANDSHAKE_IVL, _HANDSHAKE_MS)
        monitor = self._watch(socket, f"{place} ({endpoint})", _FAILED | zmq.EVENT_HANDSHAKE_SUCCEEDED)
        self._connections[socket] = endpoint, monitor

    def mend(self, socket: zmq.Socket[bytes]) -> None:
        """See ``Open.mend``. ZeroMQ gives a link up for ever whose first handshake was refused."""
        if not self._refused_at or socket not in self._connections:
            return
        endpoint, monitor = self._connections[socket]
        refused_at = self._refused_at.get(monitor)
        if refused_at is not None and time.monotonic() - refused_at > _AGAIN_S:
            self._refused_at.pop(monitor, None)
            with suppress(zmq.ZMQError):
                socket.disconnect(endpoint)
            socket.connect(endpoint)

    def counts(self) -> Mapping[str, int]:
        """``unknown_keys``: handshakes with a key that is not authorized; ``not_let_in``: connections that are not, or not yet, let in."""
        return {"unknown_keys": self._denied, "not_let_in": max(0, self._accepted - self._let_in)}

    def notes(self) -> list[str]:
        """See ``Open.notes``."""
        return [self._notes.popleft() for _ in range(len(self._notes))]

    def close(self) -> None:
        """See ``Open.close``."""
        if self._thread.is_alive():
            with suppress(zmq.ZMQError):
                self._orders[1].send(b"")
            self._thread.join()
        self._orders[1].close()

    def _watch(self, socket: zmq.Socket[bytes], whom: str, events: int) -> str:
        """Have the thread hear what becomes of a socket's connections. It must: ZeroMQ waits where nobody takes its reports."""
        endpoint = f"inproc://monitor-{id(self)}-{next(self._numbers)}"
        socket.monitor(endpoint, events)
        self._orders[1].send_multipart([endpoint.encode(), whom.encode()])
        return endpoint

    def _run(self) -> None:
        try:
            while True:
                for socket, _ in self._poller.poll():
                    if socket is self._handler:
                        self._answer(self._handler.recv_multipart())
                    elif socket is self._orders[0]:
                        order = self._orders[0].recv_multipart()
                        if len(order) == 1:
                            return
                        self._hear(*map(bytes.decode, order))
                    else:
                        self._note(socket)
        except zmq.ContextTerminated:
            pass
        finally:
            for socket in (self._handler, self._orders[0], *self._monitors):
                socket.close()

    def _hear(self, endpoint: str, whom: str) -> None:
        monitor = self._context.socket(zmq.PAIR)
        monitor.linger = 0
        monitor.rcvhwm = 0
        monitor.connect(endpoint)
        self._monitors[monitor] = endpoint, whom
        self._poller.register(monitor, zmq.POLLIN)

    def _answer(self, frames: list[bytes]) -> None:
        """ZAP (RFC 27): sender, empty, version, request, domain, address, identity, mechanism, key."""
        if len(frames) < 8 or frames[2] != b"1.0":
            return
        allowed = frames[4] == _DOMAIN and frames[7] == b"CURVE" and len(frames) == 9 and self._knows(frames[8])
        self._denied += not allowed
        status = (b"200", b"OK", b"", b"") if allowed else (b"400", b"unknown key", b"", b"")
        with suppress(zmq.ZMQError):
            self._handler.send_multipart([frames[0], b"", b"1.0", frames[3], *status])

    def _knows(self, public: bytes) -> bool:
        now = time.monotonic()
        if now - self._read_at > _FRESH_S:
            try:
                keys = [*own_keys(self._folder), *authorized_keys(self._folder)]
                self._known = frozenset(z85.decode(key.public.encode()) for key in keys)
            except (DiartMpError, OSError) as error:
                if not _is_short_of_files(error):  # where garbage holds all descriptors, who was known still is
                    self._known = frozenset()  # what cannot be read lets nobody in
                self._tell(f"the keys cannot be read, so nobody new is let in: {error}")
            self._read_at = now
        return public in self._known

    def _note(self, monitor: zmq.Socket[bytes]) -> None:
        """What became of a connection."""
        # Brings asyncio and ssl, 40 ms: links within a host never come here.
        from zmq.utils.monitor import parse_monitor_message

        report = parse_monitor_message(monitor.recv_multipart())
        event, (endpoint, whom) = report["event"], self._monitors[monitor]
        if event == zmq.EVENT_MONITOR_STOPPED:
            self._poller.unregister(monitor)
            del self._monitors[monitor]
            monitor.close()
        elif event == zmq.EVENT_ACCEPTED:
            self._accepted += 1
        elif event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
            self._let_in += not whom
            self._refused_at.pop(endpoint, None)
        elif event == zmq.EVENT_HANDSHAKE_FAILED_AUTH:
            self._refused_at[endpoint] = time.monotonic()
            self._tell(f"{whom} does not let us in; there: diart-mp keys authorize {self._key.name}.public")
        else:
            self._refused_at[endpoint] = time.monotonic()
            self._tell(
                f"no encrypted link to {whom}; is it of this pipeline, and is authorized/{whom.split()[0]}.public its key?"
            )

    def _tell(self, text: str) -> None:
        if text not in self._told:
            self._told.add(text)
            self._notes.append(text)


def _take_addresses(socket: zmq.Socket[bytes], endpoint: str) -> None:
    """IPv6 only where an address says so: a name with addresses of both kinds would else be tried at the one that is not listened at."""
    if endpoint.startswith("tcp://["):
        socket.ipv6 = True


def _is_short_of_files(error: Exception) -> bool:
    """Whether something could not be read for want of a file descriptor alone."""
    cause = error if isinstance(error, OSError) else error.__cause__
    return isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE)
