"""Where the stages of a topology run: what can reach what, and the whole as a drawing for people.

A place is a host, or a part of one, with a name. ``diart-mp run`` is at ``home``; what has no place runs there too. Knows nothing of
files or sockets. Runs wherever a topology is read.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from diart_mp.errors import UsageError

if TYPE_CHECKING:
    from diart_mp.topology import StageConfig, Topology

_TCP = "tcp://"
_UNNAMED = "a Unix socket of the run"
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")  # also of key files


def place_of(topology: "Topology", stage: "StageConfig", replica: int) -> str:
    """The name of the place where a replica of a stage runs."""
    return stage.place_of(replica) or topology.home


def places(topology: "Topology") -> list[str]:
    """All places, home first."""
    found = {topology.home: None}
    for stage in topology.stages:
        found |= {place_of(topology, stage, replica): None for replica in range(stage.replicas)}
    return list(found)


def links(topology: "Topology") -> Iterator[tuple[str, str, str, str, str]]:
    """Each connection: (who connects, its place, endpoint, who listens, its place); the owner's results last."""
    for before, after in zip(topology.stages, topology.stages[1:], strict=False):
        for one in range(before.replicas):
            for other in range(after.replicas):
                connects = label(after, other), place_of(topology, after, other)
                yield (*connects, before.endpoint(one), label(before, one), place_of(topology, before, one))
    last, owner = topology.stages[-1], topology.stages[0]
    for replica in range(last.replicas):
        connects = label(last, replica), place_of(topology, last, replica)
        yield (*connects, topology.results, "results", place_of(topology, owner, 0))


def endpoints_by_place(topology: "Topology") -> dict[str, str]:
    """The place of who listens, by endpoint."""
    found = {
        stage.endpoint(replica): place_of(topology, stage, replica)
        for stage in topology.stages
        for replica in range(stage.replicas)
    }
    return {**found, topology.results: topology.home, topology.report: topology.home}


def label(stage: "StageConfig", replica: int) -> str:
    """A process by its name as ``diart-mp stage`` takes it."""
    return stage.name if stage.replicas == 1 else f"{stage.name}/{replica}"


def process_of(topology: "Topology", text: str) -> tuple[str, int]:
    """Stage and replica that ``text`` names ("segmentation", "segmentation/1"); UsageError if there is no such one."""
    name, _, number = text.partition("/")
    stage = topology.stage(name)
    if number and not (number.isdecimal() and int(number) < stage.replicas):
        msg = f"stage {name} has {stage.replicas} replicas, numbered from 0; there is no '{number}'"
        raise UsageError(msg)
    return name, int(number or 0)


def check_places(topology: "Topology") -> None:
    """UsageError where a stage could not reach another one, or ``diart-mp run`` does not own the streams."""
    if topology.stages[0].place_of(0):
        msg = f"{topology.stages[0].name} runs where diart-mp run is, so it has no 'place'; name that host with home = \"...\""
        raise UsageError(msg)
    if topology.report and not topology.report.startswith(_TCP):
        msg = f"'report' is for stages on other hosts, so it must be tcp://HOST:PORT, not '{topology.report}'"
        raise UsageError(msg)
    for place in places(topology):
        if not _NAME.fullmatch(place):
            msg = f"a place is called {place!r:.80}; letters, digits, '_', '.' and '-' are allowed, at most 64"
            raise UsageError(msg)
    for who, here, endpoint, other, there in links(topology):
        if here != there and not endpoint.startswith(_TCP):
            key = "results" if other == "results" else f"'bind' of {other}"
            what = f"is '{endpoint}'" if endpoint else "is missing"
            msg = f"{who} at {here} cannot reach {other} at {there}: {key} {what}; make it tcp://HOST:PORT"
            raise UsageError(msg)
        if here == there != topology.home and not endpoint:
            msg = f"'bind' of {other} at {there} is missing; make it ipc:///PATH, or tcp://HOST:PORT"
            raise UsageError(msg)


def explain(topology: "Topology", file: str) -> list[str]:
    """A topology in words and as a drawing, for people; ``file`` is what they call it."""
    lines = ["", *_drawing(topology), ""]
    for place in places(topology):
        names = [
            label(stage, replica)
            for stage in topology.stages
            for replica in range(stage.replicas)
            if place_of(topology, stage, replica) == place and not stage.foreign
        ]
        if place == topology.home:
            lines.append(f"at {place}:  diart-mp run ... --topology {file}   (starts {', '.join(names)})")
        else:
            lines += [f"at {place}:  diart-mp stage {name} --topology {file}" for name in names]
    lines += [
        f"by you:  {stage.name}, which connects to {', '.join(before.endpoints())} and listens at {stage.bind}"
        for before, stage in zip(topology.stages, topology.stages[1:], strict=False)
        if stage.foreign
    ]
    return [*lines, *_remarks(topology)]


def _drawing(topology: "Topology") -> Iterator[str]:
    """One line per process and, between two stages, what joins them."""
    width = max(len(label(stage, replica)) for stage in topology.stages for replica in range(stage.replicas))
    for index, stage in enumerate(topology.stages):
        for replica in range(stage.replicas):
            where = f"{place_of(topology, stage, replica)}, {stage.device_of(replica)}"
            kind = "keyed" if stage.keyed else "owner" if index == 0 else "foreign" if stage.foreign else ""
            yield f"  [{label(stage, replica):^{width}}]  {where}{', ' + kind if kind else ''}"
        if index < len(topology.stages) - 1:
            for replica in range(stage.replicas):
                yield f"  {' ' * (width // 2)}  |  {_shown(topology, stage, replica)}"
            yield f"  {' ' * (width // 2)}  v"
    yield f"  {' ' * (width // 2)}  '-> results to {topology.stages[0].name}: {topology.results or _UNNAMED}"


def _shown(topology: "Topology", stage: "StageConfig", replica: int) -> str:
    """Where a replica gives its chunks, and how audio that is still needed travels."""
    endpoint, index = stage.endpoint(replica), topology.stages.index(stage)
    before = (topology.stages[index - 1].endpoints() if index else []) + ([endpoint] if endpoint else [])
    inside = any(each.startswith(_TCP) for each in before) or place_of(topology, stage, replica) != topology.home
    if inside and all(
        later.name == "clustering" and not later.implementation for later in topology.stages[index + 1 :]
    ):
        return f"{endpoint or _UNNAMED}, without audio"
    return f"{endpoint or _UNNAMED}, audio {'inside the messages' if inside else 'in shared memory'}"


def _remarks(topology: "Topology") -> Iterator[str]:
    if len(places(topology)) > 1 and not topology.report:
        yield 'remark: without report = "tcp://HOST:PORT" a stage elsewhere that dies is noticed after 10 s only'
    if topology.keys:
        yield f"TCP links are encrypted; each place has its own key in {topology.keys}, and the public keys of the others"
    if topology.insecure and not topology.keys:
        yield "remark: insecure = true, so whoever can reach these ports can listen and can speak"
