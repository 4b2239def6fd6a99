"""For those who write stages, sources and outputs: what the runtime relies on, asked before they sit in a pipeline.

    problems = check_stage("my_package:Denoise", chunks(count=12))

``check_source`` and ``check_output`` ask the others; fast models, and the humming that they understand, are from ``testing_models``. A
stage runs in a process of its own, since a wrong one may hang, fork or die. A stage is right if there are no problems, one line each.
Runs in tests, and with ``diart-mp`` not at all.
"""

import contextlib
import copy
import multiprocessing
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from diart_mp.config import Settings
from diart_mp.errors import DiartMpError
from diart_mp.messages import FieldValue, Message, Plain, check_fields, encode
from diart_mp.runtime.chain import make_stage, stage_class
from diart_mp.runtime.stage import Chunk, KeyedStage, Stage
from diart_mp.testing_models import TONE_MODELS, ToneActivity, ToneEmbedding, ToneSegmentation, conversation
from diart_mp.testing_outputs import check_output, updates
from diart_mp.testing_sources import check_source
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader

__all__ = [
    "TONE_MODELS",
    "ToneActivity",
    "ToneEmbedding",
    "ToneSegmentation",
    "check_output",
    "check_source",
    "check_stage",
    "chunks",
    "conversation",
    "updates",
]

_FRAMES, _SPEAKERS, _DIMENSION = 293, 3, 16  # of the fields of made-up chunks
_SEED = 1
_SILENT_EVERY = 4  # so many chunks, of which the last one holds nothing at all

Answers = Sequence[Mapping[str, FieldValue]]


def chunks(*, count: int = 12, stream: str = "stream", settings: Settings | None = None) -> list[Message]:
    """Made-up chunks of one stream with all fields of the usual chain: noise as audio, scores, embeddings, turns.

    As in a run, some are silent (no turns, embeddings of NaN), the first one has the stream's ``name``, and with ``start = "early"``
    of the settings windows begin before the stream.
    """
    settings = settings or Settings()
    generator = np.random.default_rng(_SEED)
    return [_chunk(seq, stream, settings, generator) for seq in range(count)]


def check_stage(
    reference: str, messages: Sequence[Message], *, config: StageConfig | None = None, timeout_s: float = 60.0
) -> list[str]:
    """What is wrong with the stage ``module:Class`` on ``messages`` of one stream; empty if nothing is.

    ``timeout_s`` is for everything together, loading included: a stage that takes longer counts as hanging.
    """
    config = config or StageConfig(name="under-test", keyed=True)
    config = replace(config, implementation=reference)
    here, there = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_examine, args=(there, config, list(messages)))
    process.start()
    there.close()
    doing, problems = "being loaded", list[str]()
    try:
        while here.poll(timeout_s):
            kind, text = here.recv()
            if kind == "done":
                return problems
            if kind == "problem":
                problems.append(text)
            else:
                doing = text
        problems.append(f"{reference} hangs: no answer within {timeout_s:g} s while {doing}")
    except EOFError:
        process.join()
        problems.append(f"{reference} ended its process (exit code {process.exitcode}) while {doing}")
    finally:
        process.kill()
        process.join()
    return problems


def _chunk(seq: int, stream: str, settings: Settings, generator: np.random.Generator) -> Message:
    origin = settings.step - settings.duration if settings.start == "early" else 0
    region = [seq * settings.step, (seq + 1) * settings.step]
    silent = seq % _SILENT_EVERY == _SILENT_EVERY - 1
    loud = np.float32(0 if silent else 1)
    embeddings = generator.normal(size=(_SPEAKERS, _DIMENSION)).astype(np.float32)
    fields: dict[str, FieldValue] = {
        "settings": Plain(settings.to_map()),
        "audio": loud * generator.normal(0, 0.1, settings.duration).astype(np.float32),
        "segmentation": loud * generator.random((_FRAMES, _SPEAKERS), np.float32),
        "embeddings": np.full_like(embeddings, np.nan) if silent else embeddings,
        "labels": np.full(_SPEAKERS, -1, np.int32) if silent else np.arange(_SPEAKERS, dtype=np.int32),
        "turns": Plain({"region": region, "turns": [] if silent else [[*region, "speaker0"]]}),
    }
    fields |= {"silent": Plain(value=True)} if silent else {}
    fields |= {"name": Plain(stream)} if seq == 0 else {}
    start = origin + seq * settings.step
    return Message(kind="chunk", stream=stream, seq=seq, start=start, origin=origin, rate=settings.rate, fields=fields)


class _Examination:
    """One stage under questions; ``found`` gets each problem."""

    def __init__(self, there: Connection, config: StageConfig) -> None:
        self._there, self._name = there, config.implementation
        self._config = config
        self.now = ""  # what the stage does
        self.stage = self._make()

    def doing(self, text: str) -> None:
        self.now = text
        self._there.send(("doing", f"it {text}"))

    def found(self, problem: str) -> None:
        self._there.send(("problem", f"{self._name} {problem}"))

    def answers(self, stage: Stage, messages: Sequence[Message], when: str) -> Answers | None:
        """What the stage says, checked for all that one call can show; None where there is nothing to go on with."""
        self.doing(f"processed {when}")
        rings = RingReader()
        own = [_own_copy(message) for message in messages]
        try:
            answers = list(stage.process([Chunk(message, rings) for message in own]))
        except Exception as error:  # noqa: BLE001  # somebody else's code, and finding this out is what we are for
            self.found(f"raises on {when}: {type(error).__name__}: {' '.join(str(error).split())}")
            return None
        for message, used in zip(messages, own, strict=True):
            changed = [name for name in message.fields if not _same(message, _only(message, name), _only(used, name))]
            if changed:
                self.found(f"changes {', '.join(changed)} of its chunks ({when}); copy what is to be changed")
                break
        if len(answers) != len(messages):
            self.found(f"gave {len(answers)} answers to {len(messages)} chunks ({when}); each chunk gets exactly one")
            return None
        return answers if all(self._sound(*pair) for pair in zip(messages, answers, strict=True)) else None

    def _sound(self, message: Message, answer: Any) -> bool:
        if not isinstance(answer, Mapping):
            self.found(f"answers with a {type(answer).__name__}, not a map of fields (chunk {message.seq})")
            return False
        try:
            check_fields(message, answer)
        except (DiartMpError, TypeError, ValueError, AttributeError) as error:
            self.found(f"answers with what cannot travel (chunk {message.seq}): {error}")
            return False
        wrong = [name for name in answer if self.stage.produces and name not in self.stage.produces]
        if wrong:
            self.found(f"gives {', '.join(wrong)}, which its 'produces' does not name (chunk {message.seq})")
        for name, value in answer.items():
            old = message.fields.get(name)
            if not (isinstance(value, np.ndarray) and isinstance(old, np.ndarray)):
                continue
            if value.ndim != old.ndim:
                self.found(f"gives {name} of shape {value.shape} in place of {old.shape} (chunk {message.seq})")
            if np.isfinite(old).all() and not np.isfinite(value).all():
                self.found(f"gives {name} with numbers that are not finite (chunk {message.seq})")
        return True

    def _make(self) -> Stage:
        kind = stage_class(self._config)
        stage = make_stage(replace(self._config, keyed=True), kind)
        stage.open()
        return stage

    def another(self) -> Any:
        """The same in another process, as far as a stage may know."""
        return self._make()


def _examine(there: Connection, config: StageConfig, messages: list[Message]) -> None:
    """The process of the stage under test."""
    with _output() as printed:
        children = _children()
        examination = None
        try:
            examination = _Examination(there, config)
            if isinstance(examination.stage, KeyedStage):
                _examine_keyed(examination, examination.stage, messages)
            else:
                _examine_stateless(examination, messages)
            if _children() - children:
                examination.found("starts processes, which a killed stage would leave behind")
        except DiartMpError as error:
            there.send(("problem", f"{config.implementation} cannot be used: {error}"))
        except Exception as error:  # noqa: BLE001  # somebody else's code: what process() raises is told by itself
            where = "is loaded" if examination is None else examination.now
            text = " ".join(str(error).split())
            there.send(("problem", f"{config.implementation} raises while it {where}: {type(error).__name__}: {text}"))
        said = printed()
    if said:
        there.send(("problem", f"{config.implementation} prints to standard output: {said[:80]!r}"))
    there.send(("done", ""))


def _examine_stateless(examination: _Examination, messages: Sequence[Message]) -> None:
    alone = [examination.answers(examination.stage, [each], f"chunk {each.seq}") for each in messages]
    together = examination.answers(examination.stage, messages, "a batch")
    back = examination.answers(examination.stage, messages[::-1], "chunks in another order, again")
    if together is None or back is None or any(each is None for each in alone):
        return
    for place, message in enumerate(messages):
        first = alone[place]
        if first is None or not _same(message, first[0], together[place]):
            examination.found(f"says something else of chunk {message.seq} in a batch than alone")
            return
        if not _same(message, together[place], back[-1 - place]):
            examination.found(
                f"says something else of chunk {message.seq} when it comes again; a stage remembers nothing"
            )
            return


def _examine_keyed(examination: _Examination, stage: KeyedStage, messages: Sequence[Message]) -> None:
    """Streams do not mix; checkpoint and restore, here and in another process, after every chunk, equals no restore, to the end."""
    whole = _whole(examination, stage, messages)
    if whole is None:
        return
    expected, checkpoints = whole
    last = _end_of(examination, stage, messages)
    for place, checkpoint in enumerate(checkpoints):
        for other in (stage, examination.another()):
            _restore(examination, other, messages[place].stream, checkpoint, f"chunk {place}")
            for later in range(place + 1, len(messages)):
                answers = examination.answers(other, [messages[later]], f"chunk {later} after a restore")
                if answers is None or not _same(messages[later], answers[0], expected[later]):
                    examination.found(f"says something else of chunk {later} after a restore to chunk {place}")
                    return
            if not _same(messages[-1], _end_of(examination, other, messages), last):
                examination.found(f"says something else at the end of a stream after a restore to chunk {place}")
                return
    _examine_two_streams(examination, stage, messages)


def _whole(
    examination: _Examination, stage: KeyedStage, messages: Sequence[Message]
) -> tuple[list[Mapping[str, FieldValue]], list[bytes]] | None:
    """What the stage says of a whole stream, and its checkpoints; None where there is nothing to go on with."""
    expected, checkpoints = list[Mapping[str, FieldValue]](), list[bytes]()
    _restore(examination, stage, messages[0].stream, None, "the beginning")
    for message in messages:
        answers = examination.answers(stage, [message], f"chunk {message.seq}")
        if answers is None:
            return None
        expected.append(answers[0])
        examination.doing(f"was asked for a checkpoint after chunk {message.seq}")
        checkpoint = stage.checkpoint(message.stream)
        if not isinstance(checkpoint, bytes):
            examination.found(f"gives a checkpoint that is a {type(checkpoint).__name__}, not bytes")
            return None
        checkpoints.append(checkpoint)
    return expected, checkpoints


def _examine_two_streams(examination: _Examination, stage: KeyedStage, messages: Sequence[Message]) -> None:
    """Two streams in turn, one of them backwards, get what each gets alone."""
    moved = [
        replace(each, stream=f"{each.stream}-2", fields=_of(messages, place)) for place, each in enumerate(messages)
    ]
    alone = [_whole(examination, stage, each) for each in (messages, moved)]
    if alone[0] is None or alone[1] is None:
        return
    for each in (messages, moved):
        _restore(examination, stage, each[0].stream, None, "the beginning")
    for place, pair in enumerate(zip(messages, moved, strict=True)):
        for message, (expected, _) in zip(pair, (alone[0], alone[1]), strict=True):
            answers = examination.answers(stage, [message], f"chunk {place} of two streams")
            if answers is None or not _same(message, answers[0], expected[place]):
                examination.found(
                    f"mixes up streams: of chunk {place} it says something else where there are two of them"
                )
                return
    for each in (messages, moved):
        stage.forget(each[0].stream)


def _of(messages: Sequence[Message], place: int) -> Mapping[str, FieldValue]:
    """Fields for another stream: those of the chunk as far from the end, in which the name stays where it belongs."""
    fields = {name: value for name, value in messages[-1 - place].fields.items() if name != "name"}
    return fields | ({"name": messages[0].fields["name"]} if place == 0 and messages[0].fields.get("name") else {})


def _restore(examination: _Examination, stage: KeyedStage, stream: str, checkpoint: bytes | None, where: str) -> None:
    examination.doing(f"was restored to {where}")
    stage.restore(stream, checkpoint)


def _end_of(examination: _Examination, stage: KeyedStage, messages: Sequence[Message]) -> Mapping[str, FieldValue]:
    """The last word of a stage on a stream, which it forgets then."""
    last = messages[-1]
    end = replace(
        last,
        kind="end",
        seq=last.seq + 1,
        start=last.start + Settings.from_map(last.plain("settings")).duration,
        fields={"settings": last.fields["settings"]},
    )
    examination.doing("was told that the stream is over")
    said = stage.finish(Chunk(end, RingReader()))
    check_fields(end, said)
    stage.forget(last.stream)
    return said


def _same(message: Message, one: Mapping[str, FieldValue], other: Mapping[str, FieldValue]) -> bool:
    """Whether two answers are the same bytes on the wire."""
    first, second = (encode(replace(message, fields=dict(sorted(each.items())))) for each in (one, other))
    return [bytes(frame) for frame in first] == [bytes(frame) for frame in second]


def _only(message: Message, name: str) -> Mapping[str, FieldValue]:
    return {name: message.fields[name]}


def _own_copy(message: Message) -> Message:
    """A chunk that a stage may spoil: in a run its arrays are read-only, and nobody looks at its plain values."""
    return replace(message, fields=copy.deepcopy(dict(message.fields)))


def _children() -> set[str]:
    tasks = Path("/proc/self/task")
    return (
        {child for task in tasks.iterdir() for child in (task / "children").read_text().split()}
        if tasks.exists()
        else set()
    )


@contextlib.contextmanager
def _output() -> Any:
    """Catch what is written to file descriptor 1, by whatever means."""
    with tempfile.TemporaryFile() as file:
        saved = os.dup(1)
        os.dup2(file.fileno(), 1)

        def printed() -> str:
            import sys

            sys.stdout.flush()
            return os.pread(file.fileno(), 1 << 16, 0).decode(errors="replace")

        try:
            yield printed
        finally:
            os.dup2(saved, 1)
            os.close(saved)
