"""The trials of a study, shared by any number of processes through an Optuna storage: exactly as many as were asked for.

Trials are entered as waiting, some at a time, by one process at a time; each claims one of them, and gives its value or,
interrupted, the trial back. A trial whose process died waits again, with its parameters, so that none is lost and none is
counted twice. Optuna itself makes a claim safe on a database server; SQLite, which has no locks on rows, gets a lock
file. Knows nothing of what is tuned. Runs in the command and in its workers.
"""

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState

from diart_mp.errors import OutputError, UsageError

_LOST_S = 30.0  # a trial of another host is lost after this and ``_LOST_FACTOR`` times the mean of the others
_LOST_FACTOR = 20
_AHEAD = 32  # trials that wait at most: each look for the next one reads all of them
_MUTEX_S = (
    20.0  # a mutex older than this was left by a process that died; entering ``_AHEAD`` trials takes 2 s at worst
)
_POLL_S = 0.1


class Trials:
    """The ``count`` trials of study ``name`` in the storage at ``url``; made if it is new.

    Args:
        url: what Optuna takes, e.g. ``sqlite:///study.db`` or ``postgresql://user@host/database``.
        name: of the study.
        count: trials in all, those that are done already included.
        setup: what the study is about; a study that is about something else is refused.
        first: the parameters of the first trial.
        sampler: of the parameters of all others.

    Raises:
        UsageError: a storage that cannot be reached, or a study with another setup.

    """

    def __init__(
        self,
        url: str,
        name: str,
        *,
        count: int,
        setup: Mapping[str, Any],
        first: Mapping[str, float],
        sampler: optuna.samplers.BaseSampler,
    ) -> None:
        self._name, self._count, self._sampler = name, count, sampler
        self._lock = _lock_file(url)
        self._owner = {"host": _host(), "pid": os.getpid(), "start": _start_of(os.getpid())}
        with self._exclusive():
            self._database = _open_storage(url)
        self._storage = optuna.storages.get_storage(self._database)
        with self._exclusive(), self._mutex():
            self._prepare(dict(setup), dict(first))

    @property
    def study(self) -> optuna.Study:
        """The study as it is now."""
        return optuna.load_study(study_name=self._name, storage=self._storage, sampler=self._sampler)

    def done(self) -> list[optuna.trial.FrozenTrial]:
        """The trials that have a value."""
        return self.study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))

    def claim(self) -> optuna.Trial | None:
        """A trial to be done here; None when all are done. Waits where others may still die."""
        while True:
            trial = self._claim()
            if trial is not None:
                return trial
            left = self._of((TrialState.RUNNING, TrialState.WAITING))
            if self._enter_more(left):
                continue
            if not left:
                return None
            self._recover(left)
            time.sleep(_POLL_S)

    def finish(self, trial: optuna.Trial, value: float) -> None:
        """Enter the value of a claimed trial; nothing happens if somebody else has finished it."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(self._id(trial.number), TrialState.COMPLETE, [value])

    def release(self, trial: optuna.Trial) -> None:
        """Give a claimed trial back, for somebody else to do."""
        with suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(self._id(trial.number), TrialState.WAITING)

    def close(self) -> None:
        """Let go of the storage's connections; they are made again when they are needed."""
        self._database.remove_session()
        self._database.engine.dispose()

    def _prepare(self, setup: dict[str, Any], first: dict[str, float]) -> None:
        study = optuna.create_study(storage=self._storage, study_name=self._name, load_if_exists=True)
        known = study.user_attrs.get("setup")
        if known is None:
            study.set_user_attr("setup", setup)
        elif other := [key for key in setup if known.get(key, setup[key]) != setup[key]]:
            msg = (
                f"study '{self._name}' was begun with other {', '.join(other)}; go on as it was begun, or name another "
                "study or output folder"
            )
            raise UsageError(msg)
        if not self._entered():
            self._enter(study, first)

    def _enter_more(self, left: list[optuna.trial.FrozenTrial]) -> bool:
        """Enter trials that wait, if none does and not all that were asked for are there; whether there may be new ones."""
        if any(each.state == TrialState.WAITING for each in left):
            return True
        if self._entered() >= self._count:
            return False
        with self._exclusive(), self._mutex():
            if not self._of((TrialState.WAITING,)):  # somebody else may have been first
                self._enter(self.study, {})
        return True

    def _enter(self, study: optuna.Study, first: dict[str, float]) -> None:
        entered = self._entered()
        for number in range(entered, min(self._count, entered + _AHEAD)):
            study.enqueue_trial(first if number == 0 else {})

    def _entered(self) -> int:
        """How many trials the study has, whatever became of them."""
        return self._storage.get_n_trials(self._storage.get_study_id_from_name(self._name))

    def _claim(self) -> optuna.Trial | None:
        with self._exclusive():
            for waiting in self._of((TrialState.WAITING,)):
                number = self._id(waiting.number)
                try:
                    mine = self._storage.set_trial_state_values(number, TrialState.RUNNING)
                except optuna.exceptions.UpdateFinishedTrialError:
                    continue
                if mine:
                    self._storage.set_trial_user_attr(number, "owner", {**self._owner, "at": time.time()})
                    return optuna.Trial(self.study, number)
        return None

    def _recover(self, running: list[optuna.trial.FrozenTrial]) -> None:
        """Let the trials of dead processes wait again."""
        spans = [each.duration.total_seconds() for each in self.done() if each.duration is not None]
        patience = _LOST_S + _LOST_FACTOR * (sum(spans) / len(spans) if spans else 0.0)
        for trial in running:
            if trial.state == TrialState.RUNNING and _is_lost(trial, patience):
                with suppress(optuna.exceptions.UpdateFinishedTrialError):
                    self._storage.set_trial_state_values(self._id(trial.number), TrialState.WAITING)

    def _of(self, states: tuple[TrialState, ...]) -> list[optuna.trial.FrozenTrial]:
        """The trials that were asked for, in these states, by number."""
        study_id = self._storage.get_study_id_from_name(self._name)
        found = self._storage.get_all_trials(study_id, deepcopy=False, states=states)
        return sorted((each for each in found if each.number < self._count), key=lambda each: each.number)

    def _id(self, number: int) -> int:
        study_id = self._storage.get_study_id_from_name(self._name)
        return self._storage.get_trial_id_from_study_id_trial_number(study_id, number)

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        """One process at a time, where the storage is a file."""
        if self._lock is None:
            yield
            return
        try:
            file = self._lock.open("ab")
        except OSError as error:
            msg = (
                f"the storage {self._lock.with_suffix('')} cannot be opened ({(error.strerror or str(error)).lower()})"
            )
            raise UsageError(msg) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    @contextmanager
    def _mutex(self) -> Iterator[None]:
        """One process at a time, on any storage: the name of a study can be taken only once."""
        if self._lock is not None:
            yield
            return
        name = f"{self._name} (being prepared)"
        deadline = time.monotonic() + _MUTEX_S
        while True:
            with suppress(optuna.exceptions.DuplicatedStudyError):
                optuna.create_study(storage=self._storage, study_name=name)
                break
            if time.monotonic() > deadline:
                with suppress(KeyError):
                    optuna.delete_study(study_name=name, storage=self._storage)
                deadline = time.monotonic() + _MUTEX_S
            time.sleep(_POLL_S)
        try:
            yield
        finally:
            with suppress(KeyError):
                optuna.delete_study(study_name=name, storage=self._storage)


def _open_storage(url: str) -> optuna.storages.RDBStorage:
    """Connect; tables that are missing are made, by whoever comes first: the others try again until they are complete."""
    from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError

    options = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else None
    deadline = time.monotonic() + _MUTEX_S
    while True:
        try:
            return optuna.storages.RDBStorage(url, engine_kwargs=options)
        except (IntegrityError, ProgrammingError, RuntimeError) as error:
            if time.monotonic() > deadline:
                raise UsageError(_not_opened(url, error)) from error
            time.sleep(_POLL_S)
        except (SQLAlchemyError, ImportError) as error:
            raise UsageError(_not_opened(url, error)) from error


@contextmanager
def failures_of(url: str) -> Iterator[None]:
    """Raise OutputError, a line, where the storage is lost in the middle of something."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (optuna.exceptions.StorageInternalError, SQLAlchemyError) as error:
        cause = error.__cause__ if isinstance(error, optuna.exceptions.StorageInternalError) else error
        msg = (
            f"the storage {_without_password(url)} was lost ({_reason(cause or error)}); trials that are done are kept "
            "there: run the same command again"
        )
        raise OutputError(msg) from error


def _reason(error: BaseException) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _not_opened(url: str, error: Exception) -> str:
    return f"the storage {_without_password(url)} cannot be opened ({_reason(error)})"


def _without_password(url: str) -> str:
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    with contextlib.suppress(ArgumentError):
        return make_url(url).render_as_string(hide_password=True)
    return "that was given"


def _lock_file(url: str) -> Path | None:
    """Beside the file of an SQLite storage; None for others."""
    if not url.startswith("sqlite"):
        return None
    from sqlalchemy import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        database = make_url(url).database
    except ArgumentError:
        return None  # opening it says why
    if not database or database == ":memory:":
        msg = f"{url} keeps nothing, and no other process sees it; name a file: sqlite:///study.db"
        raise UsageError(msg)
    return Path(f"{database}.lock")


def _is_lost(trial: optuna.trial.FrozenTrial, patience: float) -> bool:
    """Whether nobody works on a running trial any more."""
    owner = trial.user_attrs.get("owner")
    if owner is None:  # claimed, but not signed yet
        return trial.datetime_start is None or time.time() - trial.datetime_start.timestamp() > patience
    if owner["host"] == _host():
        return bool(_start_of(owner["pid"]) != owner["start"])
    return bool(time.time() - owner["at"] > patience)


def _host() -> str:
    """What tells this machine, as long as it runs, from others."""
    with suppress(OSError):
        return f"{socket.gethostname()} {Path('/proc/sys/kernel/random/boot_id').read_text().strip()}"
    return socket.gethostname()


def _start_of(pid: int) -> str:
    """When a process of this host began, in a form to compare; empty if it is gone."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    with suppress(OSError, IndexError):
        state, *fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if state == "Z" else fields[18]
    return "alive"
