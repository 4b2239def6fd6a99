"""``diart-mp run --topology``: its own stages here, the rest wherever somebody has started it, before or after."""

import json
from pathlib import Path

import pytest

from diart_mp.keys import new_key, own_key
from tests.cli.command import TONES, Diart
from tests.fakes import conversation
from tests.hosts.rig import started, write_plan


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 10 s."""
    audio = tmp_path_factory.mktemp("talk") / "talk.wav"
    conversation(audio, seconds=10.0, seed=4)
    return audio


def rttm(diart: Diart, talk: Path, output: Path, *arguments: str | Path) -> bytes:
    """What a run that ends well writes."""
    done = diart("run", talk, "--latency", "1", "--output", output, "--quiet", *arguments)
    assert done.code == 0, done.err
    return (output / "talk.rttm").read_bytes()


@pytest.fixture(scope="module")
def expected(diart: Diart, talk: Path, tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """What a run on one host writes."""
    written = rttm(diart, talk, tmp_path_factory.mktemp("local"), *TONES)
    assert written
    return written


def test_segmentation_elsewhere_says_the_same_in_each_of_two_runs(
    diart: Diart, talk: Path, expected: bytes, tmp_path: Path
) -> None:
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B", "C"]}, keys="keys")
    for place in ("home", "B", "C"):
        assert diart("keys", "new", place, "--keys", tmp_path / "keys").code == 0
    with started(diart, plan, "segmentation/0", "segmentation/1") as stages:
        for output in ("first", "second"):
            assert rttm(diart, talk, tmp_path / output, "--topology", plan) == expected
        assert all(process.poll() is None for process in stages.values())
        told = [
            Path(f"/proc/{process.pid}/{what}").read_bytes()
            for process in stages.values()
            for what in ("cmdline", "environ")
        ]
    for place in ("home", "B", "C"):
        assert not any(own_key(tmp_path / "keys", place).secret.encode() in each for each in told)


def test_without_a_key_there_is_one_line_that_says_how_to_make_it(diart: Diart, talk: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B"]}, keys="keys")
    for arguments in (("run", talk), ("stage", "segmentation")):
        done = diart(*arguments, "--topology", plan)
        assert done.code == 1
        assert len(done.complaints) == 1
        assert f"diart-mp keys new {'home' if arguments[0] == 'run' else 'B'} --keys {tmp_path}/keys" in done.err
    assert diart("keys", "new", "home", "--keys", tmp_path / "keys").code == 0
    other = Path(diart("keys", "new", "B", "--keys", tmp_path / "other").out.strip())
    assert diart("keys", "authorize", other, "--keys", tmp_path / "keys").code == 0
    listed = diart("keys", "list", "--keys", tmp_path / "keys").out.splitlines()
    assert [line.split()[:2] for line in listed] == [["own", "home"], ["authorized", "B"]]


def test_a_stage_may_come_after_the_run_has_begun(diart: Diart, talk: Path, expected: bytes, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B"], "embedding": ["B"], "clustering": ["B"]})
    arguments = ("run", talk, "--latency", "1", "--output", tmp_path / "out", "--topology", plan, "--json")
    with diart.started(*arguments) as run, started(diart, plan, "segmentation", "clustering"):
        assert run.stderr is not None
        wanted = {f"# {name} at B is there\n" for name in ("segmentation", "clustering")}
        wanted |= {"# waiting for embedding at B; there: diart-mp stage embedding --topology FILE\n"}
        while wanted:
            wanted.discard(line := run.stderr.readline())
            assert line
        with started(diart, plan, "embedding"):
            assert run.stdout is not None
            *_, summary = map(json.loads, run.stdout)
            assert run.wait(60) == 0
    assert list(summary["spent_ms"]) == ["capture", "segmentation", "embedding", "clustering", "way"]
    assert (tmp_path / "out" / "talk.rttm").read_bytes() == expected


def test_what_the_topology_says_cannot_be_said_by_options_too(diart: Diart, talk: Path, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B"]})
    done = diart("run", talk, "--topology", plan, "--device", "cuda")
    assert done.code == 2
    assert done.complaints == [
        f"diart-mp: error: --device says what stages run, and so does {plan}; say it in that file"
    ]
    done = diart("stage", "capture", "--topology", plan)
    assert done.code == 2
    assert len(done.complaints) == 1


def test_check_draws_or_refuses(diart: Diart, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B"]})
    done = diart("topology", "check", plan)
    assert done.code == 0
    assert f"at B:  diart-mp stage segmentation --topology {plan}" in done.out
    plan.write_text(f'keys = "keys"\n{plan.read_text()}')
    assert "\nremark: this host has no key yet of home, B: its own comes from" in diart("topology", "check", plan).out
    for place in ("home", "B"):
        new_key(tmp_path / "keys", place)
    assert "remark" not in diart("topology", "check", plan).out
    plan.write_text(plan.read_text().replace("results", "result"))
    done = diart("topology", "check", plan)
    assert (done.code, done.out) == (2, "")
    assert done.complaints == [f"diart-mp: error: {plan}: unknown key 'result'; did you mean 'results'?"]
