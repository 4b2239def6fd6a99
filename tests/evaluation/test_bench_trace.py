"""The Chrome trace: slices, counters and arrows where the measurement has them, and well formed for its viewers."""

import json
from collections import defaultdict
from dataclasses import replace
from itertools import pairwise
from typing import Any

from diart_mp.evaluation.bench_trace import chrome_trace
from tests.evaluation.measurements import hop, two_chunks


def events(phase: str) -> list[dict[str, Any]]:
    trace = json.loads(json.dumps(chrome_trace(two_chunks())))
    return [event for event in trace["traceEvents"] if event["ph"] == phase]


def test_one_track_per_process() -> None:
    names = {event["pid"]: event["args"]["name"] for event in events("M") if event["name"] == "process_name"}
    assert names == {100: "capture", 101: "first", 102: "second"}
    order = [event["pid"] for event in events("M") if event["name"] == "process_sort_index"]
    assert order == [100, 101, 102]


def test_batches_are_slices() -> None:
    slices = {(event["pid"], event["ts"]): event for event in events("X")}
    batch = slices[101, 4000.0]  # us after the first sample was captured
    assert (batch["name"], batch["dur"]) == ("2 chunks", 7000.0)
    assert batch["args"] == {"batch": 2, "talk 0": "waited 2.000 ms", "call 3": "waited 1.500 ms"}
    assert {(ts, event["dur"], event["name"]) for (pid, ts), event in slices.items() if pid == 102} == {
        (12_000.0, 8000.0, "talk 0"),
        (20_000.0, 20_000.0, "call 3"),
    }
    assert sorted(ts for pid, ts in slices if pid == 100) == [1000.0, 1500.0, 30_000.0, 42_000.0]
    assert slices[100, 42_000.0]["args"] == {"latency_ms": 41.5}


def test_slices_of_a_track_do_not_overlap() -> None:
    tracks = defaultdict(list)
    for event in events("X"):
        tracks[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    assert len(tracks) == 4
    for spans in tracks.values():
        spans.sort()
        assert all(end <= begin for (_, end), (begin, _) in pairwise(spans))


def test_each_chunk_is_one_arrow_from_slice_to_slice() -> None:
    flows = defaultdict(list)
    for phase in ("s", "t", "f"):
        for event in events(phase):
            flows[event["id"]].append(event)
    assert [[(event["ph"], event["pid"]) for event in flow] for flow in flows.values()] == [
        [("s", 100), ("t", 101), ("t", 102), ("f", 100)]
    ] * 2
    slices = events("X")
    for event in (event for flow in flows.values() for event in flow):
        inside = [
            each
            for each in slices
            if (each["pid"], each["tid"]) == (event["pid"], event["tid"])
            and each["ts"] <= event["ts"] < each["ts"] + each["dur"]
        ]
        assert len(inside) == 1


def test_queues_are_counters_that_end_empty() -> None:
    counts = defaultdict(list)
    for event in events("C"):
        counts[event["pid"]].append((event["ts"], event["args"]["chunks"]))
    assert counts[101] == [(2000.0, 1), (2500.0, 2), (4000.0, 1), (4000.0, 0)]
    assert counts[102] == [(12_000.0, 1), (12_000.0, 0), (13_000.0, 1), (20_000.0, 0)]


def test_replicas_have_tracks_of_their_own() -> None:
    measurement = two_chunks()
    first, second = measurement.chunks
    moved = replace(second, hops=(hop("first", 2.5, 5, 11, replica=1), second.hops[1]))
    spread = replace(measurement, chunks=(first, moved), pids={**measurement.pids, "first/1": 103})
    trace = chrome_trace(spread)["traceEvents"]
    assert [(event["ts"], event["dur"]) for event in trace if event["ph"] == "X" and event["pid"] == 103] == [
        (5000.0, 6000.0)
    ]
    assert [event["pid"] for event in trace if event["ph"] == "t"] == [101, 102, 103, 102]
