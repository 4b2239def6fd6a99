"""A file that grows by whole lines: what is in it is complete, whatever happens while it is written.

Unbuffered: what ``append`` has returned from is with the operating system, so killing the process takes nothing back
(losing power may). Knows nothing of formats. Runs in the owner of a stream.
"""

import contextlib
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from diart_mp.errors import OutputError


class LineFile:
    """One output file. Raises OutputError, naming the file, where the operating system refuses something."""

    def __init__(self, path: Path, *, replace: bool, resume: bool = False) -> None:
        """Open for writing without emptying it yet; a file that is there is refused unless ``replace`` is true.

        ``resume``: what it has is an earlier process's and may well be what comes now: only what differs is written, so
        that it is never shorter than it was because somebody begins anew.
        """
        self.path = path
        self._created = not os.path.lexists(path)
        self._older = resume and path.is_file()  # has lines that may be those that come
        access = os.O_RDWR if self._older else os.O_WRONLY
        flags = access | os.O_CREAT | os.O_CLOEXEC | (0 if replace or resume else os.O_EXCL)
        try:
            self._descriptor = os.open(path, flags, 0o666)
        except FileExistsError:
            raise refused([path]) from None
        except OSError as error:
            raise unwritable(path, error) from error
        self._good = 0  # bytes up to the end of the last complete line

    def start(self, header: str) -> None:
        """Empty the file, unless it goes on, and write its header."""
        try:
            if not self._older:
                self._cut()
        except OSError as error:
            raise unwritable(self.path, error) from error
        self.append(header)

    def append(self, text: str) -> None:
        """Add whole lines: all of them, or (disk full, folder gone) none and an OutputError."""
        data = text.encode("utf-8", "backslashreplace")
        try:
            if os.fstat(self._descriptor).st_nlink == 0:
                msg = f"the output file {self.path} was removed while it was being written; what follows would be lost"
                raise OutputError(msg)
            self._write(data)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def replace(self, text: str) -> None:
        """Have the file hold ``text`` alone: all of it or, where that is refused, what it had. The last thing to do with it.

        What is no regular file (a pipe) keeps what it was given.
        """
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            return
        draft = self.path.with_name(f"{self.path.name}.new")
        try:
            draft.write_bytes(text.encode("utf-8", "backslashreplace"))
            os.chmod(draft, stat.S_IMODE(os.fstat(self._descriptor).st_mode))
            os.replace(draft, self.path.resolve())
        except OSError as error:
            with contextlib.suppress(OSError):  # the first failure is the one to tell
                draft.unlink(missing_ok=True)
            raise unwritable(self.path, error) from error

    def finish(self) -> None:
        """All has been added: what an earlier process wrote beyond it goes."""
        try:
            if self._older:
                self._cut()
        except OSError as error:
            raise unwritable(self.path, error) from error

    def close(self) -> None:
        """Close the file; network file systems may report only now that something was not written."""
        try:
            os.close(self._descriptor)
        except OSError as error:
            raise unwritable(self.path, error) from error

    def withdraw(self) -> None:
        """Close a file that was not started yet, and remove it if opening it made it."""
        self.close()
        if self._created:
            self.path.unlink(missing_ok=True)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            if self._older and self._has(data):
                return
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            with contextlib.suppress(OSError):  # the first failure is the one to tell
                self._cut()
            raise
        self._good += len(data)

    def _has(self, data: bytes) -> bool:
        """Whether ``data`` comes next in the file as it was found; from the first difference on it is written anew."""
        if os.pread(self._descriptor, len(data), self._good) == data:
            self._good += len(data)
            return True
        self._older = False
        self._cut()
        return False

    def _cut(self) -> None:
        """Back to the end of the last complete line; what is no regular file has nothing to cut."""
        if stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            os.ftruncate(self._descriptor, self._good)
            os.lseek(self._descriptor, self._good, os.SEEK_SET)


def refused(existing: Sequence[Path]) -> OutputError:
    """The error for files that are there already and must not be replaced unasked."""
    more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
    msg = f"the output file {existing[0]} exists already{more}: --force replaces it, or choose another output folder"
    return OutputError(msg)


def unwritable(path: Path, error: OSError) -> OutputError:
    """The error for a file or folder that the operating system does not let us write."""
    reason = error.strerror or type(error).__name__
    msg = f"cannot write {path}: {reason}; check the free space and the rights there, or choose another output folder"
    return OutputError(msg)
