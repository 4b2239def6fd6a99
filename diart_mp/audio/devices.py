"""The input devices of this machine, as PortAudio sees them.

Loads the optional library sounddevice when asked, never at import. Runs in capture and in the command line.
"""

import importlib
from dataclasses import dataclass
from typing import Any

from diart_mp.errors import AudioError


@dataclass(frozen=True, slots=True)
class InputDevice:
    """One device with inputs. ``rate``: its own preferred samples per second. ``default``: used when none is named."""

    index: int
    name: str
    host_api: str
    channels: int
    rate: int
    default: bool


def load_sounddevice() -> Any:
    """The module sounddevice. Raises AudioError that says what to install."""
    try:
        return importlib.import_module("sounddevice")
    except ModuleNotFoundError as error:
        msg = "microphones need the library sounddevice, which is not installed: pip install 'diart-mp[mic]'"
        raise AudioError(msg) from error
    except OSError as error:
        msg = (
            f"microphones need the library PortAudio, which is not installed ({error}): "
            "apt install libportaudio2, dnf install portaudio or brew install portaudio"
        )
        raise AudioError(msg) from error


def list_devices() -> list[InputDevice]:
    """All devices with inputs, by index. Raises AudioError if PortAudio cannot be used."""
    sounddevice = load_sounddevice()
    try:
        found = list(sounddevice.query_devices())
        apis = [str(api["name"]) for api in sounddevice.query_hostapis()]
        default = _default_index(sounddevice)
    except sounddevice.PortAudioError as error:
        msg = f"the list of audio devices cannot be read (PortAudio: {error.args[0]})"
        raise AudioError(msg) from error
    return [
        InputDevice(
            index=int(one["index"]),
            name=str(one["name"]),
            host_api=apis[one["hostapi"]],
            channels=int(one["max_input_channels"]),
            rate=round(one["default_samplerate"]),
            default=int(one["index"]) == default,
        )
        for one in found
        if one["max_input_channels"] > 0
    ]


def find_device(wanted: int | str | None, devices: list[InputDevice]) -> InputDevice:
    """The device with that index, or whose name is or contains ``wanted`` in any case; None: the default one.

    A string of digits is an index. Raises AudioError if there is none, or several.
    """
    if not devices:
        msg = "no audio input device was found; is a microphone plugged in, and may this user use it?"
        raise AudioError(msg)
    if isinstance(wanted, str) and wanted.isdecimal():
        wanted = int(wanted)
    if wanted is None:
        matches = [one for one in devices if one.default] or devices[:1]
    elif isinstance(wanted, int):
        matches = [one for one in devices if one.index == wanted]
    else:
        low = wanted.casefold()
        matches = [one for one in devices if one.name.casefold() == low]
        matches = matches or [one for one in devices if low in one.name.casefold()]
    if len(matches) == 1:
        return matches[0]
    known = ", ".join(f"{one.index}: {one.name} ({one.host_api})" for one in matches or devices)
    problem = f"{wanted!r} fits several input devices" if matches else f"there is no input device {wanted!r}"
    msg = f"{problem}; give one of these by its number: {known}"
    raise AudioError(msg)


def _default_index(sounddevice: Any) -> int:
    """PortAudio's default input, -1 if there is none."""
    return int(sounddevice.default.device[0])
