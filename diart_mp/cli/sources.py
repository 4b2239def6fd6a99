"""What ``run`` is asked to diarize: files, folders, standard input or a microphone, checked before a process starts."""

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diart_mp.config import RATE
from diart_mp.errors import AudioError, UsageError
from diart_mp.topology import SourceConfig


def sources(values: Mapping[str, Any]) -> tuple[tuple[SourceConfig, ...], list[str]]:
    """The sources that the options name, and what is wrong with the recordings that are left out (a line each).

    A recording that cannot be read is left out if there are others. Raises UsageError or AudioError for whatever
    else cannot be diarized: a name that is not there is a slip, better told before hours of work than after them.
    """
    names: Sequence[str] = values["sources"]
    channel = -1 if values["channel"] is None else values["channel"]
    if values["mic"] is not None:
        if names:
            msg = f"--mic listens to a microphone; it cannot be mixed with {len(names)} other sources"
            raise UsageError(msg)
        _check_microphone(values["mic"])
        return (SourceConfig(kind="microphone", name="microphone", device=values["mic"], channel=channel),), []
    if not names:
        msg = "nothing to diarize: name one or more audio files or folders, - for standard input, or give --mic"
        raise UsageError(msg)
    found, problems = _all(_files(names), channel, values)
    _check_names(found)
    return found, problems


def recording(path: str | os.PathLike[str], channel: int) -> SourceConfig:
    """A file as a source, its header checked. Raises AudioError."""
    from diart_mp.audio.file import check

    check(path, rate=RATE, channel=None if channel < 0 else channel)
    path = Path(path)
    # A name is text; bytes that are none are written as escapes. The path keeps them.
    title = os.fsencode(path.stem).decode("utf-8", "backslashreplace")
    return SourceConfig(kind="file", name=title, path=str(path.absolute()), channel=channel)


def recorded_s(found: Sequence[SourceConfig]) -> float:
    """Seconds of recorded audio, as far as headers tell; no more are opened than show that there is an hour."""
    from diart_mp.audio.file import check

    total = 0.0
    for source in found:
        if source.kind == "file" and total < 3600:
            total += check(source.path, channel=None if source.channel < 0 else source.channel).duration or 0.0
    return total


def _files(names: Sequence[str]) -> list[str]:
    """The names with each folder replaced by the recordings in it; AudioError for what is not there."""
    from diart_mp.audio.folder import recordings_in

    found: list[str] = []
    for name in names:
        if name != "-" and not os.path.exists(name):
            msg = f"{name}: cannot be opened (no such file or directory)"
            raise AudioError(msg)
        found += map(str, recordings_in(Path(name))) if os.path.isdir(name) else [name]
    return found


def _all(names: Sequence[str], channel: int, values: Mapping[str, Any]) -> tuple[tuple[SourceConfig, ...], list[str]]:
    found, problems = [], []
    for name in names:
        try:
            found.append(_standard_input(channel, values) if name == "-" else recording(name, channel))
        except AudioError as error:
            problems.append(str(error))
    if not found:
        others = f" (and {len(problems) - 1} more recordings cannot be used)" if len(problems) > 1 else ""
        raise AudioError(problems[0] + others)
    return tuple(found), problems


def _standard_input(channel: int, values: Mapping[str, Any]) -> SourceConfig:
    if sys.stdin is None or sys.stdin.isatty():
        what = "closed" if sys.stdin is None else "a terminal"
        msg = f"- reads raw audio from standard input, which is {what}: pipe samples into it, or use --mic"
        raise UsageError(msg)
    return SourceConfig(
        kind="pcm",
        name="stdin",
        channel=channel,
        fd=os.dup(sys.stdin.fileno()),  # capture gets it under the same number, and its own 0 is nothing
        encoding=values["input_format"],
        input_rate=values["input_rate"],
        channels=values["input_channels"],
    )


def _check_names(found: Sequence[SourceConfig]) -> None:
    """Streams are told apart by their names, in what is printed as in what is written."""
    users: dict[str, str] = {}
    for source in found:
        where = source.path or "standard input"
        if source.name in users:
            msg = f"{users[source.name]} and {where} would both be called {source.name}: rename one, or run them apart"
            raise UsageError(msg)
        users[source.name] = where


def _check_microphone(wanted: str) -> None:
    """Raise AudioError now, in one line, if there is no such microphone."""
    from diart_mp.audio.devices import find_device, list_devices

    find_device(int(wanted) if wanted.isdigit() else wanted or None, list_devices())
