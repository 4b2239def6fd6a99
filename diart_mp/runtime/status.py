"""Asking running pipelines how they are: finds the run folders of this user and talks to their supervisors.

Knows nothing of terminals. Runs in ``diart-mp top`` and in gateways.
"""

from typing import Any

import zmq

from diart_mp.errors import ProtocolError
from diart_mp.headers import pack_control, unpack_control
from diart_mp.runtime.rundir import living_runs
from diart_mp.transport.sockets import make_socket

_PATIENCE_MS = 1000  # for a supervisor to answer


def ask_all(context: zmq.Context[zmq.Socket[bytes]]) -> list[dict[str, Any]]:
    """The status of every pipeline that runs on this host, as ``Supervisor.status`` gives it; oldest first."""
    answers = [answer for path in living_runs() if (answer := ask(context, f"ipc://{path / 'control'}")) is not None]
    return sorted(answers, key=lambda answer: -float(answer["up_s"]))


def ask(context: zmq.Context[zmq.Socket[bytes]], endpoint: str) -> dict[str, Any] | None:
    """The status behind one control socket; None if nobody answers (it has just ended)."""
    socket = make_socket(context, zmq.DEALER)
    try:
        socket.connect(endpoint)
        socket.send(pack_control("status"))
        if not socket.poll(_PATIENCE_MS):
            return None
        return unpack_control(socket.recv_multipart())
    except ProtocolError:
        return None
    finally:
        socket.close()
