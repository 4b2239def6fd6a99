"""Lines for a pipe."""

import io
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from diart_mp.errors import OutputError
from diart_mp.outputs.plain import JsonView, PlainView
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
    with PlainView(out) as view:
        view.update(FIRST)
        assert out.getvalue() == ""
        view.update(SECOND)
        assert out.flushed == ["   6.690    7.120  speaker0\n"]


def test_open_turns_come_with_the_end_of_their_stream() -> None:
    out = io.StringIO()
    view = PlainView(out, several=True)
    view.update(FIRST)
    view.update(Update("other\ntalk", 0, 0, 8_000, RATE, (Turn(0, 8_000, "speaker0"),)))
    view.finish("talk")
    assert out.getvalue() == "talk     6.690    7.000  speaker0\n"
    view.finish("other\ntalk")
    view.finish("never heard of")
    assert out.getvalue().splitlines()[1:] == ["other talk     0.000    0.500  speaker0"]


def test_streams_may_have_their_own_rates_and_do_not_mix() -> None:
    out = io.StringIO()
    view = PlainView(out)
    view.update(Update("a", 0, 0, 8_000, 8_000, (Turn(0, 8_000, "speaker0"),)))
    view.update(Update("b", 0, 0, 48_000, 48_000, (Turn(24_000, 48_000, "speaker0"),)))
    view.finish("b")
    view.finish("a")
    assert out.getvalue() == "   0.500    1.000  speaker0\n   0.000    1.000  speaker0\n"


def test_json_objects_come_at_once_and_unstitched() -> None:
    out = CountingText()
    view = JsonView(out)
    view.update(FIRST)
    view.update(SECOND)
    view.finish("talk")
    assert len(out.flushed) == 2
    objects = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(item["seq"], item["latency_ms"]) for item in objects] == [(0, 81.5), (1, 82.5)]
    assert objects[0]["turns"] == [{"speaker": "speaker0", "start": 6.69, "end": 7.0}]


def test_json_of_recordings_has_no_latency() -> None:
    out = io.StringIO()
    JsonView(out, recorded=True).update(FIRST)
    assert json.loads(out.getvalue())["latency_ms"] is None


def test_notes_are_told_apart_from_turns() -> None:
    plain, objects = io.StringIO(), io.StringIO()
    PlainView(plain).note("embedding was started\nagain \x1b[31m")
    JsonView(objects).note('said "no"')
    assert plain.getvalue() == "# embedding was started again  [31m\n"
    assert json.loads(objects.getvalue()) == {"note": 'said "no"'}


def test_position_and_level_print_nothing() -> None:
    out = io.StringIO()
    for view in (PlainView(out), JsonView(out)):
        view.progress("talk", 3.0, None, 1.0)
        view.level("talk", -20.0)
    assert out.getvalue() == ""


def test_speaker_cannot_forge_lines() -> None:
    out = io.StringIO()
    view = PlainView(out)
    view.update(Update("talk", 0, 0, 16_000, RATE, (Turn(0, 8_000, "x\n   9.000   9.500  speaker1"),)))
    assert out.getvalue().count("\n") == 1


def test_full_standard_output_is_one_line() -> None:
    with refusing("/dev/full") as out, pytest.raises(OutputError, match=r"output: No space left on device") as caught:
        JsonView(out).note("text")
    assert "\n" not in str(caught.value)


def test_reader_that_has_gone_is_told_as_such() -> None:
    read, write = os.pipe()
    os.close(read)
    with refusing(write) as out, pytest.raises(BrokenPipeError):
        PlainView(out).note("text")


@contextmanager
def refusing(file: str | int) -> Iterator[TextIO]:
    """A text stream like standard output, but one that keeps nothing back for its end."""
    with io.FileIO(file, "w") as raw:
        yield io.TextIOWrapper(raw, write_through=True)
