"""A report of ``diart-mp bench`` as lines, by hand."""

from typing import Any

import pytest

from diart_mp.cli.bench_table import describe, describe_ratios
from diart_mp.evaluation.bench_report import figures
from tests.evaluation.measurements import two_chunks


def report(**changed: Any) -> dict[str, Any]:
    found = figures(two_chunks())
    return {"mode": "live", "streams": 2, **found, "runs": [found], **changed}


def test_summary() -> None:
    assert describe(report())[:6] == [
        "live: 2 streams, 10.0 s of audio in 0.05 s",
        "chunks/s 40.0, real-time factor 0.0050 (200.0 times real time)",
        "latency  35.8 / 40.9 / 41.4 ms (p50 / p95 / p99)",
        "overhead 14.2 / 14.9 / 15.0 ms of it on the way from stage to stage and in queues",
        "start    0.75 s until ready, 1.25 s until the first result",
        "cost     1.88 s of processor time, 330 MB at most",
    ]


def test_medians_and_overload_are_said() -> None:
    found = report()
    lines = describe(report(runs=[found] * 3, skipped=4, lost_s=0.25))
    assert lines[0].endswith(" in 0.05 s, medians of 3 runs")
    assert lines[6] == "overload 4 windows skipped, 0.25 s of audio lost"


def test_columns_stand_under_their_heads() -> None:
    head, *rows = describe(report())[7:]
    assert [row.split()[0] for row in rows] == ["capture", "first", "second", "supervisor"]
    assert {len(row) for row in rows} == {len(head)}
    second = rows[2].split("  ")
    assert [cell.strip() for cell in second if cell.strip()] == [
        "second", "3.50 / 6.65 / 6.93", "14.0 / 19.4 / 19.9", "2.00 / 2.00 / 2.00", "40.0", "56.0", "1.00", "0.25", "60",
    ]  # fmt: skip


def test_columns_hold_long_waits() -> None:
    found = report()
    found["stages"]["first"]["wait_ms"] = {"p50": 999.94, "p95": 99_999.4, "p99": 999_999.4}
    head, _, row, *_ = describe(found)[7:]
    assert len(row) == len(head)
    assert " 999.9 / 99999 / 999999 " in row


def test_what_is_not_known_is_a_question_mark() -> None:
    bare = {"cpu_s": None, "memory_mb": None}
    found = report(total=bare, supervisor=bare)
    found["stages"]["first"] |= bare
    lines = describe(found)
    assert lines[5] == "cost     ? s of processor time, ? MB at most"
    assert lines[-1].split() == ["supervisor", "?", "?"]
    assert lines[-3].split()[-2:] == ["?", "?"]


@pytest.mark.parametrize(("streams", "shown"), [(7, "7"), (6.5, "6.5"), (0, "0")])
def test_capacity_is_one_line(streams: float, shown: str) -> None:
    found = {"capacity": {"streams": streams, "bound_ms": 500.0, "probes": []}, "runs": []}
    assert describe(found) == [f"{shown} live streams hold 99 % of their chunks under 500 ms"]


def test_ratios_are_named_by_their_place() -> None:
    lines = describe_ratios({"compare": {"latency_ms": {"p50": 0.5, "p99": 1.25}, "wall_s": 2.0}})
    assert lines[:2] == ["", "new / old"]
    assert lines[2:] == ["latency_ms.p50     0.500", "latency_ms.p99     1.250", "wall_s             2.000"]
    assert describe_ratios({"compare": None}) == ["", "new / old"]
    assert describe_ratios({}) == []
