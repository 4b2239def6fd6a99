"""The output files of a stream: opened together or not at all, written as the stream goes, whole lines only.

Formats of turns get each turn once it is final (``outputs.stitching``), formats of updates get each update. Where updates
take back what was said, formats of turns are replaced at the end, each at once, by the turns as they are known then. Outputs of the user's own
(``outputs.output``) get the updates as they are. An existing file is never touched unless the user says so. Knows nothing of how turns come about. Runs in the owner of a stream;
``check_outputs`` runs in the command before any process starts.
"""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from diart_mp.errors import DiartMpError, OutputError
from diart_mp.outputs.early import EarlyTurns
from diart_mp.outputs.formats import FORMATS, Format, Kind, kind_class, known_formats, make_format
from diart_mp.outputs.lines import LineFile, refused, unwritable
from diart_mp.outputs.names import safe_file_name
from diart_mp.outputs.output import GuardedOutput, Output
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.outputs.stitching import Stitcher
from diart_mp.turns import Turn, Update


class OutputSet:
    """The files of one stream, one per format, in one folder, and its other outputs; ``paths`` names the files.

    After an OutputError the files stay as they are, complete up to the last line for which there was room, and nothing
    more is written; each further ``write`` raises the error again.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        formats: Sequence[Kind],
        *,
        rate: int,
        recorded: bool,
        force: bool = False,
        resume: bool = False,
        revisable: bool = True,
        early: int = 0,
    ) -> None:
        """Open the files of the stream ``name``; the folder is made if it is missing.

        ``rate``: samples per second. ``recorded``: write nothing that differs from run to run. ``force``: replace
        existing files. ``resume``: the same, for an owner that folds its journal again from the start; what the files have
        of that stays untouched. ``revisable``: updates may take back what was said, so all turns stay in memory until the end.
        ``early``: patience of ``outputs.early``. Raises OutputError (no file was made or changed then, unless the disk is
        full); for an unknown format UsageError.
        """
        self.paths = output_paths(directory, name, formats)
        kinds = known_formats(formats)
        self._kinds = [kind for kind in kinds if issubclass(kind_class(kind), Format)]
        self._make = partial(_make, stream=name, rate=rate, recorded=recorded)
        self._writers = [self._make(kind) for kind in self._kinds]
        self._stitcher = Stitcher(rate)
        self._early = EarlyTurns(rate, early)
        self._known = RevisedTurns(rate) if revisable and self._writers else None
        self._failure: OutputError | None = None
        self._own: list[GuardedOutput] = []
        self._closed = False
        self._files = _open_all(directory, output_paths(directory, name, self._kinds), replace=force, resume=resume)
        try:
            own = partial(_open_own, directory, name, rate=rate, recorded=recorded, replace=force, resume=resume)
            for kind in kinds:
                if kind not in self._kinds:
                    self._own.append(own(kind))
        except OutputError:
            for output in self._own:
                with suppress(OutputError):  # the first failure is the one to tell
                    output.close()
            for file in self._files:
                file.withdraw()
            raise
        try:
            for writer, file in zip(self._writers, self._files, strict=True):
                file.start(writer.header)
        except OutputError:
            self._close_files()
            raise

    def write(self, update: Update) -> None:
        """Add the next update (by ``seq``) to all files."""
        if self._failure is not None:
            raise self._failure
        settled = self._early.push(update)
        turns = [] if settled is None else self._stitcher.push(settled)
        if self._known is not None:
            self._known.push(update)
        with _named(self._kinds):
            texts = [writer.update(update) + "".join(map(writer.turn, turns)) for writer in self._writers]
        self._append(texts, update)

    def close(self) -> None:
        """The stream has ended: write the turns that were still open, or all as revised. Does nothing the second time."""
        held = self._early.finish()
        turns = [*([] if held is None else self._stitcher.push(held)), *self._stitcher.finish()]
        try:
            if self._failure is None and self._files:
                with _named(self._kinds):
                    texts = ["".join(map(writer.turn, turns)) for writer in self._writers]
                self._append(texts)
                for file in self._files:
                    file.finish()
                if self._known is not None and self._known.revised:
                    self._revise(self._known.turns())
        finally:
            self._close_files()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _append(self, texts: Sequence[str], update: Update | None = None) -> None:
        """One text for each file, and the update for all else; a failure is told after all others were written too."""
        for file, text in zip(self._files, texts, strict=True):
            try:
                file.append(text)
            except OutputError as error:
                self._failure = self._failure or error
        for output in self._own:
            try:
                if update is not None:
                    output.write(update)
            except OutputError as error:
                self._failure = self._failure or error
        if self._failure is not None:
            raise self._failure

    def _revise(self, turns: Sequence[Turn]) -> None:
        """Replace all files of turns by what is known now."""
        for kind, file in zip(self._kinds, self._files, strict=True):
            writer = self._make(kind)
            if writer.of_turns:
                with _named([kind]):
                    text = writer.header + "".join(map(writer.turn, turns))
                file.replace(text)

    def _close_files(self) -> None:
        opened: list[LineFile | GuardedOutput] = [*self._files, *([] if self._closed else self._own)]
        self._files, self._closed = [], True
        errors = []
        for file in opened:
            try:
                file.close()
            except OutputError as error:
                errors.append(error)
        if errors:
            raise errors[0]


def output_paths(directory: Path, name: str, formats: Sequence[Kind]) -> tuple[Path, ...]:
    """The files that a stream of that name writes; raises UsageError for a format that does not exist."""
    extensions = [kind_class(kind).extension for kind in known_formats(formats)]
    return tuple(directory / (safe_file_name(name) + extension) for extension in extensions if extension)


def check_outputs(directory: Path, names: Sequence[str], formats: Sequence[Kind], force: bool) -> None:
    """Refuse, before anything starts, what opening the files of streams ``names`` would refuse later. Changes nothing.

    Raises OutputError for a folder that is a file or cannot be written, for existing files (unless ``force``) and for
    two streams that would write the same files; UsageError for a format that does not exist.
    """
    paths = [path for name in names for path in output_paths(directory, name, formats)]
    _check_clashes(names)
    existing = [path for path in paths if os.path.lexists(path)]
    if existing and not force:
        raise refused(existing)
    for path in existing:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError as error:
            raise unwritable(path, error) from error
    _check_folder(directory)


def _make(kind: Kind, stream: str, rate: int, *, recorded: bool) -> Format:
    with _named([kind]):
        return make_format(kind, stream, rate, recorded=recorded)


@contextmanager
def _named(kinds: Sequence[Kind]) -> Iterator[None]:
    """Formats of the user's may raise anything, which is an OutputError that names those that it may come from."""
    try:
        yield
    except DiartMpError:
        raise
    except Exception as error:  # somebody else's code
        own = [kind if isinstance(kind, str) else kind.__name__ for kind in kinds if kind not in FORMATS]
        text = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"the output {' or '.join(own)} failed: {text}"
        raise OutputError(msg) from error


def _open_own(
    directory: Path, name: str, kind: Kind, *, rate: int, recorded: bool, replace: bool, resume: bool
) -> GuardedOutput:
    found = kind_class(kind)
    assert issubclass(found, Output)  # noqa: S101  # the others are formats
    path = directory / (safe_file_name(name) + found.extension)
    if found.extension and os.path.lexists(path) and not replace and not resume:
        raise refused([path])
    label = kind if isinstance(kind, str) else kind.__name__
    return GuardedOutput.opened(label, partial(found, path, name, rate, recorded=recorded, resume=resume))


def _check_clashes(names: Sequence[str]) -> None:
    users: dict[str, str] = {}
    for name in names:
        file = safe_file_name(name)
        if file in users:
            msg = f"two streams, {users[file]!r} and {name!r}, would both write {file}.*: rename one, or run them apart"
            raise OutputError(msg)
        users[file] = name


def _check_folder(directory: Path) -> None:
    """Try a file without a name in the folder, or in the nearest one above it that is there."""
    nearest = directory.absolute()
    while not os.path.lexists(nearest):
        nearest = nearest.parent
    try:
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        raise unwritable(directory, error) from error


def _open_all(directory: Path, paths: Sequence[Path], *, replace: bool, resume: bool) -> list[LineFile]:
    """Open all files, or none: where one is refused, those opened before it are withdrawn."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(directory, error) from error
    files: list[LineFile] = []
    try:
        for path in paths:
            files.append(LineFile(path, replace=replace, resume=resume))
    except OutputError:
        for file in files:
            file.withdraw()
        raise
    return files
