"""The audio of one stream in the hands of its owner: from the source into the ring, with the windows that it gives and the clock.

A stream that an earlier process began goes on where its position says: what can be read again is, the rest comes out of the old
ring. Knows nothing of chunks, results or files. Runs in owners.
"""

import time
from collections import deque
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.sound import listen
from diart_mp.audio.source import Source
from diart_mp.audio.windows import WindowPlan
from diart_mp.config import Settings
from diart_mp.errors import DamagedAudioError, StaleAudioError
from diart_mp.messages import AudioRef
from diart_mp.runtime.journal import Position
from diart_mp.transport.ring import RingReader, RingWriter, ring_directory

_LIVE_RING_S = 60  # audio that a live stream keeps, s
_FILE_BLOCK_S, _PIPE_BLOCK_S = 2, 20  # what one read may give beyond what is wanted, s

Report = Callable[..., None]


class Intake:
    """Takes in the audio of ``source``. ``plan`` says what windows it gives; ``repeatable``: it can be read from the beginning again."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        *,
        ring: str,
        generation: int,
        windows: int,
        position: Position | None,
        report: Report,
    ) -> None:
        """``windows``: steps of room that the new ``ring`` has for what may be sent again. ``position``: of the process before."""
        self.live = source.live
        self.repeatable = not source.live and source.fileno() is None
        self.ended = False
        self.plan = WindowPlan(settings)
        self._source, self._settings, self._report = source, settings, report
        self._captured: deque[tuple[int, float]] = deque()  # (samples so far, monotonic s)
        first = 0 if position is None else self._take_up(position)
        self._ring = RingWriter(
            ring,
            capacity=self._room(windows),
            window=settings.duration,
            rate=settings.rate,
            generation=generation,
            first=first + settings.duration,
        )
        if position is not None and source.fileno() is None:
            self.plan.advance(source.skip(first))
        elif position is not None:
            self._recover(first, position)

    @property
    def duration(self) -> float | None:
        """Length of the whole stream in seconds, where it is known."""
        return self._source.duration

    @property
    def ring(self) -> str:
        """The ring's name."""
        return self._ring.name

    @property
    def clock(self) -> tuple[int, float]:
        """How many samples were captured, and when the last of them was (monotonic s)."""
        return self._captured[-1] if self._captured else (self.plan.samples, time.monotonic())

    def fileno(self) -> int | None:
        """What to poll for new audio; None where there is always some, or no more."""
        return None if self.ended else self._source.fileno()

    def read(self) -> bool:
        """Take what the source gives at once. True if anything came, if only its end."""
        block = self._source.read()
        if block is None:
            self.end()
        elif len(block) == 0:
            return False
        else:
            self._append(block)
        return True

    def end(self) -> None:
        """Take no more. Idempotent."""
        if not self.ended:
            self.ended = True
            self._tell_findings()
            self._source.close()
            self.plan.finish()

    def provide(self, end: int) -> float:
        """A window up to sample ``end`` is about to be sent: silence that it needs at the stream's end goes into the ring.

        Returns when its last sample was captured (monotonic s).
        """
        missing = end + self._settings.duration - self._ring.head
        if missing > 0:
            self._ring.pad(missing)
        captured, sample = self._captured, min(end, self.plan.samples)
        while len(captured) > 1 and captured[0][0] < sample:
            captured.popleft()
        return captured[0][1] if captured else time.monotonic()

    def reference(self, start: int) -> AudioRef:
        """The window from sample ``start`` on, for whoever can open the ring."""
        return self._ring.reference(start + self._settings.duration, self._settings.duration)

    def close(self) -> None:
        """Remove the ring; idempotent. The source stays open until ``end``."""
        self._ring.close()

    def _append(self, block: NDArray[np.float32]) -> None:
        self._ring.write(block)
        listen(self.plan, block)
        self.plan.advance(len(block))
        # A sound card's clock is an estimate; nothing was captured later than now.
        self._captured.append((self.plan.samples, min(self._source.read_time, time.monotonic())))
        self._tell_findings()
        if self.live:
            power = float(np.mean(np.square(block))) if len(block) else 0.0
            self._report("level", stream=self._source.name, dbfs=10 * float(np.log10(max(power, 1e-12))))

    def _tell_findings(self) -> None:
        """What the source found out about its audio."""
        for gap in self._source.gaps():
            self._tell_gap(gap.position, gap.samples, gap.reason)
        for text in self._source.warnings():
            self._report("note", stream=self._source.name, text=text)

    def _tell_gap(self, position: int, samples: int, reason: str) -> None:
        rate = self._settings.rate
        self._report("gap", stream=self._source.name, start=position / rate, seconds=samples / rate, text=reason)

    def _room(self, windows: int) -> int:
        """How many samples the ring holds."""
        settings = self._settings
        live = _LIVE_RING_S * settings.rate if self.live else 0
        block = _PIPE_BLOCK_S if self._source.fileno() is not None else _FILE_BLOCK_S
        return 3 * settings.duration + max(windows * settings.step + block * settings.rate, live)

    def _take_up(self, position: Position) -> int:
        """Have the windows go on where an earlier process was; the first sample that is still needed."""
        first = 0
        if position.window is not None and position.origin is not None:
            self.plan.resume(position.origin, position.window)
            if position.sound is not None:
                self.plan.begin_at(position.sound)
            first = max(0, position.window)
        # What is read again needs no copy, and two rings may be more than there is memory for.
        if self._source.fileno() is None:
            remove_ring(position.ring)
        return first

    def _recover(self, first: int, position: Position) -> None:
        """A live source cannot go back: take over the old ring's audio, and put silence for the time nobody listened."""
        self.plan.advance(first)
        samples = np.zeros(0, np.float32)
        try:
            reference = AudioRef(position.ring, position.generation, 0, 0)
            samples = RingReader().tail_from(reference, first + self._settings.duration)
        except (StaleAudioError, DamagedAudioError) as error:
            self._report("note", stream=self._source.name, text=f"audio in flight was lost: {error}")
        self._ring.write(samples)
        listen(self.plan, samples)
        self.plan.advance(len(samples))
        if self.live and not self._source.resumable:
            elapsed = round((time.monotonic() - position.clock) * self._settings.rate) + position.samples
            lost = max(0, elapsed - self.plan.samples)
            self._ring.write(np.zeros(lost, np.float32))
            start = self.plan.samples
            self.plan.advance(lost)
            self._tell_gap(start, lost, "capture was restarted")


def remove_ring(name: str) -> None:
    """Remove the ring of a process that is gone."""
    (ring_directory() / name).unlink(missing_ok=True)
