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
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Self

import zmq

from diart_mp.audio.file import FileSource
from diart_mp.audio.push import PushSource
from diart_mp.audio.source import Source
from diart_mp.config import Settings
from diart_mp.errors import DiartMpError, StageError
from diart_mp.outputs.formats import Kind
from diart_mp.outputs.output import Output
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.outputs.writer import OutputSet
from diart_mp.pipeline_stream import Hook, Stream
from diart_mp.runtime.chain import check_chain
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
_START_S = 330.0  # more than the supervisor lets a stage take, which says which one it is
_ALIVE_S = 1.0  # after which it is asked whether somebody still works on an answer
_EPOCH = 1  # of the owner: it lives as long as the pipeline


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """What runs: hyper-parameters, models, and ``stages`` (``runtime.chain.compose``) where they are not the usual ones."""

    settings: Settings = field(default_factory=Settings)
    models: Models = field(default_factory=Models)
    stages: Sequence[StageConfig] | None = None
    max_in_flight: int = 64


class Pipeline:
    """Stages that run as long as the ``with`` block; any number of streams at a time. StageError if they cannot start."""

    def __init__(
        self, config: PipelineConfig | None = None, *, on_event: Callable[[dict[str, Any]], None] | None = None
    ) -> None:
        """``on_event`` gets what ``diart-mp run`` shows (restarts, gaps, skipped windows, notes ...), in threads of the pipeline's."""
        self.config = config or PipelineConfig()
        self._on_event = on_event
        self._stack = ExitStack()
        self._hosted: HostedOwner | None = None

    def __enter__(self) -> Self:
        if self._call(_nothing):
            msg = "the pipeline runs already; make another Pipeline for another with block"
            raise StageError(msg)
        self._numbers = itertools.count()
        self._streams: dict[str, tuple[Stream, OwnedStream]] = {}
        self._ready, self._stopping = threading.Event(), threading.Event()
        self._failure: Exception | None = None
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
            hosted = HostedOwner(owner, on_drain=lambda: None, on_end=self._on_owner_end)
            stack.callback(hosted.stop)
            thread = threading.Thread(target=self._supervise, args=(file,), name="supervisor", daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self._stopping.set)
            if not self._ready.wait(_START_S) or self._failure is not None:
                raise self._failure or StageError(f"the stages were not ready within {_START_S:.0f} s")
            hosted.start()
            self._hosted = hosted
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
        formats: Sequence[Kind] = ("rttm",),
        hooks: Iterable[Hook | Output] = (),
    ) -> Stream:
        """Diarize ``source``; with ``output``, a folder, what ``diart-mp run`` writes there, also classes of your own. OutputError if it cannot be.

        ``hooks`` as of ``Stream.attach``.
        """
        hosted = self._hosted
        if hosted is None:
            msg = "the pipeline does not run yet; streams begin inside its with block"
            raise StageError(msg)
        opened: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()
        stream_id = f"{self._topology.run}-{next(self._numbers)}"
        stream = Stream(source, list(hooks), lambda: hosted.call(lambda: self._discard(stream_id)))

        def begin() -> None:
            try:
                owned = self._own(stream_id, stream, output, formats if output is not None else ())
            except DiartMpError as error:
                opened.put(error)
                return
            self._streams[stream_id] = (stream, owned)
            hosted.owner.add(owned)
            opened.put(None)

        if self._failure is None and hosted.call(begin):
            if (error := self._answer(hosted, opened)) is not None:
                raise error
            return stream
        raise self._failure or StageError("the pipeline has ended; streams begin inside its with block")

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
        stages = check_chain(self.config.stages) if self.config.stages else default_stages(self.config.models)
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

    def _answer(self, hosted: HostedOwner, opened: "queue.SimpleQueue[Exception | None]") -> Exception | None:
        """What the owner's thread says; also where it ends before it says anything."""
        while True:
            try:
                return opened.get(timeout=_ALIVE_S)
            except queue.Empty:
                if not hosted.call(_nothing):
                    return self._failure or StageError("the pipeline has ended")

    def _own(self, stream_id: str, stream: Stream, output: Path | None, formats: Sequence[Kind]) -> OwnedStream:
        source, settings, topology = stream.source, self.config.settings, self._topology

        def report(event: str, **values: Any) -> None:
            if event in ("done", "failed"):  # first, so that it is let go before whatever its reader asks for next
                self._call(lambda: self._let_go(stream_id))
            stream.report(event, **values)
            if event not in ("done", "failed", "result") and self._on_event is not None:
                self._on_event({"event": event, **values})

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
        if stream_id in self._streams and not self._owner().owns(self._streams[stream_id][1]):
            self._discard(stream_id)

    def _discard(self, stream_id: str) -> None:
        """Leave nothing of a stream; in the owner's thread."""
        if stream_id in self._streams:
            owned = self._streams.pop(stream_id)[1]
            self._owner().remove(owned)
            owned.discard()

    def _owner(self) -> Owner:
        assert self._hosted is not None  # noqa: S101  # there are no streams before
        return self._hosted.owner

    def _call(self, function: Callable[[], None]) -> bool:
        return self._hosted is not None and self._hosted.call(function)

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
            stream.fail(error)

    def _discard_streams(self) -> None:
        """Leave nothing of streams that are not over."""
        done = threading.Event()

        def discard() -> None:
            for stream_id, (stream, _) in list(self._streams.items()):
                self._discard(stream_id)
                stream.fail(StageError(f"the pipeline has ended before {stream.name}"))
            done.set()

        if self._call(discard):
            done.wait(_START_S)


def _nothing() -> None:
    """What an owner that lives can be asked to do."""


class _Orders(StageControl):
    """What a supervisor in the same process tells the owner."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.orders: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()

    def commands(self, *, until: str = "") -> list[dict[str, Any]]:
        """See ``StageControl.commands``."""
        commands = list[dict[str, Any]]()
        while not self.orders.empty() and (not commands or commands[-1]["kind"] != until):
            commands.append(self.orders.get_nowait())
        return commands


def to_annotation(updates: Iterable[Update], uri: str | None = None) -> Any:
    """The turns of ``updates`` as a ``pyannote.core.Annotation``, as outputs have them: those less than 50 ms apart joined, revisions folded in."""
    from pyannote.core import Annotation, Segment

    annotation, known, rate = Annotation(uri=uri), None, 1
    for update in updates:
        known, rate = known or RevisedTurns(update.rate), update.rate
        known.push(update)
    for turn in known.turns() if known is not None else ():
        segment = Segment(turn.start / rate, turn.end / rate)
        annotation[segment, annotation.new_track(segment)] = turn.speaker
    return annotation
