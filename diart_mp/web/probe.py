"""Readiness: whether chunks go through all stages, seen from the gateway.

While clients stream, their results say so. Otherwise a stream of silence of the gateway's own, as real as theirs, asks the
question twice a second. Runs in the gateway: ``Probe`` in the event loop's thread, its stream in the owner's.
"""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Any

import numpy as np

from diart_mp.audio.push import PushSource
from diart_mp.config import Settings
from diart_mp.errors import AudioError, DiartMpError
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.runtime.stream import OwnedStream
from diart_mp.topology import Topology

PERIOD_S = 0.5
PROBE = "probe"  # in the names of its streams
_STALE_S = 1.4  # without any result before the pipeline does not count as ready
_LENGTH = 600  # results of one stream of silence; then another one begins, so that nothing grows


class Probe:
    """Asks while nobody else does. ``results`` counts every result of the gateway since it was last told of."""

    def __init__(self, topology: Topology, *, epoch: int, hosted: HostedOwner, settings: Settings) -> None:
        self._topology, self._epoch, self._hosted = topology, epoch, hosted
        step = round(PERIOD_S * settings.rate)
        self._settings = Settings(
            rate=settings.rate, duration=settings.duration, step=step, latency=step, start="early"
        )
        self._last = -1e9  # monotonic s of the last result
        self._source: PushSource | None = None
        self._number = self._given = 0

    @property
    def ready(self) -> bool:
        """Whether a chunk went through within the last moments."""
        return self._hosted.alive and time.monotonic() - self._last < _STALE_S

    def on_result(self) -> None:
        """A result of any stream has come; from any thread."""
        self._last = time.monotonic()

    async def run(self) -> None:
        """Ask for ever; to be cancelled."""
        samples = np.zeros(round(PERIOD_S * self._settings.rate), np.float32)
        while True:
            if time.monotonic() - self._last >= PERIOD_S * 0.9:
                self._ask(samples)
            await asyncio.sleep(PERIOD_S)

    def _ask(self, samples: Any) -> None:
        if self._source is None or self._given >= _LENGTH or self._source.over:
            self._renew()
        self._given += 1
        if self._source is not None:
            with contextlib.suppress(AudioError):  # so much waits already: that is an answer, too
                self._source.write(samples, timeout=0)

    def _renew(self) -> None:
        if self._source is not None:
            self._source.end()
        self._number, self._given = self._number + 1, 0
        source = self._source = PushSource(f"probe{self._number}", self._settings.rate)
        self._hosted.call(lambda: self._open(source))

    def _open(self, source: PushSource) -> None:
        """In the owner's thread."""
        holder: list[OwnedStream] = []

        def report(event: str, **_: Any) -> None:
            if event == "result":
                self.on_result()
            elif event == "done":
                holder[0].discard()

        directory, settings = Path(self._topology.directory), self._settings
        with contextlib.suppress(DiartMpError):  # then it does not answer, which is what it is asked for
            stream = OwnedStream(
                f"{self._topology.run}-{PROBE}-{self._epoch}-{self._number}",
                source,
                settings,
                directory=directory,
                epoch=self._epoch,
                max_in_flight=self._topology.max_in_flight,
                reply_to=self._topology.results,
                open_outputs=lambda _: OutputSet(directory, "probe", (), rate=settings.rate, recorded=False),
                report=report,
            )
            holder.append(stream)
            self._hosted.owner.add(stream)
