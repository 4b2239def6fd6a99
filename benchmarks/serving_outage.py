"""A client whose network is gone for some seconds. Used by ``benchmarks.serving``; tests have the proxy, too."""

import asyncio
import re
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from benchmarks.served import COMMAND, RATE, Server, load, of_files
from benchmarks.transport import Figure
from diart_mp.evaluation.der import diarization_error
from diart_mp.outputs.read import load_rttm

_BREAKS = ((8.0, 5.0), (18.0, 5.0))  # s after the start, and for how long


class Proxy:
    """Passes connections on to ``port`` of this machine, until it is cut; a context manager with a thread of its own."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._writers: set[asyncio.StreamWriter] = set()
        self._passing: set[asyncio.Task[Any]] = set()
        self._server: asyncio.Server | None = None
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        self.mend()
        return self

    def __exit__(self, *_: object) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def mend(self) -> None:
        """Listen, always at the same port."""
        self._in_loop(self._listen())

    def cut(self) -> None:
        """All connections are gone, without any word; new ones are refused."""
        self._in_loop(self._close())

    def _in_loop(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._on_connection, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        if self._passing:
            await asyncio.wait(self._passing)
        await asyncio.sleep(0)  # so that the last sockets are closed, too

    async def _on_connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there_reader, there = await asyncio.open_connection("127.0.0.1", self._to)
        except OSError:
            writer.transport.abort()
            return
        ways = {asyncio.create_task(_pass(reader, there)), asyncio.create_task(_pass(there_reader, writer))}
        self._passing |= ways
        self._writers |= {writer, there}
        await asyncio.wait(ways)
        self._passing -= ways
        self._writers -= {writer, there}


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.transport.abort()
    writer.close()


def outage(recording: Path) -> tuple[list[Figure], list[str]]:
    """``diart-mp client`` at live pace, its network gone twice for 5 s: its turns beside those of the file."""
    expected = of_files([recording]).get(recording.stem, [])
    duration = len(load(recording)) / RATE
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        port = int(server.url.rstrip("/").rpartition(":")[2])
        output = Path(folder) / "told.rttm"
        with Proxy(port) as proxy:
            command: list[str | Path] = [COMMAND, "client", recording, "--port", str(proxy.port), "-o", output]
            begun = time.monotonic()
            with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
                for at, seconds in _BREAKS:
                    time.sleep(max(0.0, begun + at - time.monotonic()))
                    proxy.cut()
                    time.sleep(seconds)
                    proxy.mend()
                notes = process.communicate(timeout=2 * duration + 60)[1]
        told = load_rttm(output).get(recording.stem, [])
        dropped = server.metric("dropped_audio_seconds_total")
        audio = server.metric("audio_seconds_total")
    error = diarization_error(expected, told, duration=duration)
    found = [
        Figure("turns beside the file's, DER, %", 100 * error.rate, 0.5),
        Figure("resumed", len(re.findall("the stream goes on", notes)), len(_BREAKS), at_least=True),
        Figure("audio that was lost, s", round(dropped + max(0.0, duration - audio), 2), 0.01),
        Figure("speakers, more or fewer", abs(len({s for *_, s in told}) - len({s for *_, s in expected})), 0),
    ]
    return found, notes.splitlines()
