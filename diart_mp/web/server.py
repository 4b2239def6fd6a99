"""The gateway's server: listens, lets in or turns away, and ends gracefully. One event loop, in the main thread of the process.

The streams are in the owner's thread (``runtime.hosted``); whatever one client does ends one connection. Runs in the gateway.
"""

import asyncio
import contextlib
import json
import logging
import resource
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import zmq
from websockets.asyncio.server import Server as WebSocketServer
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.typing import Subprotocol

from diart_mp.errors import UsageError
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.runtime.status import ask
from diart_mp.topology import GatewayConfig, Topology
from diart_mp.web import http
from diart_mp.web.compat import CompatConnection
from diart_mp.web.connection import Connection
from diart_mp.web.metrics import Metrics
from diart_mp.web.probe import Probe
from diart_mp.web.protocol import GOING_AWAY, INTERNAL, SUBPROTOCOL, TRY_LATER, ClientError, Code
from diart_mp.web.sessions import Sessions
from diart_mp.web.tls import make_tls
from diart_mp.web.tokens import Tokens, is_loopback

_LAST_WORDS_S = 4.0  # that streams may take to end when the gateway does
_CLOSE_S = 2.0  # that a client may take to answer a close
_REASON_S = 5.0  # that it may take to read why it is closed, behind all that waits for it
_FLOW_S = 0.25  # between two words to the supervisor that results come
_SEND_BUFFER = 1 << 16  # bytes
_PER_STREAM = 4  # connections per stream that may be open, started or not
_LOG = logging.getLogger(__name__)


class Server:
    """Serves the clients of ``config``. ``run`` does it all; ``drain`` and ``on_owner_end`` come from the owner's thread."""

    def __init__(
        self, topology: Topology, config: GatewayConfig, *, epoch: int, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        self._topology, self._config, self._epoch, self._context = topology, config, epoch, context
        self._tokens = Tokens(config.token, Path(config.token_file) if config.token_file else None)
        self._tokens.check_host(config.host, insecure=config.insecure)
        self._tokens.check_metrics(protect=config.protect_metrics)
        self._origins = frozenset(map(http.parse_origin, config.origins))
        self._tls = make_tls(config.cert, config.key)
        self._metrics = Metrics()
        self._closing: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._failure: BaseException | None = None
        self._connections = 0
        self._served = 0  # connections whose token is good, and that are not being closed
        self._results = 0

    async def run(self, hosted: HostedOwner, ready: Callable[[], None]) -> None:
        """Until a drain or SIGTERM; raises what the owner's thread ended with."""
        _allow_many_files()
        self._loop, self._closing = asyncio.get_running_loop(), asyncio.Event()
        self._hosted = hosted
        self._sessions = Sessions(self._topology, self._config, epoch=self._epoch, hosted=hosted, metrics=self._metrics)
        self._probe = Probe(self._topology, epoch=self._epoch, hosted=hosted, settings=self._config.settings)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._closing.set)
        self._sessions.adopt()
        async with await self._listen() as server:
            ready()  # the control socket is the owner's thread's from now on
            hosted.start()
            probing = [asyncio.create_task(self._probe.run()), asyncio.create_task(self._tell_flow())]
            await self._closing.wait()
            await self._end(server)
            for task in probing:
                task.cancel()
        hosted.stop()
        if self._failure is not None:
            raise self._failure

    def drain(self) -> None:
        """End well; from any thread."""
        if self._loop is not None and self._closing is not None:
            self._loop.call_soon_threadsafe(self._closing.set)

    def on_owner_end(self, error: BaseException | None) -> None:
        """The owner's thread has ended; from that thread. Without it there is nothing to serve."""
        self._failure = error
        with contextlib.suppress(RuntimeError):  # the loop has ended, too
            self.drain()

    async def _listen(self) -> WebSocketServer:
        config = self._config
        limits: dict[str, Any] = {
            "subprotocols": [Subprotocol(SUBPROTOCOL)],
            "select_subprotocol": _select,
            "compression": None,
            "max_size": config.max_message,
            "open_timeout": config.start_s,
            "close_timeout": _CLOSE_S,
            "process_request": self._on_request,
            "server_header": "diart-mp",
            "ssl": self._tls,
            "ssl_handshake_timeout": None if self._tls is None else config.start_s,  # else it may take a minute
        }
        if config.fd >= 0:
            listening = socket.socket(fileno=config.fd)
            return await serve(self._on_connection, sock=listening, **limits)
        try:
            return await serve(self._on_connection, config.host, config.port, **limits)
        except OSError as error:
            msg = f"cannot listen at {config.host}:{config.port}: {error.strerror or error}; is another one running there?"
            raise UsageError(msg) from error

    async def _end(self, server: WebSocketServer) -> None:
        """All streams end; their clients get their last segments and a reason."""
        server.close(close_connections=False)
        for session in self._sessions:
            session.end()
        if self._failure is None:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._sessions.idle.wait(), _LAST_WORDS_S)

    # --- HTTP

    async def _on_request(self, _: ServerConnection, request: Request) -> Response | None:
        local_only = not self._tokens.needed and is_loopback(self._config.host)
        why = http.foreign(request, local_only=local_only, origins=self._origins)
        if why:
            return http.respond(403, f"{why}\n".encode())
        if http.is_upgrade(request):
            return None
        return await self._answer(request, urlsplit(request.path).path)

    async def _answer(self, request: Request, path: str) -> Response:
        if path == "/v1/sessions":
            return http.token_for_one(request, self._tokens)
        if path == "/livez":
            return _verdict(self._hosted.alive, "the owner of the streams does not turn")
        if path == "/readyz":
            return _verdict(self._ready(), "no chunk has gone through the stages lately")
        if path == "/metrics":
            return await self._on_metrics(request)
        return http.page(path) or http.respond(404, b"there is nothing here; the page is at /\n")

    def _ready(self) -> bool:
        closing = self._closing is not None and self._closing.is_set()
        return self._probe.ready and not closing

    async def _on_metrics(self, request: Request) -> Response:
        if self._config.protect_metrics:
            try:
                self._tokens.check(http.bearer(request))
            except ClientError as error:
                return http.refuse(error)
        self._metrics.ready.set(self._ready())
        if self._topology.control:
            status = await asyncio.to_thread(ask, self._context, self._topology.control)
            self._metrics.on_status(status or {})
        return http.respond(200, self._metrics.text(), "text/plain; version=0.0.4; charset=utf-8")

    # --- WebSocket

    async def _on_connection(self, websocket: ServerConnection) -> None:
        self._connections += 1
        self._metrics.connections.set(self._connections)
        wire = websocket.transport.get_extra_info("socket")
        with contextlib.suppress(OSError):  # the kernel is not to hide a slow reader for megabytes
            wire.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        try:
            await self._serve(websocket)
        except ClientError as error:
            await self._refuse(websocket, error)
        except ConnectionClosed:
            pass
        except Exception:  # noqa: BLE001  # it must not take the other clients with it
            _LOG.exception("a connection failed")
            await self._refuse(websocket, ClientError(Code.INTERNAL, "a mistake of the server", close=INTERNAL))
        finally:
            self._connections -= 1
            self._metrics.connections.set(self._connections)

    async def _serve(self, websocket: ServerConnection) -> None:
        request = websocket.request
        grant = self._tokens.admit(http.bearer(request) if request is not None else "")
        if self._closing is None or self._closing.is_set():
            msg = "the server is shutting down"
            raise ClientError(Code.CLOSING, msg, close=GOING_AWAY, retryable=True)
        if self._served >= _PER_STREAM * self._config.max_streams:
            msg = f"there are {self._served} connections already; try again later"
            raise ClientError(Code.FULL, msg, close=TRY_LATER, retryable=True)
        kind = Connection if websocket.subprotocol == SUBPROTOCOL else CompatConnection
        self._served += 1
        try:
            await kind(websocket, self._sessions, self._config, grant).run()
        finally:
            self._served -= 1

    async def _refuse(self, websocket: ServerConnection, error: ClientError) -> None:
        self._metrics.errors.labels(str(error.code)).inc()
        try:
            async with asyncio.timeout(_REASON_S):
                if websocket.subprotocol == SUBPROTOCOL:
                    await websocket.send(json.dumps(error.to_message()))
                await websocket.close(error.close, str(error.code))
        except ConnectionClosed:
            pass
        except TimeoutError:
            websocket.transport.abort()  # it does not even read that

    async def _tell_flow(self) -> None:
        """Tell the probe and the supervisor that results come."""
        while True:
            results = self._metrics.result_count
            if results != self._results:
                self._results = results
                self._probe.on_result()
                self._hosted.call(lambda: self._hosted.owner.report("flow"))
            await asyncio.sleep(_FLOW_S)


def _select(_: ServerConnection, offered: Any) -> Subprotocol | None:
    """Ours if the client offers it; none, for diart's clients, if it offers nothing that is known."""
    return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None


def _verdict(good: bool, otherwise: str) -> Response:
    return http.respond(200, b"ok\n") if good else http.respond(503, f"{otherwise}\n".encode())


def _allow_many_files() -> None:
    """As many open connections as the system allows: those who only knock must not keep others out."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
