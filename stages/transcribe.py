"""The transcribe stage: what is said, and by whom. Runs as the process of that name, behind the stage that gives turns.

Speech is transcribed in pieces that end where nobody talks, or else before they would leave the window. A word belongs to whoever
talks in its middle. While a piece is being transcribed its stream waits, so the endpoint must be faster than the audio.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import ModelError, ProtocolError
from diart_mp.messages import FieldValue, Plain
from diart_mp.models.transcribe import Word, load_transcriber
from diart_mp.outputs.events import seconds
from diart_mp.outputs.recording import OwnLines
from diart_mp.runtime.answers import turns_from_plain
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig
from diart_mp.turns import Turn

EXTENSION = ".words.jsonl"
PAUSE_S = 0.3
"""Seconds without anybody talking at which a piece may end."""

_NOBODY = ""  # speaker of a word that no turn is near


@dataclass(slots=True)
class _Stream:
    """How far a stream is transcribed (samples), turns and audio (16 bits) since then, and where the file ends (bytes)."""

    name: str
    rate: int
    done: int = 0
    offset: int = 0
    turns: list[Turn] = field(default_factory=list)
    tail: NDArray[np.int16] = field(default_factory=lambda: np.zeros(0, np.int16))
    file: OwnLines | None = None


class Transcribe(KeyedStage):
    """Adds ``words``, [[start, end, speaker, text], ...] in samples, and writes them to NAME.words.jsonl in option ``folder``.

    Options: ``url`` of an endpoint with OpenAI's interface, ``model`` (its name there, of faster-whisper, or module:Class), ``language``.
    """

    name = "transcribe"
    consumes = ("audio", "turns")
    produces = ("words",)

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._folder = Path(str(config.options.get("folder", "transcripts")))
        self._streams: dict[str, _Stream] = {}
        self._restored: dict[str, bytes | None] = {}

    def open(self) -> None:
        """Load the model, if it is one of this machine's."""
        config = self.config
        options = {name: str(config.options[name]) for name in ("url", "language") if name in config.options}
        self._transcribe = load_transcriber(config.model, device=config.device, threads=config.threads, **options)

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """The words that are complete with the next window."""
        return [{"words": Plain(self._words(chunk))} for chunk in chunks]

    def checkpoint(self, stream: str) -> bytes:
        """How far the stream is transcribed, and the turns since then."""
        known = self._streams.get(stream)
        if known is None:
            return self._restored.get(stream) or pack_state({})
        turns = json.dumps([[turn.start, turn.end, turn.speaker] for turn in known.turns])
        own = {"name": known.name, "rate": known.rate, "done": known.done, "offset": known.offset}
        return pack_state({**own, "turns": turns, "tail": known.tail})

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """Go on where the checkpoint says."""
        self.forget(stream)
        self._restored[stream] = checkpoint

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        """The words of what no pause has ended."""
        begun = end.stream in self._streams or unpack_state(self._restored.get(end.stream) or pack_state({}))
        if not begun:  # no chunk could be used
            return {}
        known = self._streams.get(end.stream) or self._begin(end.stream, None)
        samples = known.tail[: max(0, end.start - known.done)].astype(np.float32) / np.float32(32768)
        return {"words": Plain(self._piece(known, samples, known.done + len(samples)))}

    def forget(self, stream: str) -> None:
        """Close the file."""
        self._restored.pop(stream, None)
        known = self._streams.pop(stream, None)
        if known is not None and known.file is not None:
            known.file.close()

    def _words(self, chunk: Chunk) -> list[list[Any]]:
        stream = self._streams.get(chunk.stream) or self._begin(chunk.stream, chunk)
        region, turns = turns_from_plain(chunk.value("turns"))
        stream.turns += turns
        stream.done = max(stream.done, chunk.start, 0)
        pending = chunk.audio[stream.done - chunk.start : max(0, region[1] - chunk.start)]
        if self._is_due(chunk, stream, region[1]):
            return self._piece(stream, pending.copy(), region[1])
        kept = pending if stream.turns else pending[:0]
        stream.tail = np.rint(np.clip(kept * 32768, -32768, 32767)).astype(np.int16)
        return []

    def _piece(self, stream: _Stream, samples: NDArray[np.float32], end: int) -> list[list[Any]]:
        """The words of the piece [done, end), which is done then."""
        begin, stream.done, stream.tail = stream.done, end, stream.tail[:0]
        said, stream.turns = stream.turns, [turn for turn in stream.turns if turn.end > end]
        if not len(samples) or not any(turn.end > begin for turn in said):
            return []
        try:
            heard = self._transcribe(samples, stream.rate)
        except ModelError as error:  # the turns are right all the same
            self._write(stream, [{"start": begin, "end": end, "error": str(error)}])
            return []
        words = [_word(word, begin, stream.rate, said) for word in heard]
        rows = [{"start": start, "end": stop, "speaker": who, "word": text} for start, stop, who, text in words]
        self._write(stream, rows)
        return words

    def _is_due(self, chunk: Chunk, stream: _Stream, end: int) -> bool:
        """Whether [done, end) is a piece: nobody talks at its end, or the next window would not hold its beginning."""
        last = max((turn.end for turn in stream.turns), default=stream.done)
        pause = end - last >= PAUSE_S * stream.rate
        return end > stream.done and (pause or stream.done < chunk.start + 2 * chunk.settings.step)

    def _write(self, stream: _Stream, rows: Sequence[dict[str, Any]]) -> None:
        if stream.file is None:
            msg = "a stream without a file"
            raise ProtocolError(msg)
        times = [{key: seconds(row[key], stream.rate) for key in ("start", "end")} for row in rows]
        lines = "".join(
            json.dumps(row | time, ensure_ascii=False) + "\n" for row, time in zip(rows, times, strict=True)
        )
        stream.offset = stream.file.write(stream.offset, lines)

    def _begin(self, stream: str, chunk: Chunk | None) -> _Stream:
        """The stream as its checkpoint says, or at its beginning with its first chunk."""
        checkpoint = self._restored.pop(stream, None)
        state = unpack_state(checkpoint) if checkpoint else {}
        if not state and chunk is not None:
            name = str(chunk.value("name")) if chunk.has("name") else stream
            state = {"name": name, "rate": chunk.settings.rate}
        try:
            turns = [Turn(*row) for row in json.loads(state.pop("turns", "[]"))]
            known = _Stream(**state, turns=turns)
        except (TypeError, ValueError) as error:
            msg = f"the checkpoint of transcribe is damaged: {error}"
            raise ProtocolError(msg) from error
        known.file = OwnLines(self._folder, known.name, EXTENSION, stream=stream, rate=known.rate)
        known.offset = max(known.offset, known.file.start)
        self._streams[stream] = known
        return known


def _word(word: Word, begin: int, rate: int, turns: Sequence[Turn]) -> list[Any]:
    """A word in samples of the stream, with whoever talks in its middle, or next to it."""
    start, end = begin + round(word.start * rate), begin + round(word.end * rate)
    middle = (start + end) // 2
    near = min(turns, key=lambda turn: max(turn.start - middle, middle - turn.end, 0), default=None)
    return [start, end, near.speaker if near is not None else _NOBODY, word.text]
