"""What an owner leaves on disk for its successor, and what damage to it does."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from diart_mp.errors import OutputError
from diart_mp.runtime.journal import Journal, Position
from diart_mp.runtime.ledger import Checkpoint

LINES = [{"seq": seq, "text": "é\n" * seq} for seq in range(5)]
POSITION = Position(
    Checkpoint(3, {"clustering": b"\x00\xff", "other": b""}),
    origin=-10,
    window=640,
    ring="r",
    generation=2,
    samples=9,
    clock=1.5,
)


def written(folder: Path, lines: int = 5, position: Position | None = POSITION) -> Path:
    journal = Journal(folder, "s")
    for line in LINES[:lines]:
        journal.append(line)
    if position is not None:
        journal.save(position)
    journal.close()
    return folder


def test_a_new_stream(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "s")
    assert not journal.resumed
    assert journal.lines == []
    assert journal.load() is None
    journal.close()
    journal.close()


def test_what_was_written_is_read_by_the_next(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path), "s")
    assert journal.resumed
    assert journal.lines == LINES
    assert journal.load() == POSITION
    journal.append({"seq": 5})
    journal.save(replace(POSITION, window=None, origin=None))
    journal.close()
    after = Journal(tmp_path, "s")
    assert after.lines == [*LINES, {"seq": 5}]
    assert after.load() == replace(POSITION, window=None, origin=None)
    after.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.checkpoint", "s.journal", "s.older"]


def test_each_line_survives_the_death_of_the_process(tmp_path: Path) -> None:
    code = (
        "import os, sys; from pathlib import Path; from diart_mp.runtime.journal import Journal\n"
        "journal = Journal(Path(sys.argv[1]), 's'); journal.append({'seq': 0}); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == -9
    journal = Journal(tmp_path, "s")
    assert journal.lines == [{"seq": 0}]
    journal.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cut=st.integers(0, 200))
def test_a_torn_end_is_cut_off(tmp_path: Path, cut: int) -> None:
    for path in tmp_path.iterdir():
        path.unlink()
    path = written(tmp_path) / "s.journal"
    whole = path.read_bytes()
    cut = min(cut, len(whole))
    os.truncate(path, len(whole) - cut)
    kept = whole[: len(whole) - cut].count(b"\n")
    journal = Journal(tmp_path, "s")
    assert journal.lines == LINES[:kept]
    assert (journal.load() is None) == (kept < 4)  # a checkpoint of what the journal has not is none
    journal.append({"after": "it"})
    journal.close()
    journal = Journal(tmp_path, "s")
    assert (journal.lines, journal.damaged) == ([*LINES[:kept], {"after": "it"}], False)
    journal.close()


def test_every_flipped_bit_of_the_journal_is_found(tmp_path: Path) -> None:
    path = written(tmp_path) / "s.journal"
    whole = path.read_bytes()
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        journal = Journal(tmp_path, "s")
        good = whole[: position // 8].count(b"\n")
        assert journal.lines == LINES[:good]
        assert journal.damaged == (position < 8 * (len(whole) - 1))  # without its line break the last one is torn
        assert (journal.load() is None) == (good < 4)
        journal.append({"after": "it"})
        journal.close()
        again = Journal(tmp_path, "s")
        assert (again.lines, again.damaged) == ([*LINES[:good], {"after": "it"}], False)
        again.close()


def test_every_flipped_bit_of_a_checkpoint_is_found(tmp_path: Path) -> None:
    path = written(tmp_path) / "s.checkpoint"
    whole = path.read_bytes()
    journal = Journal(tmp_path, "s")
    for position in range(8 * len(whole)):
        damaged = bytearray(whole)
        damaged[position // 8] ^= 1 << position % 8
        path.write_bytes(damaged)
        assert journal.load() is None
    path.write_bytes(whole)
    assert journal.load() == POSITION
    journal.close()


def test_a_damaged_checkpoint_leaves_the_one_before_it(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path), "s")
    for samples in (10, 11):
        journal.save(replace(POSITION, samples=samples))
    path = tmp_path / "s.checkpoint"
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    assert journal.load() == replace(POSITION, samples=10)
    journal.save(replace(POSITION, samples=12))  # and now the damaged one is the older one
    assert journal.load() == replace(POSITION, samples=12)
    path.unlink()
    assert journal.load() is None
    journal.close()


@pytest.mark.parametrize("content", [b"", b"\0", bytes(4), bytes(100), b"garbage"])
def test_files_that_are_no_checkpoint(tmp_path: Path, content: bytes) -> None:
    (written(tmp_path) / "s.checkpoint").write_bytes(content)
    journal = Journal(tmp_path, "s")
    assert journal.load() is None
    journal.close()


def test_a_save_that_was_not_finished_leaves_the_older_one(tmp_path: Path) -> None:
    (written(tmp_path) / "s.new").write_bytes(b"half")
    journal = Journal(tmp_path, "s")
    assert journal.load() == POSITION
    journal.close()


def test_a_full_disk_is_told_in_one_line(tmp_path: Path) -> None:
    code = (
        "import resource, sys; from pathlib import Path; from diart_mp.runtime.journal import Journal, Position\n"
        "journal = Journal(Path(sys.argv[1]), 's'); resource.setrlimit(resource.RLIMIT_FSIZE, (500, 500))\n"
        "from diart_mp.errors import OutputError\n"
        "try:\n"
        "    while True: journal.append({'text': 'x' * 90})\n"
        "except OutputError as error:\n"
        "    print(error)\n"
        "journal.close()\n"
        "from diart_mp.runtime.ledger import Checkpoint\n"
        "try: journal.save(Position(Checkpoint(0, {'x': bytes(1000)})))\n"
        "except OutputError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    journal_line, checkpoint_line = done.stdout.splitlines()
    assert f"cannot write the journal {tmp_path}/s.journal: File too large; free some space" in journal_line
    assert f"cannot write the checkpoint {tmp_path}/s.checkpoint: File too large" in checkpoint_line
    assert done.stderr == ""
    journal = Journal(tmp_path, "s")
    assert journal.lines == [{"text": "x" * 90}] * 4
    journal.close()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write the journal .*: No such file"):
        Journal(tmp_path / "none", "s")


def test_nothing_is_left_of_a_stream_that_nobody_will_go_on_with(tmp_path: Path) -> None:
    journal = Journal(written(tmp_path), "s")
    journal.save(POSITION)
    journal.save(POSITION)
    journal.remove()
    assert list(tmp_path.iterdir()) == []
