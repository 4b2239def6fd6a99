"""Which files of a folder are recordings, by their names alone. Runs in the command."""

import os
from pathlib import Path
from typing import Final

from diart_mp.errors import AudioError

SUFFIXES: Final = frozenset(
    {".aif", ".aiff", ".au", ".caf", ".flac", ".mp3", ".oga", ".ogg", ".opus", ".w64", ".wav", ".wave"}
)
"""Of the audio files that libsndfile reads; whatever else lies in a folder is none of ours."""


def recordings_in(folder: Path) -> list[Path]:
    """The audio files directly in ``folder``, by name; hidden ones do not count. Raises AudioError if there is none."""
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        msg = f"{folder}: cannot be listed ({(error.strerror or str(error)).lower()})"
        raise AudioError(msg) from error
    paths = [folder / name for name in names if not name.startswith(".")]
    found = [path for path in paths if path.suffix.lower() in SUFFIXES and not path.is_dir()]
    if not found:
        known = ", ".join(sorted(suffix[1:] for suffix in SUFFIXES))
        msg = f"{folder}: no recordings in this folder of {len(names)} entries ({known} are looked for)"
        raise AudioError(msg)
    return found
