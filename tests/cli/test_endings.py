"""However a run ends, by a signal, by nobody listening or by force: outputs are whole and nothing is left behind."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from .command import COMMAND, ROOT, TONES, Diart, Done, Turns, children, finish, results, turns

WITHIN_S = 3.0  # of a signal, the command has ended
GONE_S = 2.0  # after the command was killed, its stages have ended
FORMATS = ["--format", "rttm,jsonl,srt,vtt,audacity"]


@pytest.fixture(scope="session")
def long(shared: Path) -> Path:
    """A conversation of 10 minutes, which no run of these tests gets to the end of."""
    return shared / "data" / "conv5.flac"


def _interrupted(process: subprocess.Popen[str], number: signal.Signals) -> Done:
    """Send a signal; the command ends in time, and its stages with it."""
    stages = children(process)
    sent = time.monotonic()
    process.send_signal(number)
    done = finish(process)
    assert time.monotonic() - sent < WITHIN_S
    assert [stage for stage in stages if stage.is_running()] == []
    return done


def _check_files(folder: Path, seconds: float) -> None:
    """Every format is complete up to its last line, and says the same."""
    said = turns(folder / "conv5.rttm")
    assert said
    assert max(end for _, end, _ in said) <= seconds + 0.02  # the last frame is rounded up
    lines = (folder / "conv5.jsonl").read_text().splitlines(keepends=True)
    updates = [json.loads(line) for line in lines]
    assert all(line.endswith("\n") for line in lines)
    assert [update["seq"] for update in updates] == list(range(len(updates)))
    labels: Turns = []
    for line in (folder / "conv5.txt").read_text().splitlines():
        start, end, speaker = line.split("\t")
        labels.append((float(start), float(end), speaker))
    assert [speaker for _, _, speaker in labels] == [speaker for _, _, speaker in said]
    assert (folder / "conv5.srt").read_text().count(" --> ") == len(said)
    assert (folder / "conv5.vtt").read_text().endswith("\n\n")


@pytest.mark.parametrize(("number", "models"), [(signal.SIGINT, ()), (signal.SIGTERM, TONES), (signal.SIGHUP, TONES)])
def test_a_signal_ends_a_run_well(
    diart: Diart, long: Path, tmp_path: Path, number: signal.Signals, models: tuple[str, ...]
) -> None:
    with diart.started("run", long, *models, "--json", "-o", tmp_path, *FORMATS) as process:
        results(process, 20)
        done = _interrupted(process, number)
        summary = done.objects[-1]
    assert (done.code, done.complaints) == (130, [])
    assert summary["kind"] == "summary"
    assert 20 <= summary["results"] < 1191
    _check_files(tmp_path, summary["audio_s"])
    assert diart.left() == []


def test_a_signal_while_models_are_loaded(diart: Diart, long: Path) -> None:
    with diart.started("run", long, "--json") as process:
        while len(children(process)) < 4:  # Popen of the last stage has not returned yet
            assert process.poll() is None
        done = _interrupted(process, signal.SIGINT)
    assert (done.code, done.complaints) == (130, [])
    assert [each["kind"] for each in done.objects] == ["summary"]
    assert diart.left() == []


def test_a_killed_command_takes_its_stages_along(diart: Diart, long: Path, talk: Path) -> None:
    with diart.started("run", long, *TONES, "--json") as process:
        results(process, 5)
        stages = children(process)
        process.kill()
        _, alive = psutil.wait_procs(stages, timeout=GONE_S)
    # Who has nobody to collect him stays in the table of processes for a while.
    assert [stage for stage in alive if stage.is_running() and stage.status() != psutil.STATUS_ZOMBIE] == []
    folder, *rings = diart.left()
    assert folder.is_dir()
    assert rings  # so there was something to clear away
    assert diart("run", talk, *TONES, "--quiet").code == 0
    assert diart.left() == []
    assert not any(ring.exists() for ring in rings)


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_nobody_listens_any_more(diart: Diart, long: Path, options: tuple[str, ...]) -> None:
    line = f"'{COMMAND}' run '{long}' {' '.join([*TONES, *options])} | head -1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=diart.environment(), timeout=60, check=True
    )
    assert len(done.stdout.splitlines()) == 2
    assert done.stdout.splitlines()[1] == "141"  # as of a program that SIGPIPE has ended
    assert [text for text in done.stderr.splitlines() if not text.startswith("# ")] == []
    assert diart.left() == []


def test_standard_output_is_full(diart: Diart, talk: Path) -> None:
    for arguments in (["run", talk, *TONES], ["models", "list"]):
        with Path("/dev/full").open("w") as full:
            done = subprocess.run(
                [COMMAND, *arguments],
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                env=diart.environment(),
                timeout=60,
            )
        complaints = Done(done.returncode, "", done.stderr).complaints
        assert done.returncode == 1
        assert len(complaints) == 1
        assert "No space left on device" in complaints[0]


INTERRUPT = """
import atexit, os, signal, sys

def interrupt(): os.kill(os.getpid(), signal.SIGINT)

class Interrupt:
    def find_spec(name, path=None, target=None):
        if name == os.environ["INTERRUPT_AT"]:
            interrupt()

sys.meta_path.insert(0, Interrupt)
if os.environ["INTERRUPT_AT"] == "exit":
    atexit.register(interrupt)
"""


@pytest.mark.parametrize("at", ["click", "diart_mp.errors", "diart_mp.cli.run", "diart_mp.runtime.local", "exit"])
def test_ctrl_c_while_the_program_begins_or_ends(diart: Diart, talk: Path, tmp_path: Path, at: str) -> None:
    (tmp_path / "sitecustomize.py").write_text(INTERRUPT)
    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    done = diart(
        *(["--version"] if at == "exit" else ["run", talk, *TONES]), env={"PYTHONPATH": path, "INTERRUPT_AT": at}
    )
    assert (done.code, done.err.strip()) == (130, "")
    assert diart.left() == []
