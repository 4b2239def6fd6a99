"""Broken connections, killed stages, a killed gateway: clients go on, and their turns are those of an undisturbed run."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import soxr

from tests.cli.command import Diart
from tests.cli.conftest import diart as diart

from .conftest import Recording
from .rig import Client, Serving

RATE = 16_000


class Persistent:
    """A client by hand that comes back: it has all its audio, and keeps all final segments."""

    def __init__(self, server: Serving, samples: np.ndarray, **start: Any) -> None:
        self._server, self._samples = server, samples
        self.client = server.client()
        self.token = self.client.start(**start)["resume_token"]
        self.sent = 0
        self.finals: list[dict[str, Any]] = []

    def send_until(self, position: int) -> None:
        self.client.send(self._samples[self.sent : position])
        self.sent = position

    def hear_until(self, position_s: float) -> None:
        while self.client.hear("stats")["until"] < position_s:
            pass

    def break_off(self) -> None:
        """As when the network is gone: no close, only an end of it."""
        self._keep()
        self.client.websocket.socket.close()

    def come_back(self) -> int:
        self.client = self._server.client()
        self.client.tell("start", resume_token=self.token, finals=len(self.finals))
        started = self.client.hear("started")
        assert started["resumed"]
        self.sent = started["samples"]
        return self.sent

    def finish(self, name: str) -> str:
        self.send_until(len(self._samples))
        self.client.tell("stop")
        self.client.finish()
        self._keep()
        assert self.client.close_code == 1000
        assert [each["index"] for each in self.finals] == list(range(len(self.finals)))
        collected = Client.rttm
        self.client.said = self.finals
        return collected(self.client, name)

    def hear_the_end(self) -> int:
        """Come back to a stream that is over: how many segments it has, all of which are here then."""
        self.come_back()
        self.client.finish()
        self._keep()
        ended = self.client.of("ended")[0]
        assert (ended["segments"], self.client.close_code) == (len(self.finals), 1000)
        return len(self.finals)

    def _keep(self) -> None:
        self.finals += [each for each in self.client.of("segment") if each["final"]]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """A process that does nothing for a while."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        with suppress(ProcessLookupError):  # the supervisor was faster, and has another one
            os.kill(pid, signal.SIGCONT)


def test_a_client_whose_network_broke_goes_on(server: Serving, recordings: list[Recording]) -> None:
    recording = recordings[0]
    client = Persistent(server, recording.samples, pace="fast")
    client.send_until(9 * RATE)
    client.hear_until(8)
    client.break_off()
    assert client.come_back() == 9 * RATE
    client.send_until(12 * RATE)
    client.break_off()
    client.come_back()
    assert client.finish("talk0") == recording.rttm


def test_a_second_connection_takes_over(server: Serving, recordings: list[Recording]) -> None:
    client = Persistent(server, recordings[0].samples)
    first = client.client
    client.send_until(RATE)
    client.come_back()
    first.finish()
    assert (first.said[-1]["code"], first.close_code) == ("replaced", 1008)
    client.client.tell("stop")
    client.client.finish()
    assert client.client.close_code == 1000


def test_what_ended_while_a_client_was_away_is_told_when_it_comes_back(
    server: Serving, recordings: list[Recording]
) -> None:
    client = Persistent(server, recordings[0].samples, pace="fast")
    session = client.token.rpartition(".")[0]
    client.send_until(19 * RATE)
    client.hear_until(19)
    with stopped(server.pid("clustering")):  # so that it cannot end while the client is there
        client.send_until(len(recordings[0].samples))
        while client.client.hear("ack")["samples"] < len(recordings[0].samples):
            pass
        client.client.tell("stop")
        client.client.websocket.socket.shutdown(socket.SHUT_WR)  # what was sent before still arrives
        client.client.finish()
        client._keep()
        assert client.client.of("ended") == []
    server.until(lambda: [name for name in server.left() if session in name] == [f"{session}.session"])
    assert client.hear_the_end() == recordings[0].rttm.count("\n")


def test_an_end_that_was_not_confirmed_is_told_again(server: Serving, recordings: list[Recording]) -> None:
    """It may have been lost on the way: until the client has answered the close, the server cannot know."""
    client = Persistent(server, recordings[2].samples, pace="fast")
    client.send_until(len(recordings[2].samples))
    client.client.tell("stop")
    websocket = client.client.websocket
    websocket.send_data = lambda: None  # type: ignore[method-assign]  # nothing that it says goes out from here on
    client.client.hear("ended")
    server.until(lambda: websocket.protocol.close_rcvd is not None)
    websocket.socket.shutdown(socket.SHUT_RDWR)
    client.finals = []  # the program had not seen any of it
    client.client.said = []
    assert client.hear_the_end() == recordings[2].rttm.count("\n")
    late = server.client()
    late.tell("start", resume_token=client.token)
    late.finish()
    assert (late.said[-1]["code"], late.close_code) == ("unknown_session", 1008)  # the second time, it was


@pytest.mark.parametrize("stage", ["segmentation", "embedding", "clustering"])
def test_a_killed_stage_disconnects_nobody(server: Serving, recordings: list[Recording], stage: str) -> None:
    clients = [Persistent(server, each.samples, pace="fast") for each in [*recordings, recordings[0]]]
    names = [each.name for each in recordings] + ["talk0"]
    for client in clients:
        client.send_until(7 * RATE)
    clients[0].hear_until(6)
    os.kill(server.pid(stage), signal.SIGKILL)
    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(lambda each: each[0].finish(each[1]), zip(clients, names, strict=True)))
    assert said == [each.rttm for each in recordings] + [recordings[0].rttm]


def test_a_killed_gateway_is_resumed_from_what_clients_hold(server: Serving, recordings: list[Recording]) -> None:
    clients = [Persistent(server, each.samples, pace="fast") for each in [*recordings, recordings[0]]]
    names = [each.name for each in recordings] + ["talk0"]
    for client in clients:
        client.send_until(7 * RATE)
        client.hear_until(6)
    os.kill(server.pid("gateway"), signal.SIGKILL)
    for client in clients:
        client.client.finish()
        assert client.client.close_code == 1006
        client.break_off()
    said = []
    for client, name in zip(clients, names, strict=True):
        assert 6 * RATE < client.come_back() <= 7 * RATE
        said.append(client.finish(name))
    assert said == [each.rttm for each in recordings] + [recordings[0].rttm]
    lengths = [len(each.samples) / RATE for each in [*recordings, recordings[0]]]
    assert (
        server.metrics()["diart_mp_audio_seconds_total"] < sum(lengths) - 4 * 5
    )  # not again what the killed one counted


def test_a_killed_gateway_is_resumed_at_another_rate(server: Serving, recordings: list[Recording]) -> None:
    """The new resampler settles on audio that is sent twice, so that nobody hears the seam."""
    samples = soxr.resample(recordings[0].samples, RATE, 44_100)
    undisturbed = Persistent(server, samples, pace="fast", audio={"rate": 44_100}).finish("talk0")
    client = Persistent(server, samples, pace="fast", audio={"rate": 44_100})
    client.send_until(9 * 44_100)
    client.hear_until(8)
    os.kill(server.pid("gateway"), signal.SIGKILL)
    client.break_off()
    position = client.come_back()
    assert 8 * 44_100 < position < 9 * 44_100
    assert client.finish("talk0") == undisturbed


def test_the_command_survives_the_death_of_the_gateway(
    diart: Diart, server: Serving, recordings: list[Recording], tmp_path: Path
) -> None:
    out = tmp_path / "talk2.rttm"
    arguments: list[str | Path] = ["client", recordings[2].path, "--port", str(server.port), "--json", "-o", out]
    with diart.started(*arguments) as process:
        assert process.stdout is not None
        process.stdout.readline()
        os.kill(server.pid("gateway"), signal.SIGKILL)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "the stream goes on" in process.stderr.read()
    assert out.read_text() == recordings[2].rttm


def test_a_hanging_stage_is_seen_within_two_seconds(server: Serving) -> None:
    assert any(_time_to_notice(server) < 2.0 for _ in range(3))  # more than once only where the machine is busy


def _time_to_notice(server: Serving) -> float:
    """How long a hanging stage goes unnoticed, s; it goes on afterwards."""
    server.until(lambda: server.get("/readyz")[0] == 200)
    with stopped(server.pid("embedding")):
        since = time.monotonic()
        server.until(lambda: server.get("/readyz")[0] == 503)
        took = time.monotonic() - since
        assert server.get("/livez")[0] == 200
    server.until(lambda: server.get("/readyz")[0] == 200)
    return took


def test_clients_that_come_and_go_leave_nothing(server: Serving, recordings: list[Recording]) -> None:
    gateway = psutil.Process(server.pid("gateway"))

    def come_and_go(times: int) -> None:
        for number in range(times):
            client = server.client()
            client.start()
            client.send(recordings[2].samples[: 6 * RATE])
            if number % 3 == 0:
                client.tell("stop")
                client.finish()
            client.__exit__()

    def settled() -> bool:
        return server.metrics()["diart_mp_sessions"] == 0 and server.left() == []

    come_and_go(20)
    server.until(settled)
    files, memory = gateway.num_fds(), gateway.memory_info().rss
    come_and_go(60)
    server.until(settled)
    server.until(lambda: gateway.num_fds() <= files)
    assert gateway.memory_info().rss < 1.1 * memory
