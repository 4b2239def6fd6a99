"""The pipeline as a Python object: stages in processes of their own, streams in this one.

    with Pipeline() as pipeline:
        for update in pipeline.stream(AudioFile("talk.wav")):
            print(update.turns)

This process owns the streams (``runtime.hosted``) and watches the stages, each in a thread; results are as in ``diart-mp run``. If it
dies, so do its streams. Runs in programs that use the library.
"""

import asyncio
import itertools
import queue
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import zmq
from numpy.typing import NDArray

from diart_mp.audio.file import FileSource
from diart_mp.audio.push import PushSource
from diart_mp.audio.source import Source
from diart_mp.config import Settings
from diart_mp.errors import AudioError, DiartMpError, StageError
from diart_mp.outputs.events import update_from_dict
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.hosted import HostedOwner
from diart_mp.runtime.local import Models, default_stages
from diart_mp.runtime.owner import Owner
from diart_mp.runtime.rundir import RunDirectory
from diart_mp.runtime.stream import OwnedStream
from diart_mp.runtime.supervisor import Supervisor
from diart_mp.topology import FOREIGN, StageConfig, Topology
from diart_mp.turns import Update

AudioFile = FileSource
Hook = Callable[[Update], None]
_START_S = 120.0
_EPOCH = 1  # of the owner: it lives as long as the pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What runs: hyper-parameters, models, and ``stages`` (``runtime.chain.compose``) where they are not the usual ones."""

    settings: Settings = field(default_factory=Settings)
    models: Models = field(default_factory=Models)
    stages: Sequence[StageConfig] | None = None
    max_in_flight: int = 32


class Stream:
    """One stream: iterate over it for its updates, in order; ``write`` and ``end`` it if it was opened for pushing.

    Updates that nobody takes wait in memory. Iterating raises what went wrong once the updates before that are taken.
    """

    def __init__(self, source: Source, hooks: Sequence[Hook]) -> None:
        self.name, self.source = source.name, source
        self._hooks = list(hooks)
        self._updates: queue.SimpleQueue[Update | Exception | None] = queue.SimpleQueue()
        self._over = False

    def write(self, samples: NDArray[Any], timeout: float | None = None) -> None:
        """Add samples, (n,) or (n, channels), of any n; waits while more than 10 s wait. AudioError as ``PushSource.write``."""
        self._pushed().write(samples, timeout)

    async def awrite(self, samples: NDArray[Any], timeout: float | None = None) -> None:
        """``write``, without holding up the event loop while it waits."""
        await asyncio.to_thread(self.write, samples, timeout)

    def end(self) -> None:
        """There is no more audio; what is on its way still comes."""
        self._pushed().end()

    def attach(self, hook: Hook) -> None:
        """Have ``hook`` called with each update, in a thread of the pipeline's; it must be quick. What it raises ends the stream."""
        self._hooks.append(hook)

    def __iter__(self) -> Iterator[Update]:
        while not self._over:
            item = self._updates.get()
            self._over = not isinstance(item, Update)
            if isinstance(item, Exception):
                raise item
            if item is not None:
                yield item

    async def __aiter__(self) -> AsyncIterator[Update]:
        updates = iter(self)
        while (update := await asyncio.to_thread(next, updates, None)) is not None:
            yield update

    def _pushed(self) -> PushSource:
        if not isinstance(self.source, PushSource):
            msg = (
                f"{self.name} is read from {type(self.source).__name__}; only a stream of Pipeline.open can be written"
            )
            raise AudioError(msg)
        return self.source

    def _report(self, event: str, **values: Any) -> None:
        """What the owner says of the stream; in the owner's thread."""
        if event == "result":
            update = update_from_dict(values["update"], rate=values["rate"])
            self._updates.put(update)
            for hook in self._hooks:
                try:
                    hook(update)
                except Exception as error:  # noqa: BLE001  # the user's own code; its failure is his stream's
                    self._fail(error)
        elif event in ("failed", "error"):
            self._fail(StageError(str(values["text"])))
        elif event == "done":
            self._updates.put(None)

    def _fail(self, error: Exception) -> None:
        self._updates.put(error)


class Pipeline:
    """Stages that run as long as the ``with`` block; any number of streams at a time. StageError if they cannot start."""

    def __init__(
        self, config: PipelineConfig | None = None, *, on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """``on_event`` gets what ``diart-mp run`` shows (restarts, notes ...), in a thread of the pipeline's."""
        self.config = config or PipelineConfig()
        self._on_event = on_event
        self._stack = ExitStack()
        self._numbers = itertools.count()
        self._streams: dict[str, tuple[Stream, OwnedStream]] = {}
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._failure: Exception | None = None

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory = RunDirectory()
            stack.enter_context(self._directory)
            self._topology = self._place(self._directory.path)
            file = self._directory.path / "topology.toml"
            self._topology.write(file)
            context = zmq.Context[zmq.Socket[bytes]]()
            stack.callback(context.destroy, linger=0)
            name = self._topology.stages[0].name
            self._control = _Orders(context, "", stage=name, replica=0, epoch=_EPOCH)
            owner = Owner(self._topology, stage=name, epoch=_EPOCH, control=self._control, context=context)
            self._hosted = HostedOwner(owner, on_drain=lambda: None, on_end=self._on_owner_end)
            stack.callback(self._hosted.stop)
            thread = threading.Thread(target=self._supervise, args=(file,), name="supervisor", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._stopping.set)
            if not self._ready.wait(_START_S) or self._failure is not None:
                raise self._failure or StageError(f"the stages were not ready within {_START_S:.0f} s")
            self._hosted.start()
            stack.callback(self._discard_streams)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await asyncio.to_thread(self.__exit__)

    def stream(
        self,
        source: Source,
        *,
        output: Path | None = None,
        formats: Sequence[str] = ("rttm",),
        hooks: Iterable[Hook] = (),
    ) -> Stream:
        """Diarize ``source``; with ``output``, files as ``diart-mp run`` writes them. OutputError if they cannot be."""
        stream = Stream(source, list(hooks))
        opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

        def begin() -> None:
            try:
                owned = self._own(stream, output, formats if output is not None else ())
            except DiartMpError as error:
                opened.put(error)
                return
            self._streams[owned.id] = (stream, owned)
            self._hosted.owner.add(owned)
            opened.put(None)

        if self._failure is not None or not self._hosted.call(begin):
            raise self._failure or StageError("the pipeline has ended; streams begin inside its with block")
        if (error := opened.get()) is not None:
            raise error
        return stream

    def open(
        self, name: str = "stream", *, rate: int = 16_000, channels: int = 1, live: bool = True, **options: Any
    ) -> Stream:
        """A stream that is written by the caller; ``live`` as of ``Source``, ``options`` as of ``stream``."""
        settings = self.config.settings
        return self.stream(PushSource(name, settings.rate, rate, channels, live=live), **options)

    def pids(self) -> dict[str, int]:
        """Process ids of the stages by name."""
        return self._supervisor.pids()

    def _place(self, directory: Path) -> Topology:
        stages = self.config.stages or default_stages(self.config.models)
        owner = replace(stages[0], implementation=FOREIGN)
        placed = [replace(each, bind=each.bind or f"ipc://{directory / each.name}") for each in (owner, *stages[1:])]
        return Topology(
            run=self._directory.run,
            directory=str(directory),
            stages=tuple(placed),
            results=f"ipc://{directory / 'results'}",
            control=f"ipc://{directory / 'control'}",
            max_in_flight=self.config.max_in_flight,
        )

    def _own(self, stream: Stream, output: Path | None, formats: Sequence[str]) -> OwnedStream:
        source, settings, topology = stream.source, self.config.settings, self._topology
        stream_id = f"{topology.run}-{next(self._numbers)}"

        def report(event: str, **values: Any) -> None:
            stream._report(event, **values)  # the two are one thing
            if event in ("done", "failed"):
                self._hosted.call(lambda: self._let_go(stream_id))

        return OwnedStream(
            stream_id,
            source,
            settings,
            directory=Path(topology.directory),
            epoch=_EPOCH,
            max_in_flight=topology.max_in_flight,
            reply_to=topology.results,
            open_outputs=lambda resume: OutputSet(
                output or Path(), source.name, formats, rate=settings.rate, recorded=not source.live, resume=resume
            ),
            report=report,
        )

    def _let_go(self, stream_id: str) -> None:
        """Keep nothing of a stream that is over; one that failed may still have results on their way."""
        owned = self._streams[stream_id][1]
        if not self._hosted.owner.owns(owned):
            del self._streams[stream_id]
            owned.discard()

    def _supervise(self, file: Path) -> None:
        """Watch the stages until the pipeline ends; the supervisor's thread."""
        try:
            with Supervisor(self._topology, file, on_event=self._event) as supervisor:
                self._supervisor = supervisor
                supervisor.start()
                while not self._stopping.is_set():
                    supervisor.step()
        except Exception as error:  # noqa: BLE001  # a thread has nobody above it to tell
            self._fail(error)

    def _event(self, event: dict[str, Any]) -> None:
        if event["event"] == "ready":
            self._ready.set()
        elif event["event"] == "order":
            self._control.orders.put(event["order"])
        elif self._on_event is not None:
            self._on_event(event)

    def _on_owner_end(self, error: BaseException | None) -> None:
        if error is not None:
            self._fail(StageError(f"the owner of the streams has ended: {error}"))

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._ready.set()
        for stream, _ in list(self._streams.values()):
            stream._fail(error)

    def _discard_streams(self) -> None:
        """Leave nothing of streams that are not over."""
        done = threading.Event()

        def discard() -> None:
            for stream, owned in self._streams.values():
                self._hosted.owner.remove(owned)
                owned.discard()
                stream._fail(StageError(f"the pipeline has ended before {stream.name}"))
            done.set()

        if self._hosted.call(discard):
            done.wait(_START_S)


class _Orders(StageControl):
    """What a supervisor in the same process tells the owner."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def commands(self) -> list[dict[str, Any]]:
        """See ``StageControl.commands``."""
        return [self.orders.get_nowait() for _ in range(self.orders.qsize())]


def to_annotation(updates: Iterable[Update], uri: str | None = None) -> Any:
    """The turns of ``updates`` as a ``pyannote.core.Annotation``, those less than 50 ms apart joined."""
    from pyannote.core import Annotation, Segment

    annotation = Annotation(uri=uri)
    for update in updates:
        for turn in update.turns:
            segment = Segment(turn.start / update.rate, turn.end / update.rate)
            annotation[segment, annotation.new_track(segment)] = turn.speaker
    return annotation.support(0.05)
