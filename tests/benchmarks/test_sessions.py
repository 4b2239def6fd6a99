"""What a chunk costs on each engine: the arithmetic, on models that count their calls."""

import numpy as np
import pytest

from benchmarks import sessions


def test_each_round_sees_new_audio_in_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[sessions.Floats] = []
    clock = iter([0.0, 5.0, 10.0, 12.0, 20.0, 24.0])
    monkeypatch.setattr("time.process_time", lambda: next(clock))

    def run(windows: sessions.Floats) -> sessions.Floats:
        seen.append(windows)
        return windows

    assert sessions.cost_ms(run, np.ones((3, 10), np.float32), 2) == pytest.approx(2000 / 3)  # the second round
    assert [len(windows) for windows in seen] == [2, 1] * 3
    assert len({float(windows[0, 0]) for windows in seen}) == 3


def test_differences_are_those_from_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    offsets = {engine: 0.25 * number for number, engine in enumerate(sessions._ENGINES.values())}
    monkeypatch.setattr(sessions, "runs", lambda _, precision: lambda windows: windows + np.float32(offsets[precision]))
    found = list(sessions.rows(np.zeros((2, 10), np.float32)))
    assert [row.model for row in found] == ["segmentation"] * 3 + ["embedding"] * 3
    assert [row.difference for row in found] == [0.0, 0.25, 0.5] * 2
    assert all(set(row.ms) == {1, 8} for row in found)
