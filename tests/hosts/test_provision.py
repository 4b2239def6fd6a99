"""Runs that start the stages of other places, too: on this host, through ssh, by Ray."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Self

import psutil
import pytest

from diart_mp.deploy import Process, processes
from diart_mp.errors import UsageError
from diart_mp.runtime.provision import Command, Provisioned
from diart_mp.runtime.provision_ray import needs_of
from diart_mp.topology import Topology
from tests.cli.command import COMMAND, TONES, Diart, finish
from tests.fakes import conversation
from tests.hosts.rig import write_plan

SSH = """#!/bin/sh
echo "$@" >> {log}
shift 7
[ "$1" = B ] || exit 9
case "$2" in *embedding*) mkdir {log}.failed 2>/dev/null && echo "no such command" && exit 127;; esac
exec sh -c "exec $2"
"""  # which fails to start embedding the first time


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
    arguments = ("--latency", "1", "--output", tmp_path / "out", "--json", "--topology", plan, "--provisioner", "ssh")
    done = diart("run", talk, *arguments, env=path)
    assert done.code == 0, done.err
    assert (tmp_path / "out" / "talk.rttm").read_bytes() == expected
    started = sorted((tmp_path / "log").read_text().splitlines())
    assert "embedding at B ended with exit code 127 (no such command); starting it again" in done.err
    begin = "-tt -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=5 B diart-mp stage"
    names = ("embedding", "embedding", "segmentation/0", "segmentation/1")
    assert started == [f"{begin} {name} --topology {plan}" for name in names]


def test_a_stage_that_nobody_watches_ends_when_it_is_stuck(
    diart: Diart, talk: Path, expected: bytes, tmp_path: Path
) -> None:
    slow, plan = tmp_path / "slow", tmp_path / "plan.toml"
    slow.write_text("3600")
    write_plan(plan, {"embedding": ["B"]}, stuck_s=2.0)
    arguments = ("--latency", "1", "--output", tmp_path / "out", "--json", "--topology", plan)
    faults = {"DIART_MP_FAULTS": f"embedding:slow={slow}"}
    with diart.started("run", talk, *arguments, "--provisioner", "local", env=faults) as run:
        assert run.stderr is not None
        said = []
        for line in run.stderr:
            said.append(line)
            if "embedding at B ended with exit code 4; starting it again" in line:
                break
        slow.write_text("0")
        done = finish(run)
    assert done.code == 0, done.err
    assert any("embedding: has worked on one batch for more than 2 s (stuck_s), so it ends" in line for line in said)
    assert (tmp_path / "out" / "talk.rttm").read_bytes() == expected


class Fake:
    """A provisioner, and all its handles, whose processes take their time to stop: as long as any of them is to be told."""

    def __init__(self, count: int) -> None:
        self.together = threading.Barrier(count)
        self.closed = False

    def start(self, process: Process, command: Command) -> Self:
        assert command[-4:-1] == ["stage", process.name, "--topology"]
        return self

    def ended(self) -> str:
        return ""

    def stop(self) -> None:
        self.together.wait(20)

    def close(self) -> None:
        self.closed = True


def test_all_are_stopped_at_once(tmp_path: Path) -> None:
    plan, fake = plan_of(tmp_path), Fake(3)
    with Provisioned(Topology.read(plan), plan, fake, on_note=lambda _: None) as provisioned:
        provisioned.step()
    assert fake.closed
    assert not fake.together.broken


def test_what_ray_is_asked_for(tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    addresses = {"B": "10.9.0.1", "C": "10.9.0.7"}
    write_plan(plan, {"segmentation": ["B", "C"], "embedding": ["D"]}, addresses, insecure=True)
    plan.write_text(plan.read_text().replace('place = "C"', 'place = "C", device = "cuda"'))
    found = processes(Topology.read(plan))
    nodes = {"10.9.0.1", "10.9.0.7", "127.0.0.1"}
    assert [needs_of(each, nodes) for each in found] == [
        {"CPU": 1, "node:10.9.0.1": 0.001},
        {"CPU": 1, "GPU": 1, "node:10.9.0.7": 0.001},
        {"CPU": 1},
    ]
    assert needs_of(found[0], {"10.9.0.2"}) == {"CPU": 1}
    plan.write_text(plan.read_text().replace('"cuda"', '"cuda:1"'))
    with pytest.raises(UsageError, match="segmentation/1 has device 'cuda:1', but sees one GPU alone, what Ray gives"):
        needs_of(processes(Topology.read(plan))[1], nodes)


def test_provisioners_that_are_not_there(diart: Diart, talk: Path, tmp_path: Path) -> None:
    for arguments, said in (
        (("--provisioner", "ssh"), "name it with --topology FILE"),
        (("--provisioner", "shh", "--topology", plan_of(tmp_path)), "unknown provisioner 'shh'; did you mean 'ssh'?"),
    ):
        done = diart("run", talk, *arguments)
        assert (done.code, len(done.complaints)) == (2, 1)
        assert said in done.err
