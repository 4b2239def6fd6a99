"""Runs of whole pipelines with processes killed on a schedule, for the tests of faults."""

import os
import random
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline, Models, RunSummary
from diart_mp.topology import Job, SourceConfig, StageConfig


@dataclass(frozen=True, slots=True)
class Kill:
    """After ``results`` results, at least one since the last kill, and once all of ``victims`` are up, kill them together."""

    results: int
    victims: tuple[str, ...]


def schedule(seed: int, victims: Sequence[str], *, kills: int, results: int, together: int = 1) -> list[Kill]:
    """``kills`` moments, drawn from ``seed``, of a run of ``results`` results; each hits ``together`` of ``victims``."""
    generator = random.Random(seed)
    moments = sorted(generator.sample(range(results), kills))
    return [Kill(moment, tuple(generator.sample(list(victims), together))) for moment in moments]


def set_brake(file: Path, seconds: float) -> None:
    """How long each chunk takes from now on in a stage with the fault ``slow=FILE``; never half a number to a reader."""
    file.with_suffix(".new").write_text(str(seconds))
    os.replace(file.with_suffix(".new"), file)


class Stranger:
    """A stage that is a program of somebody else: started by ``command``, and again after each kill."""

    def __init__(self, *command: str, cwd: Path | None = None) -> None:
        self.command, self._cwd = command, cwd
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, in place of the one before."""
        self.stop()
        self._process = subprocess.Popen(self.command, cwd=self._cwd)

    def stop(self) -> None:
        """Kill and collect it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@dataclass(slots=True)
class Run:
    """What a run left: the bytes of its files, its summary, its events, and the pids that it had."""

    files: dict[str, bytes] = field(default_factory=dict)
    summary: RunSummary = field(default_factory=RunSummary)
    events: list[Mapping[str, Any]] = field(default_factory=list)
    shown: list[int] = field(default_factory=list)
    pids: set[int] = field(default_factory=set)
    kills: int = 0
    name: str = ""  # of the run folder, and of the rings that belong to it


def run(
    audio: Path,
    output: Path,
    *,
    kills: Sequence[Kill] = (),
    stages: Sequence[StageConfig] | None = None,
    strangers: Mapping[str, Stranger] | None = None,
    settings: Settings | None = None,
    models: Models | None = None,
    environment: Mapping[str, str] | None = None,
    formats: tuple[str, ...] = ("rttm", "jsonl"),
    each_step: Callable[[LocalPipeline, Run], None] | None = None,
    **limits: Any,
) -> Run:
    """Diarize ``audio`` into ``output`` while processes die as ``kills`` say."""
    job = Job(
        sources=(SourceConfig(kind="file", name=audio.stem, path=str(audio)),),
        settings=settings or Settings.from_seconds(),
        output=str(output),
        formats=formats,
    )
    done, due, killed = Run(), list(kills), set[int]()
    shown_before = 0  # when something was last killed

    def on_event(event: Mapping[str, Any]) -> None:
        done.events.append(event)
        if event["event"] == "result":
            done.shown.append(event["update"]["seq"])

    outside = strangers or {}
    with (
        ExitStack() as stack,
        LocalPipeline(
            job, models or Models(), on_event=on_event, environment=environment, stages=stages, **limits
        ) as pipeline,
    ):
        for stranger in outside.values():
            stack.callback(stranger.stop)
            stranger.start()

        def step() -> None:
            nonlocal shown_before
            pids = pipeline.supervisor.pids() | {name: each.pid for name, each in outside.items()}
            done.pids.update(pids.values())
            alive = {name for name in (*pipeline.supervisor.ready(), *outside) if pids[name] not in killed}
            since = len(done.shown) - shown_before
            if due and since > 0 and len(done.shown) > due[0].results and set(due[0].victims) <= alive:
                shown_before = len(done.shown)
                for victim in due.pop(0).victims:
                    os.kill(pids[victim], signal.SIGKILL)
                    killed.add(pids[victim])
                    done.kills += 1
                    if victim in outside:
                        outside[victim].start()
            if each_step is not None:
                each_step(pipeline, done)

        done.name = pipeline.directory.name
        done.summary = pipeline.run(step)
    done.files = {path.name: path.read_bytes() for path in sorted(output.iterdir())}
    return done
