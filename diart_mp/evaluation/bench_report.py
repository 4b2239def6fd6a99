"""The figures of a measurement: what was waited, computed and carried, as plain values for JSON.

Percentiles are NumPy's, over all chunks of a run: a run has thousands of chunks at most, which no histogram needs to condense.
Knows nothing of how a run is made. Runs in the process of ``diart-mp bench``.

    throughput   {chunks_per_s, real_time_factor}: from "ready" to the end of the last stream; the factor is time per
                 second of audio, below 1 faster than real time
    latency_ms   last sample captured until result, {p50, p95, p99}
    overhead_ms  from the sending of the chunk to its result, less the time in which stages worked on it: all hops
    start_s      {ready, first_result}, from the start of the processes
    stages NAME  wait_ms       in the stage's queue, until its batch begins; in capture: until the chunk is sent
                 compute_ms    in the stage's hands (a batch of several counts for each of its chunks); 0 in capture
                 transport_ms  from the stage before to here; in capture: from the last stage's answer to its owner
                 chunks_per_s  chunks over the time of the run; ``busy`` is the share of it in which the stage computes
                 models        share of the stage's processor time that is spent in its models; null where it has none
                 cpu_s, memory_mb  processor time from "ready" on, and peak resident memory; null where not known
                 batch, batch_max  mean and largest number of chunks in a batch
    supervisor   {cpu_s, memory_mb} of the process that starts the stages and collects what is shown here
    total        {cpu_s, memory_mb} of all of them; pages that they share count for each, so memory is an upper bound
"""

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.evaluation.bench import SUPERVISOR, Hop, Measurement, stages_of
from diart_mp.evaluation.processes import Usage

OWNER = "capture"
PERCENTILES = (50, 95, 99)

Times = NDArray[np.float64]


def figures(measurement: Measurement) -> dict[str, Any]:
    """Everything above, of one run."""
    chunks = measurement.chunks
    latency = _ms([chunk.answered - chunk.captured for chunk in chunks])
    overhead = _ms(
        [chunk.answered - chunk.sent - sum(hop.done - hop.started for hop in chunk.hops) for chunk in chunks]
    )
    rate = len(chunks) / measurement.wall_s
    usage = measurement.usage
    return {
        "chunks": len(chunks),
        "audio_s": round(measurement.audio_s, 3),
        "wall_s": round(measurement.wall_s, 3),
        "start_s": {"ready": round(measurement.start_s, 3), "first_result": round(measurement.first_s, 3)},
        "skipped": measurement.skipped,
        "lost_s": round(measurement.lost_s, 3),
        "throughput": {
            "chunks_per_s": round(rate, 2),
            "real_time_factor": round(measurement.wall_s / measurement.audio_s, 5),
        },
        "latency_ms": percentiles(latency),
        "overhead_ms": percentiles(overhead),
        "stages": _stages(measurement, rate),
        "supervisor": _usage([usage[SUPERVISOR]] if SUPERVISOR in usage else []),
        "total": _usage(list(usage.values())),
    }


def percentiles(times: Times) -> dict[str, float]:
    """{p50, p95, p99} of some times, to 3 digits."""
    values = np.percentile(times, PERCENTILES)
    return {f"p{percent}": round(float(value), 3) for percent, value in zip(PERCENTILES, values, strict=True)}


def medians(runs: Sequence[Any]) -> Any:
    """One value for several of the same form: the median of numbers, place by place; the first of anything else."""
    first = runs[0]
    if isinstance(first, Mapping):
        return {key: medians([run[key] for run in runs]) for key in first if all(key in run for run in runs)}
    if all(_is_number(run) for run in runs):
        return median(runs)
    return first


def ratios(new: Any, old: Any) -> Any:
    """New over old wherever both have a number that is not 0; None for two values without anything to compare."""
    if isinstance(new, Mapping) and isinstance(old, Mapping):
        found = {key: ratios(new[key], old[key]) for key in new if key in old}
        return {key: value for key, value in found.items() if value is not None} or None
    if _is_number(new) and _is_number(old) and new and old:
        return round(new / old, 4)
    return None


def _stages(measurement: Measurement, rate: float) -> dict[str, Any]:
    chunks = measurement.chunks
    waits = {OWNER: _ms([chunk.sent - chunk.captured for chunk in chunks])}
    computes = {OWNER: np.zeros(len(chunks))}
    transports = {OWNER: _ms([chunk.answered - chunk.hops[-1].done for chunk in chunks])}
    hops: dict[str, list[Hop]] = {OWNER: []}
    for index, stage in enumerate(stages_of(chunks)):
        here = hops[stage] = [chunk.hops[index] for chunk in chunks]
        before = [chunk.hops[index - 1].done if index else chunk.sent for chunk in chunks]
        waits[stage] = _ms([hop.started - hop.arrived for hop in here])
        computes[stage] = _ms([hop.done - hop.started for hop in here])
        transports[stage] = _ms([hop.arrived - done for hop, done in zip(here, before, strict=True)])
    return {
        stage: {
            "wait_ms": percentiles(waits[stage]),
            "compute_ms": percentiles(computes[stage]),
            "transport_ms": percentiles(transports[stage]),
            "chunks_per_s": round(rate, 2),
            **_work(hops[stage], measurement.wall_s),
            "models": _share(measurement, stage),
            **_usage([used for name, used in measurement.usage.items() if name.partition("/")[0] == stage]),
        }
        for stage in hops
    }


def _share(measurement: Measurement, stage: str) -> float | None:
    """Of a stage's processor time, that in models; its processes tell it now and then, so of short runs a little is missing."""
    spent = sum(seconds for name, seconds in measurement.models_s.items() if name.partition("/")[0] == stage)
    whole = sum(used.cpu_s for name, used in measurement.usage.items() if name.partition("/")[0] == stage)
    return round(spent / whole, 4) if spent and whole else None


def _work(hops: Sequence[Hop], wall_s: float) -> dict[str, float]:
    """How busy a stage was, and the sizes of its batches: chunks that began together in one process."""
    ends: dict[tuple[int, int], int] = {}
    sizes: dict[tuple[int, int], int] = {}
    for hop in hops:
        key = (hop.replica, hop.started)
        ends[key] = max(hop.done, ends.get(key, 0))
        sizes[key] = hop.batch
    busy = sum(end - started for (_, started), end in ends.items()) / 1e9
    batches = list(sizes.values()) or [1]
    return {
        "busy": round(busy / wall_s, 4),
        "batch": round(sum(batches) / len(batches), 3),
        "batch_max": max(batches),
    }


def _usage(used: Sequence[Usage]) -> dict[str, float | None]:
    """Of several processes together."""
    if not used:
        return {"cpu_s": None, "memory_mb": None}
    return {
        "cpu_s": round(sum(each.cpu_s for each in used), 3),
        "memory_mb": round(sum(each.memory_mb for each in used), 1),
    }


def _ms(nanoseconds: Sequence[int]) -> Times:
    return np.array(nanoseconds, np.int64) / 1e6


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
