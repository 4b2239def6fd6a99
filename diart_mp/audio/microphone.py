"""A microphone, or any other input that PortAudio knows, as a live stream.

PortAudio's own thread copies each block into a bounded queue and does nothing else; mixing, resampling and the
book-keeping of lost samples are done by the reader. Knows nothing of chunks. Runs in capture.
"""

import time
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.block_queue import BlockQueue
from diart_mp.audio.devices import InputDevice, find_device, list_devices, load_sounddevice
from diart_mp.audio.resample import StreamResampler, check_format
from diart_mp.audio.source import Gap, Source
from diart_mp.errors import AudioError

_MAX_MIXED: Final = 8
"""Sound servers show devices of 32 or more channels that do not exist; above this many, one is opened and the server mixes."""

_JUMP_S: Final = 0.25
"""Time in s that may be missing between two blocks before samples count as lost without the driver having said so.
Time stamps jitter by some 10 ms; PulseAudio drops without a word what a stopped process did not fetch."""

_MAX_AGE_S: Final = 60.0
"""A block older than this when it arrives has no usable time stamp (some drivers give 0)."""

_SILENT_S: Final = 10.0
"""Time in s without a single block after which ``warnings`` says so."""


@dataclass(frozen=True, slots=True)
class _Captured:
    """Bytes of one callback, when its first frame was captured (monotonic s), and what came between it and the last."""

    data: bytes
    frames: int
    time: float
    overflow: bool
    dropped: int


class MicrophoneSource(Source):
    """Input ``device`` (index, name or part of a name, None for the default) at its own rate, resampled to ``rate`` Hz.

    channel: the one to take, counted from 0; None: the mean of all, up to 8. block_s: time between callbacks; it
    divides the usual step of 0.5 s, so that windows are complete at regular times. max_s: audio that waits
    for ``read`` at most; what comes then is lost. Lost samples are zeros in the stream and entries of ``gaps``, so
    positions stay those of the clock on the wall. Raises AudioError if there is no such device or it cannot be
    opened, and from ``read`` when it has gone away.
    """

    name = "microphone"
    live = True

    def __init__(
        self,
        device: int | str | None = None,
        *,
        rate: int = 16000,
        channel: int | None = None,
        block_s: float = 0.1,
        max_s: float = 10.0,
    ) -> None:
        sounddevice = load_sounddevice()
        self.device = find_device(device, list_devices())
        self.rate = rate
        self.duration = None
        self.read_time = self._last_block = time.monotonic()
        self._channels = _channels_to_open(self.device, channel)
        check_format(self.device.rate, rate, self._channels, channel, self.device.name)
        self._gaps: list[Gap] = []
        self._warnings: list[str] = []
        self._dropped = 0
        self._lost: int | None = None
        self._expected: float | None = None
        self._closed = False
        self._stream, self._input_rate = self._open(sounddevice, block_s)
        self._resampler = StreamResampler(
            self._input_rate, rate, channels=self._channels, channel=channel, name=self.device.name
        )
        self._queue: BlockQueue[_Captured] = BlockQueue(max(1, round(max_s * self._input_rate)))
        self._start(sounddevice)

    def fileno(self) -> int:
        """See ``Source.fileno``."""
        return self._queue.fileno()

    def read(self) -> NDArray[np.float32] | None:
        """See ``Source.read``. At most one block, or 1 s of the zeros that stand for lost samples."""
        block = None if self._closed else self._queue.peek()
        if block is None:
            return self._nothing()
        if self._lost is None:
            self._lost = self._lost_before(block)
        if self._lost:
            frames = min(self._lost, self._input_rate)
            self._lost -= frames
            return self._resampler.push(np.zeros((frames, self._channels), np.float32))
        self._queue.get()
        self._lost = None
        self._expected = self._last_block = block.time + block.frames / self._input_rate
        samples = np.frombuffer(block.data, np.float32).reshape(-1, self._channels)
        given = self._resampler.push(samples)
        self.read_time = self._expected - self._resampler.delay
        return given

    def gaps(self) -> list[Gap]:
        """See ``Source.gaps``."""
        found, self._gaps = self._gaps, []
        return found

    def warnings(self) -> list[str]:
        """See ``Source.warnings``."""
        found, self._warnings = self._warnings, []
        return found

    def close(self) -> None:
        """See ``Source.close``."""
        self._closed = True
        self._stream.close()
        self._queue.close()

    def _open(self, sounddevice: Any, block_s: float) -> tuple[Any, int]:
        """The stream, not yet running, and its rate: the device's own, else the wanted one.

        Sound servers and ALSA's plug-ins give every rate, but resample in a hurry: PulseAudio takes 11 dB from 7 to 8 kHz.
        """
        problem = ""
        for rate in dict.fromkeys((self.device.rate, self.rate)):
            try:
                stream = sounddevice.RawInputStream(
                    samplerate=rate,
                    device=self.device.index,
                    channels=self._channels,
                    dtype="float32",
                    blocksize=max(1, round(block_s * rate)),
                    callback=self._capture,
                    finished_callback=self._finish,
                )
            except sounddevice.PortAudioError as error:
                problem = str(error.args[0])
                continue
            return stream, rate
        msg = f"microphone {self.device.name!r} cannot be opened (PortAudio: {problem}); does another program hold it?"
        raise AudioError(msg)

    def _start(self, sounddevice: Any) -> None:
        try:
            self._stream.start()
        except sounddevice.PortAudioError as error:
            self.close()
            msg = f"microphone {self.device.name!r} cannot be started (PortAudio: {error.args[0]})"
            raise AudioError(msg) from error

    def _capture(self, data: Any, frames: int, times: Any, status: Any) -> None:
        """PortAudio's callback: copy, put, go."""
        now = time.monotonic()
        age = times.currentTime - times.inputBufferAdcTime
        if not 0 <= age <= _MAX_AGE_S:
            age = frames / self._input_rate
        block = _Captured(bytes(data), frames, now - age, bool(status.input_overflow), self._dropped)
        self._dropped = 0 if self._queue.put(block, frames) else self._dropped + frames

    def _finish(self) -> None:
        """PortAudio tells that no callback will come any more: after ``close``, or because the device has gone."""
        self._queue.end()

    def _nothing(self) -> NDArray[np.float32] | None:
        if self._closed:
            return None
        if self._queue.over:
            msg = (
                f"microphone {self.device.name!r} gives no more samples; was it unplugged, or its sound server stopped?"
            )
            raise AudioError(msg)
        now = time.monotonic()
        if now - self._last_block > _SILENT_S:
            self._last_block = now
            self._warnings.append(f"microphone {self.device.name!r} has given no samples for {_SILENT_S:.0f} s")
        return np.zeros(0, np.float32)

    def _lost_before(self, block: _Captured) -> int:
        """Frames that are missing between ``block`` and the one before; each such hole becomes a gap."""
        missing_s = 0.0 if self._expected is None else block.time - self._expected
        lost = block.dropped
        reason = "not read in time"
        if not lost and (block.overflow or missing_s > _JUMP_S):
            lost = max(0, round(missing_s * self._input_rate))
            reason = "input overflow" if block.overflow else "samples missing in the sound system"
        if lost or block.overflow:
            samples = round(lost * self.rate / self._input_rate)
            self._gaps.append(Gap(self._resampler.position(), samples, reason))
        return lost


def _channels_to_open(device: InputDevice, channel: int | None) -> int:
    if channel is None:
        return device.channels if device.channels <= _MAX_MIXED else 1
    if not 0 <= channel < device.channels:
        msg = f"microphone {device.name!r} has no channel {channel}; it has {device.channels}, counted from 0"
        raise AudioError(msg)
    return min(device.channels, max(2, channel + 1))  # of one alone, a sound server would make a mix
