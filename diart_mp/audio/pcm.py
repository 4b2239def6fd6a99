"""Raw PCM from a pipe or redirected file, such as standard input.

Reads what is there and never waits. Knows nothing of the process that writes. Runs in capture.
"""

import os
import select
import time
from typing import IO, Any, Final

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.convert import SAMPLE_BYTES, Encoding, decode_pcm
from diart_mp.audio.resample import StreamResampler
from diart_mp.audio.source import Source
from diart_mp.errors import AudioError

_READ_BYTES: Final = 65536
"""What a pipe holds on Linux."""

_MAGIC: Final = {b"RIFF": "WAV", b"fLaC": "FLAC", b"OggS": "Ogg"}


class PcmSource(Source):
    """Interleaved frames of ``channels`` samples in ``encoding`` at ``input_rate`` Hz, in blocks of any size.

    A frame that arrives in pieces is put together; an incomplete one at the very end is dropped and ``warnings`` says
    so. ``live=True`` for a pipe that is fed by a device. The descriptor stays the caller's: ``close`` does not close
    it. Raises AudioError, here or in ``read``, for options that make no sense, a broken pipe, samples that are not
    finite, and files with a header.
    """

    def __init__(
        self,
        stream: int | IO[bytes],
        *,
        encoding: Encoding = "s16le",
        input_rate: int = 16000,
        channels: int = 1,
        rate: int = 16000,
        channel: int | None = None,
        name: str = "stdin",
        live: bool = False,
    ) -> None:
        if encoding not in SAMPLE_BYTES:
            msg = f"{name}: unknown PCM encoding {encoding!r}; known are {', '.join(SAMPLE_BYTES)}"
            raise AudioError(msg)
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._encoding = encoding
        self._channels = channels
        self._frame_bytes = SAMPLE_BYTES[encoding] * channels
        self._resampler = StreamResampler(input_rate, rate, channels=channels, channel=channel, name=name)
        self.name = name
        self.rate = rate
        self.live = live
        self.duration = None
        self.read_time = time.monotonic()
        self._partial = b""
        self._started = False
        self._ended = False
        self._warnings: list[str] = []

    def fileno(self) -> int:
        """The pipe itself."""
        return self._fd

    def read(self) -> NDArray[np.float32] | None:
        """See ``Source.read``."""
        if self._ended:
            return None
        data = self._receive()
        if data is None:
            return np.zeros(0, np.float32)
        self.read_time = time.monotonic()
        if not data:
            return self._finish()
        data = self._partial + data
        if not self._started and not self._check_start(data):
            return np.zeros(0, np.float32)
        whole = len(data) - len(data) % self._frame_bytes
        self._partial = data[whole:]
        return self._resampler.push(decode_pcm(data[:whole], self._encoding).reshape(-1, self._channels))

    def warnings(self) -> list[str]:
        """See ``Source.warnings``."""
        found, self._warnings = self._warnings, []
        return found

    def close(self) -> None:
        """See ``Source.close``. The descriptor stays open."""
        self._ended = True

    def _receive(self) -> bytes | None:
        """What waits in the pipe: None if nothing does, empty at its end.

        Asking first leaves the pipe in blocking mode: the mode belongs to everybody who shares it, a shell included.
        """
        poll: Any = select.poll()
        poll.register(self._fd, select.POLLIN)
        try:
            return os.read(self._fd, _READ_BYTES) if poll.poll(0) else None
        except BlockingIOError:
            return None
        except OSError as error:
            msg = f"{self.name}: cannot be read any more ({(error.strerror or str(error)).lower()})"
            raise AudioError(msg) from error

    def _check_start(self, data: bytes) -> bool:
        """Whether the first bytes could be looked at; audio with a header is refused, as it would become noise."""
        if len(data) < 4:
            self._partial = data
            return False
        self._started = True
        if kind := _MAGIC.get(data[:4]):
            msg = f"{self.name}: this is a {kind} file, not raw PCM; give its path, or decode it: ffmpeg -i ... -f {self._encoding} -"
            raise AudioError(msg)
        return True

    def _finish(self) -> NDArray[np.float32]:
        self._ended = True
        frames = len(self._partial) // self._frame_bytes
        rest = len(self._partial) - frames * self._frame_bytes
        if rest:
            self._warnings.append(
                f"{self.name}: {rest} byte(s) at the end are no whole frame of {self._frame_bytes} bytes and were "
                f"dropped; are encoding ({self._encoding}) and channels ({self._channels}) right?"
            )
        last = decode_pcm(self._partial[: frames * self._frame_bytes], self._encoding).reshape(-1, self._channels)
        return np.concatenate([self._resampler.push(last), self._resampler.flush()])
