"""The log of a run has what happened, one line each, and nothing of what happens all the time."""

from pathlib import Path

import pytest

from diart_mp.errors import OutputError
from diart_mp.outputs.log import EventLog


def test_events_become_lines_with_stage_stream_and_chunk(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "run.log")
    log.write({"event": "result", "stage": "capture", "update": {}})
    log.write({"event": "error", "stage": "capture", "stream": "talk", "seq": 41, "text": "not\ndiarized"})
    log.write({"event": "restart", "stage": "embedding", "text": "died", "log": ["Fatal error", "  File x"]})
    log.close()
    lines = [line.split(" ", 1) for line in (tmp_path / "run.log").read_text().splitlines()]
    assert [text for _, text in lines] == [
        "capture error stream=talk seq=41 text=not diarized",
        "embedding restart text=died",
        "embedding stderr Fatal error",
        "embedding stderr   File x",
    ]
    assert all(time.endswith("+00:00") for time, _ in lines)


def test_log_is_appended_to(tmp_path: Path) -> None:
    for _ in range(2):
        log = EventLog(tmp_path / "run.log")
        log.write({"event": "ready"})
        log.close()
    assert (tmp_path / "run.log").read_text().count("run ready\n") == 2


def test_log_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write the log .*: Is a directory"):
        EventLog(tmp_path)
    log = EventLog(Path("/dev/full"))
    with pytest.raises(OutputError, match="No space left on device"):
        log.write({"event": "ready"})
    log.close()
