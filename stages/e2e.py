"""The e2e stage: one model says who speaks when, without segmentation, embedding and clustering. Chain ``capture,e2e``.

Runs as the process of that name.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.resample import resample_windows
from diart_mp.blocks.aggregation import Frames
from diart_mp.blocks.binarize import binarize
from diart_mp.errors import ModelError, ProtocolError
from diart_mp.messages import FieldValue, Plain
from diart_mp.models.load import load_end_to_end
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig

_MODEL = "model."  # prefix of what the model remembers, in checkpoints


@dataclass(slots=True)
class _Stream:
    """How far a stream has come: samples given to the model, end of what was said, speakers, and the model's own state."""

    given: int = 0
    said: int = 0
    speakers: int = 0
    state: Mapping[str, Any] | None = field(default=None)


class EndToEnd(KeyedStage):
    """Adds ``turns``: where a speaker's score is above tau_active. The model (option ``model``) is an ``EndToEndModel``."""

    name = "e2e"
    consumes = ("audio",)
    produces = ("turns",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._streams: dict[str, _Stream] = {}

    def open(self) -> None:
        """Load the model."""
        config = self.config
        self._model = load_end_to_end(config.model, device=config.device, threads=config.threads)

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """What of the next window is new."""
        return [{"turns": Plain(self._turns(chunk))} for chunk in chunks]

    def checkpoint(self, stream: str) -> bytes:
        """How far the stream has come, and what the model remembers of it."""
        known = self._streams.get(stream)
        if known is None:
            return pack_state({})
        own = {_MODEL + name: value for name, value in (known.state or {}).items()}
        return pack_state({"given": known.given, "said": known.said, "speakers": known.speakers, **own})

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """Go on where the checkpoint says."""
        state = unpack_state(checkpoint) if checkpoint else {}
        own = {name.removeprefix(_MODEL): value for name, value in state.items() if name.startswith(_MODEL)}
        known = {name: value for name, value in state.items() if not name.startswith(_MODEL)}
        try:
            self._streams[stream] = _Stream(**known, state=own if known else None)
        except TypeError as error:
            msg = f"the checkpoint of e2e is damaged: {error}"
            raise ProtocolError(msg) from error

    def forget(self, stream: str) -> None:
        """Drop a stream that has ended."""
        self._streams.pop(stream, None)

    def _turns(self, chunk: Chunk) -> dict[str, Any]:
        settings, stream = chunk.settings, self._streams.setdefault(chunk.stream, _Stream())
        behind = round(self._model.lookahead * settings.rate)
        if behind > settings.latency - settings.step:
            wanted = self._model.lookahead + settings.step / settings.rate
            msg = f"the model '{self.config.model}' looks {self._model.lookahead:g} s ahead: --latency must be at least {wanted:g}"
            raise ModelError(msg)
        new = _new_samples(chunk, stream.given)
        turns = [turn for first in range(0, len(new), settings.step) for turn in self._score(chunk, stream, new, first)]
        start, stream.said = stream.said, max(stream.said, stream.given - behind)
        return {"region": [start, stream.said], "turns": turns}

    def _score(self, chunk: Chunk, stream: _Stream, new: NDArray[np.float32], first: int) -> list[list[object]]:
        """Turns in the piece of ``new`` that begins at ``first``."""
        settings = chunk.settings
        piece = new[first : first + settings.step]
        heard = resample_windows(piece[np.newaxis], settings.rate, self._model.sample_rate)[0]
        given, stream.state = self._model(heard, stream.state)
        scores = np.asarray(given).astype(np.float64)
        self._check(scores, stream)
        begin = stream.given / settings.rate - self._model.lookahead
        stream.given += len(piece)
        resolution = len(piece) / settings.rate / len(scores)
        frames = Frames(begin, resolution, scores, np.arange(scores.shape[1]))
        in_samples = (
            (round(start * settings.rate), round(end * settings.rate), speaker)
            for start, end, speaker in binarize(frames, settings.tau_active)
        )
        return [[max(0, start), end, f"speaker{speaker}"] for start, end, speaker in in_samples if end > 0]

    def _check(self, scores: NDArray[np.float64], stream: _Stream) -> None:
        right = scores.ndim == 2 and len(scores) > 0 and bool(np.isfinite(scores).all())
        if not right or (stream.speakers and scores.shape[1] != stream.speakers):
            wanted = stream.speakers or "speakers"
            msg = f"the model '{self.config.model}' gave scores of shape {scores.shape}; wanted are finite numbers of shape (frames, {wanted})"
            raise ModelError(msg)
        stream.speakers = scores.shape[1]


def _new_samples(chunk: Chunk, given: int) -> NDArray[np.float32]:
    """What of a window comes behind sample ``given`` of the stream; silence for what a live stream has left out."""
    audio = chunk.audio
    left_out = max(0, chunk.start - given)
    return np.concatenate([np.zeros(left_out, np.float32), audio[max(0, given - chunk.start) :]])
