"""The arithmetic of the comparison with diart, on runs made by hand; diart itself is not needed."""

import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import soundfile

from benchmarks import processes, sides, versus
from benchmarks.sides import Run


def test_the_ratio_is_the_median_of_the_rounds_not_of_the_sides() -> None:
    rounds = [{"diart": Run(wall_s=theirs), "exact": Run(wall_s=ours)} for theirs, ours in [(8, 1), (20, 10), (9, 3)]]
    row = versus.compared("wall", rounds, "exact", lambda run: run.wall_s, 4.0)
    assert (row.diart, row.ours, row.ratio) == (9, 3, 3)
    assert not row.kept
    assert row.line().endswith("NOT KEPT")
    assert versus.compared("wall", rounds, "exact", lambda run: run.wall_s, 3.0).kept


def test_errors_have_an_upper_limit_over_those_of_diart() -> None:
    truth, said = [(0.0, 10.0, "a")], [(0.0, 9.0, "x")]
    row = versus.error("DER", truth, said, duration=10.0, base=9.5, limit=0.3)
    assert row.ratio == pytest.approx(0.5)
    assert not row.kept
    assert versus.error("DER", truth, said, duration=10.0, base=9.75, limit=0.3).kept


def test_whole_files_are_judged_by_all_that_is_promised(tmp_path: Path) -> None:
    recording = tmp_path / "a.wav"
    soundfile.write(recording, np.zeros(160_000, np.int16), 16_000)
    recording.with_suffix(".rttm").write_text("SPEAKER a 1 0.0 5.0 <NA> <NA> x <NA> <NA>\n")
    turns = [(0.0, 5.0, "y")]
    runs = {
        "diart": Run(wall_s=70, first_s=6, memory_mb=600, turns=turns),
        "exact": Run(wall_s=17, first_s=1, memory_mb=700, turns=turns),
        "fast": Run(wall_s=11, first_s=1, memory_mb=700, turns=[(0.0, 4.9, "z")]),
    }
    rows = {row.name: row for row in versus.whole_files(recording, [runs])}
    assert [name for name, row in rows.items() if not row.kept] == [
        "wall time, s, fast",
        "DER against reference, %, fast",
    ]
    assert rows["DER against reference, %, fast"].ours == pytest.approx(2.0)


@pytest.mark.parametrize("true", [0, 1, 2, 7, 8, 9, 23, 60])
def test_capacity_is_found_from_any_guess(true: int) -> None:
    for guess in (1, 8, 24):
        holds = Mock(side_effect=lambda streams: streams <= true)
        found = versus.capacity(holds, guess)
        assert true - max(1, true // 16) < found <= true
        tried = [call.args[0] for call in holds.call_args_list]
        assert len(tried) == len(set(tried)) <= 16


@pytest.mark.parametrize("arguments", [["nothing"], ["file", "--pairs", "0"], ["--recording", "/nowhere.wav"]])
def test_what_cannot_be_measured_is_refused(arguments: list[str]) -> None:
    with pytest.raises(SystemExit):
        versus.main(arguments)


def test_a_recording_is_cut_to_its_first_seconds(tmp_path: Path) -> None:
    source = tmp_path / "long.wav"
    samples = np.arange(32_000, dtype=np.int16)
    soundfile.write(source, samples, 16_000)
    path = sides.cut(source, 0.5, tmp_path)
    found, _ = soundfile.read(path, dtype="int16")
    np.testing.assert_array_equal(found, samples[:8000])
    assert sides.seconds(path) == 0.5


def test_a_command_is_watched_with_its_children() -> None:
    held = "x = bytearray(60_000_000); x[::1000] = b'1' * len(x[::1000]); print('wanted', flush=True)"
    child = f"import subprocess, sys; print('other'); subprocess.run([sys.executable, '-c', {held + '; input()'!r}])"
    reading, writing = os.pipe()
    command = [sys.executable, "-u", "-c", f"import os; os.dup2({reading}, 0); {child}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, pass_fds=[reading]) as process:
        assert process.stdout is not None
        assert [process.stdout.readline().strip() for _ in range(2)] == ["other", "wanted"]
        family = list(processes.family(process.pid))
        assert len(family) == 2
        assert sum(map(processes.pss_mb, family)) > 60
        os.write(writing, b"\n")
    assert processes.pss_mb(process.pid) == 0
    seen = processes.watch([sys.executable, "-c", "print('a'); print('b')"], lambda line: line == "b\n")
    assert seen.lines == ["a\n", "b\n"]
    assert 0 < seen.first_s <= seen.wall_s
    with pytest.raises(subprocess.CalledProcessError):
        processes.watch([sys.executable, "-c", "exit(3)"])


@pytest.mark.parametrize(
    ("side", "last"),
    [
        (sides.Diart(), '{"chunks": 3, "late_ms": [], "work_s": 2.5}'),
        (sides.Ours(), '{"kind": "summary", "wall_s": 2.5}'),
    ],
)
def test_work_is_counted_from_when_the_models_are_loaded(
    side: sides.Diart | sides.Ours, last: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = processes.Watched(wall_s=9.0, first_s=7.0, cpu_s=1.0, memory_mb=1.0, lines=["first\n", f"{last}\n"])
    monkeypatch.setattr(sides, "watch", Mock(return_value=seen))
    monkeypatch.setattr(sides, "diart_python", Mock(return_value=Path(sys.executable)))
    monkeypatch.setattr(sides, "read_turns", Mock(return_value=[]))
    run = side.file(sides.Task(recording=Path("a.wav")), tmp_path)
    assert (run.wall_s, run.first_s, run.work_s) == (9.0, 7.0, 2.5)


def test_without_the_usual_recording_one_is_made_of_what_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(versus, "_USUAL", tmp_path / "nowhere.flac")
    path = versus.usual_recording(tmp_path)
    assert sides.seconds(path) == 600.0
    assert not path.with_suffix(".rttm").exists()
