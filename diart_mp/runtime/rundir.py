"""Run folders: one per run, with its sockets, journals and topology; and the sweep of what killed runs left.

A run folder is locked (flock) by the process that made it for as long as that lives. A folder whose lock is free
belongs to nobody any more: the next start removes it together with the audio rings of that run. Runs in the supervisor.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from diart_mp.errors import OutputError
from diart_mp.transport.ring import PREFIX, remove_abandoned_rings, ring_directory

_MAX_IPC_PATH = 107  # bytes of a Unix socket's path
_LONGEST_NAME = len("/segmentation-99")


class RunDirectory:
    """A fresh run folder, private to the user; a context manager that removes it with all that belongs to the run."""

    def __init__(self) -> None:
        base = _base()
        self.run = os.urandom(4).hex()
        self.path = base / self.run
        if len(os.fsencode(self.path)) + _LONGEST_NAME > _MAX_IPC_PATH:
            msg = f"the temporary folder {base} has too long a name for a socket; set TMPDIR to a shorter one"
            raise OutputError(msg)
        with _exclusive(base):  # nobody sweeps between making the folder and locking it
            _sweep(base)
            self.path.mkdir(mode=0o700)
            self._lock = _lock(self.path)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        _remove(self.path)
        if self._lock is not None:
            os.close(self._lock)


def living_runs() -> list[Path]:
    """The folders of this user's runs that are under way."""
    found = []
    for path in sorted(_base().iterdir()):
        lock = _lock(path) if path.is_dir() else None
        if lock is not None:
            os.close(lock)
        elif path.is_dir():
            found.append(path)
    return found


def sweep() -> list[str]:
    """Remove what runs left whose process is gone; returns their ids."""
    base = _base()
    with _exclusive(base):
        return _sweep(base)


@contextlib.contextmanager
def _exclusive(base: Path) -> Iterator[None]:
    descriptor = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _sweep(base: Path) -> list[str]:
    swept = []
    for path in base.iterdir():
        lock = _lock(path) if path.is_dir() else None
        if lock is not None:
            _remove(path)
            os.close(lock)
            swept.append(path.name)
    living = tuple(f"{PREFIX}{path.name}-" for path in base.iterdir())
    remove_abandoned_rings(keep=lambda name: name.startswith(living))
    return swept


def _base() -> Path:
    base = Path(tempfile.gettempdir()) / f"{PREFIX}{os.getuid()}"
    try:
        base.mkdir(mode=0o700, exist_ok=True)
        if base.stat().st_uid != os.getuid():
            msg = f"{base} belongs to somebody else; set TMPDIR to a folder of your own"
            raise OutputError(msg)
    except OSError as error:
        msg = f"cannot make the run folder {base}: {error.strerror}; set TMPDIR to a folder that can be written"
        raise OutputError(msg) from error
    return base


def _lock(path: Path) -> int | None:
    """A descriptor that holds the folder's lock, None if another living process has it (or the folder is gone)."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _remove(path: Path) -> None:
    for ring in ring_directory().glob(f"{PREFIX}{path.name}-*"):
        ring.unlink(missing_ok=True)
    # What a stage that is just ending takes away itself, or what cannot be removed, must not keep a new run from starting.
    shutil.rmtree(path, ignore_errors=True)
