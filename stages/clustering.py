"""The clustering stage: gives local speakers their names in the whole stream, and says who spoke. Runs as the process of that name."""

from collections.abc import Mapping, Sequence

import numpy as np

from diart_mp.blocks.diarization import OnlineDiarization
from diart_mp.blocks.hindsight import Revision, Turns
from diart_mp.errors import ProtocolError
from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig


class Clustering(KeyedStage):
    """Adds ``turns``: {region: [start, end], turns: [[start, end, speaker], ...]} in samples of the stream's clock.

    And ``labels`` (local speakers,): which speakerN each local speaker of the window is, -1 for nobody. Once a stream that
    starts early has a complete window, and with the adaptive clustering every few seconds and at the end, also ``revision``:
    {start, end, turns, renamed: [[before, now], ...]}, what is known better by now (``diart_mp.turns.Revision``).
    """

    name = "clustering"
    consumes = ("segmentation", "embeddings")
    produces = ("turns", "labels")

    def __init__(self, config: StageConfig) -> None:
        self._config = config
        self._restored: dict[str, bytes | None] = {}
        self._streams: dict[str, OnlineDiarization] = {}

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """The next window of a stream."""
        return [self._answer(chunk) for chunk in chunks]

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        """The last revision."""
        return _revised(self._diarization(end).revision(last=True), end)

    def checkpoint(self, stream: str) -> bytes:
        """Centroids of the speakers, and the windows that coming regions need."""
        if stream in self._streams:
            return pack_state(self._streams[stream].state())
        return self._restored.get(stream) or pack_state({})  # no chunk since then could be used

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """The settings come with the chunk that follows, so the state is made then."""
        self._streams.pop(stream, None)
        self._restored[stream] = checkpoint

    def forget(self, stream: str) -> None:
        """Drop a stream that has ended."""
        self._streams.pop(stream, None)
        self._restored.pop(stream, None)

    def _answer(self, chunk: Chunk) -> Mapping[str, FieldValue]:
        diarization = self._diarization(chunk)
        region = diarization(
            chunk.start - chunk.origin,
            chunk.array("segmentation"),
            chunk.array("embeddings"),
            prepend=chunk.seq == 0 and chunk.settings.start == "exact",
            silent=chunk.has("silent"),
        )
        start, end, turns = _on_the_stream(region.start, region.end, region.turns, chunk.origin)
        said = Plain({"region": [start, end], "turns": turns})
        labels = np.array(region.labels, np.int32)
        revision = diarization.revision() or region.revision
        return {"turns": said, "labels": labels, **_revised(revision, chunk)}

    def _diarization(self, chunk: Chunk) -> OnlineDiarization:
        found = self._streams.get(chunk.stream)
        if found is None:
            found = self._streams[chunk.stream] = self._begin(chunk.stream, OnlineDiarization(chunk.settings))
        return found

    def _begin(self, stream: str, diarization: OnlineDiarization) -> OnlineDiarization:
        checkpoint = self._restored.get(stream)
        state = unpack_state(checkpoint) if checkpoint else {}
        if state:
            try:
                diarization.restore(state)
            except ValueError as error:
                raise ProtocolError(str(error)) from error
        self._restored.pop(stream, None)
        return diarization


def _revised(revision: Revision | None, chunk: Chunk) -> dict[str, FieldValue]:
    if revision is None:
        return {}
    start, end, turns = _on_the_stream(revision.start, revision.end, revision.turns, chunk.origin)
    renamed = [[_name(before), _name(now)] for before, now in revision.renamed.items()]
    return {"revision": Plain({"start": start, "end": end, "turns": turns, "renamed": renamed})}


def _on_the_stream(start: int, end: int, turns: Turns, origin: int) -> tuple[int, int, list[object]]:
    """From the window clock, which begins at window 0, to the stream's clock, which begins at its first sample."""
    moved = ((begin + origin, stop + origin, speaker) for begin, stop, speaker in turns)
    heard: list[object] = [[max(0, begin), stop, _name(speaker)] for begin, stop, speaker in moved if stop > 0]
    return max(0, start + origin), max(0, end + origin), heard


def _name(speaker: int) -> str:
    return f"speaker{speaker}"
