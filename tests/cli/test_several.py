"""Several recordings in one run: a folder of them, side by side, with broken ones among them."""

from itertools import groupby
from pathlib import Path

import pytest

from tests.fakes import conversation

from .command import TONES, Diart, turns

NAMES = ("first", "second", "third")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings, two that are none, and what else lies in folders."""
    folder = tmp_path_factory.mktemp("several")
    for seed, name in enumerate(NAMES):
        conversation(folder / f"{name}.wav", seconds=60.0, seed=seed)
    (folder / "broken.wav").write_bytes((folder / "first.wav").read_bytes()[:30])
    (folder / "empty.flac").touch()
    (folder / ".hidden.wav").touch()
    (folder / "notes.txt").write_text("no audio\n")
    (folder / "older.wav").mkdir()
    return folder


def test_side_by_side_gives_what_one_after_the_other_gives(diart: Diart, folder: Path, tmp_path: Path) -> None:
    files = [folder / f"{name}.wav" for name in NAMES]
    options = ["--json", "--format", "rttm,jsonl"]
    alone = diart("run", *files, *TONES, *options, "-o", tmp_path / "alone")
    together = diart("run", folder, *TONES, *options, "-o", tmp_path / "together", "--jobs", "3")
    assert (alone.code, alone.complaints) == (0, [])
    written = sorted(path.name for path in (tmp_path / "alone").iterdir())
    assert written == sorted(f"{name}.{kind}" for name in NAMES for kind in ("rttm", "jsonl"))
    for name in written:
        assert (tmp_path / "together" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    assert len({tuple(turns(tmp_path / "alone" / f"{name}.rttm")) for name in NAMES}) == 3
    assert len(_order(alone.objects)) == 3
    assert len(_order(together.objects)) > 3  # more chunks than may be in flight: nobody waits for the end of another
    assert together.code == 1
    assert [word for line, word in zip(together.complaints, ("broken.wav", "empty.flac"), strict=True) if word in line]
    assert len(together.objects[-1]["failures"]) == 2
    assert together.objects[-1]["streams"] == sorted(NAMES)


def _order(objects: list[dict[str, object]]) -> list[object]:
    """The names of the results in the order in which they came, each once as long as no other comes between."""
    return [name for name, _ in groupby(each["stream"] for each in objects if "seq" in each)]
