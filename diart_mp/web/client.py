"""A client of the gateway: streams a source, follows the segments, and comes back by itself when the network or the server breaks.

It keeps the audio that the server has not acknowledged (and a little more), so that a new connection goes on where the stream is.
Knows nothing of terminals. Runs in the process of ``diart-mp client``, and in whatever else wants to stream.
"""

import asyncio
import contextlib
import json
import ssl
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.source import Source
from diart_mp.errors import DiartMpError
from diart_mp.web.protocol import SUBPROTOCOL

_KEPT_S = 2.0  # of acknowledged audio that is kept: a new server process may want some of it again
_FAST_AHEAD_S = 30.0  # of unacknowledged audio from which a recording is not read on
_LIVE_HELD_S = 300.0  # of unacknowledged audio that a live source may pile up while the server is away
_AT_ONCE_S = 1.0  # of live audio that piled up: so much is no hurry yet
_BLOCK_S = 0.1  # of audio in a message
_PAUSES_S = (0.0, 0.1, 0.25, 0.5, 1.0)  # between attempts to connect
_ROOM_S = 0.02


class ServerError(DiartMpError):
    """The server refused the stream, or cannot be reached any more."""


class HeldAudio:
    """The newest samples of a source, by position, until the server has them. ``limit``: the most that is held, in samples."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._blocks: deque[NDArray[np.float32]] = deque()
        self.first = self.end = 0
        self.ended = False
        self.lost = 0

    def append(self, samples: NDArray[np.float32]) -> None:
        """The source gave more; the oldest beyond the limit are lost."""
        self._blocks.append(samples)
        self.end += len(samples)
        while self.end - self.first > self._limit:
            self.lost += self._drop()

    def release(self, before: int) -> None:
        """What lies before that position will not be wanted again."""
        while self._blocks and self.first + len(self._blocks[0]) <= before:
            self._drop()

    def take(self, position: int, most: int) -> NDArray[np.float32]:
        """Up to ``most`` samples from ``position`` on; silence where they are not held any more."""
        if position < self.first:
            return np.zeros(min(most, self.first - position), np.float32)
        begin = self.first
        for block in self._blocks:
            if position < begin + len(block):
                return block[position - begin : position - begin + most]
            begin += len(block)
        return np.zeros(0, np.float32)

    def _drop(self) -> int:
        gone = len(self._blocks.popleft())
        self.first += gone
        return gone


class StreamClient:
    """Streams one source to ``url`` (ws:// or wss://). ``on_message`` gets every message of the server, each final segment once.

    ``fast``: the source is a recording that is sent as fast as the server takes it. ``patience_s``: how long to try to reach the server
    again. ``settings`` are wishes as in the protocol's ``diarization``. Raises ServerError; AudioError from the source.
    """

    def __init__(
        self,
        url: str,
        source: Source,
        *,
        on_message: Callable[[dict[str, Any]], None],
        token: str = "",
        fast: bool = False,
        settings: Mapping[str, Any] | None = None,
        tls: ssl.SSLContext | None = None,
        patience_s: float = 60.0,
    ) -> None:
        self._url, self._source, self._on_message, self._token = url, source, on_message, token
        self._fast, self._settings, self._tls, self._patience_s = fast, dict(settings or {}), tls, patience_s
        limit_s = 2 * _FAST_AHEAD_S if fast else _LIVE_HELD_S
        self._held = HeldAudio(round(limit_s * source.rate))
        self._more = asyncio.Event()
        self._resume_token = ""
        self._finals = 0
        self._stopping = False
        self.reconnects = 0

    def stop(self) -> None:
        """Take no more audio; ``run`` ends with the last segments. From the loop's thread."""
        self._stopping = True
        self._held.ended = True
        self._more.set()

    async def run(self) -> dict[str, Any]:
        """Until the stream has ended; the server's ``ended`` message, with ``cut``: whether the server ended it before the source did."""
        reading = asyncio.create_task(self._read_source())
        try:
            return await self._stream(reading)
        finally:
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

    async def _stream(self, reading: asyncio.Task[None]) -> dict[str, Any]:
        from websockets.exceptions import ConnectionClosed, InvalidHandshake

        attempt, gone_since = 0, time.monotonic()
        while True:
            await asyncio.sleep(_PAUSES_S[min(attempt, len(_PAUSES_S) - 1)])
            known = self._resume_token
            try:
                return await self._connect(reading)
            except InvalidHandshake as error:
                if known:  # it was one before: it is being started again, or what stands before it says so
                    attempt, gone_since = self._lost(error, attempt, gone_since)
                    continue
                msg = f"{self._url} answers, but not as a gateway of diart-mp does ({error}); is it the right address?"
                raise ServerError(msg) from error
            except (OSError, ConnectionClosed, TimeoutError, _Again) as error:
                if not known and not self._resume_token and not isinstance(error, _Again):
                    msg = f"cannot reach {self._url}: {_reason(error)}; is the server running there (diart-mp serve)?"
                    raise ServerError(msg) from error
                attempt, gone_since = self._lost(error, attempt, gone_since)

    def _lost(self, error: Exception, attempt: int, gone_since: float) -> tuple[int, float]:
        """The connection broke, or could not be made: how often in a row, and since when. ServerError once patience is over."""
        if self._connected_at is not None:
            gone_since, attempt, self._connected_at = time.monotonic(), 0, None
        if time.monotonic() - gone_since > self._patience_s:
            msg = f"no stream at {self._url} for {self._patience_s:g} s: {_reason(error)}"
            raise ServerError(msg) from error
        if attempt == 0:
            self._on_message({"type": "disconnected", "message": _reason(error)})
        return attempt + 1, gone_since

    _connected_at: float | None = None

    async def _connect(self, reading: asyncio.Task[None]) -> dict[str, Any]:
        from websockets.asyncio.client import connect

        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        async with connect(
            self._url,
            subprotocols=[SUBPROTOCOL],  # type: ignore[list-item]
            additional_headers=headers,
            compression=None,
            ssl=self._tls,
            proxy=None,
            open_timeout=5,
            close_timeout=1,
        ) as websocket:
            await websocket.send(json.dumps(self._hello()))
            started = self._on_started(json.loads(await websocket.recv()))
            sending = asyncio.create_task(self._send(websocket, started))
            receiving = asyncio.create_task(self._receive(websocket))
            pending: set[asyncio.Future[Any]] = {sending, receiving, reading}
            try:
                while not receiving.done():
                    done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
                    for task in done - {receiving, sending}:
                        task.result()  # the source may have failed
                return receiving.result()
            finally:
                sending.cancel()
                receiving.cancel()
                await asyncio.gather(sending, receiving, return_exceptions=True)

    def _hello(self) -> dict[str, Any]:
        if self._resume_token:
            return {
                "type": "start",
                "protocol": SUBPROTOCOL,
                "resume_token": self._resume_token,
                "finals": self._finals,
            }
        return {
            "type": "start",
            "protocol": SUBPROTOCOL,
            "audio": {"encoding": "pcm_f32le", "rate": self._source.rate, "channels": 1},
            "diarization": self._settings,
            "pace": "fast" if self._fast else "live",
        }

    def _on_started(self, message: dict[str, Any]) -> dict[str, Any]:
        if message["type"] == "error":
            raise _refusal(message)
        self._connected_at = time.monotonic()
        if self._resume_token:
            self.reconnects += 1
        self._resume_token = message["resume_token"]
        self._on_message(message)
        return message

    async def _send(self, websocket: Any, started: Mapping[str, Any]) -> None:
        rate, position = self._source.rate, int(started["samples"])
        most = round(_BLOCK_S * rate) * (10 if self._fast else 1)
        # What piled up meanwhile must not come at once: the stages would skip most of it to be at the newest again.
        pace = None if self._fast else CatchUp(position / rate, started["limits"]["max_rate"], time.monotonic())
        while True:
            block = self._held.take(position, most)
            if len(block):
                await websocket.send(block.tobytes())
                position += len(block)
                if pace is not None:
                    await asyncio.sleep(pace.wait_s(position / rate, time.monotonic()))
            elif self._held.ended:
                await websocket.send(json.dumps({"type": "stop"}))
                return
            else:
                self._more.clear()
                await self._more.wait()

    async def _receive(self, websocket: Any) -> dict[str, Any]:
        while True:
            message = json.loads(await websocket.recv())
            if message["type"] == "error":
                raise _refusal(message)
            if message["type"] == "ack":
                self._held.release(message["samples"] - round(_KEPT_S * self._source.rate))
            if message["type"] == "segment" and message["final"]:
                self._finals = message["index"] + 1
            self._on_message(message)
            if message["type"] == "ended":
                whole = message["reason"] == "stopped" or (
                    self._held.ended and message["audio_s"] * self._source.rate > self._held.end - 1
                )
                return {**message, "cut": not whole}

    async def _read_source(self) -> None:
        loop, descriptor = asyncio.get_running_loop(), self._source.fileno()
        readable = asyncio.Event()
        if descriptor is not None:
            loop.add_reader(descriptor, readable.set)
        try:
            while not self._held.ended:
                block = self._source.read()
                if block is None:
                    self._held.ended = True
                elif len(block):
                    self._held.append(np.ascontiguousarray(block))
                self._more.set()
                if descriptor is not None and block is not None and not len(block):
                    readable.clear()
                    await readable.wait()
                while self._fast and self._held.end - self._held.first > _FAST_AHEAD_S * self._source.rate:
                    await asyncio.sleep(_ROOM_S)
                await asyncio.sleep(0)
        finally:
            if descriptor is not None:
                loop.remove_reader(descriptor)


class CatchUp:
    """How fast live audio that piled up is sent: from ``first_s`` of the stream on, ``rate`` times as fast as the clock."""

    def __init__(self, first_s: float, rate: float, now: float) -> None:
        self._first_s, self._rate, self._begun = first_s + _AT_ONCE_S, rate, now

    def wait_s(self, sent_s: float, now: float) -> float:
        """How long to wait once so much of the stream was sent."""
        return max(0.0, (sent_s - self._first_s) / self._rate - (now - self._begun))


class _Again(Exception):  # noqa: N818  # not an error: the server asks to come back
    """The server could not go on now, but may later."""


def _refusal(message: Mapping[str, Any]) -> Exception:
    text = f"{message['message']} ({message['code']})"
    return _Again(text) if message["retryable"] else ServerError(f"the server refused: {text}")


def _reason(error: BaseException) -> str:
    return str(error) or type(error).__name__
