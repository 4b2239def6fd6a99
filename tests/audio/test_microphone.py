"""A real PortAudio microphone: what is played into a private PulseAudio server is recorded again."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pytest
import soundfile

RECORDER = Path(__file__).with_name("recorder.py")


class Microphone(Protocol):
    """What the fixtures of conftest.py give."""

    env: dict[str, str]
    server: subprocess.Popen[bytes]

    def play(self, path: Path) -> subprocess.Popen[bytes]: ...


def tone(path: Path, seconds: float, left: float, right: float) -> Path:
    """A stereo file of 440 Hz with these amplitudes."""
    sine = np.sin(2 * np.pi * 440 * np.arange(round(seconds * 48000)) / 48000)
    soundfile.write(path, np.stack([left * sine, right * sine], axis=1), 48000)
    return path


@contextmanager
def recording(microphone: Microphone, output: Path, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """A recorder that is listening; it stops soon after the end of the block."""
    command = [sys.executable, RECORDER, json.dumps(options), output]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, env=microphone.env, **pipes) as recorder:  # type: ignore[call-overload]
        try:
            assert recorder.stdout.readline() == "listening\n"
            yield recorder
            recorder.stdin.close()
            assert recorder.wait(30) == 0
        finally:
            recorder.kill()


def run(microphone: Microphone, code: str) -> str:
    """Standard output of a Python program that sees the microphone."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=microphone.env, check=True, capture_output=True, text=True).stdout


def sounding(samples: np.ndarray) -> np.ndarray:
    """The part of the recording between the first and the last loud sample."""
    loud = np.flatnonzero(np.abs(samples) > 0.05)
    assert len(loud) > 0, f"nothing heard in {len(samples)} samples"
    return samples[loud[0] : loud[-1] + 1]


def amplitude(samples: np.ndarray) -> float:
    """Of the tone in the middle of the recording."""
    middle = sounding(samples)[1000:-1000]
    return float(np.sqrt(2 * np.mean(middle**2)))


@pytest.mark.parametrize("rate", [16_000, 400_000])
def test_what_is_played_is_recorded(virtual_microphone: Microphone, tmp_path: Path, rate: int) -> None:
    """With the right level, pitch and length, and blocks stamped with the time of their capture.

    The device is opened at its own rate; 400 kHz is more than PulseAudio does.
    """
    with recording(virtual_microphone, tmp_path / "out.npz", rate=rate):
        assert virtual_microphone.play(tone(tmp_path / "tone.wav", 1.5, 0.5, 0.5)).wait() == 0
    found = np.load(tmp_path / "out.npz")
    samples = found["samples"]
    assert found["input_rate"] == 44_100
    assert samples.dtype == np.float32
    assert len(sounding(samples)) / rate == pytest.approx(1.5, abs=0.03)
    assert amplitude(samples) == pytest.approx(0.5, rel=0.03)
    spectrum = np.abs(np.fft.rfft(sounding(samples)))
    assert np.argmax(spectrum) * rate / len(sounding(samples)) == pytest.approx(440, abs=2)
    ends, times = found["clock"].T
    assert (np.diff(times) > 0).all()
    assert np.median(np.abs(np.diff(times) - np.diff(ends) / rate)) < 0.003, "what the resampler holds back counts"


def test_high_tones_are_as_loud_as_low_ones(virtual_microphone: Microphone, tmp_path: Path) -> None:
    """A sound server that is asked for 16 kHz makes 7.2 kHz weaker by more than a half."""
    times = np.arange(48000) / 48000
    soundfile.write(
        tmp_path / "tones.wav", 0.25 * sum(np.sin(2 * np.pi * pitch * times) for pitch in (500, 7200)), 48000
    )
    with recording(virtual_microphone, tmp_path / "out.npz"):
        assert virtual_microphone.play(tmp_path / "tones.wav").wait() == 0
    heard = sounding(np.load(tmp_path / "out.npz")["samples"])[2000:10_000]
    low, high = (np.abs(np.fft.rfft(heard))[pitch // 2] for pitch in (500, 7200))  # 2 Hz a bin
    assert high / low == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize(("channel", "expected"), [(0, 0.6), (1, 0.2), (None, 0.4)])
def test_channels(virtual_microphone: Microphone, tmp_path: Path, channel: int | None, expected: float) -> None:
    with recording(virtual_microphone, tmp_path / "out.npz", channel=channel, device="PULSE"):
        assert virtual_microphone.play(tone(tmp_path / "tone.wav", 0.5, 0.6, 0.2)).wait() == 0
    assert amplitude(np.load(tmp_path / "out.npz")["samples"]) == pytest.approx(expected, rel=0.03)


def test_what_is_not_read_in_time_is_a_gap_of_the_right_length(virtual_microphone: Microphone, tmp_path: Path) -> None:
    """A sweep tells by its pitch at what time of the file a sample was played."""
    times = np.arange(3 * 48000) / 48000
    soundfile.write(tmp_path / "sweep.wav", 0.5 * np.sin(2 * np.pi * (500 + 250 * times) * times), 48000)
    with recording(virtual_microphone, tmp_path / "out.npz", max_s=0.3, deaf_s=1.5):
        assert virtual_microphone.play(tmp_path / "sweep.wav").wait() == 0
    found = np.load(tmp_path / "out.npz")
    ((position, length),) = found["gaps"]
    assert found["reasons"] == ["not read in time"]
    assert length % 1600 == 0, "whole blocks"
    samples = found["samples"]
    assert 0.5 < length / 16000 < 1.6
    assert (
        np.abs(samples[position + 800 : position + length - 800]).max() < 1e-4
    )  # resampled, so its ends are not sharp

    def played(at: int) -> float:
        """Time in the file of what was recorded around ``at``: the pitch is 500 Hz + 500 Hz/s."""
        spectrum = np.abs(np.fft.rfft(samples[at - 800 : at + 800] * np.hanning(1600), 1 << 16))
        return float((np.argmax(spectrum) * 16000 / (1 << 16) - 500) / 500)

    before, after = position - 900, position + length + 900
    assert played(after) - played(before) == pytest.approx((after - before) / 16000, abs=0.05)


def test_a_microphone_that_goes_away_is_an_error(mortal_microphone: Microphone, tmp_path: Path) -> None:
    with recording(mortal_microphone, tmp_path / "out.npz") as recorder:
        mortal_microphone.server.kill()
        assert recorder.stdout is not None
        assert recorder.stdout.readline() == (
            "microphone 'default' gives no more samples; was it unplugged, or its sound server stopped?\n"
        )


def test_devices_are_listed(virtual_microphone: Microphone) -> None:
    code = "from diart_mp.audio.devices import list_devices\nfor one in list_devices(): print(one)"
    lines = run(virtual_microphone, code).splitlines()
    assert len(lines) == 2
    assert any("name='default', host_api='ALSA'" in line and "rate=44100, default=True" in line for line in lines)
    assert any("name='pulse'" in line and "default=False" in line for line in lines)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (
            "'kitchen'",
            "there is no input device 'kitchen'; give one of these by its number: 0: pulse (ALSA), 1: default",
        ),
        ("99", "there is no input device 99; "),
        ("'99'", "there is no input device 99; "),
        (
            "'UL'",
            "'UL' fits several input devices; give one of these by its number: 0: pulse (ALSA), 1: default (ALSA)",
        ),
        ("channel=32", "microphone 'default' has no channel 32; it has 32, counted from 0"),
        ("rate=5", "default: a sample rate of 5 Hz makes no sense"),
    ],
)
def test_devices_that_cannot_be_had(virtual_microphone: Microphone, options: str, words: str) -> None:
    code = (
        "from diart_mp.audio.microphone import MicrophoneSource\nfrom diart_mp.errors import AudioError\n"
        f"try: MicrophoneSource({options})\nexcept AudioError as error: print(error)"
    )
    assert words in run(virtual_microphone, code)
