"""The supervisor: starts the local stages of a run, listens to them, restarts what dies, and ends them all.

Each start of a stage gets a new epoch. A stage that exits without having been told to is restarted, with growing pauses and
within a budget; owners hear of it once the new process is ready and send again what was in flight. A stage that says
"fatal" (a model that does not exist, a disk that is full) ends the run with that line instead, as does one that cannot even start; but
what has been ready before is given time to be so again (memory of a device that is not free yet, a port in use). Death is seen by the
exit of the process, never by silence alone. Runs in the process of ``diart-mp run``; events go to a view.
"""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Self

import zmq

from diart_mp.errors import ProtocolError, StageError
from diart_mp.headers import pack_control, unpack_control
from diart_mp.runtime.activity import activity_file, read_activity
from diart_mp.runtime.child import Child
from diart_mp.runtime.remote import RemoteStages
from diart_mp.topology import Topology
from diart_mp.transport.link import identity_of
from diart_mp.transport.security import guard_of
from diart_mp.transport.sockets import listen, make_socket

_POLL_MS = 50
_STOP_S = 1.0  # that a stage has to end after SIGTERM
_LATE_S = (
    1.0  # between two looks of the supervisor itself from which silence proves nothing: the whole machine was held up
)
_CRASHES = 3  # of one chunk before it is set aside
_KILLED_WEIGHT = 0.25  # of a SIGKILL, which mostly comes from outside and is not the chunk's fault
_LAST_WORDS_S = 0.3  # that what an ended process said may take to arrive
_START_S = 300.0  # that a stage may take to be ready: a model may have to be downloaded
_FIRST_SIGN_S = 60.0  # that a new process may take to its first sign of life: a few imports, on a busy machine
_MOST_TEXT = 1000  # characters of what a stage elsewhere says
_BACK_OFF_S = (0.0, 0.1, 0.5, 1.0, 2.0, 5.0)  # before the 1st, 2nd ... restart without any result between
_BUDGET = 50  # restarts of one stage within _BUDGET_S
_BUDGET_S = 60.0
_FRUITLESS = (
    15  # restarts of one stage in a row without any result between; more than killed chunks need to be set aside
)
_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")

OnEvent = Callable[[dict[str, Any]], None]


class StageFatalError(StageError):
    """A stage said that it cannot go on, and why."""

    def __init__(self, text: str, exit_code: int) -> None:
        super().__init__(text)
        self.exit_code = exit_code


class Supervisor:
    """Runs the stages of ``topology`` (in ``topology_file``); a context manager that leaves no process behind.

    ``inherit`` are file descriptors for the capture stage (raw audio on standard input).
    """

    def __init__(
        self,
        topology: Topology,
        topology_file: Path,
        *,
        on_event: OnEvent,
        inherit: tuple[int, ...] = (),
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._topology, self._file = topology, topology_file
        self._on_event, self._inherit = on_event, inherit
        self._environment = {**os.environ, **(environment or {})}
        self._context = zmq.Context[zmq.Socket[bytes]]()
        self._control = make_socket(self._context, zmq.ROUTER)
        listen(self._control, topology.control)
        self._guard = guard_of(topology, topology.home, self._context)
        if topology.report:
            listen(self._control, topology.report, self._guard)
        self._elsewhere = RemoteStages(topology)
        self._guard_read, self._guard_write = os.pipe()
        self._processes = [
            Child(stage.name, replica)
            for stage in topology.stages
            if not stage.foreign
            for replica in range(stage.replicas)
            if not stage.place_of(replica)
        ]
        # Stages elsewhere outlive runs, so they must not take a process of this run for one that was replaced long ago.
        self._epoch = 0 if all(map(topology.watched, topology.stages[1:])) else time.time_ns() // 1_000_000
        self._looked_at = time.monotonic()
        self._started_at = self._looked_at
        self._streams: dict[str, dict[str, Any]] = {}  # by name: how far each is
        self._crashes: dict[tuple[str, str, int], float] = {}  # (stage, stream, seq): deaths, weighted
        self._stopping = self._draining = False
        self._shown: dict[str, int] = {}  # stream: last seq that the view has seen
        self._begun = False
        self.finished = False
        self.restarts = 0
        self.refused = 0  # messages that were none, or came from nobody that is known

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self.stop()
        finally:
            self._control.close()
            self._guard.close()
            self._context.destroy(linger=0)
            os.close(self._guard_read)
            os.close(self._guard_write)

    def start(self) -> None:
        """Start all stages; they become ready while ``step`` is called."""
        for process in self._processes:
            self._spawn(process)

    def step(self) -> None:
        """Listen for a moment, see to the dead. Raises StageError where the run cannot go on."""
        if self._control.poll(_POLL_MS):
            for identity, frames in self._messages():
                self._on_message(identity, frames)
        now = time.monotonic()
        if now - self._looked_at > _LATE_S:
            for process in self._processes:
                process.heard_at = now
        self._looked_at = now
        for text in self._elsewhere.absent():
            self._on_event({"event": "note", "stream": "", "text": text})
        for process in self._processes:
            self._watch(process, now)
        if not self._begun and all(process.ready for process in self._processes):
            self._begin()

    def drain(self) -> None:
        """Tell the owners to take no more audio and to finish what they have; one that is just being restarted hears it later."""
        self._draining = True
        self._tell(self._owners(), "drain")

    def stop(self) -> None:
        """End all stages: politely, then by force. Idempotent."""
        self._stopping = True
        alive = [each.process for each in self._processes if each.process is not None]
        for process in alive:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
        deadline = time.monotonic() + _STOP_S
        for process in alive:
            try:
                process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        if any((process.returncode or 0) > 0 for process in alive):
            self._hear_why()

    def pids(self) -> dict[str, int]:
        """Process ids by name of the stage."""
        return {each.label: each.process.pid for each in self._processes if each.process is not None}

    def ready(self) -> set[str]:
        """Names of the stages that can take chunks now."""
        return {each.label for each in self._processes if each.ready and each.process is not None}

    def beats(self) -> dict[str, Mapping[str, Any]]:
        """What each stage last told of itself."""
        return {each.label: each.beat for each in self._processes}

    def status(self) -> dict[str, Any]:
        """The whole pipeline at this moment, as plain values: what ``diart-mp top`` shows."""
        return {
            "elsewhere": self._elsewhere.status(),
            "refused": self.refused,
            **self._guard.counts(),
            "run": self._topology.run,
            "up_s": time.monotonic() - self._started_at,
            "stages": [each.status() for each in self._processes],
            "streams": self._streams,
        }

    def _owners(self) -> list[Child]:
        return [process for process in self._processes if process.name == self._topology.stages[0].name]

    def _spawn(self, process: Child) -> None:
        self._epoch += 1
        log_file = process.begin(self._epoch, time.monotonic(), Path(self._topology.directory))
        config = self._topology.stage(process.name)
        # One process, one core: numeric libraries must not start a thread per core in each stage.
        threads = dict.fromkeys(_THREADS, str(config.threads))
        name = f"{process.name}/{process.replica}" if config.replicas > 1 else process.name
        command = [sys.executable, "-P", "-m", "diart_mp", "stage", name, "--topology", str(self._file)]
        command += ["--epoch", str(process.epoch), "--guard", str(self._guard_read)]
        descriptors = self._inherit if process in self._owners() else ()
        with log_file.open("wb") as log:
            process.process = subprocess.Popen(  # noqa: S603  # our own command
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._guard_read, *descriptors),
                process_group=0,
                env={**threads, **self._environment},
            )

    def _messages(self) -> Iterator[tuple[bytes, list[bytes]]]:
        while self._control.poll(0):
            identity, *frames = self._control.recv_multipart()
            yield identity, frames

    def _on_message(self, identity: bytes, frames: list[bytes]) -> None:
        try:
            message = unpack_control(frames)
        except ProtocolError:
            self.refused += 1
            return
        if message["kind"] == "status":
            with contextlib.suppress(zmq.ZMQError):  # who asked has gone away
                self._control.send_multipart([identity, pack_control("status", **self.status())])
            return
        process = self._sender(identity, message)
        if process is None and self._elsewhere.knows(identity, message):
            self._on_elsewhere(message)
            return
        if process is None:
            self.refused += 1  # an older epoch of a stage, or a stranger
            return
        if message["kind"] == "beat":
            process.beat, process.heard_at = message, time.monotonic()
        elif message["kind"] == "ready":
            self._on_ready(process)
        elif message["kind"] == "event":
            self._event(message)
        elif message["kind"] == "events":
            for event in message["events"]:
                self._event(event)
        elif message["kind"] == "fatal":
            process.fatal = str(message.get("text"))
            if process.ready or not process.proven:  # else its end, which follows, is one of those that are tried again
                raise StageFatalError(process.fatal, int(message.get("code", 1)))

    def _on_elsewhere(self, message: dict[str, Any]) -> None:
        """A stage says something that somebody else has started; what it may not say, such as that the run is over, is refused."""
        stream, text = message.get("stream"), message.get("text")
        if message["kind"] == "event":
            if message.get("event") == "replaced":
                self._tell(self._owners(), "restarted")
            elif message.get("event") == "note" and isinstance(stream, str) and isinstance(text, str):
                self._on_event({"event": "note", "stream": stream[:_MOST_TEXT], "text": text[:_MOST_TEXT]})
            else:
                self.refused += 1
        text, again = self._elsewhere.take(message)
        if text:
            self._on_event({"event": "note", "stream": "", "text": text})
        if again:
            self._tell(self._owners(), "restarted")

    def _sender(self, identity: bytes, message: Mapping[str, Any]) -> Child | None:
        """The process that a message comes from, if its socket agrees with what the message says."""
        who = (message.get("stage"), message.get("replica"), message.get("epoch"))
        for each in self._processes:
            if (each.name, each.replica, each.epoch) == who:
                return each if identity.removesuffix(b"/beat") == identity_of(*who) else None
        return None

    def _on_ready(self, process: Child) -> None:
        process.on_ready(time.monotonic())
        if not self._begun:
            return
        if process in self._owners():
            self._start_owners([process])
        else:
            self._tell(self._owners(), "restarted", name=process.name, number=process.epoch)

    def _start_owners(self, owners: list[Child]) -> None:
        self._tell(owners, "start", shown=self._shown)
        if self._draining:
            self._tell(owners, "drain")

    def _begin(self) -> None:
        """All stages are ready for the first time."""
        self._begun = True
        self._on_event({"event": "ready", "pids": self.pids()})
        self._start_owners(self._owners())

    def _event(self, message: dict[str, Any]) -> None:
        if message.get("event") == "result":
            update = message["update"]
            if update["seq"] <= self._shown.get(update["stream"], -1):
                return
            self._shown[update["stream"]] = update["seq"]
            for process in self._processes:
                process.in_a_row = 0  # a result has come through all of them
            stream = self._streams.setdefault(update["stream"], {})
            stream |= {"results": update["seq"] + 1, "end": update["end"], "lag_ms": update["latency_ms"]}
        elif message.get("event") == "flow":  # results of streams that the view is not told of
            for process in self._processes:
                process.in_a_row = 0
            return
        elif message.get("event") == "progress":
            self._streams.setdefault(message["stream"], {})["seconds"] = message["seconds"]
        elif message.get("event") == "replaced":  # a foreign program, as its neighbour says
            self._tell(self._owners(), "restarted")
            return
        elif message.get("event") == "finished":
            self.finished = True
        self._on_event(message)

    def _tell(self, processes: list[Child], kind: str, **values: Any) -> None:
        if self._topology.stages[0].foreign and not processes:
            self._on_event({"event": "order", "order": {"kind": kind, **values}})  # the owner lives in this process
        for process in processes:
            identity = f"{process.name}/{process.replica}/{process.epoch}".encode()
            with contextlib.suppress(zmq.ZMQError):  # it has just died: what it is told is of no use any more
                self._control.send_multipart([identity, pack_control(kind, **values)])

    def _watch(self, process: Child, now: float) -> None:
        if process.restart_at is not None:
            if now >= process.restart_at:
                self._spawn(process)
            return
        if process.process is None:
            return
        code = process.process.poll()
        if code is not None:
            self._on_exit(process, code, now)
        elif not process.ready and now - process.started_at > _START_S:
            msg = f"{process.label} was not ready {_START_S:.0f} s after its start; its log ends: {process.last_line()}"
            raise StageError(msg)
        elif not process.hung and (reason := self._hangs(process, now)):
            process.end_hung(reason)

    def _hangs(self, process: Child, now: float) -> str:
        """Why a living process counts as hung, empty if it does not. Silence or one endless batch; never mere slowness."""
        silent, begun = now - process.heard_at, process.ready or process.beat
        if silent > (self._topology.silence_s if begun else max(_FIRST_SIGN_S, self._topology.silence_s)):
            return f"gave no sign of life for {silent:.1f} s"
        busy = float(process.beat.get("busy_s", 0.0))
        return f"has worked on one batch for {busy:.0f} s" if busy > self._topology.stuck_s else ""

    def _on_exit(self, process: Child, code: int, now: float) -> None:
        process.process = None
        if self._stopping or (self.finished and process in self._owners()):
            return
        self._hear_last_words(_LAST_WORDS_S if code >= 0 else 0.0)
        if self.finished and process in self._owners():
            return
        process.restarts = [at for at in process.restarts if now - at < _BUDGET_S]
        how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
        how = f"{process.hung}, so it was killed" if process.hung else how
        spent = len(process.restarts) >= _BUDGET or process.fruitless >= _FRUITLESS
        if spent or (code > 0 and not process.ready and not process.proven):
            restarts = max(len(process.restarts), process.fruitless)
            often = f" after {restarts} restarts" if restarts else ""
            msg = f"{process.label} {how}{often}: {process.fatal or process.last_line() or 'it left no message'}"
            raise StageError(msg)
        if process.ready or not (code > 0 or process.hung):  # else what is noted there is the process's before it
            self._set_aside(process, code)
        process.has_failed(now)
        process.restart_at = now + _BACK_OFF_S[min(process.fruitless, len(_BACK_OFF_S)) - 1]
        self.restarts += 1
        how = f"{how} ({process.fatal})" if process.fatal else how
        text = f"{process.label} {how}; restarting it"
        self._on_event({"event": "restart", "stage": process.label, "text": text, "log": process.log_lines()})

    def _hear_last_words(self, patience_s: float) -> None:
        """Take what a process that has ended by itself said before: it may still be on its way through ZeroMQ."""
        deadline = time.monotonic() + patience_s
        while not self.finished and self._control.poll(max(0, round(1000 * (deadline - time.monotonic())))):
            for identity, frames in self._messages():
                self._on_message(identity, frames)
            if time.monotonic() > deadline:
                return

    def _hear_why(self) -> None:
        """A stage that was told to end could not end well (a disk that is full, say): tell why it says so."""
        while self._control.poll(round(1000 * _LAST_WORDS_S)):
            for identity, frames in self._messages():
                with contextlib.suppress(ProtocolError):
                    message = unpack_control(frames)
                    if message["kind"] == "fatal" and self._sender(identity, message) is not None:
                        self._on_event({"event": "failed", "stream": "", "text": str(message.get("text"))})
                        return

    def _set_aside(self, process: Child, code: int) -> None:
        """Count the death against the chunks that the stage was working on; one that has killed too often is left out."""
        weight = _KILLED_WEIGHT if code == -signal.SIGKILL and not process.hung else 1.0
        file = activity_file(Path(self._topology.directory), process.name, process.replica)
        for stream, seq in read_activity(file):
            key = (process.name, stream, seq)
            self._crashes[key] = self._crashes.get(key, 0.0) + weight
            if self._crashes[key] >= _CRASHES:
                text = f"chunk {seq} was set aside: {process.label} died {_CRASHES} times while working on it"
                self._tell(self._owners(), "set_aside", stream=stream, seq=seq, text=text)
                process.restarts = process.restarts[: -_CRASHES + 1]
