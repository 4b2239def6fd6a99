"""Figures, medians and ratios, by hand."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from diart_mp.evaluation.bench_report import figures, medians, percentiles, ratios
from diart_mp.evaluation.processes import Usage
from tests.evaluation.measurements import hop, two_chunks


def both(low: float, high: float) -> dict[str, Any]:
    """Percentiles of two values: linear between them."""
    return {
        name: pytest.approx(low + (high - low) * share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
    }


def test_whole_run() -> None:
    found = figures(two_chunks())
    assert found["throughput"] == {"chunks_per_s": 40.0, "real_time_factor": 0.005}
    assert found["latency_ms"] == both(30.0, 41.5)
    assert found["overhead_ms"] == both(13.5, 15.0)  # 42 - 1.5 - 7 - 20 and 30 - 1 - 6 - 8
    assert found["start_s"] == {"ready": 0.75, "first_result": 1.25}
    assert (found["chunks"], found["audio_s"], found["wall_s"], found["skipped"]) == (2, 10.0, 0.05, 0)
    assert found["supervisor"] == {"cpu_s": 0.125, "memory_mb": 30.0}
    assert found["total"] == {"cpu_s": 1.875, "memory_mb": 330.0}
    assert json.loads(json.dumps(found))["stages"].keys() == {"capture", "first", "second"}


def test_stages() -> None:
    stages = figures(two_chunks())["stages"]
    assert list(stages) == ["capture", "first", "second"]
    capture, first, second = stages.values()
    assert capture["wait_ms"] == both(1.0, 1.0)
    assert capture["transport_ms"] == both(2.0, 10.0)  # 40 to 42 and 20 to 30
    assert capture["compute_ms"] == both(0.0, 0.0)
    assert first["transport_ms"] == both(1.0, 1.0)
    assert first["wait_ms"] == both(1.5, 2.0)
    assert first["compute_ms"] == both(6.0, 7.0)
    assert second["transport_ms"] == both(2.0, 2.0)
    assert second["wait_ms"] == both(0.0, 7.0)
    assert second["compute_ms"] == both(8.0, 20.0)
    assert (first["batch"], first["batch_max"], first["busy"]) == (2.0, 2, 0.14)  # 4 to 11 of 50 ms
    assert (second["batch"], second["batch_max"], second["busy"]) == (1.0, 1, 0.56)  # 12 to 20 and 20 to 40
    assert [stage["chunks_per_s"] for stage in stages.values()] == [40.0] * 3
    assert (first["cpu_s"], first["memory_mb"]) == (1.0, 200.0)


def test_what_the_system_does_not_say_is_null() -> None:
    found = figures(replace(two_chunks(), usage={}))
    assert found["total"] == found["supervisor"] == {"cpu_s": None, "memory_mb": None}
    assert found["stages"]["first"]["cpu_s"] is None


def test_percentiles_of_a_known_distribution() -> None:
    assert percentiles(np.arange(101.0)) == {"p50": 50.0, "p95": 95.0, "p99": 99.0}


def test_medians_place_by_place() -> None:
    runs = [
        {"a": 1.0, "b": {"c": 30}, "name": "x", "unknown": None},
        {"a": 5.0, "b": {"c": 10}, "name": "y", "unknown": None},
        {"a": 2.0, "b": {"c": 20, "more": 1}, "name": "z", "unknown": None},
    ]
    assert medians(runs) == {"a": 2.0, "b": {"c": 20}, "name": "x", "unknown": None}


def test_ratios_of_what_both_have() -> None:
    new = {"rate": 30.0, "zero": 5.0, "text": "a", "deep": {"p50": 1.0, "p99": 3.0}, "flag": True, "none": {"x": 1}}
    old = {"rate": 20.0, "zero": 0.0, "text": "a", "deep": {"p50": 4.0, "p95": 9.0}, "flag": True, "none": {"y": 1}}
    assert ratios(new, old) == {"rate": 1.5, "deep": {"p50": 0.25}}
    assert ratios({}, old) is None


def test_replicas_of_a_stage_are_added_up() -> None:
    measurement = two_chunks()
    first, second = measurement.chunks
    moved = replace(second, hops=(hop("first", 2.5, 4, 11, replica=1), second.hops[1]))
    usage = {**measurement.usage, "first/1": Usage(0.5, 100.0)}
    stage = figures(replace(measurement, chunks=(first, moved), usage=usage))["stages"]["first"]
    assert (stage["cpu_s"], stage["memory_mb"]) == (1.5, 300.0)
    assert stage["busy"] == 0.26  # 6 and 7 of 50 ms, at the same time


def test_share_of_models_is_of_all_processes_of_a_stage() -> None:
    measured = two_chunks()
    usage = {**measured.usage, "first/1": Usage(3.0, 200.0)}
    stages = figures(replace(measured, usage=usage, models_s={"first": 0.9, "first/1": 2.7, "second": 0.0}))["stages"]
    assert {name: stage["models"] for name, stage in stages.items()} == {"capture": None, "first": 0.9, "second": None}
