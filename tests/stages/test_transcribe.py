"""Words with speakers, from a server with OpenAI's interface that the test runs and from a model object that it makes."""

import importlib
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import soundfile

from diart_mp.config import Settings
from diart_mp.errors import ModelError
from diart_mp.messages import Plain
from diart_mp.models.base import FloatArray
from diart_mp.models.transcribe import OpenAiTranscriber, WhisperTranscriber, Word, load_transcriber
from diart_mp.runtime.chain import compose, make_stage, with_options
from diart_mp.runtime.local import default_stages
from diart_mp.runtime.stage import Chunk
from diart_mp.testing import check_stage, chunks
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader
from tests.fakes import PITCHES, RATE, TONE_MODELS, conversation
from tests.pipeline_runs import Kill, Run, run

SETTINGS = Settings.from_seconds(latency=2.0)
_FRAME = 800  # samples, 50 ms


class ToneWords:
    """A "word" for each stretch of one pitch: its number."""

    def __call__(self, samples: FloatArray, rate: int) -> Sequence[Word]:
        frames = samples[: len(samples) // _FRAME * _FRAME].reshape(-1, _FRAME)
        spectrum = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=1)) * (4 / _FRAME)
        heard = spectrum[:, [round(pitch * _FRAME / rate) for pitch in PITCHES]]
        who = np.where(heard.max(axis=1) > 0.1, heard.argmax(axis=1), -1)
        edges = np.flatnonzero(np.diff(who, prepend=-2, append=-2))
        return [
            Word(begin * _FRAME / rate, end * _FRAME / rate, str(who[begin]))
            for begin, end in itertools.pairwise(edges)
            if who[begin] >= 0
        ]


class _Endpoint(BaseHTTPRequestHandler):
    """What a transcription server does with a piece; ``asked`` keeps the forms that came."""

    asked: list[dict[str, str]]

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        boundary = self.headers["Content-Type"].split("boundary=")[1].encode()
        fields = {}
        for part in body.split(b"--" + boundary)[1:-1]:
            head, _, content = part.strip(b"\r\n").partition(b"\r\n\r\n")
            name = re.findall(rb'name="([^"]+)"', head)[0].decode()
            fields[name] = content
        samples, rate = soundfile.read(io.BytesIO(fields.pop("file")), dtype="float32")
        self.asked.append({name: value.decode() for name, value in fields.items()})
        words = [{"start": word.start, "end": word.end, "word": word.text} for word in ToneWords()(samples, rate)]
        known = self.path == "/v1/audio/transcriptions"
        answer = json.dumps({"text": "", "words": words}).encode() if known else b'{"error": "no such path"}'
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def endpoint() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """The address of a running server, and the forms that it has got."""
    handler = _Endpoint
    handler.asked = []
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/v1", handler.asked
        server.shutdown()
        thread.join()


def transcribed(audio: Path, folder: Path, options: list[str], kills: Sequence[Kill] = ()) -> Run:
    stages = with_options(
        compose(default_stages(TONE_MODELS), insert=["transcribe@clustering"]),
        [f"transcribe.folder={folder / 'words'}", *options],
    )
    done = run(
        audio, folder / "out", settings=SETTINGS, models=TONE_MODELS, stages=stages, kills=kills, max_in_flight=8
    )
    assert not done.summary.failures
    assert done.kills == sum(len(kill.victims) for kill in kills)
    return done


def lines_of(folder: Path) -> list[dict[str, object]]:
    """The words of the only stream, without the line that says of which stream they are."""
    return [json.loads(line) for line in (folder / "words" / "hum.words.jsonl").read_text().splitlines()[1:]]


def test_words_have_their_speakers_and_survive_kills(
    endpoint: tuple[str, list[dict[str, str]]], tmp_path: Path
) -> None:
    audio = tmp_path / "hum.wav"
    truth = conversation(audio, seconds=20.0, seed=3)
    url, asked = endpoint
    kills = [Kill(3, ("transcribe",)), Kill(10, ("transcribe", "clustering"))]
    calm = transcribed(audio, tmp_path / "http", [f"transcribe.url={url}", "transcribe.model=small"])
    killed = transcribed(audio, tmp_path / "own", ["transcribe.model=tests.stages.test_transcribe:ToneWords"], kills)
    assert killed.files == calm.files  # the turns
    words = lines_of(tmp_path / "http")
    assert lines_of(tmp_path / "own") == words
    assert asked[0]["model"] == "small"
    assert asked[0]["timestamp_granularities[]"] == "word"
    humming = np.zeros(2000, bool)  # each 10 ms
    for start, end, _ in truth:
        humming[round(100 * start) : round(100 * end)] = True
    total, pairs = 0.0, dict[tuple[str, str], float]()
    for word in words:
        length = float(str(word["end"])) - float(str(word["start"]))
        total += length
        pair = str(word["speaker"]), str(word["word"])
        pairs[pair] = pairs.get(pair, 0.0) + length
    assert total == pytest.approx(humming.sum() / 100, rel=0.1)
    right = sum(
        max(share for (who, _), share in pairs.items() if who == speaker) for speaker in {who for who, _ in pairs}
    )
    assert right > 0.9 * total
    assert len({who for who, _ in pairs}) > 2


def test_endpoint_that_fails_costs_the_words_alone(endpoint: tuple[str, list[dict[str, str]]], tmp_path: Path) -> None:
    options = {"url": f"{endpoint[0]}/nowhere", "folder": str(tmp_path / "words")}
    kind = importlib.import_module(
        "diart_mp.stages.transcribe"
    ).Transcribe  # this folder lies elsewhere in the checkout
    stage = make_stage(StageConfig(name="transcribe", keyed=True, model="", options=options), kind)
    stage.open()
    given = [stage.process([Chunk(message, RingReader())])[0] for message in chunks(count=30, stream="hum")]
    assert all(fields["words"] == Plain([]) for fields in given)
    lines = lines_of(tmp_path)
    assert lines
    assert all('answered 404: {"error": "no such path"}' in str(line["error"]) for line in lines)


def test_stream_of_which_nothing_could_be_used_ends_without_words(tmp_path: Path) -> None:
    options = {"folder": str(tmp_path / "words")}
    kind = importlib.import_module("diart_mp.stages.transcribe").Transcribe
    stage: Any = make_stage(
        StageConfig(name="transcribe", keyed=True, model=f"{__name__}:ToneWords", options=options), kind
    )
    stage.open()
    stage.restore("hum", stage.checkpoint("hum"))
    end = replace(chunks(count=1, stream="hum")[0], kind="end", seq=1)
    assert stage.finish(Chunk(end, RingReader())) == {}
    assert not (tmp_path / "words").exists()


def test_answers_of_other_shapes() -> None:
    second = np.zeros(RATE, np.float32)
    with pytest.raises(ModelError, match="does the server run there"):
        OpenAiTranscriber("http://127.0.0.1:9", "small")(second, RATE)
    with pytest.raises(ModelError, match="must begin with http"):
        load_transcriber("small", url="file:///etc/passwd")
    with pytest.raises(ModelError, match=r"pip install 'diart-mp\[transcribe\]'|cannot load the faster-whisper model"):
        WhisperTranscriber("no-such-model-anywhere")


class WhisperModel:
    """The interface of faster-whisper's, with tones for words."""

    made: ClassVar[list[tuple[object, ...]]] = []

    def __init__(self, model: str, *, device: str, device_index: int, compute_type: str, cpu_threads: int) -> None:
        if model == "broken":
            msg = "no such\nmodel"
            raise RuntimeError(msg)
        self.made.append((model, device, device_index, compute_type, cpu_threads))

    def transcribe(
        self, audio: FloatArray, *, language: str | None, word_timestamps: bool, temperature: float
    ) -> tuple[Iterator[object], object]:
        assert (str(audio.dtype), word_timestamps, temperature) == ("float32", True, 0.0)
        words = [
            SimpleNamespace(start=w.start, end=w.end, word=f" {language}{w.text}") for w in ToneWords()(audio, RATE)
        ]
        return iter([SimpleNamespace(words=words), SimpleNamespace(words=None)]), None


def test_faster_whisper_gets_what_it_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "faster_whisper", SimpleNamespace(WhisperModel=WhisperModel))
    transcribe = load_transcriber("", device="cuda:1", threads=2, language="en")
    assert WhisperModel.made == [("small", "cuda", 1, "default", 2)]
    tone = 0.3 * np.sin(2 * np.pi * PITCHES[1] * np.arange(48_000) / 48_000)  # the rate of the stream, not the model's
    (word,) = transcribe(tone.astype(np.float32), 48_000)
    assert word == Word(0.0, 1.0, "en1")
    with pytest.raises(ModelError, match="cannot load the faster-whisper model 'broken': no such model"):
        load_transcriber("broken")


def test_conformance(tmp_path: Path) -> None:
    config = StageConfig(
        name="transcribe", keyed=True, model="tests.stages.test_transcribe:ToneWords", options={"folder": str(tmp_path)}
    )
    assert check_stage("diart_mp.stages.transcribe:Transcribe", chunks(count=5), config=config) == []
