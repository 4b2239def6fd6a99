"""A session: one client's stream in the gateway. It outlives connections, so that a client can come back to it.

Everything here happens in the event loop's thread, except what is marked: the stream itself lives in the owner's thread, and
its reports cross over with ``call_soon_threadsafe``. Knows nothing of sockets: whoever is attached gets messages.
"""

import asyncio
import contextlib
import hashlib
import hmac
import json
import os
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

from diart_mp.errors import DiartMpError
from diart_mp.outputs.events import revision_to_dict, update_from_dict
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.runtime.stream import OwnedStream
from diart_mp.topology import Topology
from diart_mp.turns import Revision, Update
from diart_mp.web.audio import ClientAudio
from diart_mp.web.metrics import Metrics
from diart_mp.web.protocol import INTERNAL, POLICY, ClientError, Code, Start
from diart_mp.web.segments import Segments

SUFFIX = ".session"
_WANTED = frozenset({"result", "progress", "done", "gap", "skipped", "error", "note", "failed"})
_FAST_IN_FLIGHT = 4  # chunks of a client that sends as fast as it can: others must not queue behind more


class Listener(Protocol):
    """Who is attached to a session."""

    def post(self, message: dict[str, Any]) -> None:
        """Take a message to the client; must not wait."""

    def on_update(self, update: Update) -> None:
        """A result has come, after the messages that it makes."""

    def on_finished(self) -> None:
        """The stream is over; all has been posted."""

    def drop(self, error: ClientError) -> None:
        """End the connection: the stream cannot go on, or somebody else is attached now."""


@dataclass(frozen=True, slots=True)
class Ticket:
    """What a session is known by in the run folder, so that a new gateway process can take it over."""

    id: str
    digest: str  # SHA-256 of the secret that resumes it
    grant: str
    start: Start

    def write(self, directory: Path) -> None:
        """Write it: all or nothing."""
        values = {"digest": self.digest, "grant": self.grant, "start": self.start.to_map()}
        temporary = directory / f"{self.id}.new"
        temporary.write_text(json.dumps(values), encoding="utf-8")
        os.replace(temporary, directory / f"{self.id}{SUFFIX}")

    @classmethod
    def read(cls, path: Path) -> Self:
        """What ``write`` wrote; ValueError, KeyError or DiartMpError if it is damaged."""
        values = json.loads(path.read_text(encoding="utf-8"))
        return cls(path.stem, values["digest"], values["grant"], Start.from_map(values["start"]))

    def opens(self, secret: str) -> bool:
        """Whether ``secret`` is the one."""
        return hmac.compare_digest(self.digest, hashlib.sha256(secret.encode()).hexdigest())


class Session:
    """One stream of one client. ``open`` first; ``on_over`` is called once nothing of it is left to do."""

    def __init__(
        self,
        ticket: Ticket,
        audio: ClientAudio,
        *,
        hosted: HostedOwner,
        metrics: Metrics,
        on_over: Callable[["Session"], None],
    ) -> None:
        self.ticket, self.audio, self.start = ticket, audio, ticket.start
        self._hosted, self._metrics, self._on_over = hosted, metrics, on_over
        self._loop = asyncio.get_running_loop()
        self._stream: OwnedStream | None = None  # of the owner's thread
        self._flushes: deque[tuple[int, Listener | None]] = deque()  # samples, who asked; of the owner's thread
        self._opened: asyncio.Future[int] = self._loop.create_future()
        self._listener: Listener | None = None
        self.segments = Segments(ticket.start.settings.rate)
        self._known, self._until = RevisedTurns(ticket.start.settings.rate), 0  # of the loop's thread
        self.acked = 0
        self.audio_s = 0.0
        self.finished = False
        self.stopped = False  # by its client
        self.error: ClientError | None = None
        self.expiry: asyncio.TimerHandle | None = None

    # --- the loop's side

    async def open(self, topology: Topology, stage: str, epoch: int) -> None:
        """Have the owner open the stream; ClientError if it cannot."""
        self._hosted.call(lambda: self._open(topology, stage, epoch))
        captured = await self._opened
        if captured:
            self.acked = self.audio.go_on_at(captured)

    def attach(self, listener: Listener) -> None:
        """Post everything from now on to ``listener``; whoever was attached before is dropped."""
        if self._listener is not None:
            self._listener.drop(
                ClientError(Code.REPLACED, "the stream was taken over by a new connection", close=POLICY)
            )
        self._listener = listener
        self._hosted.call(self._flushes.clear)  # whoever is new has not asked
        if self.expiry is not None:
            self.expiry.cancel()

    def detach(self, listener: Listener) -> bool:
        """The connection of ``listener`` is gone; False if another one has taken over already."""
        if self._listener is not listener:
            return False
        self._listener = None
        return True

    @property
    def attached(self) -> bool:
        """Whether a client listens."""
        return self._listener is not None

    def loop_time(self) -> float:
        """The clock of ``expiry``."""
        return self._loop.time()

    def end(self) -> None:
        """No more audio comes; what is there is diarized to its end. Idempotent."""
        self.audio.source.end()

    def flush(self) -> None:
        """Tell the client once all that it has sent so far, and that fills a step, has been answered."""
        target, listener = self.audio.source.given, self._listener

        def ask() -> None:
            self._flushes.append((target, listener))
            self._answer_flushes()

        self._hosted.call(ask)

    def discard(self) -> None:
        """Give the stream up where it is and leave nothing of it. The owner must be turning."""
        self._hosted.call(self._discard)

    def _on_event(self, event: str, values: dict[str, Any]) -> None:
        if event == "result":
            self._on_result(update_from_dict(values["update"], rate=values["rate"]))
        elif event == "progress":
            self._acknowledge(round(values["seconds"] * self.start.settings.rate))
        elif event == "flushed":
            self._on_flushed(values["until"], values["listener"])
        elif event == "done":
            self._on_done(values["seconds"])
        elif event in ("gap", "skipped", "error", "note"):
            self._warn(event, values)
        elif event == "failed":
            self.fail(ClientError(Code.FAILED, str(values["text"]), close=INTERNAL, retryable=False))

    def _on_flushed(self, until: float, listener: Listener) -> None:
        if listener is self._listener:
            self._post({"type": "flushed", "until": until})

    def fail(self, error: ClientError) -> None:
        """The stream cannot go on."""
        self.error = error
        if self._listener is not None:
            self._listener.drop(error)

    def revised(self) -> list[dict[str, Any]]:
        """For a client that comes back: all that is known better by now, as one revision; nothing if nothing is."""
        if not self._known.revised:
            return []
        return [self._revision(Revision(0, self._until, tuple(self._known.turns())))]

    def _revision(self, revision: Revision) -> dict[str, Any]:
        return {"type": "revision", **revision_to_dict(revision, self.start.settings.rate)}

    def _fold(self, update: Update) -> None:
        self._known.push(update)
        self._until = max(self._until, update.end)

    def _on_result(self, update: Update) -> None:
        self._tell_segments(self.segments.push(update))
        self._fold(update)
        if update.revision is not None:
            self._post(self._revision(update.revision))
        self._metrics.on_update(update, live=self.start.live)
        rate = self.start.settings.rate
        self._post({"type": "stats", "until": round(update.end / rate, 3), "latency_ms": update.latency_ms})
        if self._listener is not None:
            self._listener.on_update(update)

    def _tell_segments(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self._post(message)
        self._metrics.segments.inc(sum(message.get("final", False) for message in messages))

    def _acknowledge(self, samples: int) -> None:
        frames = self.audio.frame_of(samples)
        if frames > self.acked:
            self._metrics.audio.inc((frames - self.acked) / self.start.rate)
            self.acked = frames
            self._post({"type": "ack", "samples": frames})

    def _on_done(self, seconds: float) -> None:
        self._acknowledge(round(seconds * self.start.settings.rate))
        self._tell_segments(self.segments.end())
        self.audio_s, self.finished = seconds, True
        self._hosted.call(self._discard)
        if self._listener is not None:
            self._listener.on_finished()
        self._on_over(self)

    def _warn(self, event: str, values: dict[str, Any]) -> None:
        text, dropped = str(values.get("text", "")), 0.0
        if event == "gap":
            dropped = float(values["seconds"])
            text = f"{dropped:.2f} s of audio from {values['start']:.2f} s on were lost: {text}"
            self._metrics.dropped.inc(dropped)
        elif event == "skipped":
            text = f"overload: {values['windows']} windows were skipped"
            self._metrics.skipped.inc(int(values["windows"]))
        self._post({"type": "warning", "code": event, "message": text, "dropped_ms": round(1000 * dropped)})

    def _post(self, message: dict[str, Any]) -> None:
        if self._listener is not None:
            self._listener.post(message)

    # --- the owner's side

    def _open(self, topology: Topology, stage: str, epoch: int) -> None:
        """In the owner's thread."""
        settings, directory = self.start.settings, Path(topology.directory)
        in_flight = topology.max_in_flight
        try:
            stream = OwnedStream(
                self.ticket.id,
                self.audio.source,
                settings,
                directory=directory,
                epoch=epoch,
                max_in_flight=in_flight if self.start.live else min(in_flight, _FAST_IN_FLIGHT),
                reply_to=topology.results,
                open_outputs=lambda resume: OutputSet(
                    directory, self.ticket.id, (), rate=settings.rate, recorded=False
                ),
                report=self._report,
            )
        except DiartMpError as error:
            refused = ClientError(Code.FAILED, str(error), close=INTERNAL, retryable=True)
            self._cross(lambda: self._opened.set_exception(refused))
            return
        self._stream = stream
        said = [update_from_dict(line, rate=settings.rate) for line in stream.shown(-1)]
        captured = round(stream.seconds * settings.rate)
        self._hosted.owner.add(stream)
        self._cross(lambda: self._on_opened(said, captured))

    def _on_opened(self, said: list[Update], captured: int) -> None:
        for update in said:  # of an earlier process: nobody is attached yet
            self.segments.push(update)
            self._fold(update)
        self._opened.set_result(captured)

    def _discard(self) -> None:
        stream, self._stream = self._stream, None  # not to wait for the collector of cycles: its ring holds descriptors
        if stream is not None:
            self._hosted.owner.remove(stream)
            stream.discard()

    def _report(self, event: str, **values: Any) -> None:
        """What the owner and the stream say, in the owner's thread."""
        if event in _WANTED:
            self._cross(lambda: self._on_event(event, values))
        if event == "result":
            self._answer_flushes()

    def _answer_flushes(self) -> None:
        stream = self._stream
        while stream is not None and self._flushes and stream.covers(self._flushes[0][0]):
            target, listener = self._flushes.popleft()
            values = {"until": round(target / self.start.settings.rate, 6), "listener": listener}
            self._cross(lambda values=values: self._on_event("flushed", values))  # type: ignore[misc]

    def _cross(self, function: Callable[[], None]) -> None:
        """From the owner's thread to the loop's."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
            self._loop.call_soon_threadsafe(function)
