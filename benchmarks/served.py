"""A server started by its command, and clients that play recordings to it and note when what was said. For ``benchmarks.serving``.

Clients speak ``diart-mp.v1``, or as diart's own client does (text in both directions); those work with ``diart.serve``, too.
"""

import asyncio
import base64
import json
import math
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import psutil
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from diart_mp.audio.file import FileSource
from diart_mp.evaluation.der import SpeakerTurn
from diart_mp.outputs.read import load_rttm
from diart_mp.transport.ring import PREFIX, ring_directory
from diart_mp.web.protocol import SUBPROTOCOL

RATE = 16_000  # samples per second
STEP_S = 0.5  # between results
_FRAME_S = 0.02  # of the segmentation, a little more
COMMAND = Path(sys.executable).with_name("diart-mp")


def load(path: Path) -> np.ndarray:
    """All samples of a recording, float32, as ``diart-mp run`` reads them."""
    blocks = []
    with FileSource(path, rate=RATE) as source:
        while (block := source.read()) is not None:
            blocks.append(block)
    return np.concatenate(blocks)


def of_files(recordings: Sequence[Path]) -> dict[str, list[SpeakerTurn]]:
    """The turns that ``diart-mp run`` gives, by the names of the recordings."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--start", "early", "--quiet", "--format", "rttm", "--output", folder]
        subprocess.run([COMMAND, "run", *recordings, *options], check=True)
        found: dict[str, list[SpeakerTurn]] = {}
        for path in Path(folder).glob("*.rttm"):
            found |= load_rttm(path)
    return found


class Server:
    """``diart-mp serve`` with real stages, at a free port; a context manager."""

    def __init__(self, *options: str | Path) -> None:
        command = [COMMAND, "serve", "--port", "0", "--json", *options]
        self._process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        self.pids: dict[str, int] = {}
        self.url = ""
        for line in self._process.stderr:
            event: dict[str, Any] = json.loads(line) if line.startswith("{") else {"event": "text"}
            if event["event"] == "ready":
                self.pids = event["pids"]
            if event["event"] == "serving":
                self.url = str(event["url"]).replace("http", "ws", 1)
                break
        else:
            msg = "the server did not start"
            raise SystemExit(msg)
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def __enter__(self) -> Self:
        while self.get("/readyz")[0] != 200:
            time.sleep(0.1)
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)

    @property
    def processes(self) -> dict[str, psutil.Process]:
        """The supervisor and its stages."""
        found = {name: psutil.Process(pid) for name, pid in self.pids.items()}
        return {"supervisor": psutil.Process(self._process.pid), **found}

    def cpu(self) -> dict[str, float]:
        """Processor time of each process so far, s."""
        times = {name: process.cpu_times() for name, process in self.processes.items()}
        return {name: each.user + each.system for name, each in times.items()}

    def get(self, path: str) -> tuple[int, str]:
        """Status and body of a plain request."""
        try:
            with urllib.request.urlopen(self.url.replace("ws", "http", 1)[:-1] + path, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metric(self, name: str) -> float:
        """One figure of ``/metrics``, 0 where it is not there yet."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"diart_mp_{name} "):
                return float(line.rpartition(" ")[2])
        return 0.0

    def files(self) -> list[str]:
        """Rings and files of its clients' streams."""
        bound = [each.laddr for each in self.processes["supervisor"].net_connections("unix") if each.laddr]
        folder = Path(bound[0]).parent
        rings = [path.name for path in ring_directory().glob(f"{PREFIX}{folder.name}-*")]
        kinds = {".journal", ".checkpoint", ".session", ".new"}
        files = [path.name for path in folder.iterdir() if path.suffix in kinds]
        return [name for name in [*rings, *files] if "-probe-" not in name]

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            event = json.loads(line) if line.startswith("{") else {"event": "text", "text": line}
            if event["event"] in ("restart", "error", "failed", "text"):
                sys.stderr.write(f"{event.get('text', event)}\n")


class Player:
    """Plays samples in blocks at the pace of the clock. ``heard``: what came, with the moment (monotonic s) it came at."""

    def __init__(self, url: str, samples: np.ndarray, *, compat: bool = False, block_s: float = 0.1) -> None:
        self._url, self._samples, self._compat, self._block = url, samples, compat, round(block_s * RATE)
        self._sent: list[float] = []
        self.heard: list[tuple[float, Any]] = []
        self.close_code: int | None = None
        self.ending = False  # to be set by who wants it to stop before the end

    async def play(self, *, begin: float = 0.0, leave: bool = False) -> None:
        """Stream from ``begin`` (monotonic s; 0: now) to the end. ``leave``: go without a word then, as who loses the network."""
        async with connect(
            self._url,
            subprotocols=None if self._compat else [SUBPROTOCOL],  # type: ignore[list-item]
            compression=None,
            proxy=None,
            max_size=None,
            open_timeout=20,
            close_timeout=2,
            ping_interval=None,  # diart's server ends a connection on which a ping comes
        ) as websocket:
            if not self._compat:
                audio = {"encoding": "pcm_f32le", "rate": RATE, "channels": 1}
                await websocket.send(json.dumps({"type": "start", "audio": audio}))
            hearing = asyncio.create_task(self._hear(websocket))
            await self._send(websocket, begin or time.monotonic())
            if leave:
                websocket.transport.abort()
            elif self._compat:
                await asyncio.sleep(1.0)  # there is no word for "stop": what is on its way still comes
            else:
                await websocket.send('{"type": "stop"}')
            if not self._compat:
                await hearing
            hearing.cancel()

    async def _send(self, websocket: Any, begin: float) -> None:
        for number in range(math.ceil(len(self._samples) / self._block)):
            if self.ending:
                return
            block = self._samples[number * self._block : (number + 1) * self._block]
            data: str | bytes = base64.b64encode(block.tobytes()).decode() if self._compat else block.tobytes()
            await asyncio.sleep(begin + (number + 1) * self._block / RATE - time.monotonic())
            self._sent.append(time.monotonic())
            await websocket.send(data)

    async def _hear(self, websocket: Any) -> None:
        try:
            while True:
                said = await websocket.recv()
                self.heard.append((time.monotonic(), said if self._compat else json.loads(said)))
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006

    # --- what was heard

    def of(self, kind: str) -> list[tuple[float, dict[str, Any]]]:
        """The messages of one type."""
        return [(at, message) for at, message in self.heard if message["type"] == kind]

    def turns(self) -> list[SpeakerTurn]:
        """The final segments."""
        finals = [message for _, message in self.of("segment") if message["final"]]
        return [(each["start"], each["end"], each["speaker"]) for each in finals]

    def results(self, after: float = 5.0) -> list[tuple[float, float]]:
        """Per result that ends later than ``after`` s and says something: when it came, and how long after its last sample was sent, s."""
        found: dict[float, tuple[float, float]] = {}
        for at, message in self.heard:
            until = _end_of_text(message) if self._compat else _end_of_stats(message)
            if until is not None and until > after:
                found.setdefault(until, (at, at - self.sent_at(until)))
        return list(found.values())

    def latencies(self) -> list[float]:
        """Of all results after the first 5 s of audio, s."""
        return [delay for _, delay in self.results()]

    def sent_at(self, seconds: float) -> float:
        """When the sample at that position of the audio was sent."""
        block = math.ceil(round(seconds * RATE) / self._block) - 1
        return self._sent[min(max(block, 0), len(self._sent) - 1)]


def _end_of_stats(message: dict[str, Any]) -> float | None:
    return float(message["until"]) if message["type"] == "stats" else None


def _end_of_text(text: str) -> float | None:
    """The end of the step that RTTM lines speak of; a turn may end up to a frame behind it."""
    ends = [sum(map(float, line.split()[3:5])) for line in text.splitlines()]
    return math.ceil((max(ends) - _FRAME_S) / STEP_S) * STEP_S if ends else None


async def play_all(players: Sequence[Player]) -> None:
    """All at once, their steps spread evenly over one step."""
    begin = time.monotonic() + 1.0
    spread = STEP_S / len(players)
    await asyncio.gather(*(player.play(begin=begin + spread * n) for n, player in enumerate(players)))


def percentile(values: Sequence[float], percent: float) -> float:
    """NaN of nothing."""
    return float(np.percentile(values, percent)) if len(values) else math.nan
