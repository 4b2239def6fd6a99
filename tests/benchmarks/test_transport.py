"""The table of the transport's benchmark, from reports made by hand; what makes the reports has tests of its own."""

import json
from typing import Any

import pytest

from benchmarks import transport
from diart_mp.evaluation.bench_report import figures
from tests.evaluation.measurements import two_chunks


def report(**changed: Any) -> dict[str, Any]:
    """40 chunks/s; 14.25 ms in the hops at the median, 14.985 ms at the 99th percentile."""
    made: dict[str, Any] = json.loads(json.dumps(figures(two_chunks())))
    return {**made, **changed}


@pytest.mark.parametrize(
    ("rate", "overhead", "expected"),
    [
        (3000.0, {"p50": 1.5, "p99": 5.0}, [True, True, True]),
        (2999.0, {"p50": 1.6, "p99": 4.0}, [False, False, True]),
        (4000.0, {"p50": 1.4, "p99": 5.1}, [True, True, False]),
    ],
)
def test_limits(rate: float, overhead: dict[str, float], expected: list[bool]) -> None:
    found = transport.figures({"throughput": {"chunks_per_s": rate}}, {"overhead_ms": overhead})
    assert [figure.kept for figure in found] == expected
    assert [figure.row().endswith("NOT KEPT") for figure in found] == [not kept for kept in expected]


def test_costs_of_each_process() -> None:
    head, *rows = transport.details(report(), report())
    assert "us of CPU per chunk" in head
    cells = {name: values for name, *values in (row.split() for row in rows)}
    assert cells["first"] == ["500000", "1.00", "1.00"]  # 1 s for two chunks
    assert cells["capture"] == ["250000", "6.00", "9.92"]
    assert cells["supervisor"] == ["62500"]


def test_costs_that_the_system_does_not_say() -> None:
    unknown = report(supervisor={"cpu_s": None, "memory_mb": None})
    assert transport.details(unknown, unknown)[-1].split() == ["supervisor", "0"]
