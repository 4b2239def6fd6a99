"""What can be evaluated of folders, Kaldi directories and protocols, and why the rest cannot."""

from pathlib import Path

import pytest

from diart_mp.errors import UsageError
from diart_mp.evaluation.corpus import open_corpus


def test_recordings_of_a_protocol_are_checked_as_those_of_a_folder(corpus: Path, tmp_path: Path) -> None:
    database = pytest.importorskip("pyannote.database")
    whole = (corpus / "audio" / "long.wav").read_bytes()
    for name, data in {"whole": whole, "cut": whole[:100_000], "empty": b""}.items():
        (tmp_path / f"{name}.wav").write_bytes(data)
    names = ("whole", "cut", "empty", "lost")
    lines = [f"SPEAKER {name} 1 1.000 2.000 <NA> <NA> ann <NA> <NA>\n" for name in names]
    (tmp_path / "all.rttm").write_text("".join(lines))
    (tmp_path / "list.txt").write_text("".join(f"{name}\n" for name in names))
    (tmp_path / "database.yml").write_text(
        f"Databases:\n  Flawed: {tmp_path / '{uri}.wav'}\n"
        "Protocols:\n  Flawed:\n    SpeakerDiarization:\n      Short:\n        scope: file\n        test:\n"
        f"          uri: {tmp_path / 'list.txt'}\n          annotation: {tmp_path / 'all.rttm'}\n"
    )
    database.registry.load_database(tmp_path / "database.yml")
    found = open_corpus("Flawed.SpeakerDiarization.Short")
    assert list(found.recordings) == ["whole"]
    assert found.recordings["whole"].reference == [(1.0, 3.0, "ann")]
    assert "cut short" in found.problems["cut"]
    assert "empty.wav" in found.problems["empty"]
    assert "lost.wav" in found.problems["lost"]
    assert [text for text in found.problems.values() if "\n" in text] == []


def test_a_list_of_kaldi_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "wav.scp").write_bytes("café café.wav\n".encode("latin-1"))
    (tmp_path / "rttm").touch()
    with pytest.raises(UsageError, match=r"wav\.scp cannot be read as text"):
        open_corpus(str(tmp_path))
