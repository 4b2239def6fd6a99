"""A TCP proxy in a thread, as a network that can fail: it can be cut, and can lose what one side says."""

import contextlib
import selectors
import socket
import threading
from types import TracebackType
from typing import Self


class Proxy:
    """Forwards connections to ``port`` of this host.

    ``lossy``: what comes from the target is thrown away. ``refusing``: new connections are closed at once. ``said``: all that the target
    has been told.
    """

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.lossy = False
        self.lost = 0  # bytes
        self.refusing = False
        self.said = bytearray()
        self._to_cut = False
        self._cut = threading.Event()
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._from_target: set[socket.socket] = set()
        self._wake, self._woken = socket.socketpair()
        self._ended = False
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended = True
        self._wake.send(b"x")
        self._thread.join()
        for each in (self._listener, self._wake, self._woken):
            each.close()

    def cut(self, *, refusing: bool = False) -> None:
        """Close all connections."""
        self.refusing = refusing
        self._to_cut = True
        self._cut.clear()
        self._wake.send(b"x")
        assert self._cut.wait(20)

    def _run(self) -> None:
        with selectors.DefaultSelector() as selector:
            for each in (self._listener, self._woken):
                selector.register(each, selectors.EVENT_READ)
            while not self._ended:
                for key, _ in selector.select():
                    self._serve(selector, key.fileobj)
                if self._to_cut:
                    self._to_cut = False
                    self._close(selector)
                    self._cut.set()
            self._close(selector)

    def _serve(self, selector: selectors.BaseSelector, ready: object) -> None:
        if ready is self._woken:
            self._woken.recv(100)
        elif ready is self._listener:
            self._accept(selector)
        elif isinstance(ready, socket.socket) and ready in self._pairs:
            self._forward(selector, ready)

    def _accept(self, selector: selectors.BaseSelector) -> None:
        client, _ = self._listener.accept()
        if self.refusing:
            client.close()
            return
        target = socket.create_connection(("127.0.0.1", self._target))
        self._pairs |= {client: target, target: client}
        self._from_target.add(target)
        for each in (client, target):
            selector.register(each, selectors.EVENT_READ)

    def _forward(self, selector: selectors.BaseSelector, ready: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = ready.recv(1 << 16)
        if not data:
            self._close(selector)
        elif self.lossy and ready in self._from_target:
            self.lost += len(data)
        else:
            self.said += b"" if ready in self._from_target else data
            with contextlib.suppress(ConnectionError):
                self._pairs[ready].sendall(data)

    def _close(self, selector: selectors.BaseSelector) -> None:
        for each in self._pairs:
            selector.unregister(each)
            each.close()
        self._pairs.clear()
        self._from_target.clear()
