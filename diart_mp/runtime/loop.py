"""The loop of a stage process: take chunks, process them in batches, pass them on, answer the owner.

    receiver ──> queue ──> [order, if keyed] ──> stage.process ──> sender to the next stage
                                                              └──> or, in the last stage, result to the chunk's owner

One thread does all this. What is queued is bounded by the room that the receiver announces and, over everything, by the
owners' limit of chunks in flight. A higher ``attempt`` of a stream makes its older chunks obsolete wherever they wait. A
chunk that raises, gives what the wire does not carry, or comes too late for its audio is answered with an error,
alone, and the stage lives on: whatever happens, its owner gets an answer. Runs in every stage but capture.
"""

import signal
import time
from collections import OrderedDict
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import zmq

from diart_mp.errors import DamagedAudioError, ProtocolError, StaleAudioError
from diart_mp.messages import AudioRef, FieldValue, Message, Plain, check_fields
from diart_mp.runtime.activity import Activity, activity_file
from diart_mp.runtime.chunks import reason_of, window_of
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.drain import Drain
from diart_mp.runtime.faults import faults_of, strike
from diart_mp.runtime.habits import Habits, check_shapes
from diart_mp.runtime.inline import inline_of
from diart_mp.runtime.order import RESTORE, Orders, state_for
from diart_mp.runtime.replies import CHECKPOINT, ERROR, Replies
from diart_mp.runtime.stage import Chunk, KeyedStage, Stage, work_ahead
from diart_mp.topology import Topology
from diart_mp.transport.link import Receiver, Sender
from diart_mp.transport.ring import RingReader
from diart_mp.transport.waiting import Waiting, is_live

CHECKPOINT_EVERY = 4  # chunks: bounds what a restarted keyed stage has to do again
_LINGER_MS = 2000  # that what a drained stage has passed on may take to leave the host
_SOON_S = 0.002  # within which chunks that are done are passed on; what a multipart costs is paid once for all of them
_MOST_TOGETHER = 32  # chunks
_ANNOUNCE_S = 0.1  # how often room is announced again
_COUNTERS: dict[type[Exception], str] = {StaleAudioError: "stale", DamagedAudioError: "damaged"}
_MAX_STREAMS = 10_000  # of which the newest attempt is remembered


class StageLoop:
    """Ties one stage to its links."""

    def __init__(
        self,
        stage: Stage,
        topology: Topology,
        *,
        replica: int,
        epoch: int,
        control: StageControl,
        context: zmq.Context[zmq.Socket[bytes]],
    ) -> None:
        config, after = topology.stage(stage.name), topology.after(stage.name)
        self._stage, self._control = stage, control
        self._ordered = topology.is_ordered(stage.name)
        self._foreign_after = after is not None and not topology.watched(after)
        self._replaced = 0
        self._replica = replica
        self._rings = RingReader()
        self._batch = 1 if isinstance(stage, KeyedStage) else config.max_batch
        upstream = topology.before(stage.name).endpoints()
        capacity = 2 * config.max_batch
        self._receiver = Receiver(
            context, upstream, stage=stage.name, replica=replica, epoch=epoch, capacity=capacity, guard=control.guard
        )
        # Work is shared among replicas by the room that they have, so each place counts; to a single one, only to have some.
        self._worth = 1 if config.replicas > 1 else max(1, capacity // 4)
        self._sender: Sender | None = None
        if after is not None:
            shards = after.replicas if topology.is_ordered(after.name) else 0
            endpoint = config.endpoint(replica)
            inline = inline_of(topology, stage.name, endpoint, self._rings)
            self._sender = Sender(
                context,
                endpoint,
                stage=stage.name,
                epoch=epoch,
                shards=shards,
                inline=inline,
                receiver=after.name,
                guard=control.guard,
            )
        self._refusals = [each.refusals for each in (self._sender, self._receiver) if each is not None]
        self._replies = Replies(
            context, {topology.results}, stage=stage.name, replica=replica, epoch=epoch, guard=control.guard
        )
        self._queue = Waiting[tuple[Message, int]](lambda item: item[0])  # with the time of arrival, monotonic ns
        self._attempts: OrderedDict[str, int] = OrderedDict()
        self._orders = Orders()
        self._activity = Activity(activity_file(Path(topology.directory), stage.name, replica))
        self._suspects = self._activity.suspects
        self._faults = faults_of(stage.name)
        self._somebody_elses = bool(config.implementation)
        self._habits: Habits | None = None
        self._drain = Drain()
        self._stopping = False

    def run(self) -> None:
        """Until the supervisor or a signal says stop."""
        signal.signal(signal.SIGTERM, self._on_signal)
        self._drain.install()
        poller = self._poller()
        self._receiver.announce()
        self._control.ready()
        if self._somebody_elses:
            self._habits = Habits(self._stage.name)
        announced, patience_s = time.monotonic(), 0.0
        while not self._stopping:
            happened = dict(poller.poll(0 if self._queue else round(1000 * patience_s)))
            patience_s = 0.0 if happened or self._queue else min(_ANNOUNCE_S, work_ahead(self._stage))
            if self._control.socket in happened:
                self._obey()
            if self._sender is not None:
                if self._sender.socket in happened:
                    self._sender.receive()
                self._watch_foreign(self._sender)
            arrived = self._arrive(happened)
            self._control.progress.queue = len(self._queue)
            worked = self._work()
            if worked and self._habits is not None:
                self._tell_habits(self._habits)
            self._leave_when_done(busy=arrived or worked)
            if time.monotonic() - announced > _ANNOUNCE_S:
                self._receiver.announce()
                self._control.tell_refusals(*self._refusals)
                announced = time.monotonic()
                self._forget_abandoned()
            elif arrived or worked:
                self._receiver.announce(1 if self._queue.expects_live else self._worth)

    def close(self) -> None:
        """Close all sockets; idempotent."""
        self._receiver.close()
        if self._sender is not None:
            self._sender.close()
        self._replies.close()
        self._activity.close()
        if self._habits is not None:
            self._habits.close()

    def _leave_when_done(self, *, busy: bool) -> None:
        """Asked to drain: take nothing new, and end once all that was under way has come, is done and passed on."""
        self._receiver.leaving = self._drain.asked
        waiting = self._sender is not None and self._sender.statistics().waiting > 0
        if self._drain.over(busy=busy or waiting):
            for socket in (*self._replies.sockets, *([self._sender.socket] if self._sender is not None else [])):
                socket.linger = _LINGER_MS
            self._stopping = True

    def _on_signal(self, *_: object) -> None:
        self._stopping = True

    def _poller(self) -> zmq.Poller:
        poller = zmq.Poller()
        sockets = [*self._receiver.sockets, self._control.socket, self._sender and self._sender.socket]
        for socket in sockets:
            if socket is not None:
                poller.register(socket, zmq.POLLIN)
        return poller

    def _watch_foreign(self, sender: Sender) -> None:
        """Nobody watches a foreign program: its own neighbour tells that it was started again."""
        statistics = sender.statistics()
        self._control.progress.waiting = statistics.waiting
        if self._foreign_after and statistics.replaced > self._replaced:
            self._replaced = statistics.replaced
            self._control.send("event", event="replaced")

    def _tell_habits(self, habits: Habits) -> None:
        for text in habits.found():
            self._control.send("event", event="note", stream="", text=text)

    def _obey(self) -> None:
        for command in self._control.commands():
            if command["kind"] == "stop":
                self._stopping = True

    def _arrive(self, happened: Container[object]) -> bool:
        """Queue what has come, in order if the stage is keyed."""
        messages = self._receiver.receive(happened)
        now = time.monotonic_ns()
        for message in messages:
            due = self._admit(message)
            for each in due:
                self._queue.append((each, now))
        announcements = self._sender.statistics().refused if self._sender is not None else 0
        self._control.progress.counters["refused"] = self._receiver.refused + announcements
        return bool(messages)

    def _admit(self, message: Message) -> list[Message]:
        """The messages that may be processed now that ``message`` is here; obsolete ones free their places."""
        newest = self._attempts.get(message.stream, -1)
        if message.attempt < newest or message.kind not in ("chunk", "end"):
            self._receiver.done(1)
            return []
        if message.attempt > newest:
            self._forget_older(message.stream, message.attempt)
        if not self._ordered:
            return [message]
        # What waits for an earlier chunk holds no place: the one it waits for must be able to come.
        self._receiver.done(1)
        return self._orders.put(message)

    def _forget_older(self, stream: str, attempt: int) -> None:
        self._attempts[stream] = attempt
        self._attempts.move_to_end(stream)
        if len(self._attempts) > _MAX_STREAMS:
            self._attempts.popitem(last=False)
        dropped = self._queue.drop(lambda item: item[0].stream == stream and item[0].attempt < attempt)
        if not self._ordered:
            self._receiver.done(dropped)
        if self._sender is not None:
            self._sender.forget(lambda message: message.stream == stream and message.attempt < attempt)

    def _work(self) -> bool:
        """Process what is queued, a batch or, if they take no time, some, and pass on together what comes of it."""
        passed: list[Message] = []
        due = time.monotonic() + _SOON_S
        while len(passed) < _MOST_TOGETHER and (batch := self._next_batch(passed)):
            passed += self._process_batch(batch)
            if time.monotonic() > due:
                break
        if self._sender is None:
            self._count("unknown_owner", self._replies.send(passed))
        elif passed:
            self._sender.send(*passed)
        return bool(passed or self._queue)

    def _next_batch(self, passed: list[Message]) -> list[tuple[Message, int]]:
        """Take a batch from the queue; ends of streams pass between batches, and recordings go singly while live chunks come."""
        batch: list[tuple[Message, int]] = []
        while self._queue and len(batch) < self._batch:
            message, _ = self._queue.first
            if message.kind == "end":
                if batch:
                    break
                passed.append(self._end(self._queue.pop()[0]))
            elif batch and not self._may_join(message, batch[0][0]):
                break
            else:
                batch.append(self._queue.pop())
        return batch

    def _process_batch(self, batch: Sequence[tuple[Message, int]]) -> list[Message]:
        """The messages of one batch with their new fields."""
        progress = self._control.progress
        progress.busy_since = time.monotonic()
        self._activity.begin([(message.stream, message.seq) for message, _ in batch if ERROR not in message.fields])
        started = time.monotonic_ns()
        answers = self._answers([message for message, _ in batch])
        passed = []
        for (message, arrived), fields in zip(batch, answers, strict=True):
            trace = (self._stage.name, self._replica, arrived, started, time.monotonic_ns(), len(batch))
            gathered = {**message.fields, **fields, **self._checkpoint(message)}
            passed.append(message.changed(gathered, trace=(*message.trace, trace)))
        self._activity.end()
        progress.compute_s += progress.busy_s()
        progress.busy_since = None
        progress.done += len(batch)
        progress.counters["model_ms"] = round(1000 * self._stage.model_s)
        self._free(len(batch))
        return passed

    def _may_join(self, message: Message, first: Message) -> bool:
        """Windows of different lengths are no batch, what an earlier process may have died of is done alone, and so is what
        a live chunk that comes meanwhile would have to wait for.
        """
        alone = (message.stream, message.seq) in self._suspects or (first.stream, first.seq) in self._suspects
        if self._queue.expects_live and not (is_live(message) and is_live(first)):
            return False
        return not alone and window_of(message) == window_of(first)

    def _count(self, what: str, more: int = 1) -> None:
        counters = self._control.progress.counters
        if more:
            counters[what] = counters.get(what, 0) + more

    def _free(self, count: int) -> None:
        if not self._ordered:
            self._receiver.done(count)

    def _answers(self, messages: Sequence[Message]) -> list[Mapping[str, FieldValue]]:
        """New fields per message; where a batch fails, each message is tried alone."""
        try:
            return list(self._process(messages))
        except Exception as error:  # noqa: BLE001  # the boundary to a stage's own code: its failure is an answer
            if len(messages) == 1:
                self._count(_COUNTERS.get(type(error), "errors"))
                return [{ERROR: Plain(f"{self._stage.name}: {reason_of(error)}")}]
        return [self._answers([message])[0] for message in messages]

    def _process(self, messages: Sequence[Message]) -> Sequence[Mapping[str, FieldValue]]:
        """What the stage says to each message; a chunk that failed in an earlier stage passes untouched."""
        stage, first = self._stage, messages[0]
        if isinstance(stage, KeyedStage) and (first.seq == 0 or RESTORE in first.fields):
            stage.restore(first.stream, state_for(stage.name, first))
        sound = [message for message in messages if ERROR not in message.fields]
        strike(self._faults, [message.seq for message in sound])
        given = stage.process([Chunk(message, self._rings) for message in sound]) if sound else []
        if len(given) != len(sound):
            msg = f"{stage.name} gave {len(given)} answers to {len(sound)} chunks; it must answer each one"
            raise ProtocolError(msg)
        self._check_audio(sound)
        each = iter(given)
        answers = [{} if ERROR in message.fields else next(each) for message in messages]
        for message, fields in zip(messages, answers, strict=True):
            check_fields(message, fields)  # what the wire does not carry fails here, not in a later stage
            check_shapes(message, fields)
        return answers

    def _checkpoint(self, message: Message) -> Mapping[str, FieldValue]:
        """The state of a keyed stage where it is due, also behind a chunk that failed: the next ones build on it."""
        stage = self._stage
        if not isinstance(stage, KeyedStage) or message.seq % CHECKPOINT_EVERY != CHECKPOINT_EVERY - 1:
            return {}
        try:
            return {CHECKPOINT + stage.name: np.frombuffer(stage.checkpoint(message.stream), np.uint8)}
        except Exception as error:  # noqa: BLE001  # the same boundary; the owner keeps the checkpoint that it has
            self._count("errors")
            text = f"{stage.name} has no checkpoint at chunk {message.seq}: {reason_of(error)}"
            self._control.send("event", event="note", stream=message.stream, text=text)
            return {}

    def _check_audio(self, messages: Sequence[Message]) -> None:
        """Make sure that what was just processed had not been overwritten meanwhile."""
        for message in messages:
            audio = message.fields.get("audio")
            if isinstance(audio, AudioRef) and not self._rings.is_valid(audio):
                msg = f"audio of chunk {message.seq} was overwritten while {self._stage.name} used it"
                raise StaleAudioError(msg)

    def _end(self, message: Message) -> Message:
        """A stream is over: drop what is remembered of it, and pass it on with the stage's last word."""
        if isinstance(self._stage, KeyedStage):
            message = message.with_fields(self._end_of(self._stage, message))
        if self._ordered:
            self._orders.end(message.stream)
            self._attempts[message.stream] = message.attempt + 1  # what still comes of this attempt comes too late
        else:
            self._attempts.pop(message.stream, None)
        ring = message.fields.get("ring")
        if isinstance(ring, Plain) and isinstance(ring.value, str):
            self._rings.forget(ring.value)
        self._free(1)
        return message

    def _forget_abandoned(self) -> None:
        """A stage that outlives runs must not remember the streams of those that ended without a word."""
        for stream in self._orders.abandoned() if not self._queue else ():
            if isinstance(self._stage, KeyedStage):
                with suppress(Exception):  # the same boundary; there is nobody to tell
                    self._stage.forget(stream)

    def _end_of(self, stage: KeyedStage, message: Message) -> Mapping[str, FieldValue]:
        """A keyed stage's last word on a stream."""
        fields: Mapping[str, FieldValue] = {}
        try:
            if RESTORE in message.fields:  # all chunks had been answered when the stage was started anew
                stage.restore(message.stream, state_for(stage.name, message))
            try:
                said = stage.finish(Chunk(message, self._rings))
                check_fields(message, said)
                fields = said
            finally:
                stage.forget(message.stream)
        except Exception as error:  # noqa: BLE001  # the same boundary; the stream is over all the same
            self._count("errors")
            self._control.send("event", event="note", stream=message.stream, text=f"{stage.name}: {reason_of(error)}")
        return fields
