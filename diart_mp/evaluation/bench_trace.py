"""A measurement as a Chrome trace (Trace Event Format, JSON), which Perfetto and chrome://tracing show.

One track per process: what each batch took, how many chunks waited before it, and an arrow ("flow") for every chunk from
capture through the stages back to capture. Times are microseconds since the first sample was captured. Runs in
the process of ``diart-mp bench``.
"""

from collections.abc import Iterator
from typing import Any

from diart_mp.evaluation.bench import ChunkTimes, Hop, Measurement
from diart_mp.evaluation.bench_report import OWNER

_WORK, _RESULTS = 1, 2  # threads in the trace: what a process does; capture's results
_INSTANT_US = 1.0  # drawn length of what has none: an arrow can only begin and end at a slice

Event = dict[str, Any]


def chrome_trace(measurement: Measurement) -> dict[str, Any]:
    """The whole trace, to be written as JSON."""
    writer = _Writer(measurement)
    events = [*writer.names(), *writer.batches(), *writer.queues()]
    for number, chunk in enumerate(measurement.chunks):
        events += writer.chunk(number, chunk)
    return {"traceEvents": events, "displayTimeUnit": "ms"}


class _Writer:
    def __init__(self, measurement: Measurement) -> None:
        self._chunks, self._pids = measurement.chunks, measurement.pids
        self._zero = min(chunk.captured for chunk in measurement.chunks)

    def names(self) -> Iterator[Event]:
        """What tracks are called, and their order."""
        for order, (name, pid) in enumerate(self._pids.items()):
            yield {"ph": "M", "name": "process_name", "pid": pid, "args": {"name": name}}
            yield {"ph": "M", "name": "process_sort_index", "pid": pid, "args": {"sort_index": order}}
            yield {"ph": "M", "name": "thread_name", "pid": pid, "tid": _WORK, "args": {"name": name}}
        title = {"name": f"{OWNER}: results"}
        yield {"ph": "M", "name": "thread_name", "pid": self._pids[OWNER], "tid": _RESULTS, "args": title}

    def batches(self) -> Iterator[Event]:
        """One slice per batch of a stage."""
        found: dict[tuple[int, int], list[tuple[ChunkTimes, Hop]]] = {}
        for chunk in self._chunks:
            for hop in chunk.hops:
                found.setdefault((self._pid(hop), hop.started), []).append((chunk, hop))
        for (pid, started), members in found.items():
            end = max(hop.done for _, hop in members)
            waits = {_title(chunk): f"waited {(started - hop.arrived) / 1e6:.3f} ms" for chunk, hop in members}
            title = f"{len(members)} chunks" if len(members) > 1 else next(iter(waits))
            yield self._slice(title, pid, _WORK, started, (end - started) / 1e3, {"batch": len(members), **waits})

    def queues(self) -> Iterator[Event]:
        """How many chunks wait in each stage, whenever that changes."""
        changes: dict[int, list[tuple[int, int]]] = {}
        for chunk in self._chunks:
            for hop in chunk.hops:
                changes.setdefault(self._pid(hop), []).extend([(hop.arrived, 1), (hop.started, -1)])
        for pid, steps in changes.items():
            waiting = 0
            for at, change in sorted(steps, key=lambda step: (step[0], -step[1])):
                waiting += change
                yield {"ph": "C", "name": "waiting", "pid": pid, "ts": self._us(at), "args": {"chunks": waiting}}

    def chunk(self, number: int, chunk: ChunkTimes) -> Iterator[Event]:
        """Where a chunk begins and ends, and the arrows between."""
        owner, title = self._pids[OWNER], _title(chunk)
        latency = {"latency_ms": (chunk.answered - chunk.captured) / 1e6}
        yield self._slice(title, owner, _WORK, chunk.sent, _INSTANT_US, {})
        yield self._slice(title, owner, _RESULTS, chunk.answered, _INSTANT_US, latency)
        yield self._flow("s", number, owner, _WORK, chunk.sent)
        for hop in chunk.hops:
            yield self._flow("t", number, self._pid(hop), _WORK, hop.started)
        yield {**self._flow("f", number, owner, _RESULTS, chunk.answered), "bp": "e"}

    def _slice(self, name: str, pid: int, tid: int, at: int, length_us: float, values: dict[str, Any]) -> Event:
        place = {"pid": pid, "tid": tid, "ts": self._us(at), "dur": length_us}
        return {"ph": "X", "name": name, "cat": "chunk", **place, "args": values}

    def _flow(self, phase: str, number: int, pid: int, tid: int, at: int) -> Event:
        return {"ph": phase, "name": "chunk", "cat": "flow", "id": number, "pid": pid, "tid": tid, "ts": self._us(at)}

    def _pid(self, hop: Hop) -> int:
        return self._pids[hop.stage if hop.replica == 0 else f"{hop.stage}/{hop.replica}"]

    def _us(self, at: int) -> float:
        return (at - self._zero) / 1e3


def _title(chunk: ChunkTimes) -> str:
    return f"{chunk.stream} {chunk.seq}"
