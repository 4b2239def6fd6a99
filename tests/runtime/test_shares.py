"""Latency over hosts: the same whatever their clocks say."""

import pytest

from diart_mp.runtime.shares import Shares

MS = 1_000_000  # ns
HOUR = 3_600_000 * MS

# In truth, ms after the last sample: sent at 2; B: 12 to 15 waiting, work until 45; C: 50 to 50, until 70; A: 75 to 76, until 77; answered at 80.
TRUTH = {
    "capture": {"waited": 2.0, "worked": 0.0},
    "segmentation": {"waited": 3.0, "worked": 30.0},
    "embedding": {"waited": 0.0, "worked": 20.0},
    "clustering": {"waited": 1.0, "worked": 1.0},
    "way": {"waited": 23.0, "worked": 0.0},  # 10 + 5 + 5 + 3
}


def trace(a: int, b: int, c: int) -> list[list[object]]:
    """The trace of that chunk where the clocks of hosts A, B and C show so much, ns, at its last sample."""
    return [
        ["capture", 0, a, a + 2 * MS],
        ["segmentation", 1, b + 12 * MS, b + 15 * MS, b + 45 * MS, 4],
        ["embedding", 0, c + 50 * MS, c + 50 * MS, c + 70 * MS, 1],
        ["clustering", 0, a + 75 * MS, a + 76 * MS, a + 77 * MS, 1],
    ]


@pytest.mark.parametrize("b", [0, HOUR, -HOUR])
@pytest.mark.parametrize("c", [0, HOUR, -HOUR])
def test_clocks_an_hour_apart_change_nothing(b: int, c: int) -> None:
    shares, start = Shares(), 2 * HOUR
    shares.add(trace(start, start + b, start + c), 80.0)
    assert shares.means() == TRUTH
    assert sum(sum(each.values()) for each in shares.means().values()) == pytest.approx(80.0)


def test_means_over_results() -> None:
    shares = Shares()
    shares.add(trace(0, 0, 0), 80.0)
    shares.add(trace(0, HOUR, 0), 100.0)
    assert shares.means()["way"] == {"waited": 33.0, "worked": 0.0}
    assert shares.means()["embedding"] == TRUTH["embedding"]


@pytest.mark.parametrize(
    "broken", [[], [["capture"]], [["capture", 0, 1, 2], ["x", 0, 1]], [["capture", 0, 1, 2], ["x", 0, "a", 1, 2, 3]]]
)
def test_a_broken_trace_is_left_out(broken: list[list[object]]) -> None:
    shares = Shares()
    shares.add(broken, 80.0)
    assert shares.means() == {}
