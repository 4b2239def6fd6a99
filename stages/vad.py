"""The vad stage: when anybody speaks (diart's second pipeline). Chain ``capture,segmentation,vad``. Runs as the process of that name."""

from collections.abc import Mapping, Sequence

import numpy as np

from diart_mp.blocks.aggregation import DelayedAggregation
from diart_mp.blocks.binarize import binarize
from diart_mp.errors import ProtocolError
from diart_mp.messages import FieldValue, Plain
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig

LABEL = "speech"


class Vad(KeyedStage):
    """Adds ``turns`` of one speaker, "speech": where the loudest local speaker's aggregated score is above tau_active."""

    name = "vad"
    consumes = ("segmentation",)
    produces = ("turns",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._restored: dict[str, bytes | None] = {}
        self._streams: dict[str, DelayedAggregation] = {}

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """The next window of a stream."""
        return [{"turns": Plain(self._turns(chunk))} for chunk in chunks]

    def checkpoint(self, stream: str) -> bytes:
        """The windows that coming regions need."""
        if stream in self._streams:
            return pack_state(self._streams[stream].state())
        return self._restored.get(stream) or pack_state({})

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """The settings come with the chunk that follows, so the state is made then."""
        self._streams.pop(stream, None)
        self._restored[stream] = checkpoint

    def forget(self, stream: str) -> None:
        """Drop a stream that has ended."""
        self._streams.pop(stream, None)
        self._restored.pop(stream, None)

    def _turns(self, chunk: Chunk) -> dict[str, list[object]]:
        settings = chunk.settings
        aggregation = self._streams.get(chunk.stream) or self._begin(chunk, DelayedAggregation(settings))
        scores = chunk.array("segmentation").max(axis=1, keepdims=True)
        if not np.isfinite(scores).all():
            msg = f"the segmentation of chunk {chunk.seq} holds numbers that are not finite"
            raise ProtocolError(msg)
        prepend = chunk.seq == 0 and settings.start == "exact"
        region = aggregation(chunk.start - chunk.origin, scores, np.zeros(1, np.int64), prepend=prepend)
        turns = []
        for part in region.parts:
            for begin, stop, _ in binarize(part, settings.tau_active):
                start, end = (round(second * settings.rate) + chunk.origin for second in (begin, stop))
                if end > 0:
                    turns.append([max(0, start), end, LABEL])
        start, end = (max(0, position + chunk.origin) for position in (region.start, region.end))
        return {"region": [start, end], "turns": list(turns)}

    def _begin(self, chunk: Chunk, aggregation: DelayedAggregation) -> DelayedAggregation:
        checkpoint = self._restored.pop(chunk.stream, None)
        state = unpack_state(checkpoint) if checkpoint else {}
        if state:
            try:
                aggregation.restore(state)
            except (ValueError, KeyError, TypeError) as error:
                msg = f"the checkpoint of vad is damaged: {error}"
                raise ProtocolError(msg) from error
        self._streams[chunk.stream] = aggregation
        return aggregation
