"""Runs that start the stages of other places, too: on this host, through ssh, by Ray."""

import json
import os
import signal
from pathlib import Path

import psutil
import pytest

from tests.cli.command import COMMAND, TONES, Diart, finish
from tests.fakes import conversation
from tests.hosts.rig import write_plan

SSH = """#!/bin/sh
echo "$@" >> {log}
shift 5
[ "$1" = B ] || exit 9
exec sh -c "exec $2"
"""


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording."""
    audio = tmp_path_factory.mktemp("talk") / "talk.wav"
    conversation(audio, seconds=7.0, seed=4)
    return audio


@pytest.fixture(scope="module")
def expected(diart: Diart, talk: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run on one host writes."""
    output = tmp_path_factory.mktemp("local")
    done = diart("run", talk, "--latency", "1", "--output", output, "--quiet", *TONES)
    assert done.code == 0, done.err
    return (output / "talk.rttm").read_bytes()


def plan_of(folder: Path) -> Path:
    """Segmentation twice and embedding at B."""
    plan = folder / "plan.toml"
    write_plan(plan, {"segmentation": ["B", "B"], "embedding": ["B"]}, max_in_flight=4)
    return plan


def test_a_killed_stage_is_started_again(diart: Diart, talk: Path, expected: bytes, tmp_path: Path) -> None:
    arguments = ("--latency", "1", "--output", tmp_path / "out", "--json", "--topology", plan_of(tmp_path))
    slow = {"DIART_MP_FAULTS": "embedding:slow=0.1"}
    with diart.started("run", talk, *arguments, "--provisioner", "local", env=slow) as run:
        assert run.stdout is not None
        lines = [run.stdout.readline() for _ in range(3)]
        stages = psutil.Process(run.pid).children(recursive=True)
        (victim,) = [each for each in stages if each.cmdline()[:1] == ["diart-mp: embedding"]]
        os.kill(victim.pid, signal.SIGKILL)
        done = finish(run)
    assert done.code == 0, done.err
    assert "embedding at B was killed by signal 9; starting it again" in done.err
    assert (tmp_path / "out" / "talk.rttm").read_bytes() == expected
    seqs = [json.loads(line).get("seq") for line in [*lines, *done.out.splitlines()] if '"seq"' in line]
    assert seqs == list(range(len(seqs)))
    assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in stages)


def test_ssh_starts_the_command_at_its_place(diart: Diart, talk: Path, expected: bytes, tmp_path: Path) -> None:
    """With a program in place of ssh that runs what it is told on this host."""
    ssh = tmp_path / "bin" / "ssh"
    ssh.parent.mkdir()
    ssh.write_text(SSH.format(log=tmp_path / "log"))
    ssh.chmod(0o755)
    plan = plan_of(tmp_path)
    path = {"PATH": f"{ssh.parent}:{COMMAND.parent}:{os.environ['PATH']}"}
    arguments = ("--latency", "1", "--output", tmp_path / "out", "--quiet", "--topology", plan, "--provisioner", "ssh")
    done = diart("run", talk, *arguments, env=path)
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "talk.rttm").read_bytes() == expected
    started = sorted((tmp_path / "log").read_text().splitlines())
    begin = "-tt -o BatchMode=yes -o ServerAliveInterval=5 B diart-mp stage"
    names = ("embedding", "segmentation/0", "segmentation/1")
    assert started == [f"{begin} {name} --topology {plan}" for name in names]


def test_provisioners_that_are_not_there(diart: Diart, talk: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--provisioner", "ssh"), "name it with --topology FILE"),
        (("--provisioner", "shh", "--topology", plan_of(tmp_path)), "unknown provisioner 'shh'; did you mean 'ssh'?"),
    ):
        done = diart("run", talk, *arguments)
        assert (done.code, len(done.complaints)) == (2, 1)
        assert said in done.err
