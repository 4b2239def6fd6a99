"""A replica that is drained during a run: it ends by itself, and nothing has to be sent again."""

from pathlib import Path

from diart_mp.runtime.drain import SIGNAL, Drain
from tests.cli.command import TONES, Diart
from tests.fakes import conversation
from tests.hosts.rig import started, write_plan


def test_a_drained_replica_finishes_what_it_has(diart: Diart, tmp_path: Path) -> None:
    audio, plan = tmp_path / "talk.wav", tmp_path / "plan.toml"
    conversation(audio, seconds=24.0, seed=6)
    run = ("run", audio, "--latency", "1", "--output")
    assert diart(*run, tmp_path / "local", "--quiet", *TONES).code == 0
    write_plan(plan, {"segmentation": ["B", "B"]})
    slow = ("env", "DIART_MP_FAULTS=segmentation:slow=0.1")
    with (
        started(diart, plan, "segmentation/0", "segmentation/1", prefix=slow) as stages,
        diart.started(*run, tmp_path / "out", "--json", "--topology", plan) as process,
    ):
        assert process.stdout is not None
        for _ in range(10):
            process.stdout.readline()
        done = diart("drain", "segmentation/1", "--topology", plan)
        assert (done.code, done.out) == (0, "segmentation/1 has finished what it had, and ended\n"), done.err
        assert stages["segmentation/1"].wait(10) == 0
        assert stages["segmentation/0"].poll() is None
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        assert "again" not in err
    assert (tmp_path / "out" / "talk.rttm").read_bytes() == (tmp_path / "local" / "talk.rttm").read_bytes()
    assert len(out.splitlines()) > 10  # it did not wait for the end of the run
    done = diart("drain", "segmentation/1", "--topology", plan)
    assert (done.code, len(done.complaints)) == (1, 1)
    assert "no segmentation/1 of" in done.err


def test_a_stage_is_found_by_each_of_its_names_and_wrong_ones_are_told(diart: Diart, tmp_path: Path) -> None:
    plan = tmp_path / "plan.toml"
    write_plan(plan, {"segmentation": ["B", "B"], "embedding": ["C"]})
    with started(diart, plan, "segmentation/0", "embedding") as stages:
        for name, other in (("segmentation/0", "segmentation"), ("embedding", "embedding/0")):
            while (done := diart("drain", other, "--topology", plan)).code and stages[name].poll() is None:
                assert "runs here as" in done.err  # it is not there yet
            assert stages[name].wait(10) in (0, -SIGNAL)  # the latter if it had not loaded its model yet
    for name, said in (("embeding", "did you mean 'embedding'?"), ("segmentation/2", "has 2 replicas")):
        done = diart("drain", name, "--topology", plan)
        assert (done.code, len(done.complaints)) == (2, 1)
        assert said in done.err


def test_a_drain_is_over_once_nothing_has_come_for_a_while() -> None:
    now = 0.0
    drain = Drain(clock=lambda: now)
    assert not drain.over(busy=False)
    now = 100.0
    assert not drain.over(busy=False)
    drain._ask()
    assert not drain.over(busy=False)
    now = 100.9
    assert not drain.over(busy=True)
    now = 101.8
    assert not drain.over(busy=False)
    now = 102.0
    assert drain.over(busy=False)
