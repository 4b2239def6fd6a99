"""Lines for a pipe."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from diart_mp.errors import OutputError
from diart_mp.outputs.plain import JsonView, PlainView, QuietView
from diart_mp.turns import Turn, Update

RATE = 16_000
FIRST = Update("talk", 0, 104_000, 112_000, RATE, (Turn(107_040, 112_000, "speaker0"),), 81.5)
SECOND = Update("talk", 1, 112_000, 120_000, RATE, (Turn(112_000, 113_920, "speaker0"),), 82.5)


class CountingText(io.StringIO):
    """Remembers what had been written at each flush."""

    def __init__(self) -> None:
        super().__init__()
        self.flushed: list[str] = []

    def flush(self) -> None:
        self.flushed.append(self.getvalue())


def test_turn_is_one_line_once_it_is_final() -> None:
    out = CountingText()
    with PlainView(out, io.StringIO()) as view:
        view.update(FIRST)
        assert out.getvalue() == ""
        view.update(SECOND)
        assert out.flushed == ["   6.690    7.120  speaker0\n"]


def test_open_turns_come_with_the_end_of_their_stream() -> None:
    out = io.StringIO()
    view = PlainView(out, io.StringIO(), several=True)
    view.update(FIRST)
    view.update(Update("other\ntalk", 0, 0, 8_000, RATE, (Turn(0, 8_000, "speaker0"),)))
    view.ended("talk")
    assert out.getvalue() == "talk     6.690    7.000  speaker0\n"
    view.ended("other\ntalk")
    view.ended("never heard of")
    assert out.getvalue().splitlines()[1:] == ["other talk     0.000    0.500  speaker0"]


def test_streams_may_have_their_own_rates_and_do_not_mix() -> None:
    out = io.StringIO()
    view = PlainView(out, io.StringIO())
    view.update(Update("a", 0, 0, 8_000, 8_000, (Turn(0, 8_000, "speaker0"),)))
    view.update(Update("b", 0, 0, 48_000, 48_000, (Turn(24_000, 48_000, "speaker0"),)))
    view.ended("b")
    view.ended("a")
    assert out.getvalue() == "   0.500    1.000  speaker0\n   0.000    1.000  speaker0\n"


def test_json_objects_come_at_once_and_unstitched() -> None:
    out = CountingText()
    view = JsonView(out, io.StringIO())
    view.update(FIRST)
    view.update(SECOND)
    view.finish("1 s", {"kind": "summary"})
    assert len(out.flushed) == 3
    objects = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(item["seq"], item["latency_ms"]) for item in objects[:2]] == [(0, 81.5), (1, 82.5)]
    assert objects[2] == {"kind": "summary"}
    assert objects[0]["turns"] == [{"speaker": "speaker0", "start": 6.69, "end": 7.0}]


def test_notes_go_elsewhere() -> None:
    for kind in (PlainView, JsonView):
        out, notes = io.StringIO(), io.StringIO()
        kind(out, notes).note("embedding was started\nagain \x1b[31m")
        assert (out.getvalue(), notes.getvalue()) == ("", "# embedding was started again  [31m\n")


def test_end_of_a_run_closes_open_turns_and_says_what_was_done() -> None:
    out, notes = io.StringIO(), io.StringIO()
    view = PlainView(out, notes)
    view.update(FIRST)
    view.finish("7 s of audio", {})
    assert out.getvalue() == "   6.690    7.000  speaker0\n"
    assert notes.getvalue() == "# 7 s of audio\n"


def test_quiet_view_says_nothing() -> None:
    out, notes = io.StringIO(), io.StringIO()
    view = QuietView(out, notes)
    view.update(FIRST)
    view.note("text")
    view.ended("talk")
    view.finish("text", {})
    assert out.getvalue() + notes.getvalue() == ""


def test_position_and_level_print_nothing() -> None:
    out = io.StringIO()
    for view in (PlainView(out, io.StringIO()), JsonView(out, io.StringIO())):
        view.progress("talk", 3.0, None, 1.0)
        view.level("talk", -20.0)
    assert out.getvalue() == ""


def test_speaker_cannot_forge_lines() -> None:
    out = io.StringIO()
    view = PlainView(out, io.StringIO())
    view.update(Update("talk", 0, 0, 16_000, RATE, (Turn(0, 8_000, "x\n   9.000   9.500  speaker1"),)))
    assert out.getvalue().count("\n") == 1


def test_full_standard_output_is_one_line() -> None:
    with refusing("/dev/full") as out, pytest.raises(OutputError, match=r"output: No space left on device") as caught:
        JsonView(out, io.StringIO()).update(FIRST)
    assert "\n" not in str(caught.value)


def test_reader_that_has_gone_is_told_as_such() -> None:
    read, write = os.pipe()
    os.close(read)
    with refusing(write) as out, pytest.raises(BrokenPipeError):
        PlainView(io.StringIO(), out).note("text")


@contextmanager
def refusing(file: str | int) -> Iterator[TextIO]:
    """A text stream like standard output, but one that keeps nothing back for its end."""
    with io.FileIO(file, "w") as raw:
        yield io.TextIOWrapper(raw, write_through=True)
