"""Stages started by hand, joined over TCP, with the audio inside the messages: the same turns as on one host."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.topology import CHAIN, Job, SourceConfig, StageConfig, Topology
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import run


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


@contextmanager
def started(names: tuple[str, ...], topology: Path) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Stages as somebody would start them by hand, ended afterwards."""
    command = [sys.executable, "-m", "diart_mp", "stage"]
    processes = {name: subprocess.Popen([*command, name, "--topology", str(topology)]) for name in names}
    try:
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(10)


def tcp_topology(folder: Path, job: Job) -> Path:
    """The four stages on loopback ports."""
    ports = free_ports(len(CHAIN))
    models = {"segmentation": TONE_MODELS.segmentation, "embedding": TONE_MODELS.embedding}
    stages = tuple(
        StageConfig(name=name, bind=f"tcp://127.0.0.1:{port}", keyed=name == "clustering", model=models.get(name, ""))
        for name, port in zip(CHAIN, ports, strict=True)
    )
    topology = Topology(run="byhand", directory=str(folder / "run"), stages=stages, results=stages[-1].bind, job=job)
    topology.write(folder / "pipeline.toml")
    return folder / "pipeline.toml"


@pytest.mark.parametrize("order", [CHAIN, CHAIN[::-1]])
def test_stages_by_hand_over_tcp_say_the_same(order: tuple[str, ...], tmp_path: Path) -> None:
    audio = tmp_path / "hum.wav"
    conversation(audio, seconds=20.0, seed=4)
    settings = Settings.from_seconds(latency=1.0)
    local = run(audio, tmp_path / "local", settings=settings, models=TONE_MODELS)
    source = SourceConfig(kind="file", name="hum", path=str(audio))
    job = Job(sources=(source,), settings=settings, output=str(tmp_path / "tcp"), formats=("rttm", "jsonl"))
    with started(order, tcp_topology(tmp_path, job)) as processes:
        assert processes["capture"].wait(30) == 0
    for name, content in local.files.items():
        assert (tmp_path / "tcp" / name).read_bytes() == content
    assert content


def test_routable_address_is_refused_unless_it_is_called_insecure(tmp_path: Path) -> None:
    source = SourceConfig(kind="file", name="x", path="x.wav")
    file = tcp_topology(tmp_path, Job(sources=(source,), settings=Settings()))
    text = file.read_text().replace("tcp://127.0.0.1", "tcp://192.0.2.1")
    file.write_text(text)
    command = [sys.executable, "-m", "diart_mp", "stage", "clustering", "--topology", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert (
        "would carry audio over the network in the clear; make keys (diart-mp keys), or say 'insecure = true'"
        in done.stderr
    )
    file.write_text(text.replace("insecure = false", "insecure = true"))
    assert Topology.read(file).insecure
