"""Stages that are wrong, each in one way, for the conformance suite and for runs."""

import os
import time
from collections.abc import Mapping, Sequence

import numpy as np

from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, KeyedStage, Stage

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
