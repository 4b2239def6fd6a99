"""From what a source delivers to what the pipeline takes: any channels at any rate to mono at the target rate.

The down-mix (mean of the channels, or one of them) comes first, then one resampler runs over the whole stream, so
the samples do not depend on the blocks they arrive in (diart audio.py:33-37 mixes first, too, but resamples each
window on its own). Every source uses this one implementation. Knows nothing of files, devices or chunks.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import AudioError

MIN_RATE: Final = 1_000
MAX_RATE: Final = 1_000_000
"""Rates in Hz outside these are taken for a damaged header or a mistyped option."""


class StreamResampler:
    """Down-mix and streaming resampler (soxr, high quality) of one stream.

    in_frames: frames taken so far. out_samples: samples given so far.
    Raises AudioError for rates, channel counts or a channel (counted from 0) that cannot be.
    """

    def __init__(
        self, in_rate: int, out_rate: int, *, channels: int = 1, channel: int | None = None, name: str = "audio"
    ) -> None:
        check_format(in_rate, out_rate, channels, channel, name)
        self._name = name
        self._in_rate = in_rate
        self._out_rate = out_rate
        self._channels = channels
        self._channel = channel
        self.in_frames = 0
        self.out_samples = 0
        self._soxr: Any = None
        if in_rate != out_rate:
            import soxr

            self._soxr = soxr.ResampleStream(in_rate, out_rate, 1, dtype="float32", quality="HQ")

    def push(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mono samples at the target rate, shape (m,), for a block of shape (n, channels), or (n,) if mono.

        Some of the stream's end stays inside until more comes or ``flush``. At equal rates and with one channel the
        block itself comes back. Raises AudioError for a NaN or infinite sample, with its position; the block is then
        not taken.
        """
        mono = self._mix(block)
        finite = np.isfinite(mono)
        if not finite.all():
            position = (self.in_frames + int(np.argmin(finite))) / self._in_rate
            msg = f"{self._name}: the sample at {position:.3f} s is not a finite number; the audio is damaged there"
            raise AudioError(msg)
        self.in_frames += len(mono)
        return self._count(mono if self._soxr is None else self._soxr.resample_chunk(mono))

    def flush(self) -> NDArray[np.float32]:
        """The rest, once, after the last block: in all round(n * out_rate / in_rate) samples, within one."""
        empty = np.zeros(0, np.float32)
        return self._count(empty if self._soxr is None else self._soxr.resample_chunk(empty, last=True))

    def jump(self, frames: int) -> None:
        """Count ``frames`` as taken and given, for a source that seeks; only at equal rates."""
        if self._soxr is not None:
            msg = "a stream that is resampled cannot jump"
            raise ValueError(msg)
        self.in_frames += frames
        self.out_samples += frames

    def position(self) -> int:
        """Where the next frame taken will lie in the output, in samples; at most the pending delay ahead."""
        return self.in_frames * self._out_rate // self._in_rate

    @property
    def delay(self) -> float:
        """Length in s of what was taken and has not been given yet (some 20 to 70 ms while resampling)."""
        return self.in_frames / self._in_rate - self.out_samples / self._out_rate

    def _mix(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        if block.ndim == 1 and self._channels == 1:
            return block
        if block.ndim != 2 or block.shape[1] != self._channels:
            msg = f"{self._name}: a block of shape {block.shape} does not have {self._channels} channel(s)"
            raise AudioError(msg)
        if self._channel is not None or self._channels == 1:
            return np.ascontiguousarray(block[:, self._channel or 0])
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is found afterwards
            return np.asarray(block.mean(axis=1, dtype=np.float32))

    def _count(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        self.out_samples += len(samples)
        return samples


def check_format(in_rate: int, out_rate: int, channels: int, channel: int | None, name: str) -> None:
    """Raise AudioError for a rate (Hz), number of channels or channel (None: the mean) that cannot be."""
    for rate in (in_rate, out_rate):
        if not MIN_RATE <= rate <= MAX_RATE:
            msg = f"{name}: a sample rate of {rate} Hz makes no sense (accepted: {MIN_RATE} to {MAX_RATE} Hz)"
            raise AudioError(msg)
    if channels < 1:
        msg = f"{name}: there are no audio channels"
        raise AudioError(msg)
    if channel is not None and not 0 <= channel < channels:
        msg = f"{name}: there is no channel {channel}; it has {channels}, counted from 0"
        raise AudioError(msg)


def resample_windows(windows: NDArray[np.float32], rate: int, wanted: int) -> NDArray[np.float32]:
    """Windows (n, samples) at ``rate`` Hz at ``wanted`` Hz, each on its own, for models of another rate than the stream.

    At equal rates the windows themselves come back. At its ends a resampled window is a little off, as in diart.
    """
    if rate == wanted:
        return windows
    import soxr

    return np.stack([soxr.resample(np.ascontiguousarray(each), rate, wanted, quality="HQ") for each in windows])
