"""Our server beside diart's, and diart's client at our server. Used by ``benchmarks.serving``.

diart comes from the package index, in an environment of its own (``diart_env.py``); both servers have the built-in models.
"""

import asyncio
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.diart_env import diart_python
from benchmarks.served import RATE, Player, Server, load, of_files, percentile, play_all
from benchmarks.sides import read_turns
from benchmarks.transport import Figure
from diart_mp.evaluation.der import diarization_error
from diart_mp.models.builtin import cache_folder

SCRIPT = Path(__file__).with_name("diart_web.py")
_PLAYED_S = 40.0  # in each round
_DIART_STEP_S = 0.5  # diart.client sends blocks of this length
_IDLE_S = 120.0  # that the client of diart's may take: it does not end before the server has closed
CLIENTS = 8


@contextmanager
def diart_server() -> Iterator[str]:
    """diart.serve at a free port; its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [diart_python(), "-W", "ignore", SCRIPT, "serve", "--port", port, "--weights", cache_folder()]
    quiet = subprocess.DEVNULL  # it complains of who only looks whether it is there
    with subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=quiet, text=True) as process:
        try:
            assert process.stdout is not None
            while process.stdout.readline().strip() != "ready":
                if process.poll() is not None:
                    msg = "diart.serve did not start"
                    raise SystemExit(msg)
            _reachable(port)
            yield f"ws://127.0.0.1:{port}/"
        finally:
            process.kill()


def _reachable(port: int) -> None:
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 5).close()
        except ConnectionRefusedError:
            continue
        return


@contextmanager
def our_server() -> Iterator[str]:
    """``diart-mp serve``; its address."""
    with Server() as server:
        yield server.url


def _played(url: str, samples: np.ndarray, count: int, *, compat: bool) -> list[float]:
    """Latencies of so many clients at once, each with another piece of the recording, ms."""
    length, block = round(_PLAYED_S * RATE), _DIART_STEP_S if compat else 0.1
    starts = [n * max(0, len(samples) - length) // count for n in range(count)]
    players = [Player(url, samples[at : at + length], compat=compat, block_s=block) for at in starts]
    asyncio.run(play_all(players))
    return [1000 * delay for player in players for delay in player.latencies()]


def latency(recording: Path, rounds: int) -> tuple[list[Figure], list[str]]:
    """Each server in turn, several times."""
    samples = load(recording)
    sides: dict[str, tuple[Callable[..., object], int, bool]] = {
        "diart.serve": (diart_server, 1, True),
        "ours, diart's client": (our_server, 1, True),
        "ours": (our_server, 1, False),
        f"ours, {CLIENTS} clients": (our_server, CLIENTS, False),
    }
    heard: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (server, count, compat) in sides.items():
            with server() as url:  # type: ignore[attr-defined]
                heard[name] += _played(url, samples, count, compat=compat)
    diart, *ours = heard.values()
    found = []
    for percent in (50, 99):
        for name, values in zip(list(sides)[1:], ours, strict=True):
            ratio = percentile(diart, percent) / percentile(values, percent)
            found.append(Figure(f"p{percent}, diart.serve / {name}", ratio, 2.0, at_least=True))
    rows = [f"{'':<24}{'results':>9}{'p50, ms':>9}{'p99, ms':>9}"]
    rows += [f"{k:<24}{len(v):9}{percentile(v, 50):9.0f}{percentile(v, 99):9.0f}" for k, v in heard.items()]
    return found, rows


def diart_client(recording: Path) -> tuple[list[Figure], list[str]]:
    """diart.client, unchanged, sends a recording to our server and writes the RTTM that it is told."""
    expected = of_files([recording]).get(recording.stem, [])
    with tempfile.TemporaryDirectory() as folder, Server() as server:
        output, port = Path(folder) / "told.rttm", server.url.rstrip("/").rpartition(":")[2]
        command = [diart_python(), "-W", "ignore", SCRIPT, "client", recording, "--host", "127.0.0.1", "--port", port]
        done = subprocess.run([*map(str, command), "-o", str(output)], capture_output=True, text=True, timeout=_IDLE_S)
        told = read_turns(output)
    error = diarization_error(expected, told, duration=len(load(recording)) / RATE)
    found = [
        Figure("DER of what diart.client wrote, %", 100 * error.rate, 0.5),
        Figure("messages it received", done.stdout.count("Received: "), 1, at_least=True),
    ]
    return found, [
        f"{len(told)} lines of RTTM; the last: {output.name} until {max((end for _, end, _ in told), default=0):.2f} s"
    ]
