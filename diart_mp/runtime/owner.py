"""The owner's loop: gives the chunks of its streams to the pipeline and takes their results back as acknowledgements.

An owner never has more than ``max_in_flight`` unanswered chunks per stream. That is all the flow control there is: it bounds every
queue behind it. When the supervisor says that a stage was restarted, or when nothing has come back for a while, the
owner sends again what follows the newest checkpoint. One thread, but for ``call``. Runs in the capture process and, in a thread of its own
(``runtime.hosted``), in gateways and programs that hand over audio themselves.
"""

import math
import signal
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

import zmq

from diart_mp.audio.block_queue import BlockQueue
from diart_mp.bundles import decode_all
from diart_mp.errors import AudioError, OutputError, ProtocolError
from diart_mp.messages import Message
from diart_mp.outputs.events import update_to_dict
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.inline import inline_of
from diart_mp.runtime.stream import OwnedStream
from diart_mp.topology import Topology
from diart_mp.transport.link import Sender
from diart_mp.transport.ring import RingReader
from diart_mp.transport.sockets import listen, make_socket, readable

_POLL_MS = 100
_PATIENCE_S = 10.0  # without any result before everything in flight is sent again; doubles each time it does not help
_MAX_PATIENCE_S = 120.0
_PROGRESS_S = 0.25
_FLAT = frozenset((str, int, float, bool))

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
        shards = after.replicas if after is not None and topology.is_ordered(after.name) else 0
        self._control = control
        self._last = topology.stages[-1].name
        endpoint = topology.stage(stage).bind
        inline = inline_of(topology, stage, endpoint, RingReader())
        self._sender = Sender(
            context,
            endpoint,
            stage=stage,
            epoch=epoch,
            shards=shards,
            inline=inline,
            receiver=after.name if after is not None else "",
            guard=control.guard,
        )
        self._results = make_socket(context, zmq.ROUTER)
        listen(self._results, topology.results, control.guard)
        self._streams: dict[str, OwnedStream] = {}
        self._patience: dict[str, tuple[float, float]] = {}  # stream: (when to send again, s; how long was waited, s)
        self._calls: BlockQueue[Callable[[], None]] = BlockQueue(sys.maxsize)
        self._draining = False
        self._on_drain = self._end_all_inputs
        self.stopped = False
        self.turned_at = time.monotonic()  # when the loop last came round, monotonic s
        self._progress_at = 0.0
        self._foreign_after = after is not None and not topology.watched(after)
        self._replaced = 0

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

    def serve(self, on_drain: Callable[[], None]) -> None:
        """Until a stop, with the streams that are added meanwhile; ``on_drain``: the supervisor wants an end of them."""
        self._on_drain = on_drain
        while not self.stopped:
            self._step()

    def call(self, function: Callable[[], None]) -> bool:
        """Have the owner's thread call ``function`` soon; from any thread. False if the owner has been closed."""
        return self._calls.put(function, 1)

    def add(self, stream: OwnedStream) -> None:
        """Take over one more stream; only in the owner's thread."""
        self._streams[stream.id] = stream
        self._wait_from_now(stream)

    def owns(self, stream: OwnedStream) -> bool:
        """Whether the stream is still run; only in the owner's thread."""
        return stream.id in self._streams

    def remove(self, stream: OwnedStream) -> None:
        """Forget a stream without waiting for its results; the caller closes it. Only in the owner's thread."""
        self._streams.pop(stream.id, None)
        self._patience.pop(stream.id, None)

    def report(self, event: str, **values: object) -> None:
        """Tell the user something, through the supervisor."""
        self._control.report(event, **values)

    def close(self) -> None:
        """Close streams and sockets; idempotent."""
        for stream in self._streams.values():
            stream.close()
        self._calls.close()
        self._sender.close()
        self._results.close()

    def _on_signal(self, *_: object) -> None:
        self.stopped = True

    def _open(self, open_stream: OpenStream) -> None:
        try:
            stream = open_stream()
        except (AudioError, OutputError) as error:
            self.report("failed", stream="", text=str(error))
            return
        self.add(stream)

    def _step(self) -> None:
        """One turn: feed the streams, wait for something to happen, deal with it."""
        busy = False
        self.turned_at = self._control.progress.busy_since = time.monotonic()
        while (call := self._calls.get()) is not None:
            call()
        for stream in list(self._streams.values()):
            try:
                busy |= self._feed(stream)
            except OutputError as error:
                self._give_up(stream, error)
                continue
            if stream.complete:
                self._finished(stream)
        self._control.progress.busy_since = None
        self._poll(0 if busy else min(_POLL_MS, max(0, math.ceil(1000 * min(1.0, self._control.due_s())))))
        if self._control.due_s() <= 0:
            self._control.tell()
        self._obey()
        self._sender.receive()
        self._control.progress.counters["refused_rooms"] = self._sender.statistics().refused
        self._watch_foreign()
        self._take_results()
        self._send_again_when_overdue()
        self._tell_progress()

    def _poll(self, timeout_ms: int) -> None:
        poller = zmq.Poller()
        poller.register(self._results, zmq.POLLIN)
        poller.register(self._sender.socket, zmq.POLLIN)
        poller.register(self._calls.fileno(), zmq.POLLIN)
        if self._control.socket is not None:
            poller.register(self._control.socket, zmq.POLLIN)
        for stream in self._streams.values():
            descriptor = stream.fileno()
            if descriptor is not None and stream.listens:
                poller.register(descriptor, zmq.POLLIN)
        poller.poll(timeout_ms)

    def _feed(self, stream: OwnedStream) -> bool:
        """Read audio and send what may be sent; True if there may be more to do at once."""
        if stream.rests:
            return False
        idle = not stream.waiting
        chunks, progressed = list[Message](), False
        while True:
            try:
                progressed |= stream.fill()
            except AudioError as error:
                stream.report("failed", stream=stream.name, text=str(error))
                stream.end_input()
                progressed = True
            message = stream.next_message()
            if message is None:
                break
            chunks.append(message)
        self._sender.send(*chunks)
        if idle:
            self._wait_from_now(stream)
        return progressed

    def _finished(self, stream: OwnedStream) -> None:
        self.remove(stream)
        stream.report("done", stream=stream.name, results=stream.results, seconds=stream.seconds)

    def _give_up(self, stream: OwnedStream, error: OutputError) -> None:
        """Its outputs cannot be written; the other streams go on. What of it is still in flight is not wanted any more."""
        stream.report("failed", stream=stream.name, text=str(error))
        self.remove(stream)
        self._sender.forget(lambda message: message.stream == stream.id)
        with suppress(OutputError):  # that is the one that is told
            stream.close()

    def _obey(self) -> None:
        for command in self._control.commands():
            if command["kind"] == "drain":
                self._draining = True
                self._on_drain()
            elif command["kind"] == "set_aside":
                named = self._streams.get(str(command.get("stream")))
                if named is not None:
                    named.set_aside(int(command["seq"]), str(command["text"]))
            elif command["kind"] == "restarted":
                for stream in self._streams.values():
                    self._replay(stream)
            elif command["kind"] == "stop":
                self.stopped = True

    def _watch_foreign(self) -> None:
        """Nobody watches a foreign program: what was given to one that was started again is sent again."""
        replaced = self._sender.statistics().replaced
        if self._foreign_after and replaced > self._replaced:
            self._replaced = replaced
            for stream in self._streams.values():
                self._replay(stream)

    def _end_all_inputs(self) -> None:
        for stream in self._streams.values():
            stream.end_input()

    def _take_results(self) -> None:
        while readable(self._results):
            identity, *frames = self._results.recv_multipart(copy=False)
            for message in decode_all(frames):
                try:
                    if isinstance(message, ProtocolError):
                        raise message
                    self._check_sender(identity.bytes, message)
                    self._take_result(message)
                except ProtocolError as error:
                    self._refuse(str(error))

    def _take_result(self, message: Message) -> None:
        stream = self._streams.get(message.stream)
        if stream is None:
            return
        answered = stream.answered
        try:
            update = stream.on_result(message)
        except OutputError as error:
            self._give_up(stream, error)
            return
        if stream.answered != answered:
            self._wait_from_now(stream)
        if update is not None:
            self._control.progress.done += message.kind != "end"
            trace = {} if message.kind == "end" else {"trace": message.trace if _is_flat(message.trace) else ()}
            stream.report("result", update=update_to_dict(update), rate=update.rate, **trace)
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
                stream.report(
                    "note", stream=stream.name, text=f"no result for {waited:.0f} s; sending again what is in flight"
                )
                self._replay(stream)
                longer = min(2 * waited, _MAX_PATIENCE_S)
                self._patience[stream.id] = (now + longer, longer)

    def _replay(self, stream: OwnedStream) -> None:
        self._sender.forget(lambda message: message.stream == stream.id)
        self._sender.send(*stream.replay())

    def _tell_progress(self) -> None:
        now = time.monotonic()
        if now - self._progress_at < _PROGRESS_S:
            return
        self._progress_at = now
        self._control.tell_refusals(self._sender.refusals)
        for stream in self._streams.values():
            stream.report("progress", stream=stream.name, seconds=stream.seconds, duration=stream.duration)


def _is_flat(trace: tuple[tuple[Any, ...], ...]) -> bool:
    """Whether a trace is what stages make of it: what is nested without an end cannot be told on."""
    return all(_FLAT.issuperset(map(type, entry)) for entry in trace)
