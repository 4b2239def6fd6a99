"""Fault points, the file of what a stage is working on, and the pace of live streams."""

from pathlib import Path

import pytest

from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.runtime.activity import Activity, activity_file, read_activity
from diart_mp.runtime.faults import VARIABLE, faults_of, strike
from diart_mp.runtime.pace import Pace


def test_faults_are_read_for_one_stage(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "embedding:crash@41, segmentation:slow=1.5,embedding:raise")
    found = [(fault.action, fault.value, fault.seq) for fault in faults_of("embedding")]
    assert found == [("crash", "", 41), ("raise", "", None)]
    assert [(fault.action, fault.value, fault.seq) for fault in faults_of("segmentation")] == [("slow", "1.5", None)]
    assert faults_of("clustering") == []


@pytest.mark.parametrize(
    "text", ["embedding", "embedding:explode", "embedding:slow", "a:crash=1", "a:crash@x", ":hang"]
)
def test_nonsense_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(UsageError, match="is not STAGE:ACTION"):
        faults_of("embedding")


def test_fault_strikes_only_its_chunk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "embedding:raise@2")
    faults = faults_of("embedding")
    strike(faults, [0, 1, 3])
    with pytest.raises(RuntimeError, match="fault point embedding"):
        strike(faults, [1, 2])


def test_activity_outlives_its_writer(tmp_path: Path) -> None:
    file = activity_file(tmp_path, "embedding", 1)
    assert read_activity(file) == []
    first = Activity(file)
    first.begin([("a", 1), ("b", 2**40)])
    assert read_activity(file) == [("a", 1), ("b", 2**40)]
    first.close()
    second = Activity(file)
    assert second.suspects == {("a", 1), ("b", 2**40)}
    second.begin([("a", 1)])
    second.end()
    second.close()
    assert read_activity(file) == []


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\xff\xff\xff\xff", b"\x05\x00\x00\x00\x91\x92", b"\x01\x00\x00\x00\xc1"]
)
def test_torn_activity_means_nothing(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(data)
    assert read_activity(tmp_path / "x") == []


def test_pace_of_a_fast_pipeline_skips_only_after_a_long_hiccup() -> None:
    pace = Pace(Settings())
    for index in range(10):
        assert pace.may_send(0.5 * index)
        pace.sent(0.5 * index)
        pace.answered(0.5 * index + 0.05)
    assert not pace.is_behind(30_000)
    assert pace.is_behind(40_000)


def test_pace_of_a_slow_pipeline_sends_one_chunk_at_a_time_and_recovers() -> None:
    pace = Pace(Settings())
    now = 0.0
    for _ in range(6):
        pace.sent(now)
        now += 2.0
        pace.answered(now)
    pace.sent(now)
    assert not pace.may_send(now + 0.01)
    assert not pace.is_behind(7_999)
    assert pace.is_behind(8_000)
    for _ in range(6):
        now += 0.05
        pace.answered(now)
        pace.sent(now)
    assert pace.may_send(now)
    assert not pace.is_behind(8_000)


def test_nothing_more_is_sent_while_the_oldest_chunk_waits_for_too_long() -> None:
    pace = Pace(Settings())
    pace.sent(0.0)
    assert pace.may_send(0.5)
    pace.sent(0.5)
    assert not pace.may_send(1.0)
    pace.answered(1.0)
    assert pace.may_send(1.1)


def test_time_between_chunks_is_not_taken_for_work() -> None:
    pace = Pace(Settings())
    for begin in (0.0, 60.0, 120.0):
        pace.sent(begin)
        pace.answered(begin + 0.1)
    assert not pace.is_behind(8_000)


def test_results_of_queued_chunks_count_from_one_to_the_next() -> None:
    pace = Pace(Settings(step=16_000, latency=16_000))
    for index in range(6):
        pace.sent(0.01 * index)
    for index in range(5):
        pace.answered(0.4 * (index + 1))
    assert pace.may_send(1.4)  # two at 0.4 s are within the budget of 1 s
    pace.sent(1.4)
    assert not pace.may_send(1.45)


def test_an_outage_is_not_taken_for_work_and_is_caught_up_with() -> None:
    pace = Pace(Settings())
    for index in range(4):
        pace.sent(0.5 * index)
    pace.sent_again(12.0)
    for index in range(4):
        pace.answered(12.1 + 0.1 * index)
    assert not pace.is_behind(8_000)  # 0.1 s per chunk
    assert pace.windows_behind == 6  # 30 s of audio


def test_a_pipeline_that_cannot_catch_up_at_four_times_the_pace_gives_audio_up_early() -> None:
    pace = Pace(Settings())
    for index in range(8):
        pace.sent(1.3 * index)
        pace.answered(1.3 * index + 1.3)
    assert pace.windows_behind == 1
