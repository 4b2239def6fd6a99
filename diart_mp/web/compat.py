"""A connection that speaks as ``diart.serve`` does, so that ``diart.client`` works unchanged.

Text messages in are base64 of float32 samples (16 kHz, mono) in blocks of any length; text messages out are RTTM lines, those of
one result each, sent where somebody spoke. There is no start and no end: the stream ends with the connection, or when no audio has
come for a while; then the last turns are told and the connection is closed. Runs in the gateway.
"""

import asyncio
import base64
import binascii
import contextlib
from typing import Any

from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed

from diart_mp.outputs.formats import Rttm
from diart_mp.outputs.stitching import Stitcher
from diart_mp.topology import GatewayConfig
from diart_mp.turns import Update
from diart_mp.web.protocol import POLICY, UNSUPPORTED, ClientError, Code, Start
from diart_mp.web.sessions import Sessions
from diart_mp.web.tokens import Grant


class CompatConnection:
    """A client of diart's; a ``session.Listener``."""

    def __init__(self, websocket: ServerConnection, sessions: Sessions, config: GatewayConfig, grant: Grant) -> None:
        self._websocket, self._sessions, self._config, self._grant = websocket, sessions, config, grant
        self._outbox: asyncio.Queue[str | None] = asyncio.Queue(config.max_waiting)
        self._error: ClientError | None = None
        self._dropped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._format = Rttm(f"{config.host}:{config.port}", config.settings.rate, recorded=False)

    async def run(self) -> None:
        """To the end of the connection; ClientError for what ends it early."""
        # diart.client sends a file as fast as it can, and cannot wait for what it is told.
        start = Start(self._config.settings, "pcm_f32le", self._config.settings.rate, live=False)
        session, _ = await self._sessions.begin(start, self._grant)
        session.attach(self)
        writing, reading = asyncio.create_task(self._write()), asyncio.create_task(self._read(session))
        try:
            await asyncio.wait({writing, reading, self._dropped}, return_when=asyncio.FIRST_COMPLETED)
            if self._error is not None:
                raise self._error
            for task in (reading, writing):
                if task.done():
                    task.result()
        except ConnectionClosed:
            pass
        finally:
            for task in (reading, writing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError, ConnectionClosed, ClientError):
                    await task
            if session.detach(self):
                self._sessions.leave(session, final=True)

    def post(self, message: dict[str, Any]) -> None:
        """See ``session.Listener``: there is nothing but turns here."""

    def on_update(self, update: Update) -> None:
        """See ``session.Listener``."""
        stitcher = Stitcher(update.rate)  # within one result, as diart's sinks do
        turns = sorted([*stitcher.push(update), *stitcher.finish()])
        if turns:
            self._put("".join(map(self._format.turn, turns)))

    def on_finished(self) -> None:
        """See ``session.Listener``."""
        self._put(None)

    def drop(self, error: ClientError) -> None:
        """See ``session.Listener``."""
        self._error = self._error or error
        if not self._dropped.done():
            self._dropped.set_result(None)  # the writer may be stuck with a client that does not read

    def _put(self, text: str | None) -> None:
        try:
            self._outbox.put_nowait(text)
        except asyncio.QueueFull:
            msg = f"{self._config.max_waiting} messages wait to be read"
            self.drop(ClientError(Code.SLOW_READER, msg, close=POLICY))

    async def _write(self) -> None:
        while (text := await self._outbox.get()) is not None:
            await self._websocket.send(text)

    async def _read(self, session: Any) -> None:
        while True:
            try:
                said = await asyncio.wait_for(self._websocket.recv(), self._config.idle_s)
            except TimeoutError:
                session.end()  # there is no word for it: what is there is diarized to its end, and told
                await self._websocket.wait_closed()
                return
            try:
                data = base64.b64decode(said, validate=True)
            except (binascii.Error, ValueError) as error:
                msg = "a message must be base64 of float32 samples, as diart.client sends it; "
                msg += "for the protocol with JSON, ask for the sub-protocol diart-mp.v1"
                raise ClientError(Code.BAD_MESSAGE, msg, close=UNSUPPORTED) from error
            await session.audio.take(data)
