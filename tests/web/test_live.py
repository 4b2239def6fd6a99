"""Clients at the pace of the clock: several at once, one whose network breaks, one with a microphone; and a gateway without a supervisor."""

import asyncio
import json
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest

from benchmarks.served import Player, play_all
from benchmarks.serving_outage import Proxy
from diart_mp.outputs.read import load_rttm
from tests.cli.command import COMMAND, Diart
from tests.cli.conftest import diart as diart
from tests.cli.test_microphone_run import aligned
from tests.conftest import VirtualMicrophone

from .conftest import Recording
from .rig import WAIT_S, Client, Serving, rttm

TOPOLOGY = """
version = 1
run = "apart"
directory = "{folder}"
results = "ipc://{folder}/results"

[gateway]
port = {port}
settings = {{ latency = 8000 }}

[[stage]]
name = "gateway"
bind = "ipc://{folder}/gateway"
[[stage]]
name = "segmentation"
bind = "ipc://{folder}/segmentation"
model = "tests.fakes:ToneSegmentation"
[[stage]]
name = "embedding"
bind = "ipc://{folder}/embedding"
model = "tests.fakes:ToneEmbedding"
[[stage]]
name = "clustering"
keyed = true
"""


def test_a_broken_network_and_others_beside_it(
    diart: Diart, server: Serving, recordings: list[Recording], tmp_path: Path
) -> None:
    recording, out = recordings[2], tmp_path / "talk2.rttm"
    players = [Player(f"ws://127.0.0.1:{server.port}/", recording.samples / np.float32(1 << 15)) for _ in range(3)]
    with (
        Proxy(server.port) as proxy,
        diart.started("client", recording.path, "--port", str(proxy.port), "--json", "-o", out) as process,
    ):
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        proxy.cut()
        with socket.create_server(("127.0.0.1", proxy.port)) as apology:  # as of a proxy whose server is gone
            wire, _ = apology.accept()
            wire.recv(1 << 16)
            wire.sendall(b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n")
            wire.close()
        asyncio.run(play_all(players))  # longer than what is left of the recording
        proxy.mend()
        assert process.wait(WAIT_S) == 0
        notes = process.stderr.read()
        assert (notes.count("the connection broke"), notes.count("the stream goes on")) == (1, 1)
    assert out.read_text() == recording.rttm
    for player in players:
        finals = [message for _, message in player.of("segment") if message["final"]]
        assert (rttm("talk2", finals), player.close_code) == (recording.rttm, 1000)


def test_a_microphone(
    diart: Diart, server: Serving, recordings: list[Recording], virtual_microphone: VirtualMicrophone, tmp_path: Path
) -> None:
    out, recording = tmp_path / "microphone.rttm", recordings[2]
    command = ("client", "--mic", "--start", "early", "--port", str(server.port), "--json", "-o", out)
    with diart.started(*command, env=virtual_microphone.env) as process:
        assert process.stdout is not None
        json.loads(process.stdout.readline())
        playing = virtual_microphone.play(recording.path)
        while playing.poll() is None:
            json.loads(process.stdout.readline())
        process.send_signal(signal.SIGINT)
        said = [json.loads(line) for line in process.stdout]
        assert process.wait(WAIT_S) == 0
    (heard,) = load_rttm(out).values()
    early = diart(
        "client", recording.path, "--start", "early", "--fast", "-q", "--port", str(server.port), "-o", tmp_path / "e"
    )
    assert early.code == 0
    assert aligned(load_rttm(tmp_path / "e")["talk2"], heard) < 5
    assert (said[-1]["kind"], said[-1]["segments"]) == ("summary", len(heard))


@pytest.mark.parametrize(
    ("table", "options", "hint"),
    [('host = "0.0.0.0"', [], "insecure = true"), ("", ["--token", "x"], "--token has no effect beside --topology")],
)
def test_a_topology_is_not_served_openly_by_mistake(
    diart: Diart, short_path: Path, table: str, options: list[str], hint: str
) -> None:
    file = short_path / "pipeline.toml"
    file.write_text(TOPOLOGY.format(folder=short_path / "run", port=1).replace("port = 1", f"port = 1\n{table}"))
    done = diart("serve", "--topology", file, *options)
    assert (done.code, len(done.complaints)) == (2, 1)
    assert hint in done.err


@contextmanager
def stages_by_hand(diart: Diart, file: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """The gateway and its stages, each started by its own command."""
    commands = [["serve"], *(["stage", name] for name in ("segmentation", "embedding", "clustering"))]
    with ExitStack() as stack:
        started = []
        for words in commands:
            process = subprocess.Popen([COMMAND, *words, "--topology", file], env=diart.environment())
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            started.append(process)
        yield started


def test_a_gateway_whose_stages_somebody_else_starts(
    diart: Diart, recordings: list[Recording], short_path: Path
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    file = short_path / "pipeline.toml"
    file.write_text(TOPOLOGY.format(folder=short_path / "run", port=port))
    with stages_by_hand(diart, file) as started:
        deadline = time.monotonic() + WAIT_S
        while True:
            assert all(process.poll() is None for process in started)
            assert time.monotonic() < deadline
            try:
                client = Client(f"ws://127.0.0.1:{port}/")
            except OSError:
                continue
            break
        with client:
            client.start(pace="fast")
            client.send(recordings[2].samples)
            client.tell("stop")
            client.finish()
        assert client.rttm("talk2") == recordings[2].rttm
