"""The contract of a stage: what somebody writes who adds one to the pipeline.

Knows nothing of sockets, replay or processes: ``runtime.loop`` calls a stage and does all that.
"""

import copy
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.config import Settings
from diart_mp.messages import Array, AudioRef, FieldValue, Message
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader


class Chunk:
    """One chunk as a stage sees it: a window of a stream and the fields it has gathered so far. Read-only."""

    def __init__(self, message: Message, rings: RingReader) -> None:
        self._message = message
        self._rings = rings
        self._settings: Settings | None = None

    @property
    def stream(self) -> str:
        """Id of the stream."""
        return self._message.stream

    @property
    def seq(self) -> int:
        """Number of the chunk in its stream: 0, 1, 2 ..."""
        return self._message.seq

    @property
    def start(self) -> int:
        """First sample of the window on the stream's clock; negative where the window begins before the stream."""
        return self._message.start

    @property
    def origin(self) -> int:
        """First sample of window 0."""
        return self._message.origin

    @property
    def settings(self) -> Settings:
        """Hyper-parameters of the stream; UsageError if they make no sense."""
        if self._settings is None:
            self._settings = Settings.from_map(self._message.plain("settings"))
        return self._settings

    @property
    def audio(self) -> NDArray[np.float32]:
        """The window (duration,), mono; a view that is good until ``process`` returns.

        Raises StaleAudioError if it is gone, DamagedAudioError if it is not what was captured.
        """
        value = self._message.fields.get("audio")
        if isinstance(value, AudioRef):
            return self._rings.view(value)
        samples = self._message.array("audio")
        if samples.dtype == np.int16:  # PCM, from another host
            return samples.astype(np.float32) / np.float32(32_768)
        return samples.astype(np.float32, copy=False)

    def begun_window(self) -> NDArray[np.float32] | None:
        """What has been captured so far of the window after this one (samples so far,), a view; None where it is whole or not here.

        Raises StaleAudioError if it is gone, DamagedAudioError if it is not what was captured.
        """
        value = self._message.fields.get("audio")
        if not isinstance(value, AudioRef):
            return None
        first = value.first + self.settings.step
        there = self._rings.head(value) - first
        return self._rings.view(replace(value, first=first, count=there)) if 0 < there < value.count else None

    def array(self, name: str) -> Array:
        """Field ``name`` as an array; ProtocolError if there is none."""
        return self._message.array(name)

    def has(self, name: str) -> bool:
        """Whether the chunk has a field ``name``."""
        return name in self._message.fields

    def value(self, name: str) -> Any:
        """Field ``name`` as a plain value, a copy; ProtocolError if there is none."""
        return copy.deepcopy(self._message.plain(name))


def windows_at(chunks: Sequence[Chunk], rate: int) -> NDArray[np.float32]:
    """The audio of ``chunks`` (chunks, samples) at ``rate`` Hz, whatever rate their streams have; read-only.

    ValueError where the windows differ in length.
    """
    rates = {chunk.settings.rate for chunk in chunks}
    if rates == {rate}:
        return windows(chunks)
    from diart_mp.audio.resample import resample_windows

    return np.concatenate([resample_windows(chunk.audio[np.newaxis], chunk.settings.rate, rate) for chunk in chunks])


def windows(chunks: Sequence[Chunk]) -> NDArray[np.float32]:
    """The audio of ``chunks`` (chunks, samples), read-only; in place where it is a view of one chunk or of evenly spaced ones.

    ValueError where the windows differ in length.
    """
    each = [chunk.audio for chunk in chunks]
    if len(each) == 1:
        return each[0][np.newaxis]
    places = [window.__array_interface__["data"][0] for window in each]
    steps = {after - before for before, after in itertools.pairwise(places)}
    step = steps.pop()
    base = each[0].base  # None: each window owns its memory, and only by chance lies as far from the next as others do
    same = base is not None and all(window.base is base and window.strides == each[0].strides for window in each)
    if steps or not same or len({len(window) for window in each}) > 1:
        return np.stack(each)
    return np.lib.stride_tricks.as_strided(each[0], (len(each), len(each[0])), (step, 4), writeable=False)


class Stage(ABC):
    """A step of the pipeline that takes chunks of any stream, in any order, and adds fields to them.

    The process calls ``open`` once, before anything else and in the thread that calls ``process``; then ``process``
    again and again with one or more chunks, of one stream or of several. There is no guarantee that chunks of a stream
    come in order, once only, or to this process at all: replicas share the work and chunks are sent again after a
    fault. So the same chunk must give the same fields each time, whatever else is in the batch, and nothing may be
    remembered from one call to the next. The classic mistake is to keep an array of a chunk without copying it.
    """

    name: str
    consumes: tuple[
        str, ...
    ] = ()  # fields of a chunk that it reads; that some stage before gives them is checked beforehand
    produces: tuple[str, ...] = ()  # fields that it adds or replaces
    model_s: float = 0.0  # of processor time in its models so far, where a stage counts it

    def __init__(self, config: StageConfig) -> None:
        """``config`` is the stage's own table of the topology: model, device, options."""
        self.config = config

    def open(self) -> None:  # noqa: B027  # optional
        """Load what takes long (models). Raise a DiartMpError with a line for the user if that cannot be."""

    @abstractmethod
    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """One map of new fields per chunk, in the same order; an empty map says "nothing here"."""

    def idle(self) -> float:
        """Nothing waits: a stage may work ahead, for some 10 ms, if no field changes by it. Returns s until it wants to be asked again."""
        return math.inf


def work_ahead(stage: Stage) -> float:
    """Call ``idle``; what goes wrong there goes wrong again when the chunk is there, and is told then."""
    try:
        return max(0.0, stage.idle())
    except Exception:  # noqa: BLE001  # a stage's own code
        return math.inf


class KeyedStage(Stage):
    """A stage that remembers something of each stream: it gets all chunks of a stream, in order, each exactly once.

    ``process`` gets one chunk per call. ``checkpoint`` may be asked for after any chunk and must hold everything that
    ``restore`` needs to go on as if nothing had happened, here or in another process: a replayed stream begins
    with ``restore`` (also to a point before the present one) or, from chunk 0, with ``restore(stream, None)``. The
    classic mistake is a checkpoint that leaves out results that are not given out yet.
    """

    @abstractmethod
    def checkpoint(self, stream: str) -> bytes:
        """The state of a stream after the last chunk that was processed."""

    @abstractmethod
    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        """Replace the state of a stream; None means its beginning. Raise ProtocolError for bytes that are no checkpoint."""

    def finish(self, end: Chunk) -> Mapping[str, FieldValue]:
        """All chunks of a stream are done: new fields for its owner, if there is a last word to say.

        ``end`` has no window: its ``start`` is the length of the stream in samples. ``forget`` follows. After a fault it may be
        asked for again, with ``restore`` and the chunks after the checkpoint before it, and must say the same.
        """
        return {}

    @abstractmethod
    def forget(self, stream: str) -> None:
        """The stream has ended: drop its state."""
