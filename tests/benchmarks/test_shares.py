"""The shares of models, from a report made by hand; what makes the reports has tests of its own."""

import json
from typing import Any
from unittest.mock import Mock

import pytest

from benchmarks import shares


def report(segmentation: tuple[float | None, float | None], embedding: tuple[float | None, float | None]) -> Any:
    """Of 100 chunks; processor time in s, and its share in models, of the two stages."""
    stages = {"segmentation": segmentation, "embedding": embedding}
    return {"chunks": 100, "stages": {name: {"cpu_s": cpu, "models": share} for name, (cpu, share) in stages.items()}}


def test_both_stages_are_judged_together_by_their_time() -> None:
    found = shares.shares("x", report((1.0, 0.7), (9.0, 0.9)), judged=True)
    assert [found.segmentation, found.embedding] == pytest.approx([0.7, 0.9])
    assert found.together == pytest.approx(0.88)
    assert [found.models_ms, found.other_ms] == pytest.approx([88.0, 12.0])
    assert found.kept
    assert not shares.shares("x", report((9.0, 0.84), (1.0, 0.9)), judged=True).kept


def test_live_is_shown_and_not_judged() -> None:
    found = shares.shares("x", report((1.0, 0.5), (1.0, 0.5)), judged=False)
    assert found.kept
    assert "KEPT" not in found.row().upper()


def test_what_the_system_does_not_say_is_none() -> None:
    assert shares.shares("x", report((None, None), (2.0, 0.9)), judged=True).together == pytest.approx(0.9)
    assert not shares.shares("x", report((None, None), (None, None)), judged=True).kept


def test_all_ways_are_run_and_one_below_the_limit_fails(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    good, bad = report((1.0, 0.9), (1.0, 0.9)), report((1.0, 0.8), (1.0, 0.8))
    for fast, code in ((good, 0), (bad, 1)):
        made = Mock(side_effect=[good, bad, fast, bad])
        monkeypatch.setattr(shares, "bench", made)
        assert shares.main(["--json", "--recording", "a.wav"]) == code
        rows = json.loads(capsys.readouterr().out)
        assert [row["name"] for row in rows] == ["exact, file", "exact, live", "fast, file", "fast, live"]
        assert all(call.args[0] == "a.wav" for call in made.call_args_list)
        assert ["--live" in call.args for call in made.call_args_list] == [False, True, False, True]
