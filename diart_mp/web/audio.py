"""A client's audio on its way into its stream: bytes of any length to frames, positions, and the limit of its pace.

Positions are frames of the client's own audio. Knows nothing of sockets. Runs in the gateway; ``ClientSource`` is read in the owner's thread.
"""

import asyncio
import math
import time
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.convert import Encoding, decode_pcm
from diart_mp.audio.push import PushSource
from diart_mp.errors import AudioError
from diart_mp.web.protocol import ENCODINGS, POLICY, UNSUPPORTED, ClientError, Code, Start

_QUEUE_S = 10.0  # of audio that may wait for the owner
_BLOCK_S = 1.0  # at most at a time, so that no message overruns the ring
_LEAD_IN_S = 0.25  # sent again before a seam, so that a new resampler has settled there
_SAVED_S = 60.0  # for which an allowance is saved up at most: an outage holds back that much
_LEAST_S = 0.001  # of audio that a message counts as at least, however little is in it
_ROOM_S = 0.01  # between two looks whether the owner has taken something


class ClientSource(PushSource):
    """What a client sends. When its owner was restarted, it goes on at a seam: ``discard`` samples are there already."""

    resumable = True

    def __init__(self, name: str, start: Start) -> None:
        super().__init__(
            name, start.settings.rate, start.rate, start.channels, max_s=_QUEUE_S, live=start.live
        )  # fmt: skip
        self.discard = 0
        self.begins_at = 0  # sample of the stream at which this source begins

    @property
    def given(self) -> int:
        """Where what was written so far ends, in samples of the stream; while resampling, a little less."""
        return self.begins_at + self._resampler.out_samples

    def read(self) -> NDArray[np.float32] | None:
        """See ``Source.read``."""
        block = super().read()
        while block is not None and self.discard and len(block):
            dropped = min(self.discard, len(block))
            self.discard -= dropped
            block = block[dropped:]
            if not len(block):
                block = super().read()
        return block


class ClientAudio:
    """Takes the binary messages of one client. ``frames`` have come so far, in positions of the client's audio."""

    def __init__(self, name: str, start: Start, *, max_rate: float, burst_s: float) -> None:
        self.source = ClientSource(name, start)
        self._start = start
        self._encoding = cast(Encoding, ENCODINGS[start.encoding][0])
        self._frame_bytes = ENCODINGS[start.encoding][1] * start.channels
        self._rest = b""
        self._pace = Allowance(max_rate, burst_s, burst_s + _SAVED_S * max_rate) if start.live else None
        self._too_fast = (
            f"live audio came faster than {max_rate:g} times real time for more than {burst_s:g} s; "
            "send it at the pace of the clock, or start with pace 'fast'"
        )
        self.frames = 0

    @property
    def seconds(self) -> float:
        """How much has come."""
        return self.frames / self._start.rate

    def reconnect(self) -> int:
        """The client has come back: a frame that came by half will come again; where it is to go on."""
        self._rest = b""
        return self.frames

    def go_on_at(self, samples: int) -> int:
        """The stream has ``samples`` of an earlier process: where the client is to go on, a little before that."""
        rate, out_rate = self._start.rate, self._start.settings.rate
        divisor = math.gcd(rate, out_rate)
        lead_in = 0 if rate == out_rate else math.ceil(_LEAD_IN_S * divisor)
        unit = out_rate // divisor
        begin = max(0, samples // unit - lead_in)
        self.source.begins_at = begin * unit
        self.source.discard = samples - begin * unit
        self.frames = begin * (rate // divisor)
        if self._pace is not None:
            self._pace.save_up()  # the client held back what was said meanwhile
        return self.frames

    def frame_of(self, samples: int) -> int:
        """The last frame that is certainly in the first ``samples`` samples of the stream."""
        return min(self.frames, samples * self._start.rate // self._start.settings.rate)

    async def take(self, data: bytes) -> None:
        """Hand over a binary message; waits while the pipeline does not keep up. ClientError for what is no audio.

        What comes after the end is dropped: a client cannot know yet that the server has ended the stream.
        """
        data = self._rest + data if self._rest else data
        whole = len(data) - len(data) % self._frame_bytes
        self._rest = data[whole:]
        size = max(1, int(_BLOCK_S * self._start.rate)) * self._frame_bytes
        seconds = max(_LEAST_S, whole / self._frame_bytes / self._start.rate)
        if self._pace is not None and not self._pace.spend(seconds):
            raise ClientError(Code.TOO_FAST, self._too_fast, close=POLICY)
        for begin in range(0, whole, size):
            await self._write(data[begin : min(begin + size, whole)])

    async def _write(self, data: bytes) -> None:
        samples: NDArray[Any] = decode_pcm(data, self._encoding)
        if self._start.channels > 1:
            samples = samples.reshape(-1, self._start.channels)
        while not self.source.has_room:
            await asyncio.sleep(_ROOM_S)
        try:
            self.source.write(samples, timeout=0)
        except AudioError as error:
            if self.source.over:
                return
            raise ClientError(Code.BAD_AUDIO, str(error), close=UNSUPPORTED) from error
        self.frames += len(samples)


class Allowance:
    """``rate`` of something every second, ``burst`` of it at once; what is not used is saved up, ``most`` at most."""

    def __init__(self, rate: float, burst: float, most: float) -> None:
        self._rate, self._most = rate, most
        self._saved, self._at = burst, time.monotonic()

    def save_up(self) -> None:
        """As after a long time in which nothing came."""
        self._saved = self._most

    def spend(self, amount: float) -> bool:
        """Take so much; False if that is more than there is."""
        now = time.monotonic()
        self._saved = min(self._saved + self._rate * (now - self._at), self._most) - amount
        self._at = now
        return self._saved >= 0
