"""Pipelines on several hosts as people start them: one topology file, ``diart-mp stage`` and ``diart-mp run``."""

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import tomli_w

from tests.cli.command import COMMAND, ROOT, Diart
from tests.transport.ports import free_port

MODELS = {"segmentation": "tests.fakes:ToneSegmentation", "embedding": "tests.fakes:ToneEmbedding", "clustering": ""}


def write_plan(
    file: Path,
    places: Mapping[str, Sequence[str]],
    addresses: dict[str, str] | None = None,
    models: dict[str, str] | None = None,
    **more: object,
) -> None:
    """A topology of the four stages: ``places`` names those of each stage's replicas ("": home); all on TCP."""
    addresses = addresses or {}
    ports = iter(range(free_port(12), 1 << 16))

    def endpoint(place: str) -> str:
        return f"tcp://{addresses.get(place, '127.0.0.1')}:{next(ports)}"

    stages: list[dict[str, object]] = [{"name": "capture", "bind": endpoint("")}]
    for name, model in (models or MODELS).items():
        replicas = [{"place": place, "bind": endpoint(place)} for place in places.get(name, [""])]
        stages.append({"name": name, "model": model, **(replicas[0] if len(replicas) == 1 else {"replica": replicas})})
    plan = {"version": 1, "results": endpoint(""), "report": endpoint(""), "stage": stages, **more}
    file.write_text(tomli_w.dumps(plan))


@contextmanager
def started(
    diart: Diart, topology: Path, *names: str, prefix: Sequence[str] = ()
) -> Iterator[dict[str, subprocess.Popen[bytes]]]:
    """Stages as somebody would start them on another host; ended afterwards."""
    processes = {}
    try:
        for name in names:
            command = [*prefix, str(COMMAND), "stage", name, "--topology", str(topology)]
            processes[name] = subprocess.Popen(command, cwd=ROOT, env=diart.environment())
        yield processes
    finally:
        for process in processes.values():
            process.terminate()
        for process in processes.values():
            process.wait(10)
