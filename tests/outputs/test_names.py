"""Names that would break a line, a field or a file system."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.outputs.names import one_field, one_line, safe_file_name

any_name = st.text(st.characters(), max_size=300)  # surrogates too: file names that are no UTF-8


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("sample", "sample"),
        ("my talk", "my talk"),
        ("réunion 会議", "réunion 会議"),
        ("a/b\\c", "a_b_c"),
        ("microphone:0", "microphone_0"),
        ("0.0.0.0:7007", "0.0.0.0_7007"),
        (".hidden", "_hidden"),
        ("..", "_."),
        ("line\nbreak\x1b[31m\x00", "line_break_[31m_"),
        ("caf\udce9", "caf_"),
        ("", "stream"),
    ],
)
def test_file_names_are_made_safe(name: str, safe: str) -> None:
    assert safe_file_name(name) == safe


def test_long_names_are_cut_but_stay_apart() -> None:
    first, second = safe_file_name("é" * 150 + "1"), safe_file_name("é" * 150 + "2")
    assert first != second
    assert len(first.encode()) <= 200
    assert first.startswith("é" * 90)
    assert safe_file_name("x" * 200) == "x" * 200


@given(any_name)
def test_every_name_gives_one_file_in_the_folder(name: str) -> None:
    safe = safe_file_name(name)
    path = Path("/folder") / f"{safe}.rttm"
    assert path.name == f"{safe}.rttm"
    assert os.path.normpath(path) == str(path)
    assert 0 < len(os.fsencode(safe)) <= 200
    assert safe_file_name(safe) == safe


@given(any_name)
def test_lines_and_fields_hold_together(name: str) -> None:
    assert len(f"{one_line(name)}.".splitlines()) == 1
    assert "\x1b" not in one_line(name)
    assert len(one_field(name).split()) == 1


def test_whitespace_in_a_field_is_underscored() -> None:
    assert one_field("Anna  Maria\tK") == "Anna__Maria_K"
    assert one_field("") == "_"
