"""The identify stage: gives enrolled speakers their names; who is not enrolled stays as he is. Runs as the process of that name."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diart_mp.blocks.identification import Identification
from diart_mp.blocks.weights import clean_speech
from diart_mp.errors import ProtocolError, UsageError
from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.speakers import EnrolledSpeakers
from diart_mp.topology import StageConfig

THRESHOLDS: Mapping[str, float] = {"exact": 0.72, "adaptive": 0.7}
"""Cosine similarity from which somebody is an enrolled speaker, by the clustering that runs, for the built-in embedding model.

Of pairs of different people (one utterance each of 126 readers, half against half) 5 of 100 reach 0.7 and 1 of 100 0.75; all pairs
of one person do. The embeddings of ``exact`` hold some speech of others too, so more is asked of them.
"""

MEMORY_S: Mapping[str, float] = {"exact": 8.0, "adaptive": math.inf}
"""Seconds of speech on which a name rests. With ``exact`` one label may be two people in turn, and nobody takes back what was said; 8 s were
the best of 4 to 60 s on one conversation, with 0.72 of 0.70 to 0.75 (``benchmarks/identify.py``)."""


class Identify(KeyedStage):
    """Replaces ``speakerN`` in ``turns`` by a name of the file in option ``speakers``; option ``threshold`` is a cosine similarity."""

    name = "identify"
    consumes = ("segmentation", "embeddings", "labels", "turns")
    produces = ("turns",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._threshold = _threshold(config.options.get("threshold"))
        self._restored: dict[str, bytes | None] = {}
        self._streams: dict[str, Identification] = {}

    def open(self) -> None:
        """Read the file of speakers."""
        path = self.config.options.get("speakers")
        if not isinstance(path, str) or not path:
            msg = f"{self.name} needs a file of speakers: --option {self.name}.speakers=FILE"
            raise UsageError(msg)
        self._enrolled = EnrolledSpeakers.load(Path(path))

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """The next window of a stream."""
        return [{"turns": Plain(self._named(chunk)), **self._revised(chunk)} for chunk in chunks]

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        """The names in the last revision."""
        return self._revised(end)

    def checkpoint(self, stream: str) -> bytes:
        """What was heard of each global speaker, and the names given."""
        if stream in self._streams:
            return pack_state(self._streams[stream].state())
        return self._restored.get(stream) or pack_state({})

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """Damaged checkpoints are refused when the next chunk comes."""
        self._streams.pop(stream, None)
        self._restored[stream] = checkpoint

    def forget(self, stream: str) -> None:
        """Drop a stream that has ended."""
        self._streams.pop(stream, None)
        self._restored.pop(stream, None)

    def _named(self, chunk: Chunk) -> dict[str, Any]:
        identification = self._streams.get(chunk.stream) or self._begin(chunk)
        segmentation, settings = chunk.array("segmentation"), chunk.settings
        clean = clean_speech(segmentation, settings.tau_active)
        seconds = clean.sum(axis=0) * (settings.duration / settings.rate / len(clean))
        identification.learn(chunk.array("labels").tolist(), chunk.array("embeddings"), seconds)
        turns = chunk.value("turns")
        names = _names(identification, chunk)
        named = [[start, end, names.get(speaker, speaker)] for start, end, speaker in turns["turns"]]
        return {**turns, "turns": named}

    def _revised(self, chunk: Chunk) -> dict[str, FieldValue]:
        """The names in a revision; who was ``speakerN`` before he was known gets his name there too."""
        if not chunk.has("revision"):
            return {}
        identification = self._streams.get(chunk.stream) or self._begin(chunk)
        revision = chunk.value("revision")
        names = _names(identification, chunk)
        named = [[start, end, names.get(speaker, speaker)] for start, end, speaker in revision["turns"]]
        renamed = dict(names)
        for before, now in revision["renamed"]:
            renamed[before] = renamed[names.get(before, before)] = names.get(now, now)
        return {"revision": Plain({**revision, "turns": named, "renamed": [list(pair) for pair in renamed.items()]})}

    def _begin(self, chunk: Chunk) -> Identification:
        kind = chunk.settings.clustering
        threshold = THRESHOLDS[kind] if self._threshold is None else self._threshold
        identification = Identification(self._enrolled.voices, threshold=threshold, memory_s=MEMORY_S[kind])
        checkpoint = self._restored.pop(chunk.stream, None)
        state = unpack_state(checkpoint) if checkpoint else {}
        if state:
            try:
                identification.restore(state)
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                msg = f"the checkpoint of identify is damaged: {error}"
                raise ProtocolError(msg) from error
        self._streams[chunk.stream] = identification
        return identification


def _names(identification: Identification, chunk: Chunk) -> dict[str, str]:
    """The names by label, as far as the stream's settings allow them."""
    given = identification.names().items()
    return {f"speaker{label}": name for label, name in given if chunk.settings.may_name(name)}


def _threshold(value: Any) -> float | None:
    if value is None:
        return None
    try:
        threshold = float(value)
    except (TypeError, ValueError):
        threshold = float("nan")
    if not -1 <= threshold <= 1:
        msg = f"identify.threshold must be a cosine similarity from -1 to 1, not {value!r:.40}"
        raise UsageError(msg)
    return threshold
