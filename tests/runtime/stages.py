"""Stages that tests put into chains, as a user would write them."""

from collections.abc import Mapping, Sequence

import numpy as np

from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, Stage


class Denoise(Stage):
    """Twice the audio."""

    consumes = ("audio",)
    produces = ("audio",)

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        return [{"audio": np.clip(2 * chunk.audio, -1, 1)} for chunk in chunks]


class Mark(Stage):
    """A last stage that remembers nothing: the turns, with a mark at each speaker's name."""

    consumes = ("turns",)
    produces = ("turns",)

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        said = [chunk.value("turns") for chunk in chunks]
        return [
            {"turns": Plain({**each, "turns": [[start, end, f"{who}!"] for start, end, who in each["turns"]]})}
            for each in said
        ]


class Wish(Stage):
    """Reads what nobody gives."""

    consumes = ("words",)

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        return [{} for _ in chunks]
