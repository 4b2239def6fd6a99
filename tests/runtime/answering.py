"""A pipeline without models that forgives nothing: what it says about a chunk depends on every sample before it.

It keeps a checksum over all windows of a stream, in their order, as a keyed stage would keep its state; one sample, window or
checkpoint that is not as it should be changes the names of all later speakers.
"""

import os
import zlib
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from diart_mp.audio.source import Source
from diart_mp.config import Settings
from diart_mp.messages import AudioRef, FieldValue, Message, Plain, decode, encode
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime.loop import CHECKPOINT_EVERY
from diart_mp.runtime.order import RESTORE, StreamOrder
from diart_mp.runtime.replies import CHECKPOINT, ERROR
from diart_mp.runtime.stream import OwnedStream
from diart_mp.transport.ring import RingReader
from diart_mp.turns import Update

RATE = 16_000
SETTINGS = Settings(duration=1600, step=320, latency=640)
SAMPLES = 10_000  # of the recordings
WINDOWS = 29  # diart's rule: 10,000 samples and 320 of silence are 33 blocks of 320, five of which are a window


def samples(count: int = SAMPLES) -> np.ndarray:
    """Noise that 16-bit PCM holds exactly."""
    return np.random.default_rng(5).integers(-9000, 9000, count).astype("<i2")


def recording(folder: Path, count: int = SAMPLES, name: str = "talk") -> Path:
    path = folder / f"{name}.wav"
    soundfile.write(path, samples(count), RATE, subtype="PCM_16")
    return path


class Pipeline:
    """Answers chunks. One may be thrown away at any time for a new one: that is what the death of its stages looks like."""

    def __init__(self, *, revising: bool = False) -> None:
        """``revising``: take back what was said in every fifth answer, and at the end."""
        self._revising = revising
        self._rings = RingReader()
        self._orders: dict[str, StreamOrder] = {}
        self._sums: dict[str, int] = {}
        self.windows: list[tuple[int, np.ndarray]] = []  # with their first samples

    def take(self, message: Message) -> list[Message]:
        """The answers that are due now that ``message`` is here."""
        message = decode([bytes(frame) for frame in encode(message)])
        return [self._answer(due) for due in self._orders.setdefault(message.stream, StreamOrder()).put(message)]

    def _answer(self, message: Message) -> Message:
        fields: dict[str, FieldValue] = {}
        stream = message.stream
        if message.seq == 0:
            self._sums[stream] = 0
        elif RESTORE in message.fields:
            self._sums[stream] = int.from_bytes(message.array(f"{RESTORE}.chain").tobytes(), "little")
        if message.kind == "chunk" and ERROR not in message.fields:
            fields["turns"] = Plain(self._turns(message))
        elif ERROR in message.fields:
            fields[ERROR] = message.fields[ERROR]
        if self._revising and (message.seq % 5 == 4 or message.kind == "end"):
            fields["revision"] = Plain(self._revision(message))
        if message.seq % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1:
            fields[f"{CHECKPOINT}chain"] = np.frombuffer(self._sums[stream].to_bytes(8, "little"), np.uint8)
        kind = message.kind if message.kind == "end" else "result"
        return Message(
            kind=kind,
            stream=stream,
            seq=message.seq,
            attempt=message.attempt,
            start=message.start,
            sender=("last", 1),
            fields=fields,
        )

    def _turns(self, message: Message) -> dict[str, Any]:
        audio = message.fields["audio"]
        window = (self._rings.view(audio) if isinstance(audio, AudioRef) else message.array("audio")).copy()
        self.windows.append((message.start, window))
        self._sums[message.stream] = zlib.crc32(window.tobytes(), self._sums[message.stream])
        end = max(0, message.start + SETTINGS.duration - SETTINGS.latency + SETTINGS.step)
        start = 0 if message.seq == 0 else max(0, end - SETTINGS.step)
        return {"region": [start, end], "turns": [[start, end, f"speaker{self._sums[message.stream] % 1000}"]]}

    def _revision(self, message: Message) -> dict[str, Any]:
        """Of the last five steps; and everybody before is called by another name."""
        end, known = max(0, message.start), self._sums[message.stream]
        start, name = max(0, end - 5 * SETTINGS.step), f"reviser{known % 100}"
        return {"start": start, "end": end, "turns": [[start, end, name]], "renamed": [[name, f"speaker{known % 10}"]]}


class Events:
    """What was reported."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def __call__(self, event: str, **values: Any) -> None:
        self.all.append({"event": event, **values})

    def of(self, event: str) -> list[dict[str, Any]]:
        return [each for each in self.all if each["event"] == event]


def stream_id(folder: Path) -> str:
    """Of the stream whose files are in ``folder``; different in each run of the tests."""
    return f"test{zlib.crc32(bytes(folder)):08x}"


def open_stream(
    folder: Path,
    source: Source,
    *,
    epoch: int = 1,
    max_in_flight: int = 6,
    report: Callable[..., None] | None = None,
    settings: Settings = SETTINGS,
) -> OwnedStream:
    """A stream whose files are in ``folder``; if there was one before, it goes on for that one."""

    def open_outputs(resume: bool) -> OutputSet:
        return OutputSet(folder / "out", source.name, ("rttm", "jsonl"), rate=RATE, recorded=True, resume=resume)

    return OwnedStream(
        stream_id(folder),
        source,
        settings,
        directory=folder,
        epoch=epoch,
        max_in_flight=max_in_flight,
        reply_to="ipc:///results",
        open_outputs=open_outputs,
        report=report or Events(),
    )


def drive(stream: OwnedStream, pipeline: Pipeline, *, results: int | None = None) -> list[Update]:
    """Let the pipeline answer until the stream is complete, or that many results are written."""
    updates: list[Update] = []
    chunks: deque[Message] = deque()
    idle = 0
    while not stream.complete and (results is None or len(updates) < results):
        idle = 0 if stream.fill() else idle + 1
        while (message := stream.next_message()) is not None:
            chunks.append(message)
        if not chunks:
            assert idle < 100
            continue
        for answer in pipeline.take(chunks.popleft()):
            update = stream.on_result(decode([bytes(frame) for frame in encode(answer)]))
            updates += [update] if update is not None else []
    return updates


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((folder / "out").iterdir())}


def die_after(act: Callable[[], object]) -> None:
    """``act`` in a copy of this process that then ends at once, without closing or flushing anything."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            act()
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(child, 0)[1] == 0


def seqs(lines: Sequence[dict[str, Any]]) -> list[int]:
    return [line["seq"] for line in lines]
