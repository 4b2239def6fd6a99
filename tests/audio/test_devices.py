"""The choice of a device, and machines without sounddevice or PortAudio."""

import subprocess
import sys

import pytest

from diart_mp.audio.devices import InputDevice, find_device
from diart_mp.errors import AudioError

DEVICES = [
    InputDevice(0, "HDA Intel: ALC257 (hw:0,0)", "ALSA", 2, 48000, default=False),
    InputDevice(3, "USB Microphone: Audio (hw:1,0)", "ALSA", 1, 44100, default=True),
    InputDevice(5, "USB Microphone: Audio 2 (hw:2,0)", "ALSA", 1, 44100, default=False),
    InputDevice(6, "pulse", "ALSA", 32, 44100, default=False),
    InputDevice(7, "PulseAudio monitor", "ALSA", 2, 44100, default=False),
]


@pytest.mark.parametrize(
    ("wanted", "index"),
    [(None, 3), (5, 5), ("0", 0), ("intel", 0), ("AUDIO 2", 5), ("Pulse", 6), ("monitor", 7)],
)
def test_found(wanted: int | str | None, index: int) -> None:
    assert find_device(wanted, DEVICES).index == index


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (1, "there is no input device 1; give one of these by its number: 0: HDA Intel"),
        ("banjo", "there is no input device 'banjo'"),
        ("usb mic", r"'usb mic' fits several input devices; .*number: 3: USB.*, 5: USB.* \(ALSA\)$"),
    ],
)
def test_not_found(wanted: int | str, words: str) -> None:
    with pytest.raises(AudioError, match=words):
        find_device(wanted, DEVICES)


def test_no_input_at_all() -> None:
    with pytest.raises(AudioError, match="no audio input device was found; is a microphone plugged in"):
        find_device(None, [])


def test_the_first_one_if_none_is_the_default() -> None:
    assert find_device(None, DEVICES[:1]).index == 0


OPEN = """
from diart_mp.audio.microphone import MicrophoneSource
from diart_mp.errors import AudioError
try:
    MicrophoneSource()
except AudioError as error:
    print(error)
"""


def error_of(prelude: str) -> str:
    command = [sys.executable, "-c", prelude + OPEN]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_without_portaudio() -> None:
    """The loader's search is made to find nothing, which is what it does where the library is not installed."""
    hide = "import ctypes.util\nctypes.util.find_library = lambda name: None\n"
    expected = (
        "need the library PortAudio, which is not installed (PortAudio library not found): apt install libportaudio2"
    )
    assert expected in error_of(hide)


def test_without_sounddevice() -> None:
    hide = "import sys\nsys.modules['sounddevice'] = None\n"
    assert "which is not installed: pip install 'diart-mp[mic]'" in error_of(hide)
