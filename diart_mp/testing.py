"""For those who write stages: what the runtime relies on, asked of a stage before it sits in a pipeline.

    problems = check_stage("my_package:Denoise", chunks(count=12))

The stage runs in a process of its own, since a wrong one may hang, fork or die. A stage is right if there are no problems, one line each.
Runs in tests, and with ``diart-mp`` not at all.
"""

import contextlib
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
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader

_FRAMES, _SPEAKERS, _DIMENSION = 293, 3, 16  # of the fields of made-up chunks
_SEED = 1

Answers = Sequence[Mapping[str, FieldValue]]


def chunks(*, count: int = 12, stream: str = "stream", settings: Settings | None = None) -> list[Message]:
    """Made-up chunks of one stream with all fields of the usual chain: noise as audio, scores, embeddings, turns."""
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
    region = [seq * settings.step, (seq + 1) * settings.step]
    fields: dict[str, FieldValue] = {
        "settings": Plain(settings.to_map()),
        "audio": generator.normal(0, 0.1, settings.duration).astype(np.float32),
        "segmentation": generator.random((_FRAMES, _SPEAKERS), np.float32),
        "embeddings": generator.normal(size=(_SPEAKERS, _DIMENSION)).astype(np.float32),
        "labels": np.arange(_SPEAKERS, dtype=np.int32),
        "turns": Plain({"region": region, "turns": [[*region, "speaker0"]]}),
    }
    return Message(kind="chunk", stream=stream, seq=seq, start=seq * settings.step, rate=settings.rate, fields=fields)


class _Examination:
    """One stage under questions; ``found`` gets each problem."""

    def __init__(self, there: Connection, config: StageConfig) -> None:
        self._there, self._name = there, config.implementation
        self._config = config
        self.stage = self._make()

    def doing(self, text: str) -> None:
        self._there.send(("doing", text))

    def found(self, problem: str) -> None:
        self._there.send(("problem", f"{self._name} {problem}"))

    def answers(self, stage: Stage, messages: Sequence[Message], when: str) -> Answers | None:
        """What the stage says, checked for all that one call can show; None where there is nothing to go on with."""
        self.doing(f"it processed {when}")
        before = [bytes(b"".join(map(bytes, encode(message)[1:]))) for message in messages]
        rings = RingReader()
        writable = [_writable(message) for message in messages]
        given = [Chunk(message, rings) for message in writable]
        try:
            answers = list(stage.process(given))
        except Exception as error:  # noqa: BLE001  # somebody else's code, and finding this out is what we are for
            self.found(f"raises on {when}: {type(error).__name__}: {' '.join(str(error).split())}")
            return None
        after = [bytes(b"".join(map(bytes, encode(message)[1:]))) for message in writable]
        if before != after:
            self.found(f"changes the arrays of its chunks ({when}); copy what is to be changed")
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
            if isinstance(value, np.ndarray) and isinstance(old, np.ndarray) and value.ndim != old.ndim:
                self.found(f"gives {name} of shape {value.shape} in place of {old.shape} (chunk {message.seq})")
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
        try:
            examination = _Examination(there, config)
            children = _children()
            if isinstance(examination.stage, KeyedStage):
                _examine_keyed(examination, examination.stage, messages)
            else:
                _examine_stateless(examination, messages)
            if _children() - children:
                examination.found("starts processes while it works; a killed stage would leave them behind")
        except DiartMpError as error:
            there.send(("problem", f"{config.implementation} cannot be used: {error}"))
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
    """Checkpoint and restore, here and in another process, after every chunk: equals no restore."""
    stage.restore(messages[0].stream, None)
    expected, checkpoints = [], []
    for message in messages:
        answers = examination.answers(stage, [message], f"chunk {message.seq}")
        if answers is None:
            return
        expected.append(answers[0])
        checkpoints.append(stage.checkpoint(message.stream))
    for place, checkpoint in enumerate(checkpoints[:-1]):
        for other in (stage, examination.another()):
            other.restore(messages[0].stream, checkpoint)
            for later in range(place + 1, len(messages)):
                answers = examination.answers(other, [messages[later]], f"chunk {later} after a restore")
                if answers is None or not _same(messages[later], answers[0], expected[later]):
                    examination.found(f"says something else of chunk {later} after a restore to chunk {place}")
                    return
    stage.forget(messages[0].stream)


def _same(message: Message, one: Mapping[str, FieldValue], other: Mapping[str, FieldValue]) -> bool:
    """Whether two answers are the same bytes on the wire."""
    first, second = (encode(replace(message, fields=dict(sorted(each.items())))) for each in (one, other))
    return [bytes(frame) for frame in first] == [bytes(frame) for frame in second]


def _writable(message: Message) -> Message:
    fields = {name: value.copy() if isinstance(value, np.ndarray) else value for name, value in message.fields.items()}
    return replace(message, fields=fields)


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
