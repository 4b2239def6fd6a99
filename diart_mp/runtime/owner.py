"""The owner's loop: gives the chunks of its streams to the pipeline and takes their results back as acknowledgements.

An owner never has more than ``max_in_flight`` unanswered chunks per stream. That is all the flow control there is: it bounds every
queue behind it. When the supervisor says that a stage was restarted, or when nothing has come back for a while, the
owner sends again what follows the newest checkpoint. One thread. Runs in the capture process (and in gateways).
"""

import signal
import time
from collections import deque
from collections.abc import Callable, Iterable

import zmq

from diart_mp.errors import AudioError, ProtocolError
from diart_mp.messages import Message, decode
from diart_mp.outputs.events import update_to_dict
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.stream import OwnedStream
from diart_mp.topology import Topology, leaves_host
from diart_mp.transport.link import Sender, listen, make_socket
from diart_mp.transport.ring import RingReader

_POLL_MS = 100
_PATIENCE_S = 10.0  # without any result before everything in flight is sent again; doubles each time it does not help
_MAX_PATIENCE_S = 120.0
_PROGRESS_S = 0.25

OpenStream = Callable[[], OwnedStream]


class Owner:
    """Runs streams through the pipeline, ``jobs`` recorded ones at a time.

    ``stopped``: it was told to end at once, before its streams were done.
    """

    def __init__(
        self,
        topology: Topology,
        *,
        stage: str,
        epoch: int,
        control: StageControl,
        context: zmq.Context[zmq.Socket[bytes]],
    ) -> None:
        after = topology.after(stage)
        shards = after.replicas if after is not None and after.keyed else 0
        self._control = control
        self._last = topology.stages[-1].name
        endpoint = topology.stage(stage).bind
        inline = RingReader().inline if leaves_host(endpoint) else None
        self._sender = Sender(
            context,
            endpoint,
            stage=stage,
            epoch=epoch,
            shards=shards,
            inline=inline,
            receiver=after.name if after is not None else "",
        )
        self._results = make_socket(context, zmq.ROUTER)
        listen(self._results, topology.results)
        self._streams: dict[str, OwnedStream] = {}
        self._patience: dict[str, tuple[float, float]] = {}  # stream: (when to send again, s; how long was waited, s)
        self._draining = False
        self.stopped = False
        self._progress_at = 0.0

    def run(self, pending: Iterable[OpenStream], *, jobs: int) -> None:
        """Until all of ``pending`` (functions that open a stream, called when its turn comes) are done, or a stop."""
        signal.signal(signal.SIGTERM, self._on_signal)
        queue = deque(pending)
        while (queue or self._streams) and not self.stopped:
            while queue and len(self._streams) < jobs and not self._draining:
                self._open(queue.popleft())
            if self._draining:
                queue.clear()
            self._step()

    def report(self, event: str, **values: object) -> None:
        """Tell the user something, through the supervisor."""
        self._control.send("event", event=event, **values)

    def close(self) -> None:
        """Close streams and sockets; idempotent."""
        for stream in self._streams.values():
            stream.close()
        self._sender.close()
        self._results.close()

    def _on_signal(self, *_: object) -> None:
        self.stopped = True

    def _open(self, open_stream: OpenStream) -> None:
        try:
            stream = open_stream()
        except AudioError as error:
            self.report("failed", stream="", text=str(error))
            return
        self._streams[stream.id] = stream
        self._wait_from_now(stream)

    def _step(self) -> None:
        """One turn: feed the streams, wait for something to happen, deal with it."""
        busy = False
        self._control.progress.busy_since = time.monotonic()
        for stream in list(self._streams.values()):
            busy |= self._feed(stream)
            if stream.complete:
                self._finished(stream)
        self._control.progress.busy_since = None
        self._poll(0 if busy else _POLL_MS)
        self._obey()
        self._sender.receive()
        self._control.progress.counters["refused_rooms"] = self._sender.statistics().refused
        self._take_results()
        self._send_again_when_overdue()
        self._tell_progress()

    def _poll(self, timeout_ms: int) -> None:
        poller = zmq.Poller()
        poller.register(self._results, zmq.POLLIN)
        poller.register(self._sender.socket, zmq.POLLIN)
        if self._control.socket is not None:
            poller.register(self._control.socket, zmq.POLLIN)
        for stream in self._streams.values():
            descriptor = stream.fileno()
            if descriptor is not None and stream.listens:
                poller.register(descriptor, zmq.POLLIN)
        poller.poll(timeout_ms)

    def _feed(self, stream: OwnedStream) -> bool:
        """Read audio and send what may be sent; True if there may be more to do at once."""
        try:
            progressed = stream.fill()
        except AudioError as error:
            self.report("failed", stream=stream.name, text=str(error))
            stream.end_input()
            progressed = True
        idle = not stream.waiting
        while (message := stream.next_message()) is not None:
            self._sender.send(message)
            progressed = True
        if idle:
            self._wait_from_now(stream)
        return progressed

    def _finished(self, stream: OwnedStream) -> None:
        del self._streams[stream.id], self._patience[stream.id]
        self.report("done", stream=stream.name, results=stream.results, seconds=stream.seconds)

    def _obey(self) -> None:
        for command in self._control.commands():
            if command["kind"] == "drain":
                self._draining = True
                for stream in self._streams.values():
                    stream.end_input()
            elif command["kind"] == "set_aside":
                named = self._streams.get(str(command.get("stream")))
                if named is not None:
                    named.set_aside(int(command["seq"]), str(command["text"]))
            elif command["kind"] == "restarted":
                for stream in self._streams.values():
                    self._replay(stream)
            elif command["kind"] == "stop":
                self.stopped = True

    def _take_results(self) -> None:
        while self._results.poll(0):
            identity, *frames = self._results.recv_multipart(copy=False)
            try:
                message = decode(frames)
                self._check_sender(identity.bytes, message)
                stream = self._streams.get(message.stream)
                answered = stream.answered if stream is not None else -1
                update = stream.on_result(message) if stream is not None else None
            except ProtocolError as error:
                self._refuse(str(error))
                continue
            if stream is None:
                continue
            if stream.answered != answered:
                self._wait_from_now(stream)
            if update is not None:
                self._control.progress.done += 1
                self.report(
                    "result",
                    update=update_to_dict(update),
                    rate=update.rate,
                    trace=[list(hop) for hop in message.trace],
                )
            if stream.complete:
                self._finished(stream)

    def _refuse(self, why: str) -> None:
        """Count a bad message; the first of them is told."""
        counters = self._control.progress.counters
        counters["refused"] = counters.get("refused", 0) + 1
        if counters["refused"] == 1:
            self.report("note", stream="", text=f"a result was refused: {why} (further ones are only counted)")

    def _check_sender(self, identity: bytes, message: Message) -> None:
        """A result is taken from the last stage, from the process that it says it comes from, and from nobody else."""
        stage, epoch = message.sender
        prefix, _, suffix = identity.rpartition(b"/")
        known = stage == self._last and prefix.startswith(f"{stage}/".encode()) and suffix == str(epoch).encode()
        if not known:
            msg = f"it says that it comes from {stage} (epoch {epoch}), its socket is {identity!r:.60}"
            raise ProtocolError(msg)

    def _wait_from_now(self, stream: OwnedStream) -> None:
        self._patience[stream.id] = (time.monotonic() + _PATIENCE_S, _PATIENCE_S)

    def _send_again_when_overdue(self) -> None:
        now = time.monotonic()
        for stream in self._streams.values():
            due, waited = self._patience[stream.id]
            if stream.waiting and now > due:
                self.report(
                    "note", stream=stream.name, text=f"no result for {waited:.0f} s; sending again what is in flight"
                )
                self._replay(stream)
                longer = min(2 * waited, _MAX_PATIENCE_S)
                self._patience[stream.id] = (now + longer, longer)

    def _replay(self, stream: OwnedStream) -> None:
        self._sender.forget(lambda message: message.stream == stream.id)
        for message in stream.replay():
            self._sender.send(message)

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now - self._progress_at < _PROGRESS_S:
            return
        self._progress_at = now
        for stream in self._streams.values():
            self.report("progress", stream=stream.name, seconds=stream.seconds, duration=stream.duration)
