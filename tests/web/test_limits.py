"""What clients must not do: each is closed with a typed error and the right code, and the others do not notice."""

import asyncio
import base64
import datetime
import json
import random
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from diart_mp.audio.push import PushSource
from diart_mp.evaluation.der import diarization_error
from diart_mp.outputs.read import load_rttm
from diart_mp.topology import GatewayConfig
from diart_mp.web.client import StreamClient
from diart_mp.web.protocol import SUBPROTOCOL
from tests.cli.command import Diart
from tests.cli.conftest import diart as diart
from tests.fakes import TONE_MODELS

from .conftest import Recording
from .rig import EXACT, WAIT_S, Client, Serving, serving
from .test_resume import stopped

GOOD, EXPIRED, SINGLE = "good-token", "expired-token", "single-token"
SECOND = np.zeros(16_000, np.int16)


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    file = tmp_path_factory.mktemp("tokens") / "tokens"
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    file.write_text(f"# who may\n{GOOD}\n{EXPIRED} expires={yesterday.isoformat()}\n{SINGLE} streams=1\n")
    limits: dict[str, Any] = {"max_streams": 3, "idle_s": 1.0, "start_s": 1.0, "burst_s": 2.0, "max_waiting": 40}
    with serving(token_file=str(file), resume_s=1.0, **limits) as running:
        yield running
        running.until(lambda: running.metrics()["diart_mp_sessions"] == 0)
        running.until(lambda: running.left() == [])


def refused(client: Client) -> tuple[str, int | None]:
    """The code of the error that ends a connection, and the close code."""
    client.finish()
    return client.of("error")[-1]["code"], client.close_code


@pytest.mark.parametrize("token", ["", "wrong", EXPIRED])
def test_without_a_good_token_nothing_is_read(strict: Serving, token: str) -> None:
    before = strict.metrics()["diart_mp_sessions_started_total"]
    with strict.client(token=token) as client:
        assert refused(client) == ("unauthorized", 1008)
        assert client.of("started") == []
    assert strict.metrics()["diart_mp_sessions_started_total"] == before


def test_a_token_in_the_address(strict: Serving) -> None:
    with strict.client(path=f"/?token={GOOD}") as client:
        client.start()
        client.tell("stop")
        client.finish()
        assert client.close_code == 1000


@pytest.mark.parametrize(
    ("messages", "code", "close"),
    [
        (["no JSON"], "bad_message", 1002),
        (["[" * 50_000], "bad_message", 1002),
        ([b"\0\0"], "bad_order", 1002),
        ([{"type": "stop"}], "bad_order", 1002),
        ([{"type": "start", "protocol": "diart-mp.v9"}], "bad_protocol", 1002),
        ([{"type": "start", "colour": "red"}], "bad_message", 1002),
        ([{"type": "start", "audio": {"encoding": "opus"}}], "bad_audio", 1003),
        ([{"type": "start", "audio": {"rate": 5}}], "bad_audio", 1003),
        ([{"type": "start", "audio": {"channels": 1 << 40}}], "bad_audio", 1003),
        ([{"type": "start", "diarization": {"step": 0.0001}}], "bad_settings", 1002),
        ([{"type": "start", "diarization": {"latency": "NaN"}}], "bad_settings", 1002),
        ([{"type": "start", "diarization": {"max_speakers": -1}}], "bad_settings", 1002),
        ([{"type": "start", "resume_token": "x.y"}], "unknown_session", 1008),
        ([{"type": "start"}, {"type": "start"}], "bad_order", 1002),
        ([{"type": "start"}, {"type": "dance"}], "bad_message", 1002),
        ([{"type": "start"}, {"type": "update", "pace": "fast"}], "fixed", 1008),
        ([{"type": "start"}, {"type": "update", "idle_s": 2.0}], "bad_message", 1002),
        ([{"type": "start"}, {"type": "update", "idle_s": 0}], "bad_message", 1002),
        ([{"type": "start"}, {"type": "update", "label": "two\nlines"}], "bad_message", 1002),
        ([{"type": "start"}, {"type": "update", "colour": "red"}], "bad_message", 1002),
        ([{"type": "start"}, {"type": "update", "idle_s": 0.1}], "idle", 1008),
        ([{"type": "start", "diarization": {"known_speakers": ["Ann"]}}], "bad_settings", 1002),
        ([{"type": "start", "diarization": {"known_speakers": "Ann"}}], "bad_settings", 1002),
        ([{"type": "start", "diarization": {"known_speakers": [["Ann"]]}}], "bad_settings", 1002),
        ([{"type": "start", "diarization": {"known_speakers": None}}], "bad_settings", 1002),
        ([{"type": "start"}, {"type": "stop"}, b"\0\0"], "bad_order", 1002),
        ([{"type": "start", "audio": {"encoding": "pcm_f32le"}}, b"\0\0\xc0\x7f" * 100], "bad_audio", 1003),
        ([{"type": "start"}, *[SECOND.tobytes()] * 6], "too_fast", 1008),
        ([{"type": "start"}], "idle", 1008),
        ([], "start_timeout", 1008),
    ],
)
def test_an_offence_has_its_code(strict: Serving, messages: list[Any], code: str, close: int) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] < 3)
    with strict.client(token=GOOD) as client:
        for message in messages:
            client.websocket.send(json.dumps(message) if isinstance(message, dict) else message)
        assert refused(client) == (code, close)


def test_a_message_of_100_mb(strict: Serving) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] < 3)
    with strict.client(token=GOOD) as client:
        client.start()
        with suppress(OSError):  # it is closed before all of it has come
            client.websocket.socket.sendall(b"\x82\xff" + (100_000_000).to_bytes(8) + bytes(4))
            for _ in range(100):
                client.websocket.socket.sendall(bytes(1_000_000))
        client.finish()
        assert client.close_code == 1009


def silence(client: Client, seconds: float) -> None:
    """Wait until nothing has been said for so long; the connection is still there then."""
    with suppress(TimeoutError):
        while True:
            client.said.append(json.loads(client.websocket.recv(timeout=seconds)))


def test_who_has_said_stop_is_not_idle(strict: Serving, recordings: list[Recording]) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] < 3)
    with strict.client(token=GOOD) as client:
        client.start(pace="fast")
        client.send(recordings[2].samples)
        with stopped(strict.pid("clustering")):
            client.tell("stop")
            silence(client, 1.5 * strict.config.idle_s)
        client.finish()
        assert (client.rttm("talk2"), client.close_code) == (recordings[2].rttm, 1000)


def test_audio_that_piled_up_before_the_stream_could_begin_is_sent_slowly(strict: Serving) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] < 3)
    source = PushSource("patient")
    source.write(np.zeros(5 * 16_000, np.float32))
    source.end()
    url = f"ws://127.0.0.1:{strict.port}/"
    ended = asyncio.run(StreamClient(url, source, on_message=lambda _: None, token=GOOD).run())
    assert (ended["audio_s"], ended["reason"], ended["cut"]) == (5.0, "stopped", False)


def test_full_is_said_within_a_tenth_of_a_second(strict: Serving) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] == 0)
    there = [strict.client(token=GOOD) for _ in range(3)]
    for client in there:
        client.start()
    assert any(_time_to_full(strict) < 0.1 for _ in range(5))  # more than once only where the machine is busy
    for client in there:
        client.tell("stop")
        client.finish()


def _time_to_full(strict: Serving) -> float:
    """How long it takes to turn one client more away, s."""
    with strict.client(token=GOOD) as late:
        asked = time.monotonic()
        late.tell("start")
        late.finish()
        took = time.monotonic() - asked
        assert (late.of("error")[0]["code"], late.of("error")[0]["retryable"], late.close_code) == ("full", True, 1013)
        return took


def test_a_quota_is_the_tokens_own(strict: Serving) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] == 0)
    with strict.client(token=SINGLE) as one, strict.client(token=SINGLE) as two, strict.client(token=GOOD) as other:
        one.start()
        two.tell("start")
        assert refused(two) == ("quota", 1013)
        other.start()
        for client in (one, other):
            client.tell("stop")
            client.finish()


def test_a_resume_token_is_of_use_to_its_owner_alone(strict: Serving) -> None:
    with strict.client(token=GOOD) as one, strict.client(token=SINGLE) as other:
        token = one.start()["resume_token"]
        other.tell("start", resume_token=token)
        assert refused(other) == ("unknown_session", 1008)
        one.tell("stop")
        one.finish()


def test_a_slow_reader_is_told_why_it_is_closed(strict: Serving, recordings: list[Recording]) -> None:
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] == 0)
    counted = 'diart_mp_client_errors_total{code="slow_reader"}'
    before = strict.metrics().get(counted, 0.0)
    with socket.create_connection(("127.0.0.1", strict.port), 1.0) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        _shake_hands(wire, GOOD)
        _send_frame(wire, 1, json.dumps({"type": "start", "pace": "fast"}).encode())
        audio = np.tile(recordings[0].samples, 10)
        flush = json.dumps({"type": "flush"}).encode()

        with suppress(OSError):  # the server does not read on
            while strict.metrics().get(counted, 0.0) == before:
                for _ in range(500):
                    _send_frame(wire, 1, flush)
                _send_frame(wire, 2, audio[:16_000].tobytes())
        strict.until(lambda: strict.metrics().get(counted, 0.0) > before)
        wire.settimeout(WAIT_S)
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)  # it reads at last
        closed, heard = (1008).to_bytes(2) + b"slow_reader", b""
        while closed not in heard:
            more = wire.recv(1 << 16)
            assert more
            heard += more
    assert b'"code": "slow_reader"' in heard
    assert heard.count(b'"flushed"') > 40  # all that it had not read


def test_who_cannot_say_that_it_ends_is_told_all(strict: Serving, recordings: list[Recording], tmp_path: Path) -> None:
    """diart.client stays connected when its recording is over; it is closed after a while, well."""
    told = tmp_path / "told.rttm"
    url = f"ws://127.0.0.1:{strict.port}/?token={GOOD}"
    with connect(url, proxy=None, compression=None) as websocket, told.open("w") as file:
        for begin in range(0, len(recordings[2].samples), 8000):
            block = recordings[2].samples[begin : begin + 8000] / np.float32(1 << 15)
            websocket.send(base64.b64encode(block.astype(np.float32).tobytes()).decode())
        file.writelines(map(str, websocket))
        assert websocket.close_code == 1000
    (heard,) = load_rttm(told).values()
    expected = load_rttm(recordings[2].path.with_name("out2") / "talk2.rttm")["talk2"]
    assert diarization_error(expected, heard).rate < 0.001


def test_who_has_no_token_does_not_keep_others_out(strict: Serving) -> None:
    """More connections than there may be, all of them refused, none of which answers the close."""
    strict.until(lambda: strict.metrics()["diart_mp_sessions"] < 3)
    with ExitStack() as stack:
        for _ in range(20):
            wire = stack.enter_context(socket.create_connection(("127.0.0.1", strict.port), WAIT_S))
            _shake_hands(wire, "wrong")
            wire.recv(1)
        client = stack.enter_context(strict.client(token=GOOD))
        client.start()
        client.tell("stop")
        client.finish()
        assert client.close_code == 1000


def _shake_hands(wire: socket.socket, token: str) -> None:
    """Ask for a WebSocket; what is answered is left unread."""
    head = [
        "GET / HTTP/1.1",
        f"Host: 127.0.0.1:{wire.getpeername()[1]}",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {base64.b64encode(bytes(16)).decode()}",
        "Sec-WebSocket-Version: 13",
        f"Authorization: Bearer {token}",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL}",
    ]
    wire.sendall(("\r\n".join(head) + "\r\n\r\n").encode())


def _send_frame(wire: socket.socket, kind: int, data: bytes) -> None:
    """A masked frame whose mask is zero."""
    size = bytes([0x80 | len(data)]) if len(data) < 126 else b"\xfe" + len(data).to_bytes(2, "big")
    wire.sendall(bytes([0x80 | kind]) + size + bytes(4) + data)


def test_a_request_that_crawls_is_not_waited_for(strict: Serving) -> None:
    request = b"GET / HTTP/1.1\r\nX: " + b"x" * 10_000
    with socket.create_connection(("127.0.0.1", strict.port)) as wire:
        wire.settimeout(0.05)
        for byte in request:  # at most 20 in a second: it would take minutes
            try:
                wire.sendall(bytes([byte]))
                if wire.recv(100) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:
                break
        else:
            pytest.fail("the whole request was waited for")
    assert strict.get("/livez")[0] == 200


def test_who_asks_without_end_is_closed_and_may_come_back(server: Serving, recordings: list[Recording]) -> None:
    with server.client() as client:
        token = client.start(pace="fast")["resume_token"]
        with stopped(server.pid("clustering")):
            client.send(recordings[2].samples)
            with suppress(ConnectionClosed):
                while True:
                    client.tell("flush")
            assert refused(client) == ("too_many", 1008)
        assert client.of("flushed") == []
    with server.client() as again:
        again.tell("start", resume_token=token)
        for _ in range(900):
            again.tell("flush")
        again.tell("stop")
        again.finish()
    assert again.close_code == 1000
    assert len(again.of("flushed")) == 900  # its own; what it asked for before is forgotten
    assert again.of("ended")[0]["audio_s"] == 7.4


def test_live_audio_in_crumbs_is_too_fast(strict: Serving) -> None:
    """It costs the server its messages, however little is in each: one second of audio are not 16,000 of them."""
    with strict.client(token=GOOD) as client:
        client.start(pace="live")
        with suppress(ConnectionClosed):
            for _ in range(16_000):
                client.websocket.send(bytes(2))
        assert refused(client) == ("too_fast", 1008)


def test_noise_closes_its_sender_alone(server: Serving, recordings: list[Recording]) -> None:
    """Random frames, half ones and plain noise beside a good client."""
    generator = random.Random(7)
    with server.client() as good:
        good.start(pace="fast")
        for number in range(60):
            good.send(recordings[0].samples[number * 5000 : (number + 1) * 5000])
            if number % 3 == 0:
                with socket.create_connection(("127.0.0.1", server.port)) as wire:
                    wire.sendall(generator.randbytes(generator.randrange(1, 3000)))
            elif number % 3 == 1:
                kind = generator.choice([SUBPROTOCOL, None])
                with server.client(subprotocol=kind) as bad, suppress(OSError):  # it may be closed half-way
                    bad.websocket.socket.sendall(generator.randbytes(generator.randrange(1, 300)))
                    bad.websocket.socket.shutdown(socket.SHUT_RDWR)
            else:
                with server.client() as bad, suppress(ConnectionClosed):
                    noise: bytes | str = generator.randbytes(99) if number % 2 else "{" * generator.randrange(50)
                    bad.websocket.send(noise)
        good.send(recordings[0].samples[300_000:])
        good.tell("stop")
        good.finish()
    assert good.rttm("talk0") == recordings[0].rttm


def test_tls_with_a_certificate_of_ones_own(diart: Diart, recordings: list[Recording], tmp_path: Path) -> None:
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made: list[str | Path] = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-keyout",
        key,
        "-out",
        cert,
    ]
    subprocess.run([*made, *names], check=True, capture_output=True)
    secure = Serving(GatewayConfig(settings=EXACT, cert=str(cert), key=str(key)), TONE_MODELS)
    secure.scheme, secure.trusted = "https", ssl.create_default_context(cafile=cert)
    with secure as server, socket.create_connection(("127.0.0.1", server.port), WAIT_S / 2) as silent:
        done = diart("client", recordings[0].path, "--port", str(server.port), "--ca", cert, "--fast", "-q")
        assert (done.code, done.complaints) == (0, [])
        trusting = ssl.create_default_context(cafile=cert)
        with connect(f"wss://localhost:{server.port}/", ssl=trusting, proxy=None, open_timeout=WAIT_S) as websocket:
            assert websocket.subprotocol is None
        untrusting = diart("client", recordings[0].path, "--port", str(server.port), "--tls", "--fast", "-q")
        assert (untrusting.code, len(untrusting.complaints)) == (1, 1)
        assert "certificate" in untrusting.err
        assert silent.recv(1) == b""  # who does not even begin with TLS is not waited for


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        (["--host", "0.0.0.0"], "--insecure"),
        (["--key", "key.pem"], "--cert"),
        (["--origin", "talk.example.org"], "no origin"),
        (["--protect-metrics"], "--token"),
        (["--cert", "missing.pem"], "missing.pem"),
        (["--token-file", "missing"], "missing"),
        (["--port", "{taken}"], "--port"),
    ],
)
def test_serve_refuses_in_one_line(diart: Diart, server: Serving, options: list[str], hint: str) -> None:
    arguments = [option.format(taken=server.port) for option in options]
    done = diart("serve", *arguments, "--segmentation", "tests.fakes:ToneSegmentation")
    assert (done.code, len(done.complaints)) == (2, 1)
    assert hint in done.err
