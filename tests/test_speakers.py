"""The file of enrolled speakers: what is written can be read anywhere, and what is no such file is one clear line."""

import json
import stat
from pathlib import Path

import numpy as np
import pytest

from diart_mp.errors import OutputError, UsageError
from diart_mp.speakers import EnrolledSpeakers


def two() -> EnrolledSpeakers:
    speakers = EnrolledSpeakers(embedding="builtin").add("Ann", np.array([[3.0, 4.0]]))
    return speakers.add("Zoë Ó.", np.array([[0.0, 2.0], [5.0, 0.0]]))


def test_file_says_what_was_enrolled(tmp_path: Path) -> None:
    path = tmp_path / "new" / "speakers.json"
    two().add("Ann", np.array([[0.0, -1.0]])).save(path)
    values = json.loads(path.read_text(encoding="utf-8"))
    assert values == {
        "version": 1,
        "embedding": "builtin",
        "dimension": 2,
        "speakers": [
            {"name": "Ann", "embeddings": [[0.6, 0.8], [0.0, -1.0]]},
            {"name": "Zoë Ó.", "embeddings": [[0.0, 1.0], [1.0, 0.0]]},
        ],
    }
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["speakers.json"]
    again = EnrolledSpeakers.load(path)
    assert list(again.voices) == ["Ann", "Zoë Ó."]
    np.testing.assert_allclose(again.voices["Ann"], [[0.6, 0.8], [0.0, -1.0]], rtol=1e-6)
    assert list(again.remove("Ann").voices) == ["Zoë Ó."]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "is no file of speakers"),
        ("[]", "'version': 1"),
        ('{"version": 2, "embedding": "builtin", "speakers": []}', "'version': 1"),
        ('{"version": 1, "embedding": "builtin", "speakers": [{"name": "A"}]}', "a speaker needs"),
        ('{"version": 1, "embedding": "b", "speakers": [{"name": "A", "embeddings": [[1], [1, 2]]}]}', "one length"),
        ('{"version": 1, "embedding": "b", "speakers": [{"name": "A", "embeddings": [[0, 0]]}]}', "only zeros"),
        ('{"version": 1, "embedding": "b", "speakers": [{"name": "A", "embeddings": [["x"]]}]}', "of numbers"),
        ('{"version": 1, "embedding": "b", "speakers": [{"name": "A", "embeddings": []}]}', "of shape"),
    ],
)
def test_other_files_are_one_line(text: str, says: str, tmp_path: Path) -> None:
    path = tmp_path / "speakers.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=says) as caught:
        EnrolledSpeakers.load(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_speakers_of_different_lengths_and_twice_the_same_name_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "speakers.json"
    path.write_text(
        '{"version": 1, "embedding": "b", "speakers": [{"name": "A", "embeddings": [[1]]}, {"name": "B", "embeddings": [[1, 2]]}]}'
    )
    with pytest.raises(UsageError, match="different lengths"):
        EnrolledSpeakers.load(path)
    path.write_text(
        '{"version": 1, "embedding": "b", "speakers": [{"name": "A", "embeddings": [[1]]}, {"name": "A", "embeddings": [[1]]}]}'
    )
    with pytest.raises(UsageError, match="of its own"):
        EnrolledSpeakers.load(path)


@pytest.mark.parametrize("name", ["", " Ann", "speaker0", "a\nb", "x" * 257])
def test_such_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        two().add(name, np.ones((1, 2)))


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="have 3 numbers, those of the file 2"):
        two().add("Bo", np.ones((1, 3)))
    with pytest.raises(UsageError, match="enrolled with the embedding model 'builtin', not 'pyannote/embedding'"):
        two().check_model("pyannote/embedding", tmp_path)
    with pytest.raises(UsageError, match="there is no file of speakers"):
        EnrolledSpeakers.load(tmp_path / "none.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot write the speakers"):
        two().save(tmp_path / "file" / "speakers.json")
