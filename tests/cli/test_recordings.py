"""Recordings in, turns out: diart's turns, every way to see them, and the processes that make them."""

import json
from itertools import pairwise
from pathlib import Path

import pytest

from .command import STAGES, TONES, Diart, Done, Turns, der, turns
from .conftest import FullRun

SECONDS = 30.0  # of each recording
LIMIT = 0.1  # percent
NAMES = {"0.5": ("sample", "ami_EN2001e"), "2.0": ("sample", "ami_EN2009b")}  # 5 s: see evaluate


@pytest.fixture(scope="session")
def plain(diart: Diart, shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """A run that prints lines, and its folder."""
    output = tmp_path_factory.mktemp("plain")
    files = [next((shared / "data").glob(f"{name}.[wf]*")) for name in NAMES["2.0"]]
    return diart("run", *files, "--start", "exact", "--latency", "2", "-o", output), output


@pytest.fixture
def folders(full_run: FullRun, plain: tuple[Done, Path]) -> dict[str, Path]:
    """Where the turns of each latency are."""
    return {"0.5": full_run.folder, "2.0": plain[1]}


def test_one_process_for_each_stage(full_run: FullRun) -> None:
    titles = [title.strip() for title in full_run.processes]
    assert sorted(titles) == sorted(f"diart-mp: {stage}" for stage in STAGES)


@pytest.mark.parametrize(("latency", "name"), [(latency, name) for latency in NAMES for name in NAMES[latency]])
def test_the_turns_are_those_of_diart(folders: dict[str, Path], shared: Path, latency: str, name: str) -> None:
    theirs = turns(shared / "golden" / "turns" / f"latency{latency}" / f"{name}.rttm")
    assert der(theirs, turns(folders[latency] / f"{name}.rttm"), SECONDS) <= LIMIT


def test_the_score_is_that_of_diart(full_run: FullRun, shared: Path) -> None:
    golden = json.loads((shared / "golden" / "turns" / "scores.json").read_text())["0.5"]["files"]
    scores = full_run.objects[-1]["der"]
    assert scores.keys() == {"sample", "ami_EN2001e"}
    for name, score in scores.items():
        assert abs(score - golden[name]["der"]) <= LIMIT


def test_json_is_one_object_per_result_then_a_summary(full_run: FullRun) -> None:
    assert full_run.code == 0
    *found, summary = full_run.objects
    assert all(each.keys() == {"stream", "seq", "start", "end", "latency_ms", "turns"} for each in found)
    for name, count in (("sample", 51), ("ami_EN2001e", 52)):  # the second is one sample longer than 30 s
        of_one = [each for each in found if each["stream"] == name]
        assert [each["seq"] for each in of_one] == list(range(count))
        assert all(before["end"] == after["start"] for before, after in pairwise(of_one))
        assert (of_one[0]["start"], of_one[-1]["end"]) == (0.0, 5.0 + (count - 1) * 0.5)
        assert all(each["latency_ms"] > 0 for each in of_one)
    assert summary["kind"] == "summary"
    assert (summary["streams"], summary["results"]) == (["ami_EN2001e", "sample"], 103)
    assert (summary["audio_s"], summary["restarts"], summary["failures"]) == (2 * SECONDS, 0, [])


def test_the_formats_say_the_same(full_run: FullRun) -> None:
    said = turns(full_run.folder / "sample.rttm")
    rows = [line.split("\t") for line in (full_run.folder / "sample.txt").read_text().splitlines()]
    labels = [(float(start), float(end), speaker) for start, end, speaker in rows]
    assert _rounded(labels) == _rounded(said)
    srt = (full_run.folder / "sample.srt").read_text().split("\n\n")
    vtt = (full_run.folder / "sample.vtt").read_text().split("\n\n")
    assert [cue.splitlines()[2] for cue in srt if cue] == [speaker for _, _, speaker in said]
    assert vtt[0] == "WEBVTT"
    assert len([cue for cue in vtt if "-->" in cue]) == len(said)
    written = [json.loads(line) for line in (full_run.folder / "sample.jsonl").read_text().splitlines()]
    shown = [each for each in full_run.objects if each.get("stream") == "sample"]
    assert written == [{**each, "latency_ms": None} for each in shown]


def _rounded(said: Turns) -> list[tuple[float, float, str]]:
    """To the 10 ms that a start and a duration of 3 digits leave certain."""
    return [(round(start, 2), round(end, 2), speaker) for start, end, speaker in said]


def test_plain_lines_are_the_turns(plain: tuple[Done, Path]) -> None:
    done, folder = plain
    assert (done.code, done.complaints) == (0, [])
    rows = [line.split() for line in done.out.splitlines()]
    for name in NAMES["2.0"]:
        shown = [(float(start), float(end), speaker) for stream, start, end, speaker in rows if stream == name]
        assert _rounded(shown) == _rounded(turns(folder / f"{name}.rttm"))


def test_quiet_prints_nothing(diart: Diart, talk: Path, tmp_path: Path) -> None:
    done = diart("run", talk, *TONES, "-o", tmp_path, "--quiet")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert turns(tmp_path / "talk.rttm")
