"""Whether cost grows, from measurements made by hand."""

import pytest

from benchmarks import linear
from diart_mp.evaluation.bench import ChunkTimes, Hop
from tests.evaluation.measurements import two_chunks

MS = 1_000_000


def chunk(seq: int, compute_ms: float, batch: int = 2) -> ChunkTimes:
    done = round(batch * compute_ms * MS)
    hops = (Hop("a", 0, 0, 0, done, batch), Hop("b", 0, done, done, done + MS, 1))
    return ChunkTimes(stream="s", seq=seq, captured=0, sent=0, hops=hops, answered=done + MS)


def test_a_minute_has_its_own_chunks_and_a_batch_is_shared_by_them() -> None:
    chunks = [*(chunk(seq, 10.0) for seq in range(3)), *(chunk(seq, 20.0, 4) for seq in range(3, 6))]
    assert linear.minute_ms(chunks, 1, 3) == pytest.approx(11.0)
    assert linear.minute_ms(chunks, 2, 3) == pytest.approx(21.0)


def test_one_slow_chunk_is_no_growth() -> None:
    chunks = [chunk(0, 10.0), chunk(1, 500.0), chunk(2, 10.0)]
    assert linear.minute_ms(chunks, 1, 3) == pytest.approx(11.0)


def test_processor_time_is_of_all_processes() -> None:
    assert linear.cpu_ms(two_chunks()) == pytest.approx(1000 * 1.875 / 2)


def test_rows_are_judged_by_their_first() -> None:
    flat, rising = linear.rows({"a": [10.0, 10.9, 8.1], "b": [10.0, 11.2]})
    assert (flat["flat"], rising["flat"]) == (True, False)
    assert rising["ratios"] == [1.0, 1.12]
