"""For those who write outputs: what an owner relies on, asked of an output before it gets the turns of a stream.

    problems = check_output(MyOutput)

Takes a subclass of ``outputs.output.Output`` or ``outputs.formats.Format``, or ``module:Class``, which must be importable: a part of the
trial happens in a process that is killed. An output is right if there are no problems, one line each. Runs in tests, and with ``diart-mp``
not at all.
"""

import contextlib
import gc
import multiprocessing
import os
import tempfile
import threading
import tracemalloc
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from diart_mp.errors import DiartMpError, OutputError
from diart_mp.outputs.formats import Kind, kind_class
from diart_mp.outputs.names import safe_file_name
from diart_mp.outputs.output import GuardedOutput, Output
from diart_mp.outputs.writer import OutputSet
from diart_mp.turns import Revision, Turn, Update

_RATE, _STEP = 16_000, 8_000
_COUNT, _REVISED = 24, (11, 24)  # updates of a trial, and which of them correct what was said
_KILLED_AFTER = (1, 9, 13, _COUNT)  # updates
_MANY, _GROWTH = 1000, 64  # silent updates, and bytes that each may leave in memory
_NAME = "a/b <talk> é"
_START_S = 60.0  # that the process which is killed has for everything

Read = Callable[[Path], Any]


def check_output(kind: Kind, *, read: Read | None = None) -> list[str]:
    """What is wrong with an output; empty if nothing is.

    ``read``: what there is of an output in the end, for those that write elsewhere than into their file; it gets the file's path, and what
    two runs gave is compared by ``==``. Each trial has a path of its own.
    """
    try:
        found = kind_class(kind)
    except DiartMpError as error:
        return [f"it cannot be used: {error}"]
    trial = _Trial(kind, found, read or _bytes)
    with tempfile.TemporaryDirectory() as folder:
        try:
            trial.all_of_it(Path(folder))
        except _Failed as failure:
            trial.problems.append(str(failure))
    return trial.problems


def updates() -> list[Update]:
    """Made-up updates of one stream: turns over several regions, two at once, silence, left padding, corrections, odd names."""
    made = [_update(seq) for seq in range(_COUNT)]
    first, last = _REVISED
    known = tuple(turn for each in made[first - 3 : first + 1] for turn in each.turns)
    again = tuple(replace(turn, speaker='Zoë "Z" <Ó>') for turn in known)
    made[first] = replace(
        made[first], revision=Revision(made[first - 3].start, made[first].end, again, (("speaker0", "Ann"),))
    )
    end = made[-1].end
    only = Revision(end - 4 * _STEP, end, (Turn(end - 3 * _STEP, end, "Ann"),), (("speaker1", "Ann"),))
    return [*made, Update(_NAME, last, end, end, _RATE, (), None, only)]


def _update(seq: int) -> Update:
    start = (seq - 1) * _STEP  # the first one is left padding, for the most part
    turns = [Turn(start - 200, start + _STEP, "speaker0")] if seq % 6 < 3 else []
    turns += [Turn(start + 2000, start + 6000, "speaker1")] if seq % 4 == 2 else []
    return Update(_NAME, seq, start, start + _STEP, _RATE, tuple(turns), 80.0 + seq)


class _Failed(Exception):  # noqa: N818  # a finding, not an error
    """What is wrong, where there is nothing to go on with."""


class _Trial:
    """One kind of output under questions; ``problems`` gets what is wrong."""

    def __init__(self, kind: Kind, found: Any, read: Read) -> None:
        self._kind, self._found, self._read = kind, found, read
        self.problems = list[str]()

    def all_of_it(self, folder: Path) -> None:
        """Every question, in folders of their own."""
        expected = self._calm(folder / "calm", updates())
        if not self._equal(self._calm(folder / "again", updates()), expected):
            self.problems.append(
                "it writes something else the second time; leave out clocks, latencies and random names"
            )
        self._says_everything(folder, expected)
        self._grows(folder / "long")
        self._refused(folder)
        if not self.problems:  # a process is started for it, and what is wrong so far would be wrong there, too
            self._killed(folder, expected)

    def _calm(self, folder: Path, said: Sequence[Update]) -> Any:
        """What there is after an undisturbed run; what comes only when the object is forgotten was not written."""
        descriptors, threads = _descriptors(), threading.active_count()
        outputs = self._run(folder, said)
        there = self._there(folder)
        outputs.clear()
        gc.collect()
        if not self._equal(self._there(folder), there):
            msg = "its file is not complete when close() has returned"
            raise _Failed(msg)
        strangers = sorted(path.name for path in folder.iterdir() if not path.name.startswith(self._path(folder).name))
        if strangers:
            msg = f"it writes {strangers[0]}, which is not the file that it was given, {self._path(folder).name}"
            raise _Failed(msg)
        if _descriptors() > descriptors or threading.active_count() > threads:
            msg = "it leaves files, sockets or threads behind after close()"
            raise _Failed(msg)
        return there

    def _says_everything(self, folder: Path, expected: Any) -> None:
        """An update that had turns is not lost: without it, something else is there."""
        plain = [replace(each, revision=None) for each in updates()]
        whole = self._calm(folder / "plain", plain)
        for seq in (2, _COUNT - 4):
            said = [replace(each, turns=()) if each.seq == seq else each for each in plain]
            if self._equal(self._calm(folder / f"without{seq}", said), whole):
                self.problems.append(f"it says the same whether anybody talks in update {seq} or not")
                return
        if self._equal(whole, expected):
            self.problems.append("it says the same whether what was said is corrected or not (revision of an update)")

    def _killed(self, folder: Path, expected: Any) -> None:
        """Killed after some updates and begun again with all of them, it is as if nothing had happened."""
        folders = {count: folder / f"killed{count}" for count in _KILLED_AFTER}
        process = multiprocessing.get_context("spawn").Process(target=_write_and_die, args=(self._kind, folders))
        process.start()
        process.join(_START_S)
        if process.exitcode != 9:
            ended = "did not end" if process.exitcode is None else f"ended with {process.exitcode}"
            process.kill()
            process.join()
            msg = f"in a process of its own it cannot be used ({ended}); is its class importable, and at the top of its module?"
            raise _Failed(msg)
        for count, place in folders.items():
            self._run(place, updates(), resume=True)
            if not self._equal(self._there(place), expected):
                self.problems.append(
                    f"killed after {count} updates and given all of them again, it has not what an undisturbed run has"
                )
                return

    def _grows(self, folder: Path) -> None:
        """Updates in which nobody talks leave nothing in memory."""
        with self._opened(folder, revisable=False) as outputs:
            for seq in range(_MANY):
                self._write(outputs, _silent(seq))
            tracemalloc.start()
            try:
                for seq in range(_MANY, 2 * _MANY):
                    self._write(outputs, _silent(seq))
                gc.collect()
                grown = tracemalloc.get_traced_memory()[0]
            finally:
                tracemalloc.stop()
        if grown > _GROWTH * _MANY:
            self.problems.append(
                f"it keeps {grown / _MANY:.0f} bytes of each update, also of those in which nobody talks"
            )

    def _refused(self, folder: Path) -> None:
        """A file that cannot be made, and a disk that is full, are told."""
        if not issubclass(self._found, Output) or not self._found.extension:
            return  # the files of formats are not theirs, and others have none
        (folder / "file").write_text("")
        self._refusal(folder / "file" / "talk", "a folder that is none")
        if os.path.exists("/dev/full"):
            (folder / "full").symlink_to("/dev/full")
            self._refusal(folder / "full", "a full disk")

    def _refusal(self, path: Path, what: str) -> None:
        make = partial(self._found, path, _NAME, _RATE, recorded=True, resume=False)
        try:
            with contextlib.ExitStack() as stack:
                output = GuardedOutput.opened(self._found.__name__, make)
                stack.callback(output.close)
                for update in updates():
                    output.write(update)
        except OutputError as error:
            if "\n" in str(error):
                self.problems.append(f"what it says of {what} has several lines")
            return
        if path.is_symlink() or not path.exists():
            self.problems.append(f"{what} goes unnoticed")

    def _run(self, folder: Path, said: Sequence[Update], *, resume: bool = False) -> list[OutputSet]:
        """All updates, and the end."""
        with self._opened(folder, resume=resume) as outputs:
            for update in said:
                self._write(outputs, update)
        return [outputs]

    def _write(self, outputs: OutputSet, update: Update) -> None:
        try:
            outputs.write(update)
        except OutputError as error:
            what = ", which has a revision" if update.revision is not None else ""
            msg = f"it fails at update {update.seq}{what}: {error}"
            raise _Failed(msg) from error

    @contextlib.contextmanager
    def _opened(self, folder: Path, *, resume: bool = False, revisable: bool = True) -> Iterator[OutputSet]:
        """As in a run; what fails is a finding."""
        try:
            outputs = _open(self._kind, folder, resume=resume, revisable=revisable)
        except DiartMpError as error:
            msg = f"it cannot be opened{' again' if resume else ''}: {error}"
            raise _Failed(msg) from error
        try:
            yield outputs
        finally:
            with _finding("it fails at the end"):
                outputs.close()

    def _there(self, folder: Path) -> Any:
        return self._read(self._path(folder))

    def _path(self, folder: Path) -> Path:
        return folder / f"{safe_file_name(_NAME)}{self._found.extension}"

    def _equal(self, one: Any, other: Any) -> bool:
        return bool(one == other)


@contextlib.contextmanager
def _finding(what: str) -> Iterator[None]:
    try:
        yield
    except DiartMpError as error:
        msg = f"{what}: {error}"
        raise _Failed(msg) from error


def _open(kind: Kind, folder: Path, *, resume: bool = False, revisable: bool = True) -> OutputSet:
    return OutputSet(folder, _NAME, (kind,), rate=_RATE, recorded=True, resume=resume, revisable=revisable)


def _write_and_die(kind: Kind, folders: Mapping[int, Path]) -> None:
    """The process that is killed: nothing is closed, and what was not written is lost."""
    kept = []
    for count, folder in folders.items():
        outputs = _open(kind, folder)
        kept.append(outputs)
        for update in updates()[:count]:
            outputs.write(update)
    os._exit(9)


def _silent(seq: int) -> Update:
    return Update(_NAME, seq, seq * _STEP, (seq + 1) * _STEP, _RATE, ())


def _bytes(path: Path) -> dict[str, bytes]:
    """The file, and what lies beside it under its name."""
    return {each.name: each.read_bytes() for each in path.parent.iterdir() if each.is_file()}


def _descriptors() -> int:
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0
