"""The capture stage: opens the audio sources and owns their streams. Runs as the process of that name."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

import zmq

from diart_mp.audio.source import Source
from diart_mp.errors import UsageError
from diart_mp.outputs.writer import OutputSet
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.owner import Owner
from diart_mp.runtime.stream import OwnedStream
from diart_mp.topology import Job, SourceConfig, Topology

NAME = "capture"


def open_source(config: SourceConfig, rate: int) -> Source:
    """The source that a topology describes; AudioError if it cannot be opened."""
    channel = None if config.channel < 0 else config.channel
    if config.kind == "file":
        from diart_mp.audio.file import FileSource

        return FileSource(Path(config.path), rate=rate, channel=channel)
    if config.kind == "microphone":
        from diart_mp.audio.microphone import MicrophoneSource

        device = int(config.device) if config.device.isdigit() else config.device or None
        return MicrophoneSource(device, rate=rate, channel=channel)
    if config.kind == "pcm":
        from diart_mp.audio.convert import Encoding
        from diart_mp.audio.pcm import PcmSource

        return PcmSource(
            config.fd,
            encoding=cast(Encoding, config.encoding),
            input_rate=config.input_rate,
            channels=config.channels,
            rate=rate,
            channel=channel,
        )
    if config.kind == "paced":
        from diart_mp.audio.paced import PacedSource

        return PacedSource(Path(config.path), rate=rate, channel=channel, delay_s=config.delay_ms / 1000)
    msg = f"unknown kind of source '{config.kind}'; known: file, microphone, pcm, paced"
    raise UsageError(msg)


class Capture:
    """Owns the streams of one job."""

    def __init__(
        self,
        topology: Topology,
        *,
        epoch: int,
        control: StageControl,
        context: zmq.Context[zmq.Socket[bytes]],
    ) -> None:
        if topology.job is None:
            msg = "this topology has no [job]: nothing to capture"
            raise UsageError(msg)
        self._topology, self._job, self._epoch = topology, topology.job, epoch
        self._control = control
        self._owner = Owner(topology, stage=NAME, epoch=epoch, control=control, context=context)

    def run(self) -> None:
        """Wait for the start, then run all streams to their ends."""
        self._control.ready()
        shown = self._wait_for_start()
        if shown is None:
            return
        sources = enumerate(self._job.sources)
        others = sum(source.kind != "file" for source in self._job.sources)  # these cannot wait
        jobs = max(1, others, self._job.jobs)
        self._owner.run([self._opener(index, config, shown) for index, config in sources], jobs=jobs)
        if not self._owner.stopped:
            self._owner.report("finished")

    def close(self) -> None:
        """Close everything; idempotent."""
        self._owner.close()

    def _wait_for_start(self) -> dict[str, int] | None:
        """What of each stream has been shown to the user already (by an earlier process); None if it is to end at once."""
        while self._control.socket is not None:
            self._control.socket.poll()
            for command in self._control.commands(until="start"):
                if command["kind"] == "start":
                    shown = command.get("shown")
                    return shown if isinstance(shown, dict) else {}
                if command["kind"] in ("stop", "drain"):
                    return None
        return {}

    def _opener(self, index: int, config: SourceConfig, shown: dict[str, int]) -> Callable[[], OwnedStream]:
        def open_stream() -> OwnedStream:
            topology, job = self._topology, self._job
            source = open_source(config, job.settings.rate)
            source.name = config.name
            stream = OwnedStream(
                f"{topology.run}-{index}",
                source,
                job.settings,
                directory=Path(topology.directory),
                epoch=self._epoch,
                max_in_flight=topology.max_in_flight,
                reply_to=topology.results,
                open_outputs=lambda resume: _open_outputs(topology, job, source, resume=resume),
                report=self._owner.report,
            )
            for line in stream.shown(shown.get(source.name, -1)):
                self._owner.report("result", update=line, rate=job.settings.rate)
            return stream

        return open_stream


def _may_revise(topology: Topology, job: Job) -> bool:
    """Diart's own clustering takes back nothing but what it said early; stages of somebody else may."""
    return job.settings.clustering != "exact" or any(stage.implementation for stage in topology.stages)


def _open_outputs(topology: Topology, job: Job, source: Source, *, resume: bool) -> OutputSet:
    revisable = _may_revise(topology, job)
    settings = job.settings
    early = settings.start == "early" and settings.latency < settings.duration and not revisable
    return OutputSet(
        Path(job.output),
        source.name,
        job.formats,
        rate=job.settings.rate,
        recorded=not source.live,
        force=job.force,
        resume=resume,
        revisable=revisable,
        early=2 * settings.duration if early else 0,
    )
