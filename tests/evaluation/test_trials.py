"""Tuners that share a study: exactly as many trials as were asked for, also when one of them is killed."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from diart_mp.errors import UsageError
from diart_mp.evaluation import trials as module
from diart_mp.evaluation.trials import Trials

PROGRAM = Path(sys.executable).with_name("diart-mp")
TONES = ("--segmentation", "tests.fakes:ToneSegmentation", "--embedding", "tests.fakes:ToneEmbedding")
ROOT = Path(__file__).resolve().parents[2]


def start_tuner(
    corpus: Path, cache: Path, url: str, count: int, seed: int, stderr: int | None = None
) -> subprocess.Popen[bytes]:
    arguments: list[str | Path] = [
        "tune",
        corpus / "audio",
        "--reference",
        corpus / "rttm",
        *TONES,
        "--storage",
        url,
        "--quiet",
    ]
    arguments += ["--num-iter", str(count), "--seed", str(seed), "--study", "shared"]
    environment = {**os.environ, "DIART_MP_CACHE": str(cache), "PYTHONPATH": str(ROOT)}
    return subprocess.Popen([PROGRAM, *arguments], env=environment, stderr=stderr)


def until(condition: Callable[[], Any], seconds: float = 120.0) -> Any:
    """Ask again and again; what the condition gave when it was true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    return found


@contextmanager
def looking_at(url: str) -> Iterator[optuna.storages.RDBStorage]:
    """The storage, once a tuner has put its trials there."""
    engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)

    def is_there() -> bool:
        try:
            with engine.connect() as connection:
                return bool(connection.execute(sqlalchemy.text("SELECT count(*) FROM trials")).scalar())
        except sqlalchemy.exc.SQLAlchemyError:
            return False

    until(is_there)
    yield optuna.storages.RDBStorage(url, engine_kwargs={"poolclass": sqlalchemy.NullPool})


def trials_of(storage: optuna.storages.RDBStorage) -> list[optuna.trial.FrozenTrial]:
    return optuna.load_study(study_name="shared", storage=storage).get_trials(deepcopy=False)


def stop_one_that_works(
    storage: optuna.storages.RDBStorage, tuners: list[subprocess.Popen[bytes]]
) -> tuple[subprocess.Popen[bytes], int]:
    """Catch a tuner in the middle of a trial; it and the number of the trial."""
    by_pid = {tuner.pid: tuner for tuner in tuners}

    def catch() -> tuple[subprocess.Popen[bytes], int] | None:
        for trial in trials_of(storage):
            tuner = by_pid.get(trial.user_attrs.get("owner", {}).get("pid", 0))
            if trial.state != TrialState.RUNNING or tuner is None:
                continue
            tuner.send_signal(signal.SIGSTOP)
            # One that was stopped while it writes holds the lock of a sqlite file: that is no moment to look.
            with suppress(optuna.exceptions.StorageInternalError):
                if trials_of(storage)[trial.number].state == TrialState.RUNNING:
                    return tuner, trial.number
            tuner.send_signal(signal.SIGCONT)
        return None

    found: tuple[subprocess.Popen[bytes], int] = until(catch)
    return found


def check_a_study(url: str, corpus: Path, cache: Path, *, tuners: int, count: int) -> None:
    """Let tuners share a study, kill one in the middle of a trial, and look at what the study has in the end."""
    with ExitStack() as stack:
        started = [stack.enter_context(start_tuner(corpus, cache, url, count, seed)) for seed in range(tuners)]
        for tuner in started:
            stack.callback(tuner.kill)
        storage = stack.enter_context(looking_at(url))
        killed, number = stop_one_that_works(storage, started)
        killed.kill()
        assert killed.wait() == -signal.SIGKILL
        codes = [tuner.wait(120) for tuner in started if tuner is not killed]
    assert codes == [0] * (tuners - 1)
    with looking_at(url) as storage:
        trials = trials_of(storage)
        assert [summary.study_name for summary in optuna.get_all_study_summaries(storage)] == ["shared"]
    assert [trial.number for trial in trials] == list(range(count))
    assert {trial.state for trial in trials} == {TrialState.COMPLETE}
    assert len({tuple(sorted(trial.params.items())) for trial in trials}) == count
    assert trials[0].params == {"tau_active": 0.5, "rho_update": 0.3, "delta_new": 0.35}
    owners = [trial.user_attrs["owner"]["pid"] for trial in trials]
    assert owners[number] != killed.pid
    if tuners > 2:
        assert len(set(owners) - {killed.pid}) > 1


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def postgresql(short_path: Path) -> Iterator[str]:
    """A server of its own, its socket in a folder; the URL of its database."""
    pytest.importorskip("psycopg")
    found = [shutil.which("initdb"), *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin/initdb")))]
    programs = [Path(each).parent for each in found if each]
    if not programs:
        pytest.skip("no PostgreSQL server (apt install postgresql)")
    user = "postgres" if os.getuid() == 0 else None  # it refuses to run as root
    if user is not None:
        shutil.chown(short_path, user)
    data = short_path / "data"
    setup: list[str | Path] = [programs[-1] / "initdb", "-D", data, "-A", "trust", "-U", "postgres", "--no-sync"]
    subprocess.run(setup, user=user, cwd="/", check=True, capture_output=True)
    command: list[str | Path] = [
        programs[-1] / "postgres",
        "-D",
        data,
        "-k",
        short_path,
        "-c",
        "listen_addresses=",
        "-c",
        "fsync=off",
    ]
    with subprocess.Popen(command, user=user, cwd="/", stderr=subprocess.DEVNULL) as server:
        ready: list[str | Path] = [programs[-1] / "pg_isready", "-q", "-h", short_path]
        until(lambda: subprocess.run(ready).returncode == 0)
        yield f"postgresql+psycopg://postgres@/postgres?host={short_path}"
        server.send_signal(signal.SIGINT)
        server.wait(30)


def test_four_tuners_on_postgresql_one_of_them_killed(postgresql: str, corpus: Path, cache: Path) -> None:
    check_a_study(postgresql, corpus, cache, tuners=4, count=34)


def test_two_tuners_on_sqlite_one_of_them_killed(tmp_path: Path, corpus: Path, cache: Path) -> None:
    check_a_study(f"sqlite:///{tmp_path / 'study.db'}", corpus, cache, tuners=2, count=34)


def test_a_storage_that_is_lost_is_one_line(tmp_path: Path, corpus: Path, cache: Path) -> None:
    path = tmp_path / "study.db"
    with start_tuner(corpus, cache, f"sqlite:///{path}", 10_000, 0, stderr=subprocess.PIPE) as tuner:
        with looking_at(f"sqlite:///{path}"):
            path.write_bytes(b"no database")
        assert tuner.stderr is not None
        (line,) = tuner.stderr.read().decode().splitlines()
        assert tuner.wait(30) == 1
    assert f"{path} was lost" in line
    assert "run the same command again" in line


OpenTrials = Callable[..., Trials]


@pytest.fixture
def open_trials(tmp_path: Path) -> Iterator[OpenTrials]:
    """Opens a study of one parameter; by default in a file of the test."""
    with ExitStack() as stack:

        def open_them(count: int, url: str = f"sqlite:///{tmp_path / 'study.db'}", **setup: str) -> Trials:
            sampler = optuna.samplers.RandomSampler(seed=1)
            trials = Trials(url, "shared", count=count, setup=setup, first={"x": 0.25}, sampler=sampler)
            stack.callback(trials.close)
            return trials

        yield open_them


def test_a_trial_that_was_given_back_is_done_by_the_next_with_its_parameters(open_trials: OpenTrials) -> None:
    one, other = open_trials(2), open_trials(2)
    first, second = one.claim(), other.claim()
    assert first is not None
    assert second is not None
    assert (first.number, first.suggest_float("x", 0, 1)) == (0, 0.25)
    drawn = second.suggest_float("x", 0, 1)
    one.finish(first, 3.0)
    other.release(second)
    again = one.claim()
    assert again is not None
    assert (again.number, again.suggest_float("x", 0, 1)) == (1, drawn)
    one.finish(again, 2.0)
    one.finish(again, 1.0)  # it has its value
    assert one.claim() is None
    assert [trial.value for trial in one.done()] == [3.0, 2.0]


def test_more_trials_can_be_asked_for_later(open_trials: OpenTrials) -> None:
    for count in (1, 3, 2):
        trials = open_trials(count)
        while (trial := trials.claim()) is not None:
            trials.finish(trial, trial.suggest_float("x", 0, 1))
    assert len(trials.study.get_trials()) == 3


def test_trials_are_entered_some_at_a_time(open_trials: OpenTrials, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is read at each claim, so that thousands of trials would cost more than their work."""
    monkeypatch.setattr(module, "_AHEAD", 3)
    both = [open_trials(8), open_trials(8)]
    entered = [len(both[0].study.get_trials())]
    for number in range(8):
        trials = both[number % 2]
        trial = trials.claim()
        assert trial is not None
        assert trial.number == number
        trials.finish(trial, trial.suggest_float("x", 0, 1))
        entered.append(len(trials.study.get_trials()))
    assert entered == [3, 3, 3, 3, 6, 6, 6, 8, 8]
    assert [trials.claim() for trials in both] == [None, None]
    assert both[0].done()[0].params == {"x": 0.25}


def test_a_study_about_something_else_is_refused(open_trials: OpenTrials) -> None:
    open_trials(1, metric="der", recordings="ten")
    with pytest.raises(UsageError, match=r"begun with other metric"):
        open_trials(1, metric="jer", recordings="ten")


@pytest.mark.parametrize(
    "url", ["sqlite:////proc/nowhere/study.db", "nonsense", "postgresql+psycopg://me:secret@127.0.0.1:1/none"]
)
def test_a_storage_that_cannot_be_opened(open_trials: OpenTrials, url: str) -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(UsageError, match="cannot be opened") as caught:
        open_trials(1, url)
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)
