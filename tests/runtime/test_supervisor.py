"""The supervisor with real stages: capture, and clustering, which has an error for each chunk as nobody segmented it."""

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import zmq

from diart_mp.config import Settings
from diart_mp.errors import StageError
from diart_mp.headers import pack_control, unpack_control
from diart_mp.runtime import supervisor as supervisor_module
from diart_mp.runtime.supervisor import StageFatalError, Supervisor
from diart_mp.topology import Job, SourceConfig, StageConfig, Topology
from diart_mp.transport.sockets import make_socket

from .answering import SAMPLES, recording, seqs, stream_id

WAIT_S = 30
SETTINGS = Settings(duration=1600, step=320, latency=320)


SABOTAGE = """
import sys

class Finder:
    def find_spec(self, name, path=None, target=None):
        owner = sys.modules.get("diart_mp.runtime.owner")
        if hasattr(owner, "Owner"):
            sys.meta_path.remove(self)
            def close(self):
                raise owner.OutputError("cannot write: the disk is full")
            owner.Owner.close = close

sys.meta_path.insert(0, Finder())
"""  # of the owner's end, in the processes that find this in their path


OBSTACLE = """
import os, pathlib, sys

obstacles = sorted(pathlib.Path(__file__).parent.glob("obstacle-*"))
if obstacles and "clustering" in sys.orig_argv:
    how = obstacles[0].read_text()
    obstacles[0].unlink()
    if how == "exit":
        os._exit(1)
    os.environ["DIART_MP_FAULTS"] = "clustering:nonsense"  # an error that the stage tells
"""  # one for each start of clustering


MUTE = """
import sys

if "clustering" in sys.orig_argv and sys.orig_argv[sys.orig_argv.index("--epoch") + 1] == "2":
    import diart_mp.runtime.control
    diart_mp.runtime.control.BEAT_S = 1e6
"""  # the first process of clustering becomes ready and never beats


class Events:
    """What the supervisor told of."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    def __call__(self, event: dict[str, Any]) -> None:
        self.all.append(event)

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [event for event in self.all if event["event"] == kind]


class Run:
    """A supervisor of one small job; ``samples`` of audio."""

    def __init__(self, folder: Path, samples: int = SAMPLES) -> None:
        self.folder = folder
        self.events = Events()
        source = SourceConfig(kind="file", name="talk", path=str(recording(folder, samples)))
        self.topology = Topology(
            run=stream_id(folder),
            directory=str(folder),
            stages=(StageConfig(name="capture", bind=f"ipc://{folder}/a"), StageConfig(name="clustering", keyed=True)),
            results=f"ipc://{folder}/r",
            control=f"ipc://{folder}/c",
            job=Job(sources=(source,), settings=SETTINGS),
        )

    def supervisor(self, environment: Mapping[str, str] | None = None, **changes: Any) -> Supervisor:
        topology = replace(self.topology, **changes)
        file = self.folder / "topology.toml"
        topology.write(file)
        return Supervisor(topology, file, on_event=self.events, environment=environment)


def step_until(supervisor: Supervisor, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        supervisor.step()


def is_alive(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def children() -> set[int]:
    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.fixture
def run(tmp_path: Path, no_rings_of_the_dead: None) -> Iterator[Run]:
    before = children()
    yield Run(tmp_path)
    assert children() <= before


def test_a_job_from_its_start_to_its_end(run: Run) -> None:
    with run.supervisor() as supervisor:
        assert supervisor.pids() == {}
        supervisor.start()
        pids = supervisor.pids()
        assert pids.keys() == {"capture", "clustering"}
        assert all(os.getpgid(pid) == pid for pid in pids.values())  # Ctrl-C in the terminal is not for them
        step_until(supervisor, lambda: supervisor.finished)
        assert supervisor.ready() >= {"clustering"}
        status = supervisor.status()
    (ready,) = run.events.of("ready")
    assert ready["pids"] == pids
    updates = [event["update"] for event in run.events.of("result")]
    assert seqs(updates) == list(range(28))  # diart's rule: 10,000 samples in windows of 1,600 every 320
    assert len(run.events.of("error")) == 28
    assert "has no array 'segmentation'" in run.events.of("error")[0]["text"]
    assert [event["results"] for event in run.events.of("done")] == [29]
    assert run.events.all[-1]["event"] == "finished"
    assert [(stage["stage"], stage["restarts"]) for stage in status["stages"]] == [("capture", 0), ("clustering", 0)]
    assert status["streams"]["talk"]["results"] == 28
    assert not any(is_alive(pid) for pid in pids.values())
    supervisor.stop()


def test_a_killed_stage_is_replaced_with_a_new_epoch(run: Run) -> None:
    with run.supervisor() as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: run.events.of("ready") != [])
        for name in ("clustering", "capture"):
            os.kill(supervisor.pids()[name], signal.SIGKILL)
        step_until(supervisor, lambda: supervisor.finished)
        stages = {stage["stage"]: stage for stage in supervisor.status()["stages"]}
    texts = {event["stage"]: event["text"] for event in run.events.of("restart")}
    assert "clustering was killed by signal 9; restarting it" in texts["clustering"]
    assert supervisor.restarts == len(run.events.of("restart"))
    assert stages["clustering"]["epoch"] > 2
    assert seqs([event["update"] for event in run.events.of("result")]) == list(range(28))
    assert len(run.events.of("ready")) == 1


@pytest.mark.parametrize(("last", "said"), [("clustering", "has no [job]"), ("x", "unknown stage 'x'")])
def test_a_stage_that_cannot_go_on_ends_the_run_with_its_words(run: Run, last: str, said: str) -> None:
    stages = (run.topology.stages[0], StageConfig(name=last, keyed=last == "clustering"))
    with run.supervisor(stages=stages, job=None if last == "clustering" else run.topology.job) as supervisor:
        supervisor.start()
        with pytest.raises(StageFatalError) as caught:
            step_until(supervisor, lambda: supervisor.finished)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_stage_that_does_not_even_start_is_not_tried_for_ever(run: Run) -> None:
    with run.supervisor({"PYTHONHOME": "/nonexistent"}) as supervisor:
        supervisor.start()
        with pytest.raises(StageError, match=r"(capture|clustering) ended with exit code 1: .*"):
            step_until(supervisor, lambda: supervisor.finished)


@pytest.mark.parametrize("how", ["exit", "fatal"])
def test_a_stage_that_cannot_start_again_at_once_is_given_time(run: Run, how: str) -> None:
    """A port, or the memory of a device, may not be free yet so soon after the death of who had it."""
    (run.folder / "sitecustomize.py").write_text(OBSTACLE)
    with run.supervisor({"PYTHONPATH": str(run.folder), "DIART_MP_FAULTS": "clustering:slow=0.05"}) as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: run.events.of("result") != [])
        for number in range(3):
            (run.folder / f"obstacle-{number}").write_text(how)
        os.kill(supervisor.pids()["clustering"], signal.SIGKILL)
        step_until(supervisor, lambda: supervisor.finished)
    texts = [event["text"] for event in run.events.of("restart") if event["stage"] == "clustering"]
    assert texts[0] == "clustering was killed by signal 9; restarting it"
    assert len(texts) == 4
    said = " (DIART_MP_FAULTS: 'clustering:nonsense' is not " if how == "fatal" else "; restarting it"
    assert all(text.startswith(f"clustering ended with exit code {1 + (how == 'fatal')}{said}") for text in texts[1:])
    assert seqs([event["update"] for event in run.events.of("result")]) == list(range(28))
    # What the killed process was working on is not the fault of those that did not even begin.
    assert all("was set aside" not in event["text"] for event in run.events.of("error"))


def test_a_stage_that_cannot_start_again_at_all_ends_the_run(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_BACK_OFF_S", (0.0,))
    monkeypatch.setattr(supervisor_module, "_FRUITLESS", 2)
    run = Run(run.folder, samples=1_000_000)
    (run.folder / "sitecustomize.py").write_text(OBSTACLE)
    with run.supervisor({"PYTHONPATH": str(run.folder)}) as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: run.events.of("result") != [])
        for number in range(9):
            (run.folder / f"obstacle-{number}").write_text("fatal")
        os.kill(supervisor.pids()["clustering"], signal.SIGKILL)
        with pytest.raises(
            StageError, match=r"clustering ended with exit code 2 after . restarts: .* is not STAGE:ACTION"
        ):
            step_until(supervisor, lambda: supervisor.finished)
    assert 6 <= len(list(run.folder.glob("obstacle-*"))) <= 7


def test_a_stage_that_never_gets_anywhere_is_not_tried_for_ever(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It starts each time, and is gone before anything has come of it."""
    assert supervisor_module._FRUITLESS > supervisor_module._CRASHES / supervisor_module._KILLED_WEIGHT
    monkeypatch.setattr(supervisor_module, "_BACK_OFF_S", (0.0,))
    monkeypatch.setattr(supervisor_module, "_FRUITLESS", 4)  # else it takes a minute
    killed: set[int] = set()

    def kill_when_ready() -> bool:
        pid = supervisor.pids().get("clustering")
        if pid is not None and pid not in killed and "clustering" in supervisor.ready():
            killed.add(pid)
            os.kill(pid, signal.SIGKILL)
        return False

    with run.supervisor({"DIART_MP_FAULTS": "clustering:slow=60"}) as supervisor:
        supervisor.start()
        with pytest.raises(StageError, match="clustering was killed by signal 9 after 4 restarts"):
            step_until(supervisor, kill_when_ready)
    assert len(killed) == 5
    assert run.events.of("result") == []


def test_a_job_that_fails_is_told_and_ends(run: Run) -> None:
    Path(run.folder / "talk.wav").unlink()
    with run.supervisor() as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: supervisor.finished)
    (failed,) = run.events.of("failed")
    assert "talk.wav: cannot be opened" in failed["text"]
    assert run.events.of("result") == []


def test_a_drain_ends_the_input(run: Run) -> None:
    run = Run(run.folder, samples=1_000_000)
    with run.supervisor() as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: len(run.events.of("result")) > 5)
        supervisor.drain()
        step_until(supervisor, lambda: supervisor.finished)
    assert 5 < len(run.events.of("result")) < 3000


def test_a_drain_reaches_an_owner_that_is_just_being_restarted(run: Run) -> None:
    run = Run(run.folder, samples=1_000_000)
    with run.supervisor() as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: len(run.events.of("result")) > 5)
        os.kill(supervisor.pids()["capture"], signal.SIGKILL)
        step_until(supervisor, lambda: run.events.of("restart") != [])
        supervisor.drain()
        step_until(supervisor, lambda: supervisor.finished)
    assert 5 < len(run.events.of("result")) < 3000


def test_a_stage_that_is_stopped_before_it_says_anything_is_replaced(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervisor_module, "_FIRST_SIGN_S", 0.0)
    with run.supervisor(silence_s=2.0) as supervisor:
        supervisor.start()
        os.kill(supervisor.pids()["clustering"], signal.SIGSTOP)
        step_until(supervisor, lambda: any(e["stage"] == "clustering" for e in run.events.of("restart")))
        monkeypatch.undo()
        step_until(supervisor, lambda: supervisor.finished)
    texts = [event["text"] for event in run.events.of("restart")]
    assert any("clustering gave no sign of life for" in text for text in texts)
    assert seqs([event["update"] for event in run.events.of("result")]) == list(range(28))


def test_a_stage_that_is_ready_and_then_silent_is_not_waited_for_like_a_new_process(run: Run) -> None:
    run = Run(run.folder, samples=1_000_000)
    (run.folder / "sitecustomize.py").write_text(MUTE)
    with run.supervisor({"PYTHONPATH": str(run.folder)}, silence_s=1.0) as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: run.events.of("restart") != [])
        supervisor.drain()
        step_until(supervisor, lambda: supervisor.finished)
    (restart,) = run.events.of("restart")
    assert restart["text"].startswith("clustering gave no sign of life for 1.")


def test_why_a_stage_could_not_end_well_is_told(run: Run) -> None:
    """The last turn is written when the stream is closed, and there is no room for it."""
    run = Run(run.folder, samples=1_000_000)
    (run.folder / "sitecustomize.py").write_text(SABOTAGE)
    with run.supervisor({"PYTHONPATH": str(run.folder)}) as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: len(run.events.of("result")) > 5)
    assert [event["text"] for event in run.events.of("failed")] == ["cannot write: the disk is full"]


def test_words_of_strangers_and_of_the_dead_are_ignored(run: Run) -> None:
    with ExitStack() as stack:
        supervisor = stack.enter_context(run.supervisor())
        context = zmq.Context[zmq.Socket[bytes]]()
        stack.callback(context.destroy, linger=0)
        stranger = stack.enter_context(make_socket(context, zmq.DEALER))
        stranger.connect(run.topology.control)
        who = {"stage": "clustering", "replica": 0}
        for frames in (
            [b""],
            [b"\xc1"],
            [b"x"] * 3,
            [pack_control("fatal", text="old", code=1, epoch=99, **who)],
            [pack_control("fatal", text="nobody", code=1)],
            [pack_control("event", event="finished", epoch=True, **who)],
            [pack_control("status")],
        ):
            stranger.send_multipart(frames)
        supervisor.start()
        step_until(supervisor, lambda: stranger.poll(0) != 0)
        status = unpack_control(stranger.recv_multipart())
        assert status["kind"] == "status"
        assert [stage["stage"] for stage in status["stages"]] == ["capture", "clustering"]
        assert not supervisor.finished


def test_stages_elsewhere_can_tell_notes_and_no_more(run: Run) -> None:
    """Whatever comes from another host, the run neither ends of it nor breaks."""
    stages = (run.topology.stages[0], StageConfig(name="clustering", keyed=True, place="B"))
    with ExitStack() as stack:
        supervisor = stack.enter_context(run.supervisor(stages=stages, report=f"ipc://{run.folder}/rep"))
        context = zmq.Context[zmq.Socket[bytes]]()
        stack.callback(context.destroy, linger=0)
        elsewhere = stack.enter_context(make_socket(context, zmq.DEALER))
        elsewhere.identity = b"clustering/0/5"
        elsewhere.connect(supervisor._topology.report)
        who = {"stage": "clustering", "replica": 0, "epoch": 5}
        wrong: list[dict[str, Any]] = [
            {"event": "finished"},
            {"event": "result"},
            {"event": "result", "update": {"seq": [], "stream": {}}},
            {"event": "progress"},
            {"event": "note", "text": 7, "stream": []},
            {},
        ]
        for values in (*wrong, {"event": "note", "stream": "talk", "text": "x" * 5000}):
            elsewhere.send(pack_control("event", **who, **values))
        step_until(supervisor, lambda: run.events.of("note") != [])
        assert supervisor.refused == len(wrong)
        assert not supervisor.finished
    assert run.events.all == [{"event": "note", "stream": "talk", "text": "x" * 1000}]


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGTERM])
def test_stop_ends_everything_whatever_state_it_is_in(run: Run, number: signal.Signals) -> None:
    run = Run(run.folder, samples=1_000_000)
    with run.supervisor() as supervisor:
        supervisor.start()
        step_until(supervisor, lambda: run.events.of("ready") != [])
        pids = supervisor.pids()
        os.kill(pids["clustering"], number)
        supervisor.stop()
        assert not any(is_alive(pid) for pid in pids.values())
        supervisor.stop()


def test_an_error_in_the_view_leaves_nothing_behind(run: Run) -> None:
    pids: list[int] = []

    def fail(event: dict[str, Any]) -> None:
        pids.extend(event["pids"].values())
        raise KeyError(event["event"])

    supervisor = run.supervisor()
    supervisor._on_event = fail
    with pytest.raises(KeyError, match="ready"), supervisor:
        supervise(supervisor)
    assert len(pids) == 2
    assert not any(is_alive(pid) for pid in pids)


def supervise(supervisor: Supervisor) -> None:
    supervisor.start()
    step_until(supervisor, lambda: supervisor.finished)
