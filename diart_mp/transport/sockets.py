"""Sockets with the options that every link uses, and errors of a place where none can listen, as one line.

Knows nothing of what travels on them. Used by every process that has links.
"""

import zmq

from diart_mp.errors import StageError
from diart_mp.transport.security import OPEN, Open

MAX_MESSAGE_BYTES = 512 << 20  # of one frame; a window of 300 s at 384 kHz is 461 MB
_RECONNECT_MS = 20
_HEARTBEAT_MS = 1000
_CONNECT_MS = 3000  # before a connection is tried anew: the system itself waits longer and longer
_EVENTS, _POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


def make_socket(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> zmq.Socket[bytes]:
    """A socket with the options that every link uses: no own bound, no lingering, dead TCP peers noticed."""
    socket = context.socket(kind)
    socket.linger = 0
    socket.sndhwm = 0
    socket.rcvhwm = 0
    socket.maxmsgsize = MAX_MESSAGE_BYTES
    socket.reconnect_ivl = _RECONNECT_MS
    socket.reconnect_ivl_max = 50 * _RECONNECT_MS
    socket.connect_timeout = _CONNECT_MS
    socket.heartbeat_ivl = _HEARTBEAT_MS
    socket.heartbeat_timeout = 3 * _HEARTBEAT_MS
    if kind == zmq.ROUTER:
        socket.router_mandatory = True
        socket.router_handover = True
    return socket


def readable(socket: zmq.Socket[bytes]) -> bool:
    """Whether a message can be received at once; a tenth of the cost of polling."""
    return bool(int(socket.get(_EVENTS)) & _POLLIN)


def listen(socket: zmq.Socket[bytes], endpoint: str, guard: Open = OPEN) -> None:
    """Bind ``socket``, guarded; StageError if that cannot be."""
    try:
        socket.bind(guard.listening(socket, endpoint))
    except zmq.ZMQError as error:
        socket.close()
        reason = zmq.strerror(error.errno or 0)
        msg = f"cannot listen at {endpoint}: {reason}; is it in use already, or not an address of this host?"
        raise StageError(msg) from error
