"""One stream in the hands of its owner: its audio (``runtime.intake``), account of what is in flight, journal, outputs.

Knows nothing of sockets: ``runtime.owner`` asks it for messages to send and hands it the results. The order on disk is always
journal line, outputs, checkpoint; a new process that finds these files goes on where they end. Runs in owners.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from diart_mp.audio.source import Source
from diart_mp.audio.windows import Window
from diart_mp.config import Settings
from diart_mp.errors import AudioError, ProtocolError
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.outputs.events import update_from_dict, update_to_dict
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime.answers import revision_from_plain, turns_from_plain
from diart_mp.runtime.chunks import BUNDLES
from diart_mp.runtime.intake import Intake, Report, remove_ring
from diart_mp.runtime.journal import Journal, Position
from diart_mp.runtime.ledger import Checkpoint, Ledger, Sent
from diart_mp.runtime.loop import CHECKPOINT_EVERY
from diart_mp.runtime.order import RESTORE
from diart_mp.runtime.pace import Pace
from diart_mp.runtime.replies import CHECKPOINT, ERROR, NAME
from diart_mp.transport.ring import PREFIX
from diart_mp.transport.waiting import LIVE
from diart_mp.turns import Revision, Turn, Update

_SPARE_WINDOWS = (
    4 + CHECKPOINT_EVERY
)  # steps of room in the ring beyond what is in flight; the older checkpoint needs them
_SAVE_S = 0.2  # of work on a recording that a new process may have to do again
_GROUPS = 4  # in which the chunks of a recording that may be in flight are sent
_MAX_TEXT = 1000  # characters of an error


class OwnedStream:
    """Drives one stream. ``stream_id`` names it on the wire, ``source.name`` in outputs.

    ``report`` takes events for the user: a kind and values. Raises AudioError, OutputError.
    """

    def __init__(
        self,
        stream_id: str,
        source: Source,
        settings: Settings,
        *,
        directory: Path,
        epoch: int,
        max_in_flight: int,
        reply_to: str,
        open_outputs: Callable[[bool], OutputSet],
        report: Report,
    ) -> None:
        self.id, self.name = stream_id, source.name
        self._settings = settings
        self._settings_field = Plain(settings.to_map())
        self._reply_to, self.report, self._generation = reply_to, report, epoch
        self._pace = Pace(settings)
        self._said = 0  # end of the last result's region, samples
        with ExitStack() as undo:  # whatever is not to be had: the owner goes on with its other streams
            undo.callback(source.close)
            self._journal = Journal(directory, stream_id)
            undo.callback(self._journal.close if self._journal.resumed else self._journal.remove)
            position = self._found(again=not source.live and source.fileno() is None)
            checkpoint, done = position.checkpoint if position else Checkpoint(), self._journal.done
            self._ledger = Ledger(max_in_flight=max_in_flight, epoch=epoch, checkpoint=checkpoint, done=done)
            self._intake = Intake(
                source,
                settings,
                ring=f"{PREFIX}{stream_id}-{epoch}",
                generation=epoch,
                windows=max_in_flight + CHECKPOINT_EVERY + _SPARE_WINDOWS,
                position=position,
                report=report,
            )
            undo.callback(self._intake.close)
            self._plan = self._intake.plan
            # They begin anew, with what the journal has: not before all else is there.
            self._outputs = open_outputs(self._journal.resumed)
            undo.callback(self._outputs.close)
            self._write_again()
            self._save()
            undo.pop_all()
        if position is not None:  # only now: until the new ring is on record, whoever comes next needs the old one
            remove_ring(position.ring)
        self._aside: dict[int, str] = {}
        self.complete = False

    @property
    def live(self) -> bool:
        """Whether the source cannot wait."""
        return self._intake.live

    @property
    def waiting(self) -> bool:
        """Whether chunks are unanswered."""
        return self._ledger.in_flight > 0

    @property
    def answered(self) -> int:
        """The last chunk that the present attempt has answered."""
        return self._ledger.answered

    @property
    def results(self) -> int:
        """How many chunks have been answered and written."""
        return self._ledger.acknowledged + 1

    @property
    def seconds(self) -> float:
        """Seconds of audio captured so far."""
        return self._plan.samples / self._settings.rate

    @property
    def duration(self) -> float | None:
        """Length of the whole stream in seconds, where it is known."""
        return self._intake.duration

    @property
    def listens(self) -> bool:
        """Whether new audio is wanted now: a pipe that can wait is left alone while enough is in flight."""
        return not self._intake.ended and (self.live or (self._wants_audio() and not self.rests))

    @property
    def rests(self) -> bool:
        """Whether to wait until there is room for more: chunks of a recording go several at a time, which costs less."""
        room = self._ledger.max_in_flight - self._ledger.in_flight
        return not self.live and room < max(1, self._ledger.max_in_flight // _GROUPS)

    def fileno(self) -> int | None:
        """What to poll for new audio; None where there is always some, or no more."""
        return self._intake.fileno()

    def shown(self, seq: int) -> list[dict[str, Any]]:
        """Results after ``seq`` that an earlier process wrote, to be reported again."""
        return [line for line in self._journal.lines if line["seq"] > seq]

    def covers(self, sample: int) -> bool:
        """Whether all windows that end at or before ``sample`` have been answered; that audio must have been captured."""
        start = self._ledger.unanswered_start
        start = self._plan.next if start is None else start
        return self.complete or (
            self._plan.samples >= sample and (start is None or start + self._settings.duration > sample)
        )

    def fill(self) -> bool:
        """Read what is there: all of it from a live source, otherwise only what the next chunk needs. True if any came."""
        progressed = False
        while not self._intake.ended and (self.live or self._wants_audio()):
            if not self._intake.read():
                break
            progressed = True
            if not self._intake.repeatable:
                break
        return progressed

    def end_input(self) -> None:
        """Take no more audio; what is there is still diarized to its end. Idempotent."""
        self._intake.end()

    def next_message(self) -> Message | None:
        """The next chunk, or the end of the stream, if one may be sent now."""
        if self._end_sent or not self._has_room:
            return None
        late = self.live and self._pace.is_behind(self._plan.backlog)
        window = self._plan.take(newest=late, behind=self._pace.windows_behind)
        if window is not None:
            return self._chunk(self._add(window))
        if not self._plan.finished:
            return None
        if self._ledger.next == 0:
            self._complete()
            return None
        return self._end(self._ledger.add(self._plan.samples, time.monotonic(), end=True))

    def set_aside(self, seq: int, text: str) -> None:
        """Chunk ``seq`` kills whoever works on it: from now on it goes through the chain as an error, untouched."""
        self._aside[seq] = text

    def replay(self) -> list[Message]:
        """Everything after the newest checkpoint, to be sent again after a fault."""
        self._pace.sent_again(time.monotonic())
        return [self._end(sent) if sent.end else self._chunk(sent) for sent in self._ledger.replay()]

    def on_result(self, message: Message) -> Update | None:
        """Write what a result says; None if it is one that is not wanted (any more)."""
        sent = self._ledger.accept(message.seq, message.attempt)
        if sent is None:
            return None
        if sent.end:
            last = None if sent.written else self._last_word(message)
            if last is not None:
                self._write(last)
            self._complete()
            return last
        now = time.monotonic()
        latency_ms = 1000 * (now - sent.captured)
        self._pace.answered(now)
        if sent.written:
            self._keep_checkpoint(message)
            return None
        update = self._update(message, latency_ms)
        self._write(update)
        self._keep_checkpoint(message)
        return update

    def _write(self, update: Update) -> None:
        self._journal.append(update_to_dict(update))
        self._outputs.write(update)

    def close(self) -> None:
        """Stop wherever it is: outputs are stitched up to the last result. Idempotent."""
        with ExitStack() as stack:  # in this order, and each even if one before it fails
            stack.callback(self._intake.close)
            stack.callback(self._journal.close)
            stack.callback(self._outputs.close)
            self.end_input()

    def discard(self) -> None:
        """Close, and leave nothing for another process to go on with: for owners whose streams come and go."""
        self.close()
        self._journal.remove()

    @property
    def _end_sent(self) -> bool:
        newest = self._ledger.newest
        return self.complete or (newest is not None and newest.end)

    @property
    def _has_room(self) -> bool:
        """Whether another chunk may be sent; of a live stream only as many as will be answered soon."""
        return self._ledger.has_room and (not self.live or self._pace.may_send(time.monotonic()))

    def _wants_audio(self) -> bool:
        return self._ledger.has_room and not self._plan.ready

    def _add(self, window: Window) -> Sent:
        """Enter a window into the account; the silence that it needs at the stream's end goes into the ring."""
        rate = self._settings.rate
        end = window.start + self._settings.duration
        captured = self._intake.provide(end)
        if window.skipped:
            self.report("skipped", stream=self.name, seq=self._ledger.next, windows=window.skipped)
        if window.uncovered:
            begin, length = (window.start - window.uncovered) / rate, window.uncovered / rate
            self.report("gap", stream=self.name, start=begin, seconds=length, text="not diarized, overload")
        self._pace.sent(time.monotonic())
        return self._ledger.add(window.start, captured)

    def _chunk(self, sent: Sent) -> Message:
        fields: dict[str, FieldValue] = {
            "audio": self._intake.reference(sent.start),
            "settings": self._settings_field,
            BUNDLES: Plain(value=True),
        }
        if sent.seq in self._aside:
            fields[ERROR] = Plain(self._aside[sent.seq])
        return self._message("chunk", sent, fields)

    def _end(self, sent: Sent) -> Message:
        return self._message("end", sent, {"ring": Plain(self._intake.ring), "settings": self._settings_field})

    def _message(self, kind: str, sent: Sent, fields: dict[str, FieldValue]) -> Message:
        checkpoint = self._ledger.checkpoint
        if self.live:
            fields[LIVE] = Plain(value=True)
        if sent.seq == checkpoint.seq + 1:
            fields[NAME] = Plain(self.name.encode(errors="replace").decode())  # a file name may hold any bytes
        if sent.seq == checkpoint.seq + 1 and sent.seq > 0:
            fields[RESTORE] = Plain(checkpoint.seq)
            for stage, state in checkpoint.states.items():
                fields[f"{RESTORE}.{stage}"] = np.frombuffer(state, np.uint8)
        return Message(
            kind=kind,
            stream=self.id,
            seq=sent.seq,
            start=sent.start,
            origin=self._plan.origin or 0,
            rate=self._settings.rate,
            reply_to=self._reply_to,
            attempt=self._ledger.attempt,
            fields=fields,
            trace=(("capture", 0, round(sent.captured * 1e9), time.monotonic_ns()),),
        )

    def _update(self, message: Message, latency_ms: float) -> Update:
        region, turns, revision = (self._said, self._said), tuple[Turn, ...](), None
        try:
            if ERROR in message.fields:
                raise ProtocolError(str(message.plain(ERROR)))
            region, turns = turns_from_plain(message.plain("turns"))
            revision = _revision_in(message)
        except ProtocolError as error:  # the chunk is answered all the same, and is not sent again
            where = max(0, message.start) / self._settings.rate
            text = f"{self.name}: chunk {message.seq} (from {where:.1f} s) was not diarized: {error}"
            self.report("error", stream=self.name, seq=message.seq, text=text[:_MAX_TEXT])
        self._said = region[1]
        return Update(self.name, message.seq, *region, self._settings.rate, turns, round(latency_ms, 3), revision)

    def _last_word(self, message: Message) -> Update | None:
        """What the stages know better now that all has been heard."""
        try:
            revision = _revision_in(message)
        except ProtocolError as error:
            self.report("note", stream=self.name, text=f"{self.name}: the last revision is lost: {error}"[:_MAX_TEXT])
            return None
        if revision is None:
            return None
        return Update(self.name, message.seq, self._said, self._said, self._settings.rate, (), None, revision)

    def _keep_checkpoint(self, message: Message) -> None:
        if message.seq % CHECKPOINT_EVERY != CHECKPOINT_EVERY - 1:
            return
        states = {
            name.removeprefix(CHECKPOINT): value.tobytes()
            for name, value in message.fields.items()
            if name.startswith(CHECKPOINT) and isinstance(value, np.ndarray)
        }
        if not states.keys() >= self._ledger.checkpoint.states.keys():
            return  # a stage could not say its state: the older checkpoint stays, the chunks after it too
        self._ledger.settle(Checkpoint(message.seq, states))
        if not self._intake.repeatable or time.monotonic() - self._saved_at > _SAVE_S:
            self._save()

    def _save(self) -> None:
        """Write the position down: of audio that can be read again once in a while, of a pipe whenever it has moved."""
        self._journal.save(self._position())
        self._saved_at = time.monotonic()

    def _complete(self) -> None:
        self.complete = True
        self.close()

    def _position(self) -> Position:
        samples, clock = self._intake.clock
        window = self._ledger.oldest_start
        return Position(
            checkpoint=self._ledger.checkpoint,
            origin=self._plan.origin,
            window=self._plan.next if window is None else window,
            ring=self._intake.ring,
            generation=self._generation,
            samples=samples,
            clock=clock,
            sound=self._plan.sound,
        )

    def _write_again(self) -> None:
        """Put what an earlier process has journalled into the outputs."""
        for line in self._journal.lines:
            update = update_from_dict(line, rate=self._settings.rate)
            self._outputs.write(update)
            self._said = update.end

    def _found(self, *, again: bool) -> Position | None:
        """Where an earlier process left the stream; AudioError where it left nothing to go on with and there is no reading it ``again``."""
        position, journal, done = self._journal.load(), self._journal, self._journal.done
        where = f"the journal of {self.name} is damaged from result {done} on (bad memory or disk?)"
        if position is None and journal.begun and not again:
            why = where if journal.damaged else "both checkpoints of it are damaged (bad memory or disk?)"
            msg = f"{self.name} cannot go on after {done} results: {why}"
            raise AudioError(msg)
        if journal.damaged:
            self.report("note", stream=self.name, text=f"{where}; what follows is computed again")
        return position


def _revision_in(message: Message) -> Revision | None:
    """What a result takes back of earlier ones, if anything."""
    return revision_from_plain(message.plain("revision")) if "revision" in message.fields else None
