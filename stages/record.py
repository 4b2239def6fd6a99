"""The record stage: writes down each stream, its audio and its turns. Runs as the process of that name, behind the stage that gives turns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from diart_mp.errors import ProtocolError
from diart_mp.messages import FieldValue
from diart_mp.outputs.events import update_to_line
from diart_mp.outputs.recording import Recording
from diart_mp.runtime.answers import turns_from_plain
from diart_mp.runtime.stage import Chunk, KeyedStage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig
from diart_mp.turns import Update


@dataclass(slots=True)
class _Stream:
    """A stream that is recorded: how far its files have come, in samples and in bytes."""

    name: str
    rate: int
    samples: int = 0
    turns: int = 0
    files: Recording | None = None


class Record(KeyedStage):
    """Writes NAME.wav (mono, 16 bits) and NAME.turns.jsonl into the folder of option ``folder``; adds no field.

    Files are as the stream had no fault, whenever the stage was killed: what is written again lands where it was.
    """

    name = "record"
    consumes = ("audio", "turns")

    def __init__(self, config: StageConfig) -> None:
        super().__init__(config)
        self._folder = Path(str(config.options.get("folder", "recordings")))
        self._streams: dict[str, _Stream] = {}
        self._restored: dict[str, bytes | None] = {}

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """Write down what of the next window is new."""
        for chunk in chunks:
            stream = self._streams.get(chunk.stream) or self._begin(chunk)
            self._write(chunk, stream, self._files(chunk.stream, stream))
        return [{} for _ in chunks]

    def checkpoint(self, stream: str) -> bytes:
        """How far the files have come."""
        known = self._streams.get(stream)
        if known is None:
            return self._restored.get(stream) or pack_state({})
        return pack_state({"name": known.name, "rate": known.rate, "samples": known.samples, "turns": known.turns})

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """Go on writing where the checkpoint says."""
        self._close(stream)
        self._restored[stream] = checkpoint

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        """Take off the silence that the last windows have beyond the stream's end."""
        stream = end.stream
        known = self._streams.get(stream) or self._known(stream)
        if known is not None:
            self._streams[stream] = known
            self._files(stream, known).cut(end.start)
        return {}

    def forget(self, stream: str) -> None:
        """Close the files."""
        self._close(stream)
        self._restored.pop(stream, None)

    def _write(self, chunk: Chunk, stream: _Stream, files: Recording) -> None:
        region, turns = turns_from_plain(chunk.value("turns"))
        update = Update(stream.name, chunk.seq, *region, stream.rate, turns)
        audio = chunk.audio
        first = max(stream.samples, chunk.start, 0)
        files.write(first, audio[first - chunk.start :])
        stream.samples = max(first, chunk.start + len(audio))
        stream.turns = files.write_turns(stream.turns, update_to_line(update, latency=False))

    def _files(self, stream: str, known: _Stream) -> Recording:
        if known.files is None:
            known.files = Recording(self._folder, known.name, stream=stream, rate=known.rate)
        return known.files

    def _begin(self, chunk: Chunk) -> _Stream:
        name = str(chunk.value("name")) if chunk.has("name") else chunk.stream
        known = self._known(chunk.stream) or _Stream(name, chunk.settings.rate)
        self._streams[chunk.stream] = known
        return known

    def _known(self, stream: str) -> _Stream | None:
        """The stream as its checkpoint says; None if there is none."""
        checkpoint = self._restored.pop(stream, None)
        state = unpack_state(checkpoint) if checkpoint else {}
        try:
            return _Stream(**state) if state else None
        except TypeError as error:
            msg = f"the checkpoint of record is damaged: {error}"
            raise ProtocolError(msg) from error

    def _close(self, stream: str) -> None:
        known = self._streams.pop(stream, None)
        if known is not None and known.files is not None:
            known.files.close()
