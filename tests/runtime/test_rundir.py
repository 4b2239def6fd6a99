"""Run folders: what belongs to a living run stays, what a killed one left goes."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from diart_mp.errors import OutputError
from diart_mp.runtime.rundir import RunDirectory, sweep
from diart_mp.transport.ring import PREFIX, RingWriter, ring_directory

RUN = """
import sys, time
from diart_mp.runtime.rundir import RunDirectory
from diart_mp.transport.ring import PREFIX, RingWriter
with RunDirectory() as directory:
    (directory.path / "x.journal").write_text("x")
    RingWriter(f"{PREFIX}{directory.run}-0-1", capacity=100, window=10, rate=1, generation=1)
    print(directory.run, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def base(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of all runs, for this test alone."""
    monkeypatch.setenv("TMPDIR", str(short_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return short_path / f"{PREFIX}{os.getuid()}"


@contextmanager
def another_run() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A run in a process of its own, and its id."""
    command = [sys.executable, "-c", RUN]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        try:
            yield process, run
        finally:
            process.kill()
            for ring in rings(run):
                (ring_directory() / ring).unlink()


def rings(run: str) -> list[str]:
    return sorted(path.name for path in ring_directory().glob(f"{PREFIX}{run}-*"))


def test_a_run_takes_everything_with_it(base: Path) -> None:
    with RunDirectory() as directory:
        assert directory.path.parent == base
        assert directory.path.stat().st_mode & 0o777 == 0o700
        assert base.stat().st_mode & 0o777 == 0o700
        (directory.path / "sub").mkdir()
        (directory.path / "sub" / "file").touch()
        RingWriter(f"{PREFIX}{directory.run}-0-1", capacity=100, window=10, rate=1, generation=1)
        assert rings(directory.run) == [f"{PREFIX}{directory.run}-0-1"]
    assert list(base.iterdir()) == []
    assert rings(directory.run) == []


def test_living_runs_leave_each_other_alone(base: Path) -> None:
    with RunDirectory() as first, another_run() as (_, other), RunDirectory() as second:
        assert sweep() == []
        assert {path.name for path in base.iterdir()} == {first.run, second.run, other}
        assert rings(other) == [f"{PREFIX}{other}-0-1"]


def test_the_next_start_sweeps_what_a_killed_run_left(base: Path) -> None:
    with RunDirectory() as living, another_run() as (process, killed):
        process.kill()
        process.wait()
        assert (base / killed / "x.journal").exists()
        assert rings(killed) == [f"{PREFIX}{killed}-0-1"]
        with RunDirectory() as following:
            assert {path.name for path in base.iterdir()} == {living.run, following.run}
            assert rings(killed) == []


def test_a_sweep_says_what_it_removed(base: Path) -> None:
    with another_run() as (process, killed):
        process.kill()
        process.wait()
        (base / "a file of somebody").touch()
        assert sweep() == [killed]
        assert sweep() == []


def test_a_run_that_ends_by_itself_leaves_nothing(base: Path) -> None:
    with another_run() as (process, run):
        assert process.stdin is not None
        process.stdin.close()
        assert process.wait() == 0
        assert not (base / run).exists()
        assert rings(run) == []


def test_children_of_a_run_do_not_keep_it_alive(base: Path) -> None:
    """The lock is not inherited: a stage that outlives its supervisor for a moment does not stop the sweep."""
    code = RUN.replace("    print(", "    import subprocess; subprocess.Popen(['sleep', '60'], stdout=2)\n    print(")
    command = [sys.executable, "-c", code]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0, text=True
    ) as process:
        assert process.stdout is not None
        run = process.stdout.readline().strip()
        process.kill()
        process.wait()
        assert sweep() == [run]
        os.killpg(process.pid, 9)


def test_a_base_of_somebody_else_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base.mkdir()
    uid = os.getuid()
    base_of_other = base.with_name(f"{PREFIX}{uid + 1}")
    base_of_other.mkdir()
    monkeypatch.setattr(os, "getuid", lambda: uid + 1)
    with pytest.raises(OutputError, match="belongs to somebody else; set TMPDIR"):
        RunDirectory()


def test_places_that_cannot_be_used(short_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = short_path / ("x" * 90)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with pytest.raises(OutputError, match="too long a name for a socket; set TMPDIR to a shorter one"):
        RunDirectory()
    (short_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(short_path / "file"))
    with pytest.raises(OutputError, match=r"cannot make the run folder .*: Not a directory"):
        RunDirectory()


def test_a_ring_without_a_writer_is_swept_once_it_is_old() -> None:
    script = (
        "import os, signal; from diart_mp.transport.ring import RingWriter; "
        "RingWriter('diart-mp-lonely-0-1', capacity=8, window=4, rate=8000, generation=1); os.kill(os.getpid(), signal.SIGKILL)"
    )
    subprocess.run([sys.executable, "-c", script], check=False)
    ring = ring_directory() / "diart-mp-lonely-0-1"
    sweep()
    assert ring.exists()  # it might be somebody's who is just starting
    os.utime(ring, (0, 0))
    sweep()
    assert not ring.exists()


def test_an_old_ring_with_a_writer_stays() -> None:
    writer = RingWriter("diart-mp-busy-0-1", capacity=8, window=4, rate=8000, generation=1)
    os.utime(writer.path, (0, 0))
    sweep()
    assert writer.path.exists()
    writer.close()
