"""The two sides that ``versus.py`` compares: what runs diart, and what runs ours, on the same recording with the same settings."""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.diart_env import diart_python
from benchmarks.processes import Memory, watch
from diart_mp.models.builtin import cache_folder
from diart_mp.outputs.read import load_rttm

DELTA_NEW = "0.35"  # of the built-in pair
Turns = list[tuple[float, float, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run of one side.

    ``first_s``: from its start to its first result. ``work_s``: from when its models are loaded to its end. Live: ms from last
    sample to result.
    """

    wall_s: float = 0.0
    work_s: float = 0.0
    first_s: float = 0.0
    cpu_s: float = 0.0
    memory_mb: float = 0.0
    p50_ms: float = 0.0
    p99_ms: float = 0.0
    skipped: int = 0
    turns: Turns | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What both do: ``embedding`` is NAME:FILE, a class of pyannote.audio and its checkpoint, or the built-in one."""

    recording: Path
    latency: str = "0.5"
    embedding: str = ""
    streams: int = 1


class Diart:
    """diart, one process per stream; ``threads`` of torch in each."""

    def __init__(self, threads: int = 2) -> None:
        self._threads = threads

    def _command(self, task: Task, *options: str | Path) -> list[str | Path]:
        script = Path(__file__).with_name("diart_run.py")
        command: list[str | Path] = [diart_python(), "-W", "ignore", script, task.recording]
        command += ["--weights", cache_folder(), "--latency", task.latency, "--delta-new", DELTA_NEW]
        command += ["--threads", str(self._threads), *options]
        return [*command, "--embedding", task.embedding] if task.embedding else command

    def file(self, task: Task, folder: Path) -> Run:
        """As fast as it goes."""
        rttm = folder / "diart.rttm"
        seen = watch(self._command(task, "--rttm", rttm), lambda line: line.startswith("first"))
        return Run(
            wall_s=seen.wall_s,
            work_s=json.loads(seen.lines[-1])["work_s"],
            first_s=seen.first_s,
            cpu_s=seen.cpu_s,
            memory_mb=seen.memory_mb,
            turns=read_turns(rttm),
        )

    def live(self, task: Task) -> Run:
        """At the pace of the clock; all streams begin when the last one has loaded its models, evenly over one step."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        command = list(map(str, self._command(task, "--live")))
        processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(task.streams)]  # type: ignore[call-overload]
        with Memory([process.pid for process in processes]) as memory:
            try:
                for process in processes:
                    if process.stdout.readline().strip() != "ready":
                        raise subprocess.CalledProcessError(process.wait(), command)
                begin = time.monotonic() + 1.0
                for index, process in enumerate(processes):
                    process.stdin.write(f"{begin + 0.5 * index / task.streams}\n")
                    process.stdin.flush()
                late = [json.loads(process.communicate()[0])["late_ms"] for process in processes]
            finally:
                for process in processes:
                    process.kill()
                    process.wait()
        p50, p99 = np.percentile(np.concatenate(late), (50, 99))
        return Run(p50_ms=float(p50), p99_ms=float(p99), memory_mb=memory.peak_mb)


class Ours:
    """The public commands."""

    def __init__(self, precision: str = "exact") -> None:
        self._options = ["--start", "exact", "--precision", precision]

    def _command(self, name: str, task: Task, *options: str | Path) -> list[str | Path]:
        command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), name, task.recording, *self._options]
        command += ["--latency", task.latency, *options]
        return [*command, "--embedding", task.embedding.partition(":")[2]] if task.embedding else command

    def file(self, task: Task, folder: Path) -> Run:
        """As fast as it goes."""
        command = self._command("run", task, "--output", folder, "--force", "--json", "--delta-new", DELTA_NEW)
        seen = watch(command, lambda line: line.startswith("{"))
        return Run(
            wall_s=seen.wall_s,
            work_s=json.loads(seen.lines[-1])["wall_s"],  # the summary counts from "ready" on
            first_s=seen.first_s,
            cpu_s=seen.cpu_s,
            memory_mb=seen.memory_mb,
            turns=read_turns(folder / f"{task.recording.stem}.rttm"),
        )

    def live(self, task: Task) -> Run:
        """At the pace of the clock."""
        options = ("--live", "--json", "--streams", str(task.streams), "--delta-new", DELTA_NEW)
        seen = watch(self._command("bench", task, *options, "--seconds", str(seconds(task.recording))))
        report: dict[str, Any] = json.loads("".join(seen.lines))
        late = report["latency_ms"]
        return Run(
            p50_ms=late["p50"],
            p99_ms=late["p99"],
            memory_mb=seen.memory_mb,
            skipped=report["skipped"],
        )


def seconds(recording: Path) -> float:
    """Its length."""
    import soundfile

    return float(soundfile.info(recording).duration)


def cut(recording: Path, length_s: float, folder: Path) -> Path:
    """The first ``length_s`` of a recording as a file of its own."""
    import soundfile

    rate = soundfile.info(recording).samplerate
    samples, _ = soundfile.read(recording, frames=round(length_s * rate), dtype="int16")
    path = folder / f"{recording.stem}-{length_s:g}s.wav"
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return path


def read_turns(path: Path) -> Turns:
    """All turns of an RTTM file."""
    return [turn for turns in load_rttm(path).values() for turn in turns]


def checkpoint(name: str, folder: Path) -> str:
    """NAME:FILE of a network of pyannote.audio with random weights."""
    import torch

    from diart_mp.models.compat import import_pyannote

    import_pyannote()
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models import embedding

    torch.manual_seed(0)
    net = getattr(embedding, name)()
    net.specifications = Specifications(Problem.REPRESENTATION, Resolution.CHUNK, 5.0)
    content: dict[str, Any] = {"state_dict": net.state_dict(), "hyper_parameters": dict(net.hparams)}
    net.on_save_checkpoint(content)
    path = folder / f"{name}.ckpt"
    torch.save(content, path)
    return f"{name}:{path}"
