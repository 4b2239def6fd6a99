"""Every format, read back by other people's parsers or by expressions written from its specification."""

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.errors import UsageError
from diart_mp.outputs.formats import FORMATS, known_formats, make_format
from diart_mp.turns import Turn, Update

RATE = 16_000
TURNS = [Turn(107_040, 113_920, "speaker0"), Turn(120_800, 133_600, "speaker1"), Turn(133_120, 57_600_016, "speaker0")]

speakers = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
some_turns = st.lists(
    st.builds(
        lambda start, length, who: Turn(start, start + length, who),
        st.integers(0, 10**9),
        st.integers(1, 10**7),
        speakers,
    )
)
CUE_TIME = r"(\d\d+):(\d\d):(\d\d)[.,](\d{3})"


def text_of(kind: str, turns: list[Turn], stream: str = "talk") -> str:
    written = make_format(kind, stream, RATE, recorded=True)
    return written.header + "".join(written.turn(turn) for turn in turns)


def cue_seconds(groups: tuple[str, ...]) -> float:
    hours, minutes, seconds, milliseconds = map(int, groups)
    assert minutes < 60
    assert seconds < 60
    return hours * 3600 + minutes * 60 + seconds + milliseconds / 1000


def test_registry_names_formats_and_extensions() -> None:
    expected = {"rttm": ".rttm", "jsonl": ".jsonl", "srt": ".srt", "vtt": ".vtt", "audacity": ".txt"}
    assert dict(FORMATS) == expected
    assert known_formats(["vtt", "rttm", "vtt"]) == ("vtt", "rttm")
    with pytest.raises(UsageError, match="'ctm': choose from rttm, jsonl"):
        known_formats(["rttm", "ctm"])


def test_rttm_is_that_of_diart() -> None:
    assert text_of("rttm", TURNS).splitlines() == [
        "SPEAKER talk 1 6.690 0.430 <NA> <NA> speaker0 <NA> <NA>",
        "SPEAKER talk 1 7.550 0.800 <NA> <NA> speaker1 <NA> <NA>",
        "SPEAKER talk 1 8.320 3591.681 <NA> <NA> speaker0 <NA> <NA>",
    ]


def test_rttm_with_spaces_in_names_is_read_by_pyannote(tmp_path: Path) -> None:
    from pyannote.database import util

    load_rttm: Any = util.load_rttm
    path = tmp_path / "talk.rttm"
    path.write_text(text_of("rttm", [*TURNS, Turn(0, 16_000, "Anna Maria")], stream="my first talk"), encoding="utf-8")
    annotation = load_rttm(path)["my_first_talk"]
    found = [(segment.start, segment.end, who) for segment, _, who in annotation.itertracks(yield_label=True)]
    assert found == [
        (0.0, 1.0, "Anna_Maria"),
        (6.69, pytest.approx(7.12), "speaker0"),
        (7.55, pytest.approx(8.35), "speaker1"),
        (8.32, pytest.approx(3600.001), "speaker0"),
    ]


@given(some_turns, st.text(st.characters(exclude_categories=["Cs"])))
def test_rttm_lines_always_have_ten_fields(turns: list[Turn], stream: str) -> None:
    lines = text_of("rttm", turns, stream).split("\n")
    assert lines.pop() == ""
    assert len(lines) == len(turns)
    for line, turn in zip(lines, turns, strict=True):
        fields = line.split()
        assert [fields[i] for i in (0, 2, 5, 6, 8, 9)] == ["SPEAKER", "1", "<NA>", "<NA>", "<NA>", "<NA>"]
        assert len(fields) == 10
        assert float(fields[3]) == pytest.approx(turn.start / RATE, abs=0.00051)
        assert float(fields[4]) == pytest.approx((turn.end - turn.start) / RATE, abs=0.00051)


@given(some_turns)
def test_srt_cues_are_numbered_and_never_empty(turns: list[Turn]) -> None:
    text = text_of("srt", turns)
    cues = re.findall(rf"(\d+)\n{CUE_TIME.replace('.,', ',')} --> {CUE_TIME.replace('.,', ',')}\n(.*)\n\n", text)
    assert "".join(f"{c[0]}\n{':'.join(c[1:4])},{c[4]} --> {':'.join(c[5:8])},{c[8]}\n{c[9]}\n\n" for c in cues) == text
    assert [int(cue[0]) for cue in cues] == list(range(1, len(turns) + 1))
    for cue, turn in zip(cues, turns, strict=True):
        start, end = cue_seconds(cue[1:5]), cue_seconds(cue[5:9])
        assert start == pytest.approx(turn.start / RATE, abs=0.00051)
        assert end == pytest.approx(turn.end / RATE, abs=0.0016)
        assert end > start


def test_srt_looks_like_subtitles() -> None:
    assert text_of("srt", TURNS[:1]) == "1\n00:00:06,690 --> 00:00:07,120\nspeaker0\n\n"


def test_vtt_looks_like_subtitles_with_voices() -> None:
    expected = "WEBVTT\n\n00:00:08.320 --> 01:00:00.001\n<v speaker0>speaker0\n\n"
    assert text_of("vtt", TURNS[2:]) == expected


@given(some_turns)
def test_vtt_cues_name_the_speaker_whatever_the_name(turns: list[Turn]) -> None:
    text = text_of("vtt", turns)
    assert text.startswith("WEBVTT\n\n")
    blocks = text.removeprefix("WEBVTT\n\n").split("\n\n")
    assert blocks.pop() == ""
    for block, turn in zip(blocks, turns, strict=True):
        times, cue = block.split("\n")
        match = re.fullmatch(rf"{CUE_TIME} --> {CUE_TIME}", times)
        assert match is not None
        assert cue_seconds(match.groups()[:4]) < cue_seconds(match.groups()[4:])
        voice = re.fullmatch(r"<v ([^<>]*)>([^<>]*)", cue)
        assert voice is not None
        printable = "".join(char if char.isprintable() else " " for char in turn.speaker)
        assert [html.unescape(part) for part in voice.groups()] == [printable, printable]


@given(some_turns)
def test_audacity_labels_are_three_fields_with_tabs(turns: list[Turn]) -> None:
    lines = text_of("audacity", turns).split("\n")
    assert lines.pop() == ""
    for line, turn in zip(lines, turns, strict=True):
        start, end, label = line.split("\t")
        assert round(float(start) * RATE) == turn.start
        assert round(float(end) * RATE) == turn.end
        assert label.isprintable()
        assert "-" not in start + end


def test_jsonl_has_updates_and_no_turns_of_its_own() -> None:
    update = Update("talk", 0, 0, 80_000, RATE, (Turn(8, 16_000, "speaker0"),), 12.5)
    for recorded, latency in [(True, None), (False, 12.5)]:
        written = make_format("jsonl", "talk", RATE, recorded=recorded)
        assert written.turn(TURNS[0]) == ""
        turns = [{"speaker": "speaker0", "start": 0.0005, "end": 1.0}]
        expected = {"stream": "talk", "seq": 0, "start": 0.0, "end": 5.0, "latency_ms": latency, "turns": turns}
        assert json.loads(written.update(update)) == expected


@pytest.mark.parametrize("kind", ["rttm", "srt", "vtt", "audacity"])
def test_formats_of_turns_write_nothing_for_updates(kind: str) -> None:
    assert make_format(kind, "talk", RATE, recorded=True).update(Update("talk", 0, 0, 1, RATE, (TURNS[0],))) == ""
    assert text_of(kind, []) == {"vtt": "WEBVTT\n\n"}.get(kind, "")
