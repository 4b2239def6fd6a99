"""A recording played into a virtual microphone: the live turns beside those of the file.

    python -m benchmarks.microphone RECORDING [--latency 0.5] [--clustering adaptive] [--limit 1]

PulseAudio plays the recording into ``diart-mp run --mic``; a stage behind capture keeps what was heard. Printed are the DER
between the live turns and those of (1) a run over the very samples that were heard, (2) a run over the recording itself with
its windows in the same places (the samples went through two resamplers), (3) the recording with windows from its own first
sample on, as ``diart-mp run`` has it; beside that, to tell what is the microphone's part, (4) is (2) against (3): no microphone
at all, only windows in other places. And the time from the first speech to the first result that has a turn. No collar,
overlap included, where the recording was heard. With ``--limit`` it exits with 1 where (3) is more percent, or where the first turn
shows later than ``FIRST_S`` after speech began.
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr

from diart_mp.audio.sound import QUIETEST, first_sound, has_sound
from diart_mp.evaluation.der import diarization_error
from diart_mp.outputs.read import load_rttm
from diart_mp.runtime.stage import Chunk, Stage
from diart_mp.topology import StageConfig
from tests.conftest import VirtualMicrophone, start_virtual_microphone

RATE = 16_000  # samples per second
FIRST_S = 1.5  # from the beginning of speech until the first turn shows, at most
LEAD_S = 0.5  # of digital silence in front: of what it begins with, a player now and then drops 2 to 30 ms
Turns = list[tuple[float, float, str]]
COMMAND = Path(sys.executable).with_name("diart-mp")


class Keep(Stage):
    """Keeps each window in a file of the folder that its option names."""

    consumes = ("audio",)
    produces = ()

    def __init__(self, config: StageConfig) -> None:
        self._folder = Path(str(config.options["folder"]))

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, Any]]:
        """Write them."""
        for chunk in chunks:
            np.save(self._folder / f"{chunk.start}.npy", chunk.audio)
        return [{} for _ in chunks]


def heard(folder: Path) -> np.ndarray:
    """The stream that the kept windows were cut from, from its sample 0 on."""
    windows = {int(path.stem): np.load(path) for path in folder.glob("*.npy")}
    samples = np.zeros(max(start + len(window) for start, window in windows.items()), np.float32)
    for start, window in windows.items():
        samples[max(start, 0) : start + len(window)] = window[max(-start, 0) :]
    return samples


def lag(stream: np.ndarray, recording: np.ndarray) -> int:
    """Sample of the stream at which the recording begins: where the two agree best."""
    size = 1 << (len(stream) + len(recording)).bit_length()
    agreement = np.fft.irfft(np.fft.rfft(stream, size) * np.conj(np.fft.rfft(recording, size)), size)
    return int(np.argmax(agreement[: len(stream)]))


def begun_with(stream: np.ndarray, original: np.ndarray, begin: int) -> np.ndarray:
    """The recording at sample ``begin`` of as many samples as the stream has; both have their first sound at the same sample."""
    placed = np.zeros_like(stream)
    placed[begin : begin + len(original)] = original[: len(stream) - begin]
    first = first_sound(stream) or 0
    placed[:first] = 0
    placed[first] = placed[first] if has_sound(placed[first : first + 1]) else QUIETEST
    return placed


def listen(
    microphone: VirtualMicrophone, recording: Path, output: Path, options: Sequence[str]
) -> list[dict[str, Any]]:
    """Run the command while the recording is played, end it with Ctrl-C; what it printed."""
    command = [COMMAND, "run", "--mic", "--json", "--output", output, "--format", "rttm", *options]
    with subprocess.Popen(command, env=microphone.env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        objects = [json.loads(process.stdout.readline())]
        playing = microphone.play(recording)
        while playing.poll() is None:
            objects.append(json.loads(process.stdout.readline()))
        until = time.monotonic() + 1.0  # s: what is in the buffers of the sound server
        while time.monotonic() < until:
            objects.append(json.loads(process.stdout.readline()))
        process.send_signal(signal.SIGINT)
        objects += [json.loads(line) for line in process.stdout]
    return [each for each in objects if each.get("kind") != "summary"]


def turns_of_file(samples: np.ndarray, folder: Path, name: str, options: Sequence[str]) -> Turns:
    """Turns of a file with these samples."""
    path = folder / f"{name}.wav"
    soundfile.write(path, samples, RATE, subtype="FLOAT")
    command = [COMMAND, "run", path, "--quiet", "--output", folder, "--format", "rttm", *options]
    subprocess.run(command, check=True)
    return load_rttm(folder / f"{name}.rttm").get(name, [])


def main() -> int:
    """Play, listen, compare, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recording", type=Path)
    parser.add_argument("--latency", default="0.5")
    parser.add_argument("--clustering", default="exact")
    parser.add_argument(
        "--limit", type=float, metavar="PERCENT", help="DER beside a run of the file (default: not judged)"
    )
    arguments = parser.parse_args()
    played, rate = soundfile.read(arguments.recording, dtype="float32", always_2d=True)
    original = soxr.resample(played.mean(axis=1), rate, RATE)
    with tempfile.TemporaryDirectory() as temporary, start_virtual_microphone() as microphone:
        folder = Path(temporary)
        (folder / "windows").mkdir()
        keep = ["--insert", "benchmarks.microphone:Keep@capture", "--option", f"keep.folder={folder / 'windows'}"]
        options = ["--latency", arguments.latency, "--clustering", arguments.clustering]
        wave = folder / "played.wav"
        silence = np.zeros((round(LEAD_S * rate), played.shape[1]), np.float32)
        soundfile.write(wave, np.concatenate([silence, played]), rate)
        objects = listen(microphone, wave, folder / "live", [*options, *keep])
        live = load_rttm(folder / "live" / "microphone.rttm").get("microphone", [])
        stream = heard(folder / "windows")
        begin = lag(stream, original)
        start = begin / RATE
        early, exact = [*options, "--start", "early"], [*options, "--start", "exact"]
        same = turns_of_file(stream, folder, "heard", early)
        placed = turns_of_file(begun_with(stream, original, begin), folder, "recording", early)
        alone = turns_of_file(original, folder, "alone", exact)
        moved = [(one + start, other + start, who) for one, other, who in alone]
        rates = []
        for name, file, found in (
            ("live turns beside those of the samples heard", same, live),
            ("live turns beside those of the recording, same windows", placed, live),
            ("live turns beside those of the recording, its own windows", moved, live),
            ("the recording with both windows, no microphone", moved, placed),
        ):
            error = diarization_error(file, found, uem=[(start, start + len(original) / RATE)])
            rates.append(100 * abs(error.rate))
            sys.stdout.write(f"{name}: DER {rates[-1]:.2f} %\n")
    first = next(each for each in objects if each["turns"])
    speech = min(turn["start"] for turn in first["turns"])
    shown = first["end"] + first["latency_ms"] / 1000
    sys.stdout.write(
        f"first turn: begins {speech:.2f} s into the stream, shown {shown - speech:.2f} s after it began\n"
    )
    return int(arguments.limit is not None and (rates[2] > arguments.limit or shown - speech > FIRST_S))


if __name__ == "__main__":
    sys.exit(main())
