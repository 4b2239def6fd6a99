"""File names of all kinds, in and out."""

import json
import os
import shutil
from pathlib import Path

import pytest

from .command import TONES, Diart, turns

NAMES = {  # of the recording: of the stream, of the output
    "two words und Ümlaute 語.wav": ("two words und Ümlaute 語", "two words und Ümlaute 語"),
    "--json": ("--json", "--json"),
    ".hidden.wav": (".hidden", "_hidden"),
    "line\nbreak.wav": ("line\nbreak", "line_break"),
    'quote".WAV': ('quote"', "quote_"),
    os.fsdecode(b"latin-\xfcber.wav"): (r"latin-\xfcber", "latin-_xfcber"),
}


@pytest.fixture(scope="session")
def folder(diart: Diart, talk: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of all these names, and a folder ``out`` with what one run made of them."""
    folder = tmp_path_factory.mktemp("names")
    for name in NAMES:
        try:
            shutil.copy(talk, folder / name)
        except OSError as error:
            pytest.skip(f"this file system takes no file name {name!r}: {error}")
    options = ["--json", "-o", os.fsdecode(b"out-\xff"), "--format", "rttm,jsonl"]
    done = diart("run", *TONES, *options, "--", *NAMES, cwd=folder)
    assert (done.code, done.complaints) == (0, [])
    assert set(done.objects[-1]["streams"]) == {stream for stream, _ in NAMES.values()}
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_a_name_finds_its_way_into_the_outputs(folder: Path, name: str) -> None:
    stream, file = NAMES[name]
    output = folder / os.fsdecode(b"out-\xff")
    lines = (output / f"{file}.jsonl").read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["stream"] for line in lines} == {stream}
    assert len(turns(output / f"{file}.rttm")) > 3


def test_a_reference_is_found_by_name(diart: Diart, folder: Path, tmp_path: Path) -> None:
    """RTTM has no spaces in its names; a recording without a reference gets no score."""
    said = (folder / os.fsdecode(b"out-\xff") / "two words und Ümlaute 語.rttm").read_text(encoding="utf-8")
    reference = tmp_path / "reference.rttm"
    reference.write_text(said, encoding="utf-8")
    zero = pytest.approx(0, abs=0.1)  # percent: RTTM has milliseconds
    names = ["two words und Ümlaute 語.wav", ".hidden.wav"]
    done = diart("run", *names, *TONES, "--json", "--reference", reference, cwd=folder)
    assert done.objects[-1]["der"] == {"two words und Ümlaute 語": zero, ".hidden": None}
    done = diart("run", ".hidden.wav", *TONES, "--json", "--reference", reference, cwd=folder)
    assert done.objects[-1]["der"] == {".hidden": zero}


def test_a_name_that_is_no_text_in_an_error(diart: Diart, folder: Path, tmp_path: Path) -> None:
    """From the command itself, and from a stage by way of a message."""
    path = tmp_path / os.fsdecode(b"b\xfcd.wav")
    done = diart("run", path)
    assert done.code == 1
    assert "d.wav: cannot be opened" in done.complaints[0]
    (tmp_path / "full").mkdir()
    shutil.copy(folder / os.fsdecode(b"latin-\xfcber.wav"), path)
    output = tmp_path / os.fsdecode(b"f\xfcll")
    output.mkdir()
    (output / "b_xfcd.rttm").symlink_to("/dev/full")
    done = diart("run", path, *TONES, "--quiet", "-o", output, "--force")
    assert done.code == 1
    assert len(done.complaints) == 1
    assert "b_xfcd.rttm: No space left on device" in done.complaints[0]


def test_a_name_that_standard_output_cannot_show(diart: Diart, folder: Path) -> None:
    names = ["two words und Ümlaute 語.wav", ".hidden.wav"]
    done = diart("run", *names, *TONES, cwd=folder, env={"PYTHONIOENCODING": "ascii"})
    assert (done.code, done.complaints) == (0, [])
    assert r"two words und \xdcmlaute \u8a9e" in done.out
