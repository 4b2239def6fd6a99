"""Measuring a pipeline: a whole run under a given load, and the times of every chunk on its way through it.

Every result says when its chunk was where (its trace), on the one monotonic clock of this host; processor time and memory
come from the kernel. What the numbers mean is the business of ``bench_report``; nothing is printed here. Runs
in the process of ``diart-mp bench``, which is also the supervisor's.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.errors import ProtocolError, StageError
from diart_mp.evaluation.processes import Usage, UsageLog
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig

SUPERVISOR = "supervisor"  # in ``Measurement.usage``: this process
_SAMPLE_S = 0.25  # between two looks at the processes


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What a pipeline is given to do: ``streams`` at a time, which share ``recordings`` in turn.

    ``live``: the recordings are played at the pace of the clock, each stream a little later than the one before, so that
    their steps are spread evenly over one step; else they are read as fast as they are wanted.
    """

    recordings: tuple[Path, ...]
    streams: int = 1
    live: bool = False

    def job(self, settings: Settings) -> Job:
        """The job for a pipeline; nothing is written."""
        step_ms = 1000 * settings.step / settings.rate
        sources = (
            SourceConfig(
                kind="paced" if self.live else "file",
                name=f"stream{index}",
                path=str(self.recordings[index % len(self.recordings)].absolute()),
                delay_ms=round(step_ms * index / self.streams) if self.live else 0,
            )
            for index in range(self.streams)
        )
        return Job(sources=tuple(sources), settings=settings, jobs=self.streams)


@dataclass(frozen=True, slots=True)
class Hop:
    """A chunk in a stage: when it came, when its batch of ``batch`` chunks was begun, when it was done (monotonic ns)."""

    stage: str
    replica: int
    arrived: int
    started: int
    done: int
    batch: int


@dataclass(frozen=True, slots=True)
class ChunkTimes:
    """The way of one chunk (monotonic ns): last sample captured, sent by its owner, through the stages, answered."""

    stream: str
    seq: int
    captured: int
    sent: int
    hops: tuple[Hop, ...]
    answered: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """All that one run showed.

    Times in s: ``start_s`` until all stages were ready, ``first_s`` until the first result, both from the start of the run;
    ``wall_s`` from ready until the last stream was over; ``audio_s`` of all streams together. ``usage`` by process (from
    ready on), the supervisor's included; ``models_s``: how much of it was spent in models. ``skipped`` windows and ``lost_s`` of audio are what overload cost live streams.
    """

    chunks: tuple[ChunkTimes, ...]
    pids: Mapping[str, int]
    usage: Mapping[str, Usage]
    start_s: float
    first_s: float
    wall_s: float
    audio_s: float
    skipped: int = 0
    lost_s: float = 0.0
    models_s: Mapping[str, float] = field(default_factory=dict)


def measure(
    load: Load, models: Models, settings: Settings, *, environment: Mapping[str, str] | None = None
) -> Measurement:
    """Run a pipeline under ``load`` in fresh processes. Raises StageError where a run fails or a stage dies on the way."""
    recorder = _Recorder()
    with LocalPipeline(load.job(settings), models, on_event=recorder.event, environment=environment) as pipeline:
        summary = pipeline.run()
        models_s = {
            each["stage"]: (each["counters"] or {}).get("model_ms", 0) / 1000
            for each in pipeline.supervisor.status()["stages"]
        }
    if summary.failures:
        msg = f"nothing was measured, since {len(summary.failures)} chunks or streams failed; first: {summary.failures[0]}"
        raise StageError(msg)
    return recorder.measurement(
        skipped=summary.skipped, lost_s=summary.gaps_s, audio_s=summary.audio_s, models_s=models_s
    )


def chunk_times(event: Mapping[str, Any]) -> ChunkTimes:
    """The times in a "result" event; ProtocolError where its trace is not one of a whole chain."""
    update = event["update"]
    try:
        (_, _, captured, sent), *hops = event["trace"]
        return ChunkTimes(
            stream=update["stream"],
            seq=update["seq"],
            captured=captured,
            sent=sent,
            hops=tuple(Hop(*hop) for hop in hops),
            answered=captured + round(1e6 * update["latency_ms"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        msg = (
            f"chunk {update['seq']} of {update['stream']} has no whole trace ({error}): is a stage of another version?"
        )
        raise ProtocolError(msg) from error


def find_capacity(holds: Callable[[int], bool], *, most: int) -> int:
    """The largest number of streams, up to ``most``, that ``holds``; 0 if not even one does.

    Doubles until it fails, then halves the gap: about 2 log2(result) calls. More streams are taken to be never easier.
    """
    good, bad = 0, most + 1
    while bad - good > 1:
        tried = min(max(1, 2 * good), most) if bad > most else (good + bad) // 2
        good, bad = (tried, bad) if holds(tried) else (good, tried)
    return good


@dataclass(slots=True)
class _Recorder:
    """Notes what a run tells."""

    begun: float = field(default_factory=time.monotonic)
    ready: float = 0.0
    first: float = 0.0
    ended: float = 0.0
    chunks: list[ChunkTimes] = field(default_factory=list)
    pids: Mapping[str, int] = field(default_factory=dict)
    log: UsageLog = field(default_factory=lambda: UsageLog({}))
    looked: float = 0.0

    def event(self, event: Mapping[str, Any]) -> None:
        """One event of the pipeline."""
        now = time.monotonic()
        match event["event"]:
            case "ready":
                self.ready, self.pids = now, event["pids"]
                self.log = UsageLog({**self.pids, SUPERVISOR: os.getpid()})
            case "result" if "trace" in event:  # the last word has none
                self.first = self.first or now
                self.chunks.append(chunk_times(event))
            case "restart":
                msg = f"nothing was measured: {event['text']} (it last said: {event['log'] or 'nothing'})"
                raise StageError(msg)
            case "done":
                self.ended = now
                self.log.sample()
            case "progress" if now - self.looked > _SAMPLE_S:
                self.looked = now
                self.log.sample()

    def measurement(self, *, skipped: int, lost_s: float, audio_s: float, models_s: Mapping[str, float]) -> Measurement:
        """What has been noted, after the end of the run."""
        if not self.chunks:
            msg = f"nothing was measured: {audio_s:.2f} s of audio gave no result; take a longer recording"
            raise StageError(msg)
        return Measurement(
            chunks=tuple(self.chunks),
            pids=self.pids,
            usage=self.log.used(),
            start_s=self.ready - self.begun,
            first_s=self.first - self.begun,
            wall_s=self.ended - self.ready,
            audio_s=audio_s,
            skipped=skipped,
            lost_s=lost_s,
            models_s=models_s,
        )


def stages_of(chunks: Sequence[ChunkTimes]) -> list[str]:
    """Names of the stages in the order in which chunks pass them; the owner, which has no hop, is not among them."""
    return list(dict.fromkeys(hop.stage for chunk in chunks for hop in chunk.hops))
