"""Stages that are wrong, each in one way, for the conformance suite and for runs."""

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, KeyedStage, Stage
from diart_mp.topology import StageConfig

Answers = Sequence[Mapping[str, FieldValue]]


class Right(Stage):
    """Nothing is wrong with it."""

    consumes = ("segmentation",)
    produces = ("segmentation",)

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        return [{"segmentation": np.minimum(1, 1.1 * chunk.array("segmentation"))} for chunk in chunks]


class Raises(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        msg = "out of\npaper"
        raise RuntimeError(msg)


class Hangs(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        time.sleep(3600)
        return []


class Twice(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        return [each for each in super().process(chunks) for _ in range(2)]


class Never(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        return []


class Shape(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        return [{"segmentation": np.zeros(7, np.float32)} for _ in chunks]


class Mutates(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        for chunk in chunks:
            scores = chunk.array("segmentation")
            scores *= 0.5
        return super().process(chunks)


class EmptiesItsCopy(Right):
    """Plain values are copies, so this harms nobody."""

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        for chunk in chunks:
            chunk.value("turns")["turns"].clear()
        return super().process(chunks)


class ForksAtOnce(Right):
    def open(self) -> None:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)


class Deaf(Right):
    """Has never heard silence."""

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        return [{"segmentation": scores / scores.max()} for scores in (chunk.array("segmentation") for chunk in chunks)]


class Unloadable(Right):
    def open(self) -> None:
        msg = "no such\nfile"
        raise OSError(msg)


class Forks(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        if os.fork() == 0:
            time.sleep(3)
            os._exit(0)
        return super().process(chunks)


class Prints(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        print("here I am")  # noqa: T201  # that is what is wrong with it
        return super().process(chunks)


class Dies(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        os._exit(7)


class Once(Right):
    """Wrong at one chunk alone: option ``kind`` names the class above, ``at`` the chunk."""

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        wrong, at = globals()[self.config.options["kind"]], int(self.config.options["at"])
        return [
            answer
            for chunk in chunks
            for answer in (wrong(self.config).process([chunk]) if chunk.seq == at else Right.process(self, [chunk]))
        ]


class Remembers(Right):
    def process(self, chunks: Sequence[Chunk]) -> Answers:
        self.count = getattr(self, "count", 0) + 1
        return [{"segmentation": chunk.array("segmentation") / self.count} for chunk in chunks]


class Leaky(KeyedStage):
    """A keyed stage whose checkpoint leaves something out."""

    produces = ("count",)

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        self.count += 1
        return [{"count": Plain(self.count)} for _ in chunks]

    def checkpoint(self, stream: str) -> bytes:
        return b""

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        self.count = 0

    def forget(self, stream: str) -> None:
        pass


class Counts(KeyedStage):
    """A keyed stage as it should be: counts the chunks of each stream, and tells at the end."""

    produces = ("count",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self.counts: dict[str, int] = {}

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        for chunk in chunks:
            self.counts[chunk.stream] += 1
        return [{"count": Plain(self.counts[chunk.stream])} for chunk in chunks]

    def checkpoint(self, stream: str) -> bytes:
        return str(self.counts[stream]).encode()

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        self.counts[stream] = int(checkpoint or b"0")

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        return {"count": Plain(self.counts[end.stream])}

    def forget(self, stream: str) -> None:
        self.counts.pop(stream, None)


class MixesUp(Counts):
    """One count for all streams."""

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        self.count += len(chunks)
        return [{"count": Plain(self.count)} for _ in chunks]

    def checkpoint(self, stream: str) -> bytes:
        return str(self.count).encode()

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        self.count = int(checkpoint or b"0")

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        return {}


class Forgetful(Counts):
    """What it says at the end is not in its checkpoints."""

    said = 0

    def process(self, chunks: Sequence[Chunk]) -> Answers:
        self.said += 1
        return super().process(chunks)

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        return {"count": Plain(self.said)}


class Textual(Counts):
    def checkpoint(self, stream: str) -> Any:
        return str(self.counts[stream])


class Unrestorable(Counts):
    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        super().restore(stream, None if checkpoint is None else b"what is this?")
