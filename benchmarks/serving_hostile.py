"""What must not be sent, and good clients beside it. Used by ``benchmarks.serving``.

    python -m benchmarks.serving_hostile KIND URL SECONDS    one kind of offender, in a process of its own

Kinds: ``crawl`` (requests and messages that come byte by byte), ``noise`` (random text and bytes, half frames, wrong order), ``connect``
(10,000 connections in a minute), ``huge`` (messages of 100 MB), ``deaf`` (asks, and does not read), and, of no ill will,
``hasty`` (two recordings as fast as they are taken). Prints how often which close code came.
"""

import asyncio
import base64
import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, WebSocketException

from benchmarks.served import RATE, Player, Server, load, percentile
from benchmarks.transport import Figure
from diart_mp.evaluation.bench_audio import sample_recording
from diart_mp.web.protocol import SUBPROTOCOL

GOOD = 4  # clients
PHASE_S = 20.0
LONGER_S = {"connect": 60.0}
KINDS = ("crawl", "noise", "connect", "huge", "deaf", "hasty")
# How many times slower than in quiet, 1.3 beside others: whoever computes keeps a core until its chunk is done.
_MOST_TIMES = {"hasty": 2.0}
CONNECTS = 10_000
_LEAD_IN_S = 8.0
_MOST_S = 900.0  # that it may take in all


# --- the offenders


class Offender:
    """One kind of them at one server, for some seconds."""

    def __init__(self, url: str, seconds: float) -> None:
        self._url, self._seconds = url, seconds
        self._host, self._port = urlsplit(url).hostname or "", urlsplit(url).port or 0
        self._until = time.monotonic() + seconds
        self._random = random.Random(5)
        self.closed: Counter[str] = Counter()

    async def run(self, kind: str) -> None:
        """To the end of the time."""
        many = {"crawl": 200, "noise": 4, "connect": 1, "huge": 1, "deaf": 2, "hasty": 2}[kind]
        one: Callable[[], Awaitable[None]] = getattr(self, f"_{kind}")
        await asyncio.gather(*(self._again(one) for _ in range(many)))

    async def _again(self, one: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._until:
            with suppress(OSError, TimeoutError, WebSocketException, asyncio.IncompleteReadError):
                await one()

    async def _crawl(self) -> None:
        """A request of which a byte comes every half second."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        for byte in self._request():
            if time.monotonic() > self._until or writer.is_closing() or reader.at_eof():
                break
            writer.write(bytes([byte]))
            await asyncio.sleep(0.5)
        self.closed["hung up" if writer.is_closing() or reader.at_eof() else "time is over"] += 1
        writer.close()

    async def _noise(self) -> None:
        """Twenty times a second, something else that is wrong."""
        await asyncio.sleep(0.2)
        if self._random.random() < 0.3:
            _, writer = await asyncio.open_connection(self._host, self._port)
            writer.write(self._random.randbytes(self._random.randrange(1, 5000)))
            await writer.drain()
            writer.close()
            return
        async with self._connection() as websocket:
            choice = self._random.randrange(4)
            if choice == 0:
                await websocket.send(self._random.randbytes(400))
            elif choice == 1:
                await websocket.send("{" * self._random.randrange(1, 3000))
            elif choice == 2:
                await websocket.send('{"type": "stop"}')
            else:
                websocket.transport.write(self._random.randbytes(self._random.randrange(2, 300)))
            await self._end(websocket)

    async def _connect(self) -> None:
        """All connections, evenly over the time; every tenth asks for the protocol."""
        begin = time.monotonic()
        for number in range(CONNECTS):
            await asyncio.sleep(begin + number * self._seconds / CONNECTS - time.monotonic())
            with suppress(OSError):
                _, writer = await asyncio.open_connection(self._host, self._port)
                if number % 10 == 0:
                    writer.write(self._request())
                    await writer.drain()
                writer.close()
                self.closed["connected"] += 1

    async def _huge(self) -> None:
        """A message of 100 MB."""
        reader, writer = await asyncio.open_connection(self._host, self._port)
        writer.write(self._request() + _frame(b'{"type": "start"}'))
        writer.write(b"\x82\xff" + (100_000_000).to_bytes(8) + bytes(4))
        with suppress(OSError):
            for _ in range(100):
                writer.write(bytes(1_000_000))
                await asyncio.wait_for(writer.drain(), 10)
        with suppress(OSError, TimeoutError):
            heard = await asyncio.wait_for(reader.read(-1), 10)
            at = heard.rfind(b"\x88")  # the frame that closes
            self.closed[str(int.from_bytes(heard[at + 2 : at + 4])) if at >= 0 else "hung up"] += 1
        writer.close()
        await asyncio.sleep(1.0)

    async def _deaf(self) -> None:
        """Audio at the pace of the clock, a hundred questions with each block of it, and reads nothing."""
        reader, writer = await asyncio.open_connection(self._host, self._port, limit=1 << 10)
        writer.write(self._request())
        writer.write(_frame(b'{"type": "start"}'))
        with suppress(OSError):
            while time.monotonic() < self._until and not reader.at_eof():
                writer.write(_frame(b'{"type": "flush"}') * 100 + _frame(bytes(1600), kind=2))
                await writer.drain()
                await asyncio.sleep(0.05)
        self.closed["time is over" if time.monotonic() >= self._until else "hung up"] += 1
        writer.close()

    async def _hasty(self) -> None:
        """A recording over and over, at no pace but the server's."""
        recording = sample_recording()
        assert recording is not None  # the server's models need pyannote.audio, which brings it
        samples = (32767 * load(recording)).astype("<i2")
        async with self._connection() as websocket:
            await websocket.send('{"type": "start", "pace": "fast"}')
            hearing = asyncio.create_task(self._hear(websocket))
            while time.monotonic() < self._until:
                for first in range(0, len(samples), RATE):
                    await websocket.send(samples[first : first + RATE].tobytes())
            hearing.cancel()
        self.closed["time is over"] += 1

    async def _hear(self, websocket: ClientConnection) -> None:
        async for _ in websocket:
            self.closed["messages heard"] += 1

    def _connection(self) -> connect:
        return connect(self._url, subprotocols=[SUBPROTOCOL], compression=None, proxy=None, close_timeout=2)  # type: ignore[list-item]

    async def _end(self, websocket: ClientConnection) -> None:
        with suppress(ConnectionClosed):
            while True:
                await asyncio.wait_for(websocket.recv(), 10)
        code = websocket.close_code
        self.closed[str(code)] += 1

    def _request(self) -> bytes:
        key = base64.b64encode(bytes(16)).decode()
        lines = ["GET / HTTP/1.1", f"Host: {self._host}:{self._port}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", f"Sec-WebSocket-Protocol: {SUBPROTOCOL}"]
        return "\r\n".join([*lines, "", ""]).encode()


def _frame(data: bytes, kind: int = 1) -> bytes:
    """A masked frame whose mask is zero."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    return bytes([0x80 | kind]) + size + bytes(4) + data


# --- beside good clients


async def _beside(
    server: Server, samples: np.ndarray
) -> tuple[list[Player], dict[str, list[tuple[float, float]]], list[str]]:
    """The good clients, when what went on (kind, or "quiet"), and what became of the offenders."""
    parts = [np.roll(samples, -n * len(samples) // GOOD) for n in range(GOOD)]
    players = [Player(server.url, np.resize(part, round(_MOST_S * RATE))) for part in parts]
    begin = time.monotonic() + 1
    playing = [asyncio.create_task(each.play(begin=begin + n * 0.125)) for n, each in enumerate(players)]
    await asyncio.sleep(_LEAD_IN_S)
    phases: dict[str, list[tuple[float, float]]] = {"quiet": []}
    rows = []
    for kind in KINDS:
        since = time.monotonic()
        await asyncio.sleep(PHASE_S)
        phases["quiet"].append((since, time.monotonic()))
        command = [
            sys.executable,
            "-m",
            "benchmarks.serving_hostile",
            kind,
            server.url,
            str(LONGER_S.get(kind, PHASE_S)),
        ]
        process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE)
        since, before = time.monotonic(), server.cpu()["gateway"]
        said, _ = await process.communicate()
        phases[kind] = [(since, time.monotonic())]
        busy = (server.cpu()["gateway"] - before) / (time.monotonic() - since)
        rows.append(f"{kind:<10}{said.decode().strip()}; the gateway worked {100 * busy:.0f} % of the time")
    for player in players:
        player.ending = True
    await asyncio.gather(*playing)
    return players, phases, rows


def hostile(recording: Path) -> tuple[list[Figure], list[str]]:
    """Quiet phases and phases with offenders in turn: p99 of the good clients."""
    with Server() as server:
        players, phases, rows = asyncio.run(_beside(server, load(recording)))
        skipped = server.metric("skipped_windows_total")
    delays: dict[str, list[float]] = {kind: [] for kind in phases}
    for at, delay in (result for player in players for result in player.results(_LEAD_IN_S)):
        for kind, times in phases.items():
            if any(since + 1 <= at - delay < until for since, until in times):
                delays[kind].append(1000 * delay)
    quiet = percentile(delays["quiet"], 99)
    found = [
        Figure(f"p99 beside {kind} / quiet", percentile(delays[kind], 99) / quiet, _MOST_TIMES.get(kind, 1.3))
        for kind in KINDS
    ]
    found.append(Figure("good clients that were closed", sum(each.close_code != 1000 for each in players), 0))
    found.append(Figure("windows skipped", skipped, 0))
    table = [f"{'':<10}{'results':>9}{'p50, ms':>9}{'p99, ms':>9}"]
    table += [f"{k:<10}{len(v):9}{percentile(v, 50):9.0f}{percentile(v, 99):9.0f}" for k, v in delays.items()]
    return found, [*table, "", *rows]


def main() -> None:
    """One kind of offender."""
    kind, url, seconds = sys.argv[1:]
    offender = Offender(url, float(seconds))
    asyncio.run(offender.run(kind))
    print(json.dumps(offender.closed))


if __name__ == "__main__":
    main()
