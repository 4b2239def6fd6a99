"""All sessions of a gateway: how many there may be, who may begin or resume one, and what becomes of those left alone.

Knows nothing of sockets. Runs in the gateway, in the event loop's thread.
"""

import asyncio
import hashlib
import logging
import secrets
from collections.abc import Iterator
from pathlib import Path

from diart_mp.errors import DiartMpError
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.topology import GatewayConfig, Topology
from diart_mp.transport.ring import PREFIX, ring_directory
from diart_mp.web.audio import ClientAudio
from diart_mp.web.enrolled import Enrolled
from diart_mp.web.metrics import Metrics
from diart_mp.web.probe import PROBE
from diart_mp.web.protocol import POLICY, TRY_LATER, ClientError, Code, Resume, Start
from diart_mp.web.session import SUFFIX, Session, Ticket
from diart_mp.web.tokens import Grant

_LOG = logging.getLogger(__name__)


class Sessions:
    """The sessions by id. ``adopt`` takes over those of an earlier process before the first client comes."""

    def __init__(
        self, topology: Topology, config: GatewayConfig, *, epoch: int, hosted: HostedOwner, metrics: Metrics
    ) -> None:
        self._topology, self._config, self._epoch = topology, config, epoch
        self._hosted, self._metrics = hosted, metrics
        self._sessions: dict[str, Session] = {}
        self._abandoned: dict[str, Ticket] = {}  # of an earlier process, not opened again yet
        self._enrolled = Enrolled(topology)
        self._opening = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self.idle = asyncio.Event()
        self.idle.set()

    def __iter__(self) -> Iterator[Session]:
        return iter(list(self._sessions.values()))

    def __len__(self) -> int:
        return len(self._sessions) + len(self._abandoned)

    @property
    def room(self) -> bool:
        """Whether another stream may begin."""
        return len(self) < self._config.max_streams

    async def begin(self, start: Start, grant: Grant) -> tuple[Session, str]:
        """A new session, and the token that resumes it; ClientError (1013) where there is no room."""
        self._enrolled.check(start.settings.known_speakers)
        self._check_room(grant)
        identity, secret = f"{self._topology.run}-{secrets.token_hex(6)}", secrets.token_urlsafe(18)
        ticket = Ticket(identity, hashlib.sha256(secret.encode()).hexdigest(), grant.name, start)
        session = await self._open(ticket)
        self._metrics.started.inc()
        self._tell(identity, "begun", f"{'live' if start.live else 'fast'}, {start.encoding} at {start.rate} Hz")
        return session, f"{identity}.{secret}"

    async def resume(self, resume: Resume, grant: Grant) -> Session:
        """The session that a resume token names; ClientError where it is over, or never was."""
        identity, _, secret = resume.token.rpartition(".")
        known = self._sessions.get(identity)
        ticket = known.ticket if known is not None else self._abandoned.get(identity)
        if ticket is None or not ticket.opens(secret) or ticket.grant != grant.name:
            msg = f"this stream is not here (any more): it is kept for {self._config.resume_s:g} s; start a new one"
            raise ClientError(Code.UNKNOWN_SESSION, msg, close=POLICY)
        async with self._opening:
            session = self._sessions.get(identity)
            if session is None:
                ticket = self._abandoned.pop(identity, None)
                if ticket is None:
                    msg = "this stream has just ended; start a new one"
                    raise ClientError(Code.UNKNOWN_SESSION, msg, close=POLICY)
                session = await self._open(ticket)
        self._metrics.resumed.inc()
        self._tell(identity, "resumed", f"from {session.audio.seconds:.1f} s")
        return session

    def label(self, session: Session, label: str) -> None:
        """A client says what its stream is, for the log."""
        self._tell(session.ticket.id, "labelled", label)

    def leave(self, session: Session, *, final: bool) -> None:
        """A client has gone: ``final`` if for good, else its session is kept for a while."""
        over = session.finished or session.error is not None
        if final or session.error is not None:
            self._forget(session) if over else session.end()
        else:
            loop = asyncio.get_running_loop()
            session.expiry = loop.call_later(self._config.resume_s, self._expire, session)

    def _expire(self, session: Session) -> None:
        if session.finished:
            self._forget(session)
        else:
            session.end()

    def adopt(self) -> None:
        """Find what an earlier process of this run left."""
        for path in Path(self._topology.directory).glob(f"*{SUFFIX}"):
            try:
                ticket = Ticket.read(path)
            except (OSError, ValueError, KeyError, TypeError, DiartMpError) as error:
                _LOG.warning("the session file %s cannot be used (%s)", path, error)
                path.unlink(missing_ok=True)
                continue
            self._abandoned[ticket.id] = ticket
            asyncio.get_running_loop().call_later(self._config.resume_s, self._give_up, ticket)
        for probe in Path(self._topology.directory).glob(f"{self._topology.run}-{PROBE}-*"):
            probe.unlink()
        for ring in ring_directory().glob(f"{PREFIX}{self._topology.run}-{PROBE}-*"):
            ring.unlink()
        self._count()

    def _give_up(self, ticket: Ticket) -> None:
        """Nobody came back: open the stream once more, to end it properly."""
        if self._abandoned.pop(ticket.id, None) is not None:
            task = asyncio.ensure_future(self._end(ticket))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _end(self, ticket: Ticket) -> None:
        try:
            (await self._open(ticket)).end()
        except ClientError as error:
            _LOG.warning("the stream %s could not be ended: %s", ticket.id, error)

    async def _open(self, ticket: Ticket) -> Session:
        config = self._config
        audio = ClientAudio(ticket.id, ticket.start, max_rate=config.max_rate, burst_s=config.burst_s)
        session = Session(ticket, audio, hosted=self._hosted, metrics=self._metrics, on_over=self._on_over)
        self._sessions[ticket.id] = session
        self._count()
        try:
            ticket.write(Path(self._topology.directory))
            await session.open(self._topology, self._topology.stages[0].name, self._epoch)
        except BaseException:
            session.discard()
            self._forget(session)
            raise
        return session

    def _check_room(self, grant: Grant) -> None:
        if not self.room:
            msg = f"all {self._config.max_streams} streams of this server are taken; try again later"
            raise ClientError(Code.FULL, msg, close=TRY_LATER, retryable=True)
        mine = sum(session.ticket.grant == grant.name for session in self)
        if grant.streams is not None and mine >= grant.streams:
            msg = f"this token may have {grant.streams} stream(s) at a time, and has {mine}; end one first"
            raise ClientError(Code.QUOTA, msg, close=TRY_LATER, retryable=True)

    def _on_over(self, session: Session) -> None:
        """The stream has ended; its client may still have to hear of it, now or when it comes back."""
        expiry = session.expiry
        if not session.attached and (expiry is None or expiry.cancelled() or expiry.when() <= session.loop_time()):
            self._forget(session)

    def _forget(self, session: Session) -> None:
        if self._sessions.pop(session.ticket.id, None) is None:
            return
        if session.expiry is not None:
            session.expiry.cancel()
        if session.error is not None:
            session.discard()
        reason = "error" if session.error is not None else "ended"
        self._metrics.ended.labels(reason).inc()
        self._tell(session.ticket.id, reason, f"{session.audio_s:.1f} s of audio, {session.segments.count} segments")
        (Path(self._topology.directory) / f"{session.ticket.id}{SUFFIX}").unlink(missing_ok=True)
        self._count()

    def _tell(self, stream: str, what: str, text: str) -> None:
        """For the log: a stream has begun, goes on, or is over."""
        words = f"stream {stream} {what}: {text}"
        self._hosted.call(lambda: self._hosted.owner.report("session", stream=stream, what=what, text=words))

    def _count(self) -> None:
        self._metrics.sessions.set(len(self))
        if self._sessions:
            self.idle.clear()
        else:
            self.idle.set()
