"""The identify stage: gives enrolled speakers their names; who is not enrolled stays as he is. Runs as the process of that name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diart_mp.blocks.identification import Identification, ShownNames
from diart_mp.blocks.weights import clean_speech
from diart_mp.errors import ProtocolError, UsageError
from diart_mp.messages import FieldValue, Plain
from diart_mp.models.mean import mean_embedding
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.speakers import EnrolledSpeakers
from diart_mp.topology import StageConfig

THRESHOLD = 0.35
"""Cosine similarity from which somebody is an enrolled speaker, for the built-in embedding model, whose mean over many voices is known and
subtracted: the best of 0.25 to 0.5 for both clusterings (``benchmarks/identify.py``)."""

PLAIN_THRESHOLD = 0.7
"""The same for other models, of which no mean is known; to be set for each (option ``threshold``)."""

MEMORY_S = 16.0
"""Seconds of speech on which a name rests: a label may be two people in turn."""


class Identify(KeyedStage):
    """Replaces ``speakerN`` in ``turns`` by a name of the file in option ``speakers``; option ``threshold`` is a cosine similarity."""

    name = "identify"
    consumes = ("segmentation", "embeddings", "labels", "turns")
    produces = ("turns",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._threshold = _threshold(config.options.get("threshold"))
        self._restored: dict[str, bytes | None] = {}
        self._streams: dict[str, tuple[Identification, ShownNames]] = {}

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
        """What was heard of each global speaker, the names given, and those that were shown."""
        if stream in self._streams:
            identification, shown = self._streams[stream]
            return pack_state({**identification.state(), "shown": shown.state()})
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
        identification, shown = self._streams.get(chunk.stream) or self._begin(chunk)
        segmentation, settings = chunk.array("segmentation"), chunk.settings
        clean = clean_speech(segmentation, settings.tau_active)
        seconds = clean.sum(axis=0) * (settings.duration / settings.rate / len(clean))
        identification.learn(chunk.array("labels").tolist(), chunk.array("embeddings"), seconds)
        turns = chunk.value("turns")
        return {**turns, "turns": _shown(turns["turns"], _allowed(identification.names(), chunk), shown)}

    def _revised(self, chunk: Chunk) -> dict[str, FieldValue]:
        """The names in a revision; what was shown before gets them too: as ``speakerN``, or by a name that was taken back."""
        if not chunk.has("revision"):
            return {}
        identification, shown = self._streams.get(chunk.stream) or self._begin(chunk)
        revision = chunk.value("revision")
        moved: dict[str, str] = dict(revision["renamed"])
        identification.rename({_number(before): _number(now) for before, now in moved.items()})
        renamed = shown.rename(moved, _allowed(identification.names_of_all(), chunk))
        named = _shown(revision["turns"], _allowed(identification.names(), chunk), shown)
        return {"revision": Plain({**revision, "turns": named, "renamed": [list(pair) for pair in renamed.items()]})}

    def _begin(self, chunk: Chunk) -> tuple[Identification, ShownNames]:
        mean = mean_embedding(self._enrolled.embedding)
        usual = PLAIN_THRESHOLD if mean is None else THRESHOLD
        identification = Identification(
            self._enrolled.voices,
            threshold=usual if self._threshold is None else self._threshold,
            memory_s=MEMORY_S,
            mean=mean,
        )
        checkpoint = self._restored.pop(chunk.stream, None)
        state = unpack_state(checkpoint) if checkpoint else {}
        shown = ShownNames()
        if state:
            try:
                identification.restore(state)
                shown = ShownNames(state["shown"])
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                msg = f"the checkpoint of identify is damaged: {error}"
                raise ProtocolError(msg) from error
        self._streams[chunk.stream] = identification, shown
        return self._streams[chunk.stream]


def _allowed(names: Mapping[int, str], chunk: Chunk) -> dict[str, str]:
    """The names by label, as far as the stream's settings allow them."""
    return {f"speaker{label}": name for label, name in names.items() if chunk.settings.may_name(name)}


def _shown(turns: Sequence[Any], names: Mapping[str, str], shown: ShownNames) -> list[list[Any]]:
    """The turns with names, of which ``shown`` is told."""
    for _, _, label in turns:
        shown.add(names.get(label, label), label)
    return [[start, end, names.get(label, label)] for start, end, label in turns]


def _number(label: str) -> int:
    """The global speaker of a label; -1 for one that is not clustering's."""
    number = label.removeprefix("speaker")
    return int(number) if number.isdecimal() else -1


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
