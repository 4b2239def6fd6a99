"""Clients of a gateway with real sockets and stages: each gets the turns that a run of its file gives."""

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import soxr

from tests.cli.command import Diart
from tests.cli.conftest import diart as diart

from .conftest import Recording
from .rig import WAIT_S, Client, Serving, serving
from .test_resume import stopped


def stream(server: Serving, recording: Recording, *, block: int = 4001) -> Client:
    """Send a whole recording and take all answers."""
    with server.client() as client:
        client.start(pace="fast")
        client.send(recording.samples, block)
        client.tell("stop")
        client.finish()
    return client


@pytest.mark.parametrize("block", [320, 7777, 160_000])
def test_turns_are_those_of_the_file_whatever_the_blocks(
    server: Serving, recordings: list[Recording], block: int
) -> None:
    client = stream(server, recordings[0], block=block)
    assert client.rttm("talk0") == recordings[0].rttm
    ended = client.of("ended")[-1]
    assert (ended["audio_s"], ended["reason"], client.close_code) == (20.0, "stopped", 1000)
    assert ended["segments"] == recordings[0].rttm.count("\n")
    assert client.of("ack")[-1]["samples"] == len(recordings[0].samples)


def test_streams_at_once_do_not_mix(server: Serving, recordings: list[Recording]) -> None:
    several = [*recordings, *reversed(recordings)]
    with ThreadPoolExecutor(len(several)) as pool:
        clients = list(pool.map(lambda each: stream(server, each), several))
    for client, recording in zip(clients, several, strict=True):
        assert client.rttm(recording.name) == recording.rttm


def test_segments_grow_under_one_id_until_they_are_final(server: Serving, recordings: list[Recording]) -> None:
    said = stream(server, recordings[0]).of("segment")
    revisions: dict[int, list[dict[str, object]]] = {}
    for message in said:
        revisions.setdefault(message["id"], []).append(message)
    assert max(len(each) for each in revisions.values()) > 2
    for each in revisions.values():
        assert [message["rev"] for message in each] == list(range(1, len(each) + 1))
        assert [message["final"] for message in each] == [False] * (len(each) - 1) + [True]
        assert len({message["speaker"] for message in each}) == 1


def test_beginnings_and_ends_of_speech_are_told(server: Serving, recordings: list[Recording]) -> None:
    said = stream(server, recordings[0]).said
    finals = {each["id"]: each for each in said if each["type"] == "segment" and each["final"]}
    for kind, key in (("speaker_start", "start"), ("speaker_end", "end")):
        told = {each["id"]: (each["time"], each["speaker"]) for each in said if each["type"] == kind}
        assert told == {number: (each[key], each["speaker"]) for number, each in finals.items()}
    kinds = [each["type"] for each in said if each.get("id") == 0]
    assert (kinds[0], kinds[-1], set(kinds[1:-1])) == ("speaker_start", "speaker_end", {"segment"})


@pytest.mark.parametrize(("encoding", "scale"), [("pcm_s16le", 1), ("pcm_f32le", 2**-15)])
def test_encodings_and_channels(server: Serving, recordings: list[Recording], encoding: str, scale: float) -> None:
    samples = (recordings[1].samples * scale).astype("<i2" if scale == 1 else "<f4")
    stereo = np.stack([samples, samples], axis=1)
    with server.client() as client:
        client.start(pace="fast", audio={"encoding": encoding, "rate": 16_000, "channels": 2})
        data = stereo.tobytes()
        for begin in range(0, len(data), 10_001):  # frames that come in two pieces
            client.websocket.send(data[begin : begin + 10_001])
        client.tell("stop")
        client.finish()
    assert client.rttm("talk1") == recordings[1].rttm


def test_another_rate_gives_the_same_speakers(server: Serving, recordings: list[Recording]) -> None:
    samples = soxr.resample(recordings[1].samples, 16_000, 44_100)
    with server.client() as client:
        client.start(pace="fast", audio={"rate": 44_100})
        client.send(samples)
        client.tell("stop")
        client.finish()
    assert client.of("ended")[0]["audio_s"] == pytest.approx(13.3, abs=0.001)
    found = [line.split()[7] for line in client.rttm("talk1").splitlines()]
    assert found == [line.split()[7] for line in recordings[1].rttm.splitlines()]


def test_settings_are_the_clients_own(server: Serving, recordings: list[Recording]) -> None:
    with server.client() as one, server.client() as other:
        one.start(pace="fast", diarization={"max_speakers": 1})
        other.start(pace="fast", diarization={"latency": 2.0, "start": "early"})
        for client in (one, other):
            client.send(recordings[0].samples)
            client.tell("stop")
            client.finish()
    assert {each["speaker"] for each in one.of("segment")} == {"speaker0"}
    assert {each["speaker"] for each in other.of("segment")} > {"speaker0"}
    assert other.of("stats")[0]["until"] == 0.0  # early, with 2 s of latency: nothing is said of the first half second


def test_flush_is_answered_when_all_that_was_sent_is_diarized(server: Serving, recordings: list[Recording]) -> None:
    with server.client() as client:
        client.start()
        client.send(recordings[0].samples[: 16_000 * 8])
        client.tell("keepalive")
        client.tell("flush")
        assert client.hear("flushed")["until"] == 8.0
        assert client.of("stats")[-1]["until"] == 8.0
        assert len(client.of("stats")) == 7  # windows that end at 5, 5.5 ... 8 s
        client.tell("stop")
        client.finish()


def test_a_client_says_what_its_stream_is(server: Serving) -> None:
    with server.client() as client:
        session = client.start()["session"]
        client.tell("update", label="standup of the team", idle_s=20)
        assert client.hear("updated")["idle_s"] == 20
        client.tell("stop")
        client.finish()

    def told() -> list[str]:
        return [event["text"] for event in server.events if event["event"] == "session" and event["what"] == "labelled"]

    server.until(lambda: told() == [f"stream {session} labelled: standup of the team"])


def test_metrics_agree_with_what_clients_saw(server: Serving, recordings: list[Recording]) -> None:
    before = server.metrics()
    clients = [stream(server, each) for each in recordings]
    after = server.metrics()

    def grown(name: str) -> float:
        return after[f"diart_mp_{name}"] - before.get(f"diart_mp_{name}", 0.0)

    assert grown("segments_total") == sum(client.of("ended")[0]["segments"] for client in clients)
    assert grown("results_total") == sum(len(client.of("stats")) for client in clients)
    assert grown("audio_seconds_total") == pytest.approx(20.0 + 13.3 + 7.4)
    assert grown("sessions_started_total") == 3
    assert grown('sessions_ended_total{reason="ended"}') == 3

    def told(session: str) -> list[str]:
        return [event["what"] for event in server.events if event["event"] == "session" and event["stream"] == session]

    for client in clients:
        session = client.of("started")[0]["session"]
        server.until(lambda session=session: told(session) == ["begun", "ended"])  # type: ignore[misc]


def test_a_gateway_that_ends_tells_its_clients_the_last_segments_and_why(
    diart: Diart, recordings: list[Recording]
) -> None:
    with serving() as server, server.client() as client:
        client.start()
        client.send(recordings[0].samples[: 16_000 * 9])
        while not client.of("segment"):
            client.hear("stats")
        arguments = ("client", recordings[0].path, "--port", server.port, "--json")
        with diart.started(*map(str, arguments)) as process:
            server.until(lambda: server.metrics()["diart_mp_sessions"] == 2)
            with stopped(server.pid("clustering")):
                server.drain()
                for _ in range(20):  # a second of audio at its pace, which comes after the end, for the most part
                    client.send(recordings[0].samples[:800])
                    threading.Event().wait(0.05)
            client.finish()
            assert process.wait(WAIT_S) == 1
            assert process.stderr is not None
            assert "the server has shut down" in process.stderr.read()
        ended = client.of("ended")[0]
        assert (ended["reason"], client.close_code, client.of("error")) == ("closing", 1001, [])
        assert 9 <= ended["audio_s"] < 10
        assert client.of("segment")[-1]["final"]


def test_the_command_streams_a_file(diart: Diart, server: Serving, recordings: list[Recording], tmp_path: Path) -> None:
    out = tmp_path / "talk0.rttm"
    done = diart("client", recordings[0].path, "--port", str(server.port), "--fast", "-o", out)
    assert (done.code, done.complaints) == (0, [])
    assert out.read_text() == recordings[0].rttm
    assert len(done.out.splitlines()) == recordings[0].rttm.count("\n")
    again = diart("client", recordings[0].path, "--port", str(server.port), "--fast", "-o", out)
    assert (again.code, len(again.complaints)) == (1, 1)


def test_the_command_streams_at_the_pace_of_the_clock(
    diart: Diart, server: Serving, recordings: list[Recording], tmp_path: Path
) -> None:
    out = tmp_path / "talk2.rttm"
    done = diart("client", recordings[2].path, "--port", str(server.port), "--json", "-o", out)
    assert out.read_text() == recordings[2].rttm
    results = [each for each in done.objects if "turns" in each]
    assert results[-1]["end"] == pytest.approx(7.4, abs=0.5)
    assert done.objects[-1]["audio_s"] == 7.4


def test_no_server_is_one_line(diart: Diart, recordings: list[Recording]) -> None:
    done = diart("client", recordings[0].path, "--port", "9")
    assert (done.code, len(done.complaints)) == (1, 1)
    assert "diart-mp serve" in done.err
