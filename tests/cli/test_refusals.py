"""What cannot be done ends with one line on standard error, a code that is not 0, and no traceback."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
import soundfile

from .command import ROOT, TONES, Argument, Diart, Done

RATE = 16_000


def one_line(done: Done, *words: str) -> None:
    """Check that a command ended with one clear line that has ``words``, and nothing else."""
    assert done.code not in (0, 130)
    assert done.out == ""
    assert len(done.complaints) == 1, done.err
    assert done.complaints[0].startswith("diart-mp: error: ")
    assert [word for word in words if word not in done.complaints[0]] == [], done.complaints[0]


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, talk: Path) -> Path:
    """The working folder of these commands, with files that are no good."""
    folder = tmp_path_factory.mktemp("bad")
    (folder / "talk.wav").symlink_to(talk)
    (folder / "text.wav").write_text("this is no audio\n" * 100)
    (folder / "cut.wav").write_bytes(talk.read_bytes()[:30])
    (folder / "empty.wav").touch()
    (folder / "other").mkdir()
    (folder / "other" / "talk.wav").symlink_to(talk)
    (folder / "bad").mkdir()
    (folder / "bad" / "cut.wav").symlink_to(folder / "cut.wav")
    (folder / "bad" / "empty.wav").symlink_to(folder / "empty.wav")
    (folder / "out").mkdir()
    (folder / "out" / "talk.rttm").write_text("precious\n")
    samples, _ = soundfile.read(talk, dtype="float32")
    samples[8 * RATE + 3] = np.nan
    soundfile.write(folder / "holes.wav", samples, RATE, subtype="FLOAT")
    return folder


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("nowhere.wav", ["nowhere.wav", "no such file"]),
        ("out", ["out", "no recordings", "flac"]),
        ("bad", ["bad/cut.wav", "not readable as audio", "and 1 more"]),
        ("talk.wav other", ["other/talk.wav", "would both be called talk"]),
        ("text.wav", ["text.wav", "not readable as audio"]),
        ("cut.wav", ["cut.wav", "not readable as audio"]),
        ("empty.wav", ["empty.wav", "is an empty file"]),
        ("talk.wav nowhere.wav", ["nowhere.wav", "no such file"]),
        ("talk.wav other/talk.wav", ["other/talk.wav", "would both be called talk"]),
        ("talk.wav other/talk.wav -o new", ["other/talk.wav", "would both be called talk"]),
        ("talk.wav -o out", ["out/talk.rttm", "exists already", "--force"]),
        ("talk.wav -o text.wav", ["cannot write text.wav", "Not a directory"]),
        ("talk.wav -o text.wav/new/new", ["cannot write text.wav/new/new", "Not a directory"]),
        ("talk.wav -o /proc/new", ["cannot write /proc/new"]),
        ("talk.wav --format rttm,mp4", ["no output format 'mp4'", "audacity"]),
        ("talk.wav --reference nowhere.rttm", ["nowhere.rttm", "No such file"]),
        ("talk.wav --reference text.wav", ["text.wav", "no turns"]),
        ("talk.wav --segmentation mymodel", ["'mymodel' names no model", "package.module:Class"]),
        ("talk.wav --segmentation tests.fakes:Nobody", ["tests.fakes", "no class Nobody"]),
        ("talk.wav --embedding no.such:Model", ["no.such", "ModuleNotFoundError"]),
        ("talk.wav --embedding model.onnx", ["no model file model.onnx"]),
        ("talk.wav --models pyanote", ["'pyanote'", "did you mean 'pyannote'"]),
        ("talk.wav --step 6", ["step", "duration of 5 s", "6 s"]),
        ("talk.wav --latency 0.2", ["latency", "0.5 s", "0.2 s"]),
        ("talk.wav --latency 7", ["latency", "5 s", "7 s"]),
        ("talk.wav --latency soon", ["--latency", "'soon'"]),
        ("talk.wav --step -1", ["step", "positive"]),
        ("talk.wav --step nan", ["step", "positive", "nan"]),
        ("talk.wav --duration inf", ["duration", "inf"]),
        ("talk.wav --tau-active nan", ["tau_active", "from 0 to 1", "nan"]),
        ("talk.wav --delta-new -0.1", ["delta_new", "from 0 to 2", "-0.1"]),
        ("talk.wav --jobs 0", ["--jobs", "0"]),
        ("talk.wav --max-speakers 0", ["max_speakers", "from 1"]),
        ("talk.wav --max-speakers 1.5", ["--max-speakers", "'1.5'", "run --help"]),
        ("talk.wav --channel 1", ["channel 1", "it has 1"]),
        ("talk.wav --fast", ["--fast", "run --help"]),
        ("", ["nothing to diarize"]),
        ("- -", ["standard input", "both be called stdin"]),
        ("--mic 999", ["input device"]),
        ("talk.wav --mic 999", ["--mic", "cannot be mixed"]),
    ],
)
def test_refused_before_anything_starts(diart: Diart, folder: Path, arguments: str, words: list[str]) -> None:
    one_line(diart("run", *arguments.split(), cwd=folder), *words)
    assert not (folder / "new").exists()
    assert (folder / "out" / "talk.rttm").read_text() == "precious\n"


def test_samples_that_are_no_numbers(diart: Diart, folder: Path, tmp_path: Path) -> None:
    """The others are done all the same, and what came before the hole too."""
    done = diart("run", "holes.wav", "talk.wav", *TONES, "--quiet", "-o", tmp_path, cwd=folder)
    one_line(done, "holes.wav", "8.000 s", "not a finite number")
    whole, holes = ((tmp_path / f"{name}.rttm").read_text().splitlines() for name in ("talk", "holes"))
    assert len(whole) > len(holes) > 0


def test_an_output_for_which_there_is_no_room(diart: Diart, folder: Path, tmp_path: Path) -> None:
    """The others are done all the same, whether they come before it, beside it or after it."""
    (tmp_path / "talk.jsonl").symlink_to("/dev/full")
    for name in ("early", "late"):
        (tmp_path / f"{name}.wav").symlink_to(folder / "talk.wav")
    recordings: list[Argument] = [tmp_path / "early.wav", "talk.wav", tmp_path / "late.wav"]
    options: list[Argument] = ["--quiet", "-o", tmp_path, "--format", "jsonl", "--force", "--jobs", "2"]
    one_line(diart("run", *recordings, *TONES, *options, cwd=folder), "cannot write", "talk.jsonl", "No space left")
    early, late = ((tmp_path / f"{name}.jsonl").read_text().count("\n") for name in ("early", "late"))
    assert early == late > 20


def _without(diart: Diart, folder: Path, prelude: str) -> Done:
    """``run --mic`` in an interpreter that runs ``prelude`` first."""
    (folder / "sitecustomize.py").write_text(prelude)
    return diart("run", "--mic", env={"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])})


def test_no_portaudio(diart: Diart, tmp_path: Path) -> None:
    hidden = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    one_line(_without(diart, tmp_path, hidden), "PortAudio", "apt install libportaudio2")


def test_no_sounddevice(diart: Diart, tmp_path: Path) -> None:
    one_line(_without(diart, tmp_path, "import sys\nsys.modules['sounddevice'] = None\n"), "diart-mp[mic]")


class _Hub(BaseHTTPRequestHandler):
    """Says of every model that it is gated, as the hub does."""

    def do_HEAD(self) -> None:
        self.send_response(401)
        self.send_header("X-Error-Code", "GatedRepo")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@contextmanager
def _hub() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_gated_model_without_a_token(diart: Diart, talk: Path, tmp_path: Path) -> None:
    with _hub() as endpoint:
        env = {"HF_ENDPOINT": endpoint, "HF_HOME": str(tmp_path)}
        done = diart("run", talk, "--segmentation", "org/gated", *TONES[2:], env=env)
    one_line(done, "org/gated is gated", "https://huggingface.co/org/gated", "HF_TOKEN")


def test_a_model_that_is_not_there_offline(diart: Diart, talk: Path, tmp_path: Path) -> None:
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    done = diart("run", talk, "--embedding", "org/absent", *TONES[:2], env=env)
    one_line(done, "org/absent", "not in the hub's cache", "HF_HUB_OFFLINE")
