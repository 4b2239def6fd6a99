"""Output files as the stream goes, in folders that are in the way, on disks that are full."""

import shutil
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest

from diart_mp.errors import OutputError, UsageError
from diart_mp.outputs.formats import FORMATS
from diart_mp.outputs.writer import OutputSet, check_outputs, output_paths
from diart_mp.turns import Revision, Turn, Update

RATE = 16_000
STEP = 8_000
ALL = tuple(FORMATS)


def update(seq: int, *, latency: float = 80.0) -> Update:
    """A region of 0.5 s in which one of two speakers talks for 0.3 s; every fourth one is silent."""
    start = seq * STEP
    turns = () if seq % 4 == 3 else (Turn(start, start + 4_800, f"speaker{seq % 2}"),)
    return Update("talk", seq, start, start + STEP, RATE, turns, latency + seq)


def open_set(folder: Path, formats: tuple[str, ...] = ALL, *, name: str = "talk", **how: bool) -> OutputSet:
    return OutputSet(folder, name, formats, rate=RATE, **{"recorded": True, **how})


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def write_all(outputs: OutputSet, count: int = 12) -> None:
    with outputs:
        for seq in range(count):
            outputs.write(update(seq))


def test_all_formats_of_a_stream_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    outputs = open_set(folder)
    write_all(outputs)
    assert sorted(path.name for path in outputs.paths) == sorted(path.name for path in folder.iterdir())
    files = contents(folder)
    assert sorted(files) == ["talk.jsonl", "talk.rttm", "talk.srt", "talk.txt", "talk.vtt"]
    rttm = files["talk.rttm"].decode().splitlines()
    assert len(rttm) == 9
    assert rttm[:2] == [
        "SPEAKER talk 1 0.000 0.300 <NA> <NA> speaker0 <NA> <NA>",
        "SPEAKER talk 1 0.500 0.300 <NA> <NA> speaker1 <NA> <NA>",
    ]
    assert len(files["talk.jsonl"].splitlines()) == 12
    assert (
        files["talk.vtt"].count(b"-->") == files["talk.srt"].count(b"-->") == len(files["talk.txt"].splitlines()) == 9
    )


def test_what_is_revised_is_written_again_at_the_end(tmp_path: Path) -> None:
    write_all(open_set(tmp_path / "live"))
    live = contents(tmp_path / "live")
    outputs = open_set(tmp_path / "revised")
    revision = Revision(8 * STEP, 12 * STEP, (Turn(8 * STEP, 12 * STEP, "speaker7"),), (("speaker0", "speaker9"),))
    with outputs:
        for seq in range(12):
            outputs.write(update(seq))
        assert contents(tmp_path / "revised") == live, "until then, what was said stands"
        inode = (tmp_path / "revised" / "talk.rttm").stat().st_ino
        outputs.write(Update("talk", 12, 12 * STEP, 12 * STEP, RATE, (), None, revision))
    assert (tmp_path / "revised" / "talk.rttm").stat().st_ino != inode, "replaced as a whole"
    files = contents(tmp_path / "revised")
    assert sorted(files) == sorted(live)
    assert files["talk.rttm"].decode().splitlines() == [
        f"SPEAKER talk 1 {start:.3f} {length:.3f} <NA> <NA> {speaker} <NA> <NA>"
        for start, length, speaker in (
            (0.0, 0.3, "speaker9"),
            (0.5, 0.3, "speaker1"),
            (1.0, 0.3, "speaker9"),
            (2.0, 0.3, "speaker9"),
            (2.5, 0.3, "speaker1"),
            (3.0, 0.3, "speaker9"),
            (4.0, 2.0, "speaker7"),
        )
    ]
    assert files["talk.jsonl"].splitlines()[:12] == live["talk.jsonl"].splitlines()
    assert len(files["talk.jsonl"].splitlines()) == 13
    assert files["talk.vtt"].startswith(b"WEBVTT\n\n")
    assert files["talk.srt"].count(b"-->") == len(files["talk.txt"].splitlines()) == 7


def test_a_revision_that_cannot_be_written_leaves_what_was_said(tmp_path: Path) -> None:
    outputs = open_set(tmp_path, ("rttm",))
    (tmp_path / "talk.rttm.new").mkdir()
    for seq in range(12):
        outputs.write(update(seq))
    outputs.write(Update("talk", 12, 12 * STEP, 12 * STEP, RATE, (), None, Revision(0, 12 * STEP, ())))
    with pytest.raises(OutputError, match=r"talk\.rttm"):
        outputs.close()
    assert (tmp_path / "talk.rttm").read_text().count("SPEAKER") == 9
    outputs.close()


def test_files_grow_by_whole_lines_while_the_stream_goes(tmp_path: Path) -> None:
    write_all(open_set(tmp_path / "whole"))
    whole = contents(tmp_path / "whole")
    outputs = open_set(tmp_path / "live")
    for seq in range(12):
        outputs.write(update(seq))
        now = contents(tmp_path / "live")
        assert now["talk.jsonl"].count(b"\n") == seq + 1
        # these turns end 200 ms before their region does, so they are final at once
        assert now["talk.rttm"].count(b"\n") == sum(earlier % 4 != 3 for earlier in range(seq + 1))
        assert all(whole[name].startswith(text) and text[-1:] in (b"\n", b"") for name, text in now.items())
    outputs.close()
    assert contents(tmp_path / "live") == whole
    outputs.close()


def test_stream_of_no_length_gives_empty_files(tmp_path: Path) -> None:
    open_set(tmp_path).close()
    assert contents(tmp_path) == {
        "talk.rttm": b"", "talk.jsonl": b"", "talk.srt": b"", "talk.txt": b"", "talk.vtt": b"WEBVTT\n\n",
    }  # fmt: skip


def test_existing_file_is_refused_and_nothing_changes(tmp_path: Path) -> None:
    (tmp_path / "talk.vtt").write_text("somebody's reference")
    with pytest.raises(OutputError, match=r"talk\.vtt exists already: --force"):
        open_set(tmp_path)
    assert contents(tmp_path) == {"talk.vtt": b"somebody's reference"}
    with pytest.raises(OutputError, match=r"talk\.vtt exists already: --force"):
        check_outputs(tmp_path, ["talk"], ALL, False)


def test_force_replaces_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "talk.rttm").write_text("old\n" * 1000)
    check_outputs(tmp_path, ["talk"], ALL, True)
    write_all(open_set(tmp_path, force=True))
    assert b"old" not in (tmp_path / "talk.rttm").read_bytes()


def test_force_does_not_replace_a_folder_nor_touch_the_other_files(tmp_path: Path) -> None:
    (tmp_path / "talk.txt").mkdir()
    (tmp_path / "talk.rttm").write_text("kept")
    with pytest.raises(OutputError, match=r"talk\.txt"):
        open_set(tmp_path, force=True)
    assert (tmp_path / "talk.rttm").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["talk.rttm", "talk.txt"]
    with pytest.raises(OutputError, match=r"talk\.txt"):
        check_outputs(tmp_path, ["talk"], ALL, True)


def torn(folder: Path, count: int) -> dict[str, bytes]:
    """What is left of a stream whose owner was killed after ``count`` updates, in the middle of a line."""
    outputs = open_set(folder)
    for seq in range(count):
        outputs.write(update(seq))
    whole = contents(folder)
    for path in outputs.paths:
        with path.open("ab") as file:
            file.write(b"SPEAKER ta")
    return whole


@pytest.mark.parametrize("count", [0, 7, 12])
def test_resumed_stream_ends_like_an_undisturbed_one(tmp_path: Path, count: int) -> None:
    write_all(open_set(tmp_path / "undisturbed"))
    torn(tmp_path / "resumed", count)
    write_all(open_set(tmp_path / "resumed", resume=True))
    assert contents(tmp_path / "resumed") == contents(tmp_path / "undisturbed")


def test_what_is_right_stays_while_a_stream_is_resumed(tmp_path: Path) -> None:
    before = torn(tmp_path, 7)
    outputs = open_set(tmp_path, resume=True)
    for seq in range(7):
        now = contents(tmp_path)
        assert all(now[name].startswith(text) for name, text in before.items()), f"before update {seq}"
        outputs.write(update(seq))
    outputs.write(update(8))
    assert all(contents(tmp_path)[name].startswith(text) for name, text in before.items())


def test_a_resumed_stream_that_turns_out_otherwise(tmp_path: Path) -> None:
    """From the first difference on, and beyond its end, nothing is left of what was there."""
    write_all(open_set(tmp_path / "shorter"), 5)
    torn(tmp_path / "resumed", 9)
    write_all(open_set(tmp_path / "resumed", resume=True), 5)
    assert contents(tmp_path / "resumed") == contents(tmp_path / "shorter")
    for path in (tmp_path / "resumed").iterdir():
        text = path.read_bytes()
        path.write_bytes(text[:30] + b"?" + text[31:] + b"more\n")
    write_all(open_set(tmp_path / "resumed", resume=True))
    write_all(open_set(tmp_path / "undisturbed"))
    assert contents(tmp_path / "resumed") == contents(tmp_path / "undisturbed")


def test_recorded_files_do_not_depend_on_measured_latency(tmp_path: Path) -> None:
    for folder, latency, recorded in [("a", 80.0, True), ("b", 95.5, True), ("c", 95.5, False)]:
        with open_set(tmp_path / folder, recorded=recorded) as outputs:
            outputs.write(update(0, latency=latency))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert b'"latency_ms": 95.5' in contents(tmp_path / "c")["talk.jsonl"]


def test_stream_name_may_be_anything(tmp_path: Path) -> None:
    outputs = open_set(tmp_path, ("rttm",), name="../my talk:1")
    write_all(outputs)
    assert [path.name for path in tmp_path.iterdir()] == ["_._my talk_1.rttm"]
    assert outputs.paths[0].read_text().startswith("SPEAKER ../my_talk:1 1 ")


def test_name_that_is_no_text_is_written_readably(tmp_path: Path) -> None:
    broken = Update("caf\udce9", 0, 0, STEP, RATE, ())
    with open_set(tmp_path, ("jsonl",), name="caf\udce9") as outputs:
        outputs.write(broken)
    assert b'{"stream": "caf\\udce9"' in outputs.paths[0].read_bytes()


def test_full_disk_is_one_line_and_the_other_files_go_on(tmp_path: Path) -> None:
    (tmp_path / "talk.rttm").symlink_to("/dev/full")
    outputs = open_set(tmp_path, ("rttm", "jsonl"), force=True)
    outputs.write(update(3))  # nothing said, nothing to write
    with pytest.raises(OutputError, match=r"cannot write .*talk\.rttm: No space left on device") as caught:
        outputs.write(update(4))
    assert "\n" not in str(caught.value)
    with pytest.raises(OutputError, match="No space left"):
        outputs.write(update(5))
    outputs.close()
    assert (tmp_path / "talk.jsonl").read_bytes().count(b"\n") == 2


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code beside this module, in a process of its own."""
    start = f"import os, resource, signal, sys\nsys.path.insert(0, {str(Path(__file__).parent)!r})\n"
    command = [sys.executable, "-c", f"{start}from test_writer import *\n{code}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_line_that_fits_only_in_part_is_taken_back(tmp_path: Path) -> None:
    code = """
outputs = open_set(Path(sys.argv[1]), ("jsonl", "rttm"))
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    for seq in range(100):
        outputs.write(update(seq))
except OutputError as error:
    print(seq, error)
outputs.close()
"""
    done = run_python(code, str(tmp_path))
    assert done.stderr == ""
    seq, said = done.stdout.split(" ", 1)
    assert "talk.jsonl: File too large" in said
    assert said.count("\n") == 1
    lines = (tmp_path / "talk.jsonl").read_bytes()
    assert lines.endswith(b"}\n")
    assert lines.count(b"\n") == int(seq) > 3
    assert len(lines) > 850


def test_killed_writer_leaves_every_update_that_it_was_given(tmp_path: Path) -> None:
    code = """
outputs = open_set(Path(sys.argv[1]))
for seq in range(40):
    outputs.write(update(seq))
os.kill(os.getpid(), signal.SIGKILL)
"""
    assert run_python(code, str(tmp_path)).returncode == -signal.SIGKILL
    assert (tmp_path / "talk.jsonl").read_bytes().count(b"\n") == 40
    assert (tmp_path / "talk.rttm").read_bytes().count(b"\n") == 30


def test_folder_that_is_removed_is_noticed(tmp_path: Path) -> None:
    outputs = open_set(tmp_path / "out")
    outputs.write(update(0))
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(OutputError, match=r"talk\.rttm was removed while it was being written"):
        outputs.write(update(1))
    outputs.close()


def test_nothing_is_written_after_the_end(tmp_path: Path) -> None:
    outputs = open_set(tmp_path, ("jsonl",))
    outputs.close()
    with pytest.raises(ValueError, match="zip"):
        outputs.write(update(0))
    assert contents(tmp_path) == {"talk.jsonl": b""}


@pytest.mark.parametrize("force", [False, True])
def test_folder_that_is_a_file_is_refused(tmp_path: Path, force: bool) -> None:
    (tmp_path / "out").write_text("a file")
    for folder in (tmp_path / "out", tmp_path / "out" / "below"):
        with pytest.raises(OutputError, match=r"cannot write .*/out"):
            check_outputs(folder, ["talk"], ALL, force)
        with pytest.raises(OutputError, match=r"cannot write .*/out"):
            open_set(folder, force=force)
    assert (tmp_path / "out").read_text() == "a file"


def test_folder_that_cannot_be_written_is_refused() -> None:
    for folder in (Path("/proc"), Path("/proc/out")):  # takes no files, not even root's
        with pytest.raises(OutputError, match=r"cannot write /proc"):
            check_outputs(folder, ["talk"], ALL, False)
        with pytest.raises(OutputError, match=r"cannot write /proc"):
            open_set(folder)


def test_check_changes_nothing(tmp_path: Path) -> None:
    check_outputs(tmp_path / "new" / "folder", ["talk", "other talk"], ALL, False)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("names", [["a:b", "c", "a_b"], ["talk", "talk"]])
def test_streams_that_would_write_the_same_file_are_refused(tmp_path: Path, names: list[str]) -> None:
    with pytest.raises(OutputError, match=f"'{names[0]}' and '{names[-1]}', would both write"):
        check_outputs(tmp_path, names, ["rttm"], True)


def test_all_existing_files_are_counted(tmp_path: Path) -> None:
    for name in "abc":
        (tmp_path / f"{name}.rttm").touch()
    with pytest.raises(OutputError, match=r"a\.rttm exists already \(and 2 more\)"):
        check_outputs(tmp_path, ["a", "b", "c", "d"], ["rttm"], False)


def test_unknown_format_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="'ctm'"):
        open_set(tmp_path / "out", ("rttm", "ctm"))
    with pytest.raises(UsageError, match="'ctm'"):
        check_outputs(tmp_path, ["talk"], ["ctm"], False)
    assert list(tmp_path.iterdir()) == []


def test_paths_are_told_beforehand(tmp_path: Path) -> None:
    assert output_paths(tmp_path, "a/b", ["rttm", "audacity"]) == (tmp_path / "a_b.rttm", tmp_path / "a_b.txt")


def test_turns_are_kept_for_revisions_only_where_there_may_be_any(tmp_path: Path) -> None:
    """Without revisions the memory of an endless stream is that of its open turns."""
    held = {}
    for revisable in (True, False):
        with open_set(tmp_path / str(revisable), ("rttm",), revisable=revisable) as outputs:
            tracemalloc.start()
            for seq in range(4000):
                outputs.write(update(seq))
            held[revisable] = tracemalloc.get_traced_memory()[0]
            tracemalloc.stop()
    assert held[True] > 3000 * 100  # bytes
    assert held[False] < 20_000
    assert contents(tmp_path / "True") == contents(tmp_path / "False")
