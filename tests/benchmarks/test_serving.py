"""What the benchmarks of the server make of what clients heard, from messages made by hand."""

from typing import Any

import numpy as np
import pytest

from benchmarks.served import Player, percentile
from benchmarks.serving import first_result, growth

RATE = 16_000


def player(heard: list[tuple[float, Any]], *, compat: bool = False, block_s: float = 0.5) -> Player:
    """Six seconds of audio; the block that ends at n s was sent at 100 + n s."""
    made = Player("ws://nowhere", np.zeros(6 * RATE, np.float32), compat=compat, block_s=block_s)
    made._sent = [100 + (number + 1) * block_s for number in range(round(6 / block_s))]
    made.heard = heard
    return made


def segment(start: float, end: float, *, final: bool) -> dict[str, Any]:
    return {"type": "segment", "start": start, "end": end, "speaker": "speaker0", "final": final}


def test_a_result_is_as_late_as_its_last_sample_is_old() -> None:
    stats = [{"type": "stats", "until": until} for until in (5.0, 5.5, 6.0)]
    heard = player([(105.9, stats[0]), (105.6, stats[1]), (106.25, stats[2])])
    assert heard.latencies() == pytest.approx([0.1, 0.25])  # the first 5 s do not count


def test_a_result_in_text_tells_of_the_step_in_which_it_ends() -> None:
    line = "SPEAKER nowhere 1 {} {} <NA> <NA> speaker0 <NA> <NA>\n"
    told = [line.format("5.100", "0.200"), line.format("5.500", "0.100") + line.format("5.400", "0.612"), ""]
    heard = player([(105.6, told[0]), (106.2, told[1]), (107.0, told[2])], compat=True)
    assert heard.latencies() == pytest.approx([0.1, 0.2])


def test_a_sample_is_sent_with_its_block() -> None:
    sent = player([], block_s=0.1)
    assert [sent.sent_at(seconds) for seconds in (0.0, 0.05, 0.1, 0.11, 99.0)] == pytest.approx(
        [100.1, 100.1, 100.1, 100.2, 106.0]
    )


def test_turns_are_the_final_segments_and_the_first_result_is_any() -> None:
    heard = player([(102.0, segment(1.0, 1.4, final=False)), (103.0, segment(1.0, 2.0, final=True))])
    assert heard.turns() == [(1.0, 2.0, "speaker0")]
    assert first_result(heard, [(2.2, 3.0, "speaker1"), (1.2, 2.0, "speaker0")]) == pytest.approx(0.5)
    assert first_result(player([]), [(1.0, 2.0, "speaker0")]) == float("inf")


def test_growth_is_between_the_ends() -> None:
    looks = [{"gateway": float(size)} for size in (50, 90, 52, 60, 60, 60, 61, 20, 62)]
    assert growth(looks, "gateway") == 9.0  # 61 less 52
    assert np.isnan(percentile([], 50))
