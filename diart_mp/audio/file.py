"""Audio files (WAV, FLAC, Ogg, MP3 and whatever else libsndfile reads) as streams, a block at a time.

A file is never in memory as a whole. Runs in capture (``FileSource``) and in the command line (``check``, which reads
the header only). Knows nothing of chunks; padding at the ends of a recording is the windows' business.
"""

import os
import re
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.resample import StreamResampler
from diart_mp.audio.source import Source
from diart_mp.errors import AudioError

_SEEKABLE: Final = ("PCM", "FLOAT", "DOUBLE", "ULAW", "ALAW")
"""Encodings (FLAC's are called PCM, too) whose samples do not depend on earlier ones, so that a seek is exact. Vorbis,
Opus, MP3, ADPCM and GSM are decoded from the beginning instead."""

_UNKNOWN_FRAMES: Final = 2**62
"""libsndfile gives the largest 64-bit number for a FLAC stream whose header leaves the length open."""

_EMPTY_BYTES: Final = 16384
"""A file of 0 s may be as large as this: headers, comments, Vorbis code books."""

_OPEN_ENDED: Final = 0x7FF00000
"""Programs that write WAV into a pipe put 2 to 4 GiB into the header, since they do not know better."""


@dataclass(frozen=True, slots=True)
class FileInfo:
    """The header of an audio file. ``frames`` and ``duration`` (s) are None where it leaves the length open."""

    path: Path
    rate: int
    channels: int
    frames: int | None
    kind: str

    @property
    def duration(self) -> float | None:
        """Length in s."""
        return None if self.frames is None else self.frames / self.rate


def check(path: str | os.PathLike[str], *, rate: int = 16000, channel: int | None = None) -> FileInfo:
    """The header of ``path``, after all checks that ``FileSource`` makes when it opens it. Raises AudioError."""
    with FileSource(path, rate=rate, channel=channel) as source:
        return source.info


class FileSource(Source):
    """A recorded file. Equal rates and one channel give exactly the file's samples.

    ``channel``: the one to take, counted from 0; None: the mean of all. ``block_s``: how much is decoded at a time, in
    s of the file. A file that holds less than its header promises is read as far as it goes, and ``warnings`` says so
    (the header's own promise when it is opened, the decoder's at the end). Raises AudioError, here or in ``read``, for
    whatever cannot be read.
    """

    live = False

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        rate: int = 16000,
        channel: int | None = None,
        block_s: float = 2.0,
    ) -> None:
        self._path = Path(path)
        self._file = _open(self._path)
        self.info = _info(self._path, self._file)
        self.name = self._path.stem
        self.rate = rate
        self.duration = self.info.duration
        self.read_time = time.monotonic()
        self._ended = False
        self._rest = np.zeros(0, np.float32)
        self._block = max(1, round(block_s * self.info.rate))
        try:
            self._resampler = StreamResampler(
                self.info.rate, rate, channels=self.info.channels, channel=channel, name=str(path)
            )
        except AudioError:
            self._file.close()
            raise
        self._warnings = _header_warnings(self._path, self._file, self.info)

    def read(self) -> NDArray[np.float32] | None:
        """The next samples, never empty; None at the end (see ``Source.read``)."""
        samples, self._rest = self._rest, self._rest[:0]
        while not len(samples):
            if self._ended:
                return None
            samples = self._decode()
        self.read_time = time.monotonic()
        return samples

    def skip(self, samples: int) -> int:
        """See ``Source.skip``. Seeks where that is exact; otherwise decodes and drops what lies between."""
        gone = self._seek(samples) if self._can_seek() else 0
        while gone < samples:
            block = self.read()
            if block is None:
                break
            taken = min(samples - gone, len(block))
            gone += taken
            self._rest = block[taken:]
        return gone

    def warnings(self) -> list[str]:
        """See ``Source.warnings``."""
        found, self._warnings = self._warnings, []
        return found

    def close(self) -> None:
        """See ``Source.close``."""
        self._ended = True
        self._rest = self._rest[:0]
        self._file.close()

    def _decode(self) -> NDArray[np.float32]:
        import soundfile

        try:
            block = self._file.read(self._block, dtype="float32", always_2d=True)
        except soundfile.LibsndfileError as error:
            at = self._resampler.in_frames / self.info.rate
            msg = f"{self._path}: damaged after {at:.1f} s{self._promise()} ({_reason(error)}); repair or re-encode it"
            raise AudioError(msg) from error
        if len(block):
            return self._resampler.push(block)
        self._end()
        return self._resampler.flush()

    def _end(self) -> None:
        self._ended = True
        missing = 0 if self.info.frames is None else self.info.frames - self._resampler.in_frames
        if missing > 0:
            at = self._resampler.in_frames / self.info.rate
            self._warnings.append(f"{self._path}: ends after {at:.1f} s{self._promise()}; it is damaged or cut short")

    def _promise(self) -> str:
        return "" if self.duration is None else f" of the {self.duration:.1f} s that its header promises"

    def _can_seek(self) -> bool:
        return (
            self.info.frames is not None
            and self.info.rate == self.rate
            and self.info.kind.split()[1].startswith(_SEEKABLE)
            and not self._ended
        )

    def _seek(self, frames: int) -> int:
        """Go forward by up to ``frames`` frames of the file; the number gone."""
        import soundfile

        frames = min(frames, (self.info.frames or 0) - self._resampler.in_frames)
        try:
            self._file.seek(self._resampler.in_frames + frames)
        except soundfile.LibsndfileError as error:
            at = (self._resampler.in_frames + frames) / self.info.rate
            msg = f"{self._path}: cannot go to {at:.1f} s{self._promise()} ({_reason(error)}); is it cut short?"
            raise AudioError(msg) from error
        self._resampler.jump(frames)
        return frames


def _open(path: Path) -> Any:
    """The open ``soundfile.SoundFile``. Raises AudioError."""
    _check_regular(path)
    import soundfile

    try:
        file = soundfile.SoundFile(os.fsencode(path))
    except soundfile.LibsndfileError as error:
        msg = (
            f"{path}: not readable as audio ({_reason(error)}); "
            "if other programs play it, convert it first: ffmpeg -i INPUT output.flac"
        )
        raise AudioError(msg) from error
    # After each read of a file in which it can seek, SoundFile seeks to where it already is. That slows FLAC down,
    # changes the last bit of MP3 and fails on FLAC of unknown length; told that it cannot seek, it reads straight on.
    file.seekable = lambda: False
    return file


def _check_regular(path: Path) -> None:
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode):
            path.open("rb").close()
    except OSError as error:
        msg = f"{path}: cannot be opened ({(error.strerror or str(error)).lower()})"
        raise AudioError(msg) from error
    problem = ""
    if stat.S_ISDIR(status.st_mode):
        problem = "is a folder; name the audio files in it"
    elif not stat.S_ISREG(status.st_mode):
        problem = "is not a regular file; pipe raw PCM into standard input instead"
    elif status.st_size == 0:
        problem = "is an empty file (0 bytes)"
    elif path.suffix.lower() == ".raw":
        problem = "raw PCM does not say its rate and format; pipe it into standard input with these as options"
    if problem:
        msg = f"{path}: {problem}"
        raise AudioError(msg)


def _info(path: Path, file: Any) -> FileInfo:
    frames = file.frames if file.frames < _UNKNOWN_FRAMES else None
    return FileInfo(path, file.samplerate, file.channels, frames, f"{file.format} {file.subtype}")


def _header_warnings(path: Path, file: Any, info: FileInfo) -> list[str]:
    """What the header and the size of the file tell about missing audio; libsndfile puts it into its log."""
    log = file.extra_info
    size = path.stat().st_size
    found = re.search(r"^(?:data|SSND) *: (\d+) \(should be (\d+)\)", log, re.MULTILINE)
    if info.frames == 0 and size > _EMPTY_BYTES:
        return [f"{path}: says that it holds 0 s, but has {size} bytes; was its recording ever finished?"]
    if found and int(found[2]) < int(found[1]) < _OPEN_ENDED:
        missing = int(found[1]) - int(found[2])
        return [
            f"{path}: cut short, {missing} of {found[1]} bytes of audio are missing; {info.duration:.1f} s are there"
        ]
    if "lacks an end-of-stream" in log or "without an End-Of-Stream" in log:
        return [f"{path}: its end is missing, it may be cut short; {info.duration:.1f} s are there"]
    return []


def _reason(error: Any) -> str:
    """What libsndfile says, without the name of the file, which is elsewhere in the message."""
    text = str(error.error_string).strip().rstrip(".")
    return "no MP3 audio found in it" if "possibly a pipe" in text else f"libsndfile: {text}"
