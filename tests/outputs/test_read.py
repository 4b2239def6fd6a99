"""RTTM and UEM files as people have them."""

from pathlib import Path

import pytest

from diart_mp.errors import UsageError
from diart_mp.outputs.read import load_rttm, load_uem


def test_rttm_of_several_recordings_with_comments_and_other_lines(tmp_path: Path) -> None:
    path = tmp_path / "reference.rttm"
    path.write_bytes(
        b"\xef\xbb\xbf;; a comment\r\n"
        b"SPKR-INFO talk 1 <NA> <NA> <NA> unknown anna <NA> <NA>\r\n"
        b"SPEAKER talk 1 6.690 0.430 <NA> <NA> anna <NA> <NA>\r\n"
        b"\r\n"
        b"# another comment\n"
        b"SPEAKER other 1 0 2.5 <NA> <NA> J\xc3\xbcrgen <NA>\n"
        b"SPEAKER talk  1\t1.000 1e1 <NA> <NA> bert\n"
        b"SPEAKER silent 1 3 0 <NA> <NA> bert <NA> <NA>"
    )
    assert load_rttm(path) == {
        "talk": [(6.69, pytest.approx(7.12), "anna"), (1.0, 11.0, "bert")],
        "other": [(0.0, 2.5, "Jürgen")],
        "silent": [],
    }


def test_empty_rttm_has_no_recordings(tmp_path: Path) -> None:
    path = tmp_path / "empty.rttm"
    path.touch()
    assert load_rttm(path) == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("SPEAKER talk 1 6.690 0.430 <NA>", "line 2: .*10 fields .*this one 6 and 'nothing'"),
        (
            "SPEAKER my talk 1 6.690 0.430 <NA> <NA> anna <NA> <NA>",
            "line 2: .*this one 11 and .*no name may hold a space",
        ),
        ("SPEAKER my talk 1 6.690 0.430 <NA> <NA> anna", "line 2: .*'<NA>' as its speaker"),
        ("SPEAKER talk 1 six 0.430 <NA> <NA> anna <NA> <NA>", "line 2: six and 0.430 should be two times"),
        ("SPEAKER talk 1 6.690 nan <NA> <NA> anna <NA> <NA>", "line 2: 6.690 and nan should be two times"),
        ("SPEAKER talk 1 6.690 -0.5 <NA> <NA> anna <NA> <NA>", "line 2: .*negative duration, -0.5 s"),
    ],
)
def test_broken_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "broken.rttm"
    path.write_text(f"SPEAKER talk 1 6.690 0.430 <NA> <NA> anna <NA> <NA>\n{line}\n")
    with pytest.raises(UsageError, match=said) as caught:
        load_rttm(path)
    assert str(path) in str(caught.value)


def test_file_that_is_missing_or_no_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot read .*none\.rttm: No such file"):
        load_rttm(tmp_path / "none.rttm")
    (tmp_path / "audio.rttm").write_bytes(b"RIFF\xff\xfe\x00")
    with pytest.raises(UsageError, match=r"cannot read .*audio\.rttm: it is not text"):
        load_rttm(tmp_path / "audio.rttm")


def test_uem_parts_by_recording(tmp_path: Path) -> None:
    path = tmp_path / "parts.uem"
    path.write_text("talk 1 0.000 30.000\n\n;; comment\nother NA 5 6.5\ntalk 1 60 90\n")
    assert load_uem(path) == {"talk": [(0.0, 30.0), (60.0, 90.0)], "other": [(5.0, 6.5)]}


@pytest.mark.parametrize(
    ("line", "said"),
    [("talk 1 0.0", "line 1: .*4 fields"), ("talk 1 9 3", "line 1: .*ends at 3 s"), ("talk 1 a b", "line 1: a and b")],
)
def test_broken_uem_line_is_named(tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "parts.uem"
    path.write_text(line)
    with pytest.raises(UsageError, match=said):
        load_uem(path)
