"""The clustering stage: gives local speakers their names in the whole stream, and says who spoke. Runs as the process of that name."""

from collections.abc import Mapping, Sequence

import numpy as np

from diart_mp.blocks.diarization import OnlineDiarization
from diart_mp.errors import ProtocolError
from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig


class Clustering(KeyedStage):
    """Adds ``turns``: {region: [start, end], turns: [[start, end, speaker], ...]} in samples of the stream's clock.

    And ``labels`` (local speakers,): which speakerN each local speaker of the window is, -1 for nobody.
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
        settings = chunk.settings
        diarization = self._streams.get(chunk.stream)
        if diarization is None:
            diarization = self._streams[chunk.stream] = self._begin(chunk.stream, OnlineDiarization(settings))
        region = diarization(
            chunk.start - chunk.origin,
            chunk.array("segmentation"),
            chunk.array("embeddings"),
            prepend=chunk.seq == 0 and settings.start == "exact",
            silent=chunk.has("silent"),
        )
        # The window clock begins at window 0, the stream's clock at its first sample.
        start, end = (max(0, position + chunk.origin) for position in (region.start, region.end))
        turns = ((begin + chunk.origin, stop + chunk.origin, speaker) for begin, stop, speaker in region.turns)
        heard = [[max(0, begin), stop, f"speaker{speaker}"] for begin, stop, speaker in turns if stop > 0]
        told = Plain({"region": [start, end], "turns": list(heard)})
        return {"turns": told, "labels": np.array(region.labels, np.int32)}

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
