"""A recording of a stream: its audio as WAV and its turns as JSON lines, side by side, written by position.

Whatever is written twice is written to the same place, so a process that was killed leaves nothing that the next one does not put
right. The WAV file says in its header (comment) which stream it is of: a file of anybody else is never touched, another name
is taken. Knows nothing of stages or of who says what. Runs in the record stage.
"""

import itertools
import json
import os
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import OutputError
from diart_mp.outputs.names import safe_file_name

AUDIO, TURNS = ".wav", ".turns.jsonl"  # extensions
_BYTES = 2  # of a sample: 16-bit PCM
_MOST = (1 << 32) - 1  # bytes that a WAV header can tell; beyond (37 h at 16 kHz) readers take all that is there


class Recording:
    """The two files of one stream in ``folder``; opened again by a later process of the same stream. OutputError if they cannot be."""

    def __init__(self, folder: Path, name: str, *, stream: str, rate: int) -> None:
        """``name`` as in outputs; ``stream``: the id, which no other stream has; ``rate``: samples per second."""
        self._header = _header(stream, rate)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.audio, self.turns = self._claim(folder, safe_file_name(name))
            self._audio = os.open(self.audio, os.O_RDWR)
            self._turns = os.open(self.turns, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _refused(folder, error) from error

    def write(self, first: int, samples: NDArray[np.float32]) -> None:
        """Put ``samples`` (n,), in [-1, 1], from sample ``first`` of the stream on."""
        pcm = np.rint(np.clip(samples * 32768.0, -32768, 32767)).astype("<i2")
        try:
            _write_at(self._audio, pcm.tobytes(), len(self._header) + _BYTES * first)
            self._say_length(os.fstat(self._audio).st_size - len(self._header))
        except OSError as error:
            raise _refused(self.audio, error) from error

    def write_turns(self, offset: int, line: str) -> int:
        """Put a line at byte ``offset`` of the turns, the last one; returns where the next one goes."""
        data = line.encode()
        try:
            _write_at(self._turns, data, offset)
            os.ftruncate(self._turns, offset + len(data))
        except OSError as error:
            raise _refused(self.turns, error) from error
        return offset + len(data)

    def cut(self, samples: int) -> None:
        """The stream has ended after so many samples: what lies behind is no audio."""
        try:
            os.ftruncate(self._audio, len(self._header) + _BYTES * samples)
            self._say_length(_BYTES * samples)
        except OSError as error:
            raise _refused(self.audio, error) from error

    def close(self) -> None:
        """Close both files."""
        os.close(self._audio)
        os.close(self._turns)

    def _claim(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Names that nobody has, or that this stream has already."""
        for number in itertools.count(1):
            stem = folder / (name if number == 1 else f"{name}-{number}")
            audio, turns = (stem.with_name(stem.name + extension) for extension in (AUDIO, TURNS))
            if self._is_own(audio):
                return audio, turns
            if not os.path.lexists(turns) and _make(audio, self._header):
                return audio, turns
        raise AssertionError

    def _is_own(self, audio: Path) -> bool:
        with suppress(FileNotFoundError, IsADirectoryError), audio.open("rb") as file:
            return file.read(len(self._header))[8:-4] == self._header[8:-4]  # all but the two lengths
        return False

    def _say_length(self, data: int) -> None:
        """Put the lengths into the header: of everything behind its first 8 bytes, and of the samples."""
        whole = min(len(self._header) - 8 + data, _MOST)
        _write_at(self._audio, struct.pack("<I", whole), 4)
        _write_at(self._audio, struct.pack("<I", min(data, _MOST)), len(self._header) - 4)


class OwnLines:
    """A file of JSON lines of one stream, written by position; its first line says of which stream it is. OutputError."""

    def __init__(self, folder: Path, name: str, extension: str, *, stream: str, rate: int) -> None:
        """As ``Recording``; another name is taken where ``NAME`` + ``extension`` is of anybody else."""
        self._first = (json.dumps({"name": name, "rate": rate, "stream": stream}, ensure_ascii=False) + "\n").encode()
        self.start = len(self._first)  # byte at which the first line of the stream's own goes
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for number in itertools.count(1):
                stem = safe_file_name(name) + ("" if number == 1 else f"-{number}")
                self.path = folder / (stem + extension)
                if _begins(self.path, self._first) or _make(self.path, self._first):
                    break
            self._file = os.open(self.path, os.O_RDWR)
        except OSError as error:
            raise _refused(folder, error) from error

    def write(self, offset: int, lines: str) -> int:
        """Put ``lines`` at byte ``offset``, the last ones of the file; returns where the next ones go."""
        data = lines.encode()
        try:
            _write_at(self._file, data, offset)
            os.ftruncate(self._file, offset + len(data))
        except OSError as error:
            raise _refused(self.path, error) from error
        return offset + len(data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)


def _begins(path: Path, data: bytes) -> bool:
    with suppress(FileNotFoundError, IsADirectoryError), path.open("rb") as file:
        return file.read(len(data)) == data
    return False


def _make(path: Path, data: bytes) -> bool:
    """Make a file that has ``data`` from the beginning; False if there is one of that name."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.write_bytes(data)
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _header(stream: str, rate: int) -> bytes:
    """Header of a WAV file without samples: 16-bit PCM, mono, with ``stream`` as its comment."""
    comment = stream.encode() + b"\0"
    comment += b"\0" * (len(comment) % 2)
    info = b"INFOICMT" + struct.pack("<I", len(comment)) + comment
    form = struct.pack("<HHIIHH", 1, 1, rate, _BYTES * rate, _BYTES, 8 * _BYTES)
    chunks = [(b"fmt ", form), (b"LIST", info), (b"data", b"")]
    body = b"WAVE" + b"".join(name + struct.pack("<I", len(data)) + data for name, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _write_at(descriptor: int, data: bytes, offset: int) -> None:
    while data:
        written = os.pwrite(descriptor, data, offset)
        data, offset = data[written:], offset + written


def _refused(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot record to {path}: {error.strerror or error}")
