"""A whole pipeline on this host for one job: run folder, topology, supervisor, and the events on their way to a view.

Knows nothing of options or terminals. Runs in the process of ``diart-mp run``, and in whatever else wants a job done.
"""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

from diart_mp.precision import Precision
from diart_mp.runtime.provision import Provisioned
from diart_mp.runtime.rundir import RunDirectory
from diart_mp.runtime.shares import Shares
from diart_mp.runtime.supervisor import Supervisor
from diart_mp.topology import CHAIN, GatewayConfig, Job, StageConfig, Topology

_EMBEDDING_SHARE = {Precision.EXACT: 0.62, Precision.FAST: 0.3, Precision.REFERENCE: 0.55}  # of the work on a chunk
_WORKER_S = 90.0  # of audio for each worker beyond two: less is done before it has loaded its model
_COSTLY_WORKER_S = 15.0  # the same with the larger networks of checkpoints: up to ten times the work on a chunk
_MOST_WORKERS = 9

OnEvent = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Models:
    """Which models run, and where: in ``workers`` processes of segmentation and embedding together, at least one of each."""

    segmentation: str = "builtin"
    embedding: str = "builtin"
    device: str = "cpu"
    precision: str = Precision.EXACT.value
    threads: int = 1
    workers: int = 2


@dataclass(slots=True)
class RunSummary:
    """What a run did, as far as it got."""

    results: int = 0
    seconds: dict[str, float] = field(default_factory=dict)  # of audio, by stream
    failures: list[str] = field(default_factory=list)
    restarts: int = 0
    gaps_s: float = 0.0
    skipped: int = 0
    started_at: float = field(default_factory=time.monotonic)
    ready_at: float | None = None
    shares: Shares = field(default_factory=Shares)

    @property
    def audio_s(self) -> float:
        """Seconds of audio of all streams."""
        return sum(self.seconds.values())

    @property
    def wall_s(self) -> float:
        """Seconds since all stages were ready."""
        return time.monotonic() - (self.ready_at or self.started_at)


class LocalPipeline:
    """Runs one job; a context manager that leaves nothing behind. ``directory`` is its run folder."""

    def __init__(
        self,
        job: Job | GatewayConfig,
        models: Models,
        *,
        on_event: OnEvent,
        inherit: tuple[int, ...] = (),
        environment: Mapping[str, str] | None = None,
        stages: Sequence[StageConfig] | None = None,
        plan: Topology | None = None,
        provision: Callable[[Callable[[str], None]], Provisioned] | None = None,
        **limits: Any,
    ) -> None:
        """``stages``: another chain than the default one (``runtime.chain``). ``limits``: max_in_flight, silence_s and stuck_s of the topology.

        ``plan``: a topology for several hosts, whose stages at home are started here; ``provision``
        makes what starts the others, and gets what takes its notes.
        """
        self.summary, self._plan = RunSummary(), plan
        self._on_event = on_event
        self._directory = RunDirectory()
        self.directory = self._directory.path
        topology = make_topology(self._directory, job, models, stages, plan, **limits)
        file = self._directory.path / "topology.toml"
        topology.write(file)
        self._provisioned = provision(self._note) if provision is not None else None
        self.supervisor = Supervisor(topology, file, on_event=self._event, inherit=inherit, environment=environment)

    def __enter__(self) -> Self:
        self._directory.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        if self._provisioned is not None:
            self._provisioned.__exit__()
        self.supervisor.__exit__()
        self._directory.__exit__()

    def run(self, each_step: Callable[[], None] = lambda: None) -> RunSummary:
        """Until the job is done; ``each_step`` is called many times a second. Raises StageError where it cannot go on."""
        self.supervisor.start()
        while not self.supervisor.finished:
            self.supervisor.step()
            if self._provisioned is not None:
                self._provisioned.step()
            each_step()
        return self.summary

    def _note(self, text: str) -> None:
        self._event({"event": "note", "stream": "", "text": text})

    def _event(self, event: dict[str, Any]) -> None:
        summary = self.summary
        match event["event"]:
            case "ready":
                summary.ready_at = time.monotonic()
            case "result":
                summary.results += 1
                if self._plan is not None and event["update"]["latency_ms"] is not None:
                    summary.shares.add(event["trace"], event["update"]["latency_ms"])
            case "restart":
                summary.restarts += 1
            case "failed" | "error":
                summary.failures.append(str(event["text"]))
            case "gap":
                summary.gaps_s += event["seconds"]
            case "skipped":
                summary.skipped += event["windows"]
            case "progress" | "done":
                summary.seconds[event["stream"]] = event["seconds"]
        self._on_event(event)


def default_stages(models: Models, owner: str = CHAIN[0]) -> tuple[StageConfig, ...]:
    """The stages of speaker diarization, not placed yet."""
    references = {"segmentation": models.segmentation, "embedding": models.embedding}
    replicas = _replicas(models)
    return tuple(
        StageConfig(
            name=name,
            keyed=name == "clustering",
            model=references.get(name, ""),
            device=models.device if name in references else "cpu",
            precision=models.precision,
            threads=models.threads,
            replicas=replicas.get(name, 1),
        )
        for name in (owner, *CHAIN[1:])
    )


def _replicas(models: Models) -> Mapping[str, int]:
    """The workers of each stage that has models, by what a chunk costs there."""
    embedding = max(1, min(models.workers - 1, round(models.workers * _EMBEDDING_SHARE[Precision(models.precision)])))
    return {"segmentation": max(1, models.workers - embedding), "embedding": embedding}


def workers_for(audio_s: float, *, costly: bool = False) -> int:
    """How many workers are worth their start for so much recorded audio: one more than there are cores, so that none rests."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores + 1, _MOST_WORKERS, 2 + int(audio_s // (_COSTLY_WORKER_S if costly else _WORKER_S)))


def make_topology(
    directory: RunDirectory,
    job: Job | GatewayConfig,
    models: Models,
    stages: Sequence[StageConfig] | None = None,
    plan: Topology | None = None,
    **limits: Any,
) -> Topology:
    """The default chain, ``stages``, or those of ``plan``, with Unix sockets in the run folder where they name no endpoint.

    A gateway stands in place of capture if that is what is wanted.
    """
    gateway = job if isinstance(job, GatewayConfig) else None

    def endpoint(name: str) -> str:
        return f"ipc://{directory.path / name}"

    if plan is not None:
        stages = plan.stages
    elif stages is None:
        stages = default_stages(models, CHAIN[0] if gateway is None else "gateway")
    base = plan or Topology(stages=())
    return replace(
        base,
        run=directory.run,
        directory=str(directory.path),
        stages=tuple(replace(stage, bind=stage.bind or endpoint(stage.name)) for stage in stages),
        results=base.results or endpoint("results"),
        control=endpoint("control"),
        job=job if isinstance(job, Job) else None,
        gateway=gateway,
        **limits,
    )
