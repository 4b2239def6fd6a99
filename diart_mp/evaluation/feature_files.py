"""The files of the feature cache: arrays by key, whole or not there, known to be intact, and no more of them than fit a limit.

A file says whose it is and has a CRC-32 of each array. What was used longest ago goes first where there are too many
bytes; what was used within the last hour stays, since somebody may work with it. Several processes may share a folder.
Knows nothing of audio or models. Runs in the command.
"""

import fcntl
import os
import time
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import OutputError

LIMIT_GB = 20.0
"""How much is kept unless another limit is given; an hour of audio is 0.06 GB with the built-in models and a step of 0.5 s."""

_RESTS_S = 3600.0  # since it was last used, before a file may go
Arrays = Mapping[str, NDArray[Any]]


class FeatureFiles:
    """Arrays in ``folder`` by key; ``limit_gb``: how much of them to keep (GB)."""

    def __init__(self, folder: Path, limit_gb: float = LIMIT_GB) -> None:
        self._folder, self._limit = folder, limit_gb * 1e9

    def read(self, key: str) -> dict[str, NDArray[Any]] | None:
        """The arrays of a key; None if there are none, they are damaged (any CRC-32), or of something else."""
        path = self._path(key)
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
        except FileNotFoundError:
            return None
        except (OSError, ValueError, EOFError, zipfile.BadZipFile):
            return None
        with suppress(OSError):  # of somebody else, whose files these are
            os.utime(path)
        return arrays if str(arrays.pop("key", "")) == key else None

    def save(self, key: str, arrays: Arrays) -> None:
        """Keep arrays: all of them or none. Raises OutputError."""
        path = self._path(key)
        draft = path.with_suffix(f".{os.getpid()}.new")
        try:
            with draft.open("wb") as file:
                np.savez(file, key=np.array(key), **dict(arrays))  # type: ignore[arg-type]
            os.replace(draft, path)
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            raise _unwritable(path, error) from error
        self.tidy()

    @contextmanager
    def locked(self, key: str) -> Iterator[None]:
        """One process at a time makes the arrays of a key. Raises OutputError."""
        lock = self._path(key).with_suffix(".lock")
        try:
            lock.parent.mkdir(parents=True, exist_ok=True)
            file = lock.open("wb")
        except OSError as error:
            raise _unwritable(lock, error) from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def busy(self, key: str) -> bool:
        """Whether another process makes the arrays of a key just now."""
        try:
            file = self._path(key).with_suffix(".lock").open("rb")
        except OSError:
            return False
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
        return False

    def tidy(self) -> None:
        """Remove what was used longest ago, down to the limit, and what processes that were killed have left."""
        now, kept, found = time.time(), 0, []
        for path in self._folder.iterdir():
            with suppress(OSError):  # another process may tidy up, too
                status = path.stat()
                found.append((status.st_mtime, status.st_size, path))
        for used, size, path in sorted(found, reverse=True):
            kept += size
            if now - used > _RESTS_S and self._may_go(path, kept):
                kept -= size
                with suppress(OSError):
                    path.unlink()

    def _may_go(self, path: Path, kept: float) -> bool:
        """Whether a file of long ago is not needed, where those used since then have ``kept`` bytes, itself among them."""
        if path.suffix == ".lock":
            return not path.with_suffix(".npz").exists() and not self.busy(path.stem)
        return path.suffix == ".new" or (path.suffix == ".npz" and kept > self._limit)

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.npz"


def _unwritable(path: Path, error: OSError) -> OutputError:
    return OutputError(f"cannot write {path}: {error.strerror or error}; set DIART_MP_CACHE to a folder with room")
