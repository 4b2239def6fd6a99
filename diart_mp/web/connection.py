"""One WebSocket connection that speaks ``diart-mp.v1``: reads what the client says, writes what its session posts.

Connections come and go; the session stays. Whatever a client does wrong ends its connection with a typed error and a close code,
and touches nobody else. Runs in the gateway.
"""

import asyncio
import contextlib
import json
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from diart_mp import __version__
from diart_mp.topology import GatewayConfig
from diart_mp.turns import Update
from diart_mp.web.audio import Allowance
from diart_mp.web.protocol import (
    GOING_AWAY,
    NORMAL,
    POLICY,
    PROTOCOL,
    SUBPROTOCOL,
    Change,
    ClientError,
    Code,
    Resume,
    Start,
    parse_message,
)
from diart_mp.web.session import Session
from diart_mp.web.sessions import Sessions
from diart_mp.web.tokens import Grant

_MESSAGES, _MESSAGES_AT_ONCE = 100, 1000  # that a client may say besides audio: every second, and all at once


class Connection:
    """A client that is there. ``run`` serves it to its end; it is a ``session.Listener``."""

    def __init__(self, websocket: ServerConnection, sessions: Sessions, config: GatewayConfig, grant: Grant) -> None:
        self._websocket, self._sessions, self._config, self._grant = websocket, sessions, config, grant
        self._outbox: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(config.max_waiting)
        self._error: ClientError | None = None
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._session: Session | None = None
        self._stopped = False
        self._idle_s = config.idle_s
        self._told_end = False
        self._allowance = Allowance(_MESSAGES, _MESSAGES_AT_ONCE, _MESSAGES_AT_ONCE)

    async def run(self) -> None:
        """From the ``start`` message to the close; ClientError for what ends it early."""
        session, started = await self._begin()
        self._session = session
        missed = started.pop("missed")
        session.attach(self)
        final = False
        writing = asyncio.create_task(self._write([started, *missed]))
        reading = asyncio.create_task(self._read(session))
        try:
            if session.error is not None:
                raise session.error
            if session.finished:
                self.on_finished()
            await asyncio.wait({writing, reading, self._dropped}, return_when=asyncio.FIRST_COMPLETED)
            final = self._told_end and self._websocket.close_code in (NORMAL, GOING_AWAY)
            if self._error is not None:
                raise self._error
            for task in (reading, writing):
                if task.done():
                    task.result()
        except ConnectionClosed as closed:
            final = closed.rcvd is not None and (self._told_end or closed.rcvd.code == NORMAL)
        except ClientError as error:
            final = not error.retryable and error.code != Code.REPLACED
            raise
        finally:
            for task in (reading, writing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, ClientError):
                    await task
            if session.detach(self):
                self._sessions.leave(session, final=final)

    # --- what the session tells

    def post(self, message: dict[str, Any]) -> None:
        """See ``session.Listener``. A client that does not read is dropped rather than waited for."""
        try:
            self._outbox.put_nowait(message)
        except asyncio.QueueFull:
            msg = f"{self._config.max_waiting} messages wait to be read; read faster, then resume"
            self.drop(ClientError(Code.SLOW_READER, msg, close=POLICY, retryable=True))

    def on_update(self, update: Update) -> None:
        """See ``session.Listener``."""

    def on_finished(self) -> None:
        """See ``session.Listener``."""
        session = self._session
        if session is not None:
            reason = "stopped" if session.stopped else "closing"
            ended = {"type": "ended", "audio_s": round(session.audio_s, 6), "segments": session.segments.count}
            self.post({**ended, "reason": reason})
            self._post_end()

    def drop(self, error: ClientError) -> None:
        """See ``session.Listener``."""
        self._error = self._error or error
        if not self._dropped.done():
            self._dropped.set_result(None)  # the writer may be stuck with a client that does not read

    def _post_end(self) -> None:
        with contextlib.suppress(asyncio.QueueFull):  # then it is dropped as a slow reader already
            self._outbox.put_nowait(None)

    # --- what the client says

    async def _begin(self) -> tuple[Session, dict[str, Any]]:
        try:
            said = await asyncio.wait_for(self._websocket.recv(), self._config.start_s)
        except TimeoutError as error:
            msg = f"no 'start' came within {self._config.start_s:g} s of connecting"
            raise ClientError(Code.START_TIMEOUT, msg, close=POLICY) from error
        message = parse_message(said) if isinstance(said, str) else {"type": "audio"}
        if message["type"] != "start":
            msg = f"the first message must be 'start', not {message['type']!r:.40}"
            raise ClientError(Code.BAD_ORDER, msg, close=PROTOCOL)
        if "resume_token" in message:
            resume = Resume.parse(message)
            session = await self._sessions.resume(resume, self._grant)
            missed = [*session.segments.finals(resume.finals), *session.segments.partials(), *session.revised()]
            return session, self._started(session, resume.token, missed, resumed=True)
        gateway = self._config
        session, token = await self._sessions.begin(Start.parse(message, gateway.settings), self._grant)
        return session, self._started(session, token, [], resumed=False)

    def _started(self, session: Session, token: str, missed: list[dict[str, Any]], *, resumed: bool) -> dict[str, Any]:
        config = self._config
        limits = {
            "max_message_bytes": config.max_message,
            "max_rate": config.max_rate,
            "burst_s": config.burst_s,
            "idle_s": config.idle_s,
            "resume_s": config.resume_s,
        }
        return {
            "type": "started",
            "protocol": SUBPROTOCOL,
            "server": f"diart-mp {__version__}",
            "session": session.ticket.id,
            "resume_token": token,
            "resumed": resumed,
            "samples": session.audio.reconnect(),
            "limits": limits,
            "missed": missed,
        }

    async def _read(self, session: Session) -> None:
        while True:
            # Who has said "stop" has nothing more to say, however long the stages take for the rest.
            patience = None if self._stopped or session.audio.source.over else self._idle_s
            try:
                said = await asyncio.wait_for(self._websocket.recv(), patience)
            except TimeoutError as error:
                msg = f"nothing came for {self._idle_s:g} s; send audio, or 'keepalive'"
                raise ClientError(Code.IDLE, msg, close=POLICY, retryable=True) from error
            if isinstance(said, bytes):
                if self._stopped:
                    msg = "audio came after 'stop'"
                    raise ClientError(Code.BAD_ORDER, msg, close=PROTOCOL)
                await session.audio.take(said)
            else:
                self._obey(session, parse_message(said))

    def _obey(self, session: Session, message: dict[str, Any]) -> None:
        kind = message["type"]
        if not self._allowance.spend(1):
            msg = f"more than {_MESSAGES} messages a second besides audio, and {_MESSAGES_AT_ONCE} at once; say less, then resume"
            raise ClientError(Code.TOO_MANY, msg, close=POLICY, retryable=True)
        if kind == "stop":
            self._stopped = session.stopped = True
            session.end()
        elif kind == "flush":
            session.flush()
        elif kind == "update":
            self._change(session, Change.parse(message, self._config.idle_s))
        elif kind == "start":
            msg = "'start' came twice; a connection has one stream"
            raise ClientError(Code.BAD_ORDER, msg, close=PROTOCOL)
        elif kind != "keepalive":
            msg = f"a message of type {kind!r:.40} is not known; known: start, flush, update, keepalive, stop"
            raise ClientError(Code.BAD_MESSAGE, msg)

    def _change(self, session: Session, change: Change) -> None:
        self._idle_s = self._idle_s if change.idle_s is None else change.idle_s
        if change.label is not None:
            self._sessions.label(session, change.label)
        self.post({"type": "updated", "idle_s": self._idle_s})

    # --- what goes to the client

    async def _write(self, first: list[dict[str, Any]]) -> None:
        for message in first:
            await self._send(message)
        while (message := await self._outbox.get()) is not None:  # type: ignore[assignment]
            await self._send(message)
        if self._error is None:
            self._told_end = True
            stopped = self._session is not None and self._session.stopped
            await self._websocket.close(NORMAL if stopped else GOING_AWAY)

    async def _send(self, message: dict[str, Any]) -> None:
        await self._websocket.send(json.dumps(message, ensure_ascii=False))
