"""The stage's end of the control socket: ready, beats, events and last words up; start, restarted, drain, stop down.

Control travels on sockets of its own, so that a stop never queues behind audio. Beats come from a thread, so that a
stage is heard while it computes; they carry a progress counter, by which the supervisor tells slow from stuck.
Without a supervisor (a stage started by systemd, say) nothing is sent and nothing comes. Runs in every stage process.
"""

import contextlib
import logging
import math
import os
import threading
import time
from typing import Any

import zmq

from diart_mp import __version__
from diart_mp.errors import ProtocolError
from diart_mp.headers import pack_control, unpack_control
from diart_mp.transport.security import OPEN, Open
from diart_mp.transport.sockets import make_socket, readable
from diart_mp.transport.versions import Refusals

BEAT_S = 0.1
_GATHER_S = 0.05  # within which results are told together
_MOST_GATHERED = 100
_MOST_KEPT = 100  # messages for a supervisor that is not there
_LOG = logging.getLogger(__name__)


class Progress:
    """What the working thread has done, for the beating thread to tell: plain counters, written by one thread."""

    def __init__(self) -> None:
        self.done = 0  # chunks
        self.queue = 0  # chunks that wait to be processed
        self.waiting = 0  # chunks that wait for room in the next stage
        self.compute_s = 0.0  # spent on chunks so far
        self.busy_since: float | None = None  # monotonic s, while something is being processed
        self.counters: dict[str, int] = {}

    def busy_s(self) -> float:
        """For how long the present batch has been worked on, in seconds; 0 when idle."""
        since = self.busy_since
        return 0.0 if since is None else time.monotonic() - since


class StageControl:
    """Talks to the supervisor for one stage process. Used by the main thread; only beats come from another one."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        endpoint: str,
        *,
        stage: str,
        replica: int,
        epoch: int,
        lossy: bool = False,
        guard: Open = OPEN,
    ) -> None:
        """``lossy``: nobody may be listening, now or for days; what cannot be told then is not kept. ``guard``: of all links of the stage."""
        self.guard, self._lossy = guard, lossy
        self._most_kept, self._flags = (_MOST_KEPT, zmq.DONTWAIT) if lossy else (0, 0)
        self._context, self._endpoint = context, endpoint
        self._who = {"stage": stage, "replica": replica, "epoch": epoch}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self.progress = Progress()
        self._gathered: list[dict[str, Any]] = []
        self._told_at = -_GATHER_S  # monotonic s
        self.socket = self._connect("") if endpoint else None

    def start_beats(self) -> None:
        """Begin to beat; called once the process is set up, before models are loaded."""
        if self._endpoint:
            self._thread = threading.Thread(target=self._beat, name="beat", daemon=True)
            self._thread.start()

    def send(self, kind: str, **values: Any) -> None:
        """Tell the supervisor something; what is meant for people goes to the log where there is none."""
        if self.socket is not None:
            self.guard.mend(self.socket)
            with contextlib.suppress(zmq.Again):
                self.socket.send(pack_control(kind, **self._who, **values), flags=self._flags)
        if (self.socket is None or (self._lossy and kind == "event")) and "text" in values:
            _LOG.warning("%s: %s", values.get("stream") or self._who["stage"], values["text"])

    def report(self, event: str, **values: Any) -> None:
        """Tell an event for the user. A result that follows another one closely may wait until ``tell`` is due."""
        self._gathered.append({"event": event, **values})
        if event != "result" or len(self._gathered) >= _MOST_GATHERED or self.due_s() <= 0:
            self.tell()

    def due_s(self) -> float:
        """Seconds until what has been gathered is to be told; infinite where there is nothing."""
        return self._told_at + _GATHER_S - time.monotonic() if self._gathered else math.inf

    def tell(self) -> None:
        """Tell all events that have been gathered, in order."""
        events, self._gathered = self._gathered, []
        self._told_at = time.monotonic()
        if len(events) > 1 and self.socket is not None:
            self.send("events", events=events)
            return
        for event in events:
            self.send("event", **event)

    def tell_refusals(self, *refusals: Refusals) -> None:
        """Count and tell who has not been let in to the links of this process."""
        self.progress.counters |= self.guard.counts()
        for text in (*self.guard.notes(), *(note for each in refusals for note in each.notes())):
            self.send("event", event="note", stream="", text=text)

    def ready(self) -> None:
        """The stage can take chunks."""
        self.send("ready", pid=os.getpid(), version=__version__)

    def commands(self, *, until: str = "") -> list[dict[str, Any]]:
        """What the supervisor said since the last call; with ``until``, what it said after that kind is left for the next one."""
        commands: list[dict[str, Any]] = []
        while self.socket is not None and readable(self.socket):
            try:
                commands.append(unpack_control(self.socket.recv_multipart()))
            except ProtocolError:
                continue  # only our own supervisor can reach this socket; a broken message of its asks for nothing
            if commands[-1]["kind"] == until:
                break
        return commands

    def close(self) -> None:
        """Stop beating and close; what was told before is delivered first (at most 1 s). Idempotent."""
        self.tell()
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self.socket is not None:
            self.socket.close(linger=1000)

    def _connect(self, suffix: str) -> zmq.Socket[bytes]:
        socket = make_socket(self._context, zmq.DEALER)
        socket.sndhwm = self._most_kept
        self.guard.connecting(socket, self._endpoint)
        socket.identity = "{stage}/{replica}/{epoch}".format(**self._who).encode() + suffix.encode()
        socket.connect(self._endpoint)
        return socket

    def _beat(self) -> None:
        socket = self._connect("/beat")
        while not self._stop.wait(BEAT_S):
            progress = self.progress
            beat = pack_control(
                "beat",
                **self._who,
                done=progress.done,
                queue=progress.queue,
                waiting=progress.waiting,
                compute_s=progress.compute_s,
                busy_s=progress.busy_s(),
                counters=dict(progress.counters),
            )
            self.guard.mend(socket)
            with contextlib.suppress(zmq.Again):
                socket.send(beat, flags=self._flags)
        socket.close()
