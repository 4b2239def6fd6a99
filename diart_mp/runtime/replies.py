"""What the last stage says to the owners of chunks: results, errors and ends of streams.

Knows nothing of how they came about. Runs in the last stage, inside ``runtime.loop``.
"""

from collections.abc import Collection, Sequence

import zmq

from diart_mp.bundles import encode_all
from diart_mp.messages import Message, Plain
from diart_mp.runtime.chunks import BUNDLES, takes_bundles
from diart_mp.runtime.order import RESTORE
from diart_mp.transport.link import identity_of
from diart_mp.transport.security import Open
from diart_mp.transport.sockets import make_socket
from diart_mp.transport.waiting import LIVE

CHECKPOINT = "checkpoint."  # prefix of the fields that carry checkpoints, one per keyed stage
NAME = "name"  # plain field of chunks with which a stage may begin: what the stream is called in outputs
ERROR = "error"  # plain field of a chunk that could not be processed: why
_OF_NO_USE = ("settings", NAME, RESTORE, BUNDLES, LIVE)  # to the owner, which has said them


class Replies:
    """The ways to the owners; nobody but ``owners`` (endpoints) is answered."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        owners: Collection[str],
        *,
        stage: str,
        replica: int,
        epoch: int,
        guard: Open,
    ) -> None:
        self._context, self._owners, self._guard = context, owners, guard
        self._sender, self._identity = (stage, epoch), identity_of(stage, replica, epoch)
        self._sockets: dict[str, zmq.Socket[bytes]] = {}

    @property
    def sockets(self) -> list[zmq.Socket[bytes]]:
        """Those that are open."""
        return list(self._sockets.values())

    def send(self, messages: Sequence[Message]) -> int:
        """Send results to the chunks' owners, those of one owner together if it takes bundles; how many have none that is known."""
        waiting, unknown = dict[str, list[Message]](), 0
        for message in messages:
            if message.reply_to not in self._owners:
                unknown += 1
                continue
            results = waiting.setdefault(message.reply_to, [])
            results.append(_result(message))
            if not takes_bundles(message):
                self._answer(message.reply_to, waiting.pop(message.reply_to))
        for owner, results in waiting.items():
            self._answer(owner, results)
        return unknown

    def close(self) -> None:
        """Close all sockets; idempotent."""
        for socket in self._sockets.values():
            socket.close()

    def _answer(self, owner: str, results: Sequence[Message]) -> None:
        socket = self._sockets.get(owner)
        if socket is None:
            socket = self._sockets[owner] = make_socket(self._context, zmq.DEALER)
            socket.identity = self._identity
            self._guard.connecting(socket, owner)
            socket.connect(owner)
        self._guard.mend(socket)
        for _, frames in encode_all(results, self._sender):
            socket.send_multipart(frames, copy=False)


def _result(message: Message) -> Message:
    """What the owner gets: plain fields and checkpoints; arrays stay here."""
    kept = {
        name: value
        for name, value in message.fields.items()
        if name.startswith(CHECKPOINT) or (isinstance(value, Plain) and name not in _OF_NO_USE)
    }
    kind = message.kind if message.kind == "end" else "error" if ERROR in message.fields else "result"
    return message.changed(kept, kind=kind)
