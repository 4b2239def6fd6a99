"""``diart-mp stage`` as a process: how it begins and, above all, how it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from diart_mp.config import Settings
from diart_mp.headers import pack_control, unpack_control
from diart_mp.topology import Job, SourceConfig, StageConfig, Topology
from diart_mp.transport.sockets import make_socket

WAIT_S = 30


class Place:
    """A folder with a topology, and the supervisor's socket."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.file = folder / "topology.toml"
        self.context = zmq.Context[zmq.Socket[bytes]]()
        stack.callback(self.context.destroy, linger=0)
        self.socket = make_socket(self.context, zmq.ROUTER)
        self.socket.bind(f"ipc://{folder}/control")
        stack.callback(self.socket.close)
        self.write(control=f"ipc://{folder}/control")

    def write(self, *stages: StageConfig, **values: Any) -> None:
        chain = stages or (
            StageConfig(name="capture", bind=f"ipc://{self.folder}/capture"),
            StageConfig(name="clustering", keyed=True, replicas=2),
        )
        Topology(
            run="r", directory=str(self.folder), stages=chain, results=f"ipc://{self.folder}/results", **values
        ).write(self.file)

    @contextmanager
    def stage(self, name: str, *arguments: str, fds: tuple[int, ...] = ()) -> Iterator[subprocess.Popen[str]]:
        command = [sys.executable, "-m", "diart_mp", "stage", name, "--topology", str(self.file), *arguments]
        with subprocess.Popen(
            command, pass_fds=fds, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def hear(self, kind: str) -> dict[str, Any]:
        while True:
            assert self.socket.poll(1000 * WAIT_S)
            message = unpack_control(self.socket.recv_multipart()[1:])
            if message["kind"] == kind:
                return message


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(tmp_path, stack)


def test_a_stage_says_who_it_is_and_ends_with_sigterm(place: Place) -> None:
    with place.stage("clustering/1", "--epoch", "7") as process:
        ready = place.hear("ready")
        assert {name: ready[name] for name in ("stage", "replica", "epoch", "pid")} == {
            "stage": "clustering",
            "replica": 1,
            "epoch": 7,
            "pid": process.pid,
        }
        assert place.hear("beat")["epoch"] == 7
        assert psutil.Process(process.pid).cmdline()[0] == "diart-mp: clustering/1"
        process.terminate()
        assert process.communicate(timeout=WAIT_S) == ("", "")
        assert process.returncode == 0


def test_a_stage_ends_when_it_is_told_to(place: Place) -> None:
    with place.stage("clustering", "--epoch", "1") as process:
        place.hear("ready")
        place.socket.send_multipart([b"clustering/0/1", pack_control("stop")])
        assert process.wait(WAIT_S) == 0


@pytest.mark.parametrize("stopped", [False, True])
def test_a_stage_ends_with_its_supervisor(place: Place, stopped: bool) -> None:
    """The guard is a pipe that only the supervisor holds open at its other end."""
    reading, writing = os.pipe()
    try:
        with place.stage("clustering", "--guard", str(reading), fds=(reading,)) as process:
            place.hear("ready")
            if stopped:
                process.send_signal(signal.SIGSTOP)
            os.close(writing)
            if stopped:
                process.send_signal(signal.SIGCONT)
            assert process.wait(WAIT_S) == 3
    finally:
        os.close(reading)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("klustering", "unknown stage 'klustering'; did you mean 'clustering'?"),
        ("clustering/2", "stage clustering has 2 replicas, numbered from 0; there is no '2'"),
        ("clustering/x", "there is no 'x'"),
        ("clustering/-1", "there is no '-1'"),
    ],
)
def test_stages_that_there_are_not(place: Place, name: str, said: str) -> None:
    with place.stage(name) as process:
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 2
    assert out == ""
    assert said in err
    assert err.count("\n") == 1


def test_a_topology_that_there_is_not(place: Place) -> None:
    place.file.unlink()
    with place.stage("clustering") as process:
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert err == f"diart-mp: error: cannot read {place.file}: No such file or directory\n"


@pytest.mark.parametrize("supervised", [True, False])
@pytest.mark.parametrize(
    ("name", "said", "code"),
    [("capture", "this topology has no [job]", 2), ("unheard-of", "unknown stage 'unheard-of'", 2)],
)
def test_a_stage_that_cannot_begin_says_why(place: Place, supervised: bool, name: str, said: str, code: int) -> None:
    """To the supervisor if there is one, else on standard error."""
    capture = StageConfig(name="capture", bind=f"ipc://{place.folder}/capture")
    place.write(capture, StageConfig(name="unheard-of"), control=f"ipc://{place.folder}/control" if supervised else "")
    with place.stage(name) as process:
        if supervised:
            fatal = place.hear("fatal")
            assert said in fatal["text"]
            assert fatal["code"] == code
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == code
    assert (said in err) != supervised
    assert err.count("\n") == (0 if supervised else 1)


def test_an_address_in_use_is_said_in_one_line(place: Place) -> None:
    port = place.socket.bind_to_random_port("tcp://127.0.0.1")
    source = SourceConfig(kind="file", name="x", path="x.wav")
    place.write(
        StageConfig(name="capture", bind=f"tcp://127.0.0.1:{port}"),
        StageConfig(name="clustering"),
        job=Job(sources=(source,), settings=Settings()),
    )
    with place.stage("capture") as process:
        _, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 1
    assert f"cannot listen at tcp://127.0.0.1:{port}: Address already in use" in err
    assert err.count("\n") == 1


def test_impatience_changes_nothing(place: Place) -> None:
    with place.stage("clustering") as process:
        place.hear("ready")
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGTERM)
        assert process.wait(WAIT_S) == 0
