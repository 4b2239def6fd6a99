"""A gateway with its stages, and clients that speak the protocol message by message."""

import json
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import soundfile
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import GatewayConfig, StageConfig
from diart_mp.web.protocol import SUBPROTOCOL
from tests.fakes import TONE_MODELS

WAIT_S = 60.0  # for anything
EXACT = Settings()


class Serving:
    """A running gateway. Its supervisor turns in a thread."""

    def __init__(self, config: GatewayConfig, models: Models, **more: Any) -> None:
        self.listening = socket.create_server((config.host, 0), backlog=1024)
        self.port = self.listening.getsockname()[1]
        self.scheme = "http"
        self.trusted: ssl.SSLContext | None = None
        self.config = replace(config, fd=self.listening.fileno(), port=self.port)
        self._stop = threading.Event()
        self._drain = threading.Event()
        self._ready = threading.Event()
        self.error: BaseException | None = None
        self.events: list[dict[str, Any]] = []
        self.pipeline = LocalPipeline(
            self.config, models, on_event=self._on_event, inherit=(self.listening.fileno(),), **more
        )
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(WAIT_S), self.error
        self.until(lambda: self.get("/readyz")[0] == 200)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(WAIT_S)
        self.listening.close()
        if self.error is not None:
            raise self.error

    @property
    def directory(self) -> Path:
        return self.pipeline.directory

    def pid(self, stage: str) -> int:
        """Of a stage that can take chunks."""
        self.until(lambda: stage in self.pipeline.supervisor.ready())
        return self.pipeline.supervisor.pids()[stage]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline
            assert self.error is None, self.error
            threading.Event().wait(0.02)

    def drain(self) -> None:
        """End as Ctrl-C does."""
        self._drain.set()

    def get(self, path: str, **headers: str) -> tuple[int, str]:
        """Status and body of a plain request."""
        return self._ask("GET", path, headers)

    def post(self, path: str, **headers: str) -> tuple[int, str]:
        """The same of one that asks for something to be made."""
        return self._ask("POST", path, headers)

    def _ask(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, str]:
        request = urllib.request.Request(f"{self.scheme}://127.0.0.1:{self.port}{path}", headers=headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=WAIT_S, context=self.trusted) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def metrics(self) -> dict[str, float]:
        lines = [line.rpartition(" ") for line in self.get("/metrics")[1].splitlines() if not line.startswith("#")]
        return {name: float(value) for name, _, value in lines}

    def left(self) -> list[str]:
        """Files of streams in the run folder, and rings."""
        files = [path.name for path in self.directory.iterdir() if "probe" not in path.name]
        kinds = (".journal", ".checkpoint", ".session", ".new")
        rings = [path.name for path in Path("/dev/shm").glob(f"diart-mp-{self.directory.name}-*")]
        return [name for name in files if name.endswith(kinds)] + [name for name in rings if "probe" not in name]

    def client(self, *, token: str = "", subprotocol: str | None = SUBPROTOCOL, path: str = "/") -> "Client":
        return Client(f"ws://127.0.0.1:{self.port}{path}", token=token, subprotocol=subprotocol)

    def _on_event(self, event: dict[str, Any]) -> None:
        self.events.append(event)
        if event["event"] == "ready":
            self._ready.set()

    def _run(self) -> None:
        try:
            with self.pipeline as pipeline:
                pipeline.supervisor.start()
                while not self._stop.is_set() and not pipeline.supervisor.finished:
                    pipeline.supervisor.step()
                    if self._drain.is_set():
                        self._drain.clear()
                        pipeline.supervisor.drain()
        except BaseException as error:  # noqa: BLE001  # the test's to raise
            self.error = error


@contextmanager
def serving(
    settings: Settings = EXACT,
    models: Models = TONE_MODELS,
    stages: Sequence[StageConfig] | None = None,
    **limits: Any,
) -> Iterator[Serving]:
    with Serving(GatewayConfig(settings=settings, **limits), models, stages=stages) as server:
        yield server


class Client:
    """A connection, and everything that was said on it."""

    def __init__(self, url: str, *, token: str = "", subprotocol: str | None = SUBPROTOCOL) -> None:
        self._stack = ExitStack()
        connecting = connect(
            url,
            subprotocols=[subprotocol] if subprotocol else None,  # type: ignore[list-item]
            additional_headers={"Authorization": f"Bearer {token}"} if token else None,
            compression=None,
            proxy=None,
            max_size=None,
            open_timeout=WAIT_S,
        )
        self.websocket: ClientConnection = self._stack.enter_context(connecting)
        self.said: list[dict[str, Any]] = []
        self.close_code: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tell(self, kind: str, **values: Any) -> None:
        self.websocket.send(json.dumps({"type": kind, **values}))

    def start(self, **values: Any) -> dict[str, Any]:
        self.tell("start", protocol=SUBPROTOCOL, **values)
        return self.hear("started")

    def send(self, samples: np.ndarray, block: int = 16_000) -> None:
        for begin in range(0, len(samples), block):
            self.websocket.send(samples[begin : begin + block].tobytes())

    def hear(self, kind: str) -> dict[str, Any]:
        """Wait for a message of that type."""
        while True:
            message = json.loads(self.websocket.recv(timeout=WAIT_S))
            self.said.append(message)
            if message["type"] == kind:
                return dict(message)

    def finish(self) -> list[dict[str, Any]]:
        """Everything that is said until the close."""
        try:
            while True:
                self.said.append(json.loads(self.websocket.recv(timeout=WAIT_S)))
        except ConnectionClosed as closed:
            self.close_code = closed.rcvd.code if closed.rcvd is not None else 1006
        return self.said

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [message for message in self.said if message["type"] == kind]

    def rttm(self, name: str) -> str:
        """The final segments as a run of a file writes them."""
        finals = [each for each in self.of("segment") if each["final"]]
        assert [each["index"] for each in finals] == list(range(len(finals)))
        return rttm(name, finals)


def rttm(name: str, segments: list[dict[str, Any]]) -> str:
    return "".join(
        f"SPEAKER {name} 1 {each['start']:.3f} {each['end'] - each['start']:.3f} <NA> <NA> {each['speaker']} <NA> <NA>\n"
        for each in segments
    )


def pcm16(path: Path) -> np.ndarray:
    """A recording of 16 bits at 16 kHz."""
    samples, rate = soundfile.read(path, dtype="int16")
    assert rate == 16_000
    return np.asarray(samples)
