"""A real microphone run: PulseAudio plays a recording into ``diart-mp run --mic``, which says what it says of the file."""

import json
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tests.conftest import VirtualMicrophone
from tests.fakes import RATE, conversation

from .command import TONES, Diart, Turns, der, turns

SECONDS = 7.0


@pytest.fixture(scope="module")
def hum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short conversation with half a second of faint noise in front, so that nothing is cut off where playing begins."""
    path = tmp_path_factory.mktemp("microphone") / "hum.wav"
    conversation(path, seconds=SECONDS, seed=21)
    samples, _ = soundfile.read(path)
    soundfile.write(path, np.concatenate([np.random.default_rng(0).normal(0, 1e-3, RATE // 2), samples]), RATE)
    return path


def listen(
    diart: Diart, microphone: VirtualMicrophone, hum: Path, output: Path, *arguments: str
) -> "list[dict[str, object]]":
    """Run the command while ``hum`` is played, end it with Ctrl-C; the objects that it printed."""
    command: tuple[str | Path, ...] = (
        "run",
        "--mic",
        *arguments,
        "--json",
        "--output",
        output,
        "--format",
        "rttm,jsonl",
        *TONES,
    )
    with diart.started(*command, env=microphone.env) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "listening" in process.stderr.readline()
        objects = [json.loads(process.stdout.readline())]
        playing = microphone.play(hum)
        while playing.poll() is None:
            objects.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        objects += [json.loads(line) for line in process.stdout.read().splitlines()]
        assert process.wait(10) == 0, process.stderr.read()
    return objects


def aligned(reference: Turns, heard: Turns) -> float:
    """DER in percent at the best shift: where in the microphone's stream the playing began is not known."""
    shifts = np.arange(0.0, 5.0, 0.02)
    return min(
        der(reference, [(start - shift, end - shift, who) for start, end, who in heard], SECONDS + 0.5)
        for shift in shifts
    )


def test_microphone_gives_the_turns_of_the_file(
    diart: Diart, virtual_microphone: VirtualMicrophone, hum: Path, tmp_path: Path
) -> None:
    assert diart("run", hum, "--output", tmp_path / "file", *TONES).code == 0  # what was said early is said again
    objects = listen(diart, virtual_microphone, hum, tmp_path / "mic")
    summary = objects.pop()
    assert summary["kind"] == "summary"
    assert summary["lost_s"] == 0
    assert [each["seq"] for each in objects] == list(range(len(objects)))
    latencies = [each["latency_ms"] for each in objects]
    assert [latency for latency in latencies if not (isinstance(latency, float) and latency > 0)] == []
    heard = turns(tmp_path / "mic" / "microphone.rttm")
    assert aligned(turns(tmp_path / "file" / "hum.rttm"), heard) < 2
    lines = (tmp_path / "mic" / "microphone.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == objects


def test_device_and_channel_are_chosen_by_name(
    diart: Diart, virtual_microphone: VirtualMicrophone, hum: Path, tmp_path: Path
) -> None:
    command = ("run", "--mic", "pulse", "--channel", "1", "--json", "--output", tmp_path, *TONES)
    with diart.started(*command, env=virtual_microphone.env) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        assert "listening" in process.stderr.readline()
        playing = virtual_microphone.play(hum)
        heard = (json.loads(line) for line in process.stdout)
        assert next(each["turns"] for each in heard if each["turns"])
        playing.kill()
        playing.wait()
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 0


def test_killed_stages_do_not_end_a_live_run(
    diart: Diart, virtual_microphone: VirtualMicrophone, hum: Path, tmp_path: Path
) -> None:
    command = ("run", "--mic", "--json", "--output", tmp_path, *TONES)
    with diart.started(*command, env=virtual_microphone.env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        ends = [json.loads(process.stdout.readline())["end"]]
        for stage in ("capture", "segmentation", "embedding", "clustering"):
            subprocess.run(["pkill", "-9", "-P", str(process.pid), "-f", f"diart-mp: {stage}"], check=True)
            for _ in range(4):
                update = json.loads(process.stdout.readline())
                assert update["start"] == ends[-1]  # regions follow each other without a hole
                ends.append(update["end"])
        process.send_signal(signal.SIGINT)
        summary = json.loads(process.stdout.read().splitlines()[-1])
        assert process.wait(10) == 0
    assert summary["restarts"] == 4
    assert 0 < summary["lost_s"] < 5  # while capture was down nobody listened, and that is said
