"""Outputs as they should be and as they should not, for the conformance suite: each is wrong in one way."""

import contextlib
import json
import sqlite3
import time
from pathlib import Path
from typing import Any, ClassVar

from diart_mp.errors import OutputError
from diart_mp.outputs.events import update_to_dict
from diart_mp.outputs.formats import Format
from diart_mp.outputs.output import Output
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.turns import Turn, Update


class Right(Output):
    """A line for each update, in a file that begins anew."""

    extension = ".lines"

    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        super().__init__(path, stream, rate, **how)
        try:
            self.file = path.open("wb", buffering=0)
        except OSError as error:
            raise self.refusal(error) from error

    def refusal(self, error: OSError) -> Exception:
        return OutputError(f"cannot write {self.path}: {error.strerror}")

    def line(self, update: Update) -> str:
        return json.dumps(update_to_dict(update, latency=not self.recorded))

    def write(self, update: Update) -> None:
        try:
            self.file.write(self.line(update).encode() + b"\n")
        except OSError as error:
            raise self.refusal(error) from error

    def close(self) -> None:
        self.file.close()


class Table(Output):
    """Rows of a data base, each under its number; what is revised is there at the end."""

    extension = ".sqlite"

    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        super().__init__(path, stream, rate, **how)
        self.known = RevisedTurns(rate)
        try:
            if not self.resume and not path.is_symlink():
                path.unlink(missing_ok=True)
            self.base = sqlite3.connect(path, isolation_level=None)
            self.base.execute("pragma synchronous = off")  # a killed process is no power cut
            self.base.execute("create table if not exists said (seq integer primary key, turns text)")
            self.base.execute("create table if not exists known (start, end, speaker)")
        except (sqlite3.Error, OSError) as error:
            raise OutputError(f"cannot write {path}: {error}") from error

    def write(self, update: Update) -> None:
        self.known.push(update)
        self.base.execute("insert or replace into said values (?, ?)", (update.seq, str(update.turns)))

    def close(self) -> None:
        self.base.execute("begin")
        self.base.execute("delete from known")
        rows = [(turn.start, turn.end, turn.speaker) for turn in self.known.turns()]
        self.base.executemany("insert into known values (?, ?, ?)", rows)
        self.base.execute("commit")
        self.base.close()


def rows_of(path: Path) -> Any:
    base = sqlite3.connect(path)
    try:
        return [base.execute(f"select * from {table}").fetchall() for table in ("said", "known")]
    finally:
        base.close()


class Ctm(Format):
    """A format of one's own."""

    extension = ".ctm"

    def turn(self, turn: Turn) -> str:
        return f"{turn.speaker!r} {turn.start / self.rate:.3f} {turn.end / self.rate:.3f}\n"


class Appends(Right):
    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        before = path.read_bytes() if how["resume"] else b""
        super().__init__(path, stream, rate, **how)
        self.file.write(before)


class GoesOn(Right):
    """Takes what is there for complete and goes on behind it, as if no update came twice."""

    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        self.done = len(path.read_bytes().splitlines()) + 1 if how["resume"] else 0
        before = path.read_bytes() if how["resume"] else b""
        super().__init__(path, stream, rate, **how)
        self.file.write(before)

    def write(self, update: Update) -> None:
        if update.seq >= self.done:
            super().write(update)


class Buffered(Right):
    """Never closes its file."""

    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        super().__init__(path, stream, rate, **how)
        self.lines = list[str]()

    def write(self, update: Update) -> None:
        self.lines.append(self.line(update))

    def close(self) -> None:
        self.file.write("\n".join(self.lines[:-1]).encode())

    def __del__(self) -> None:
        self.file.write(self.lines[-1].encode() if self.lines else b"")
        self.file.close()


class Deaf(Right):
    def line(self, update: Update) -> str:
        return f"{update.seq} {update.turns}"


class Surprised(Right):
    def line(self, update: Update) -> str:
        if update.revision is not None:
            raise NotImplementedError
        return super().line(update)


class Keeps(Right):
    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        super().__init__(path, stream, rate, **how)
        self.kept = list[Update]()

    def write(self, update: Update) -> None:
        self.kept.append(update)
        super().write(update)


class Leaves(Right):
    left: ClassVar[list[Any]] = []

    def close(self) -> None:
        self.left.append(self.path.open("rb"))
        super().close()


class Clock(Right):
    def line(self, update: Update) -> str:
        return f"{time.monotonic_ns()} {super().line(update)}"


class Chatty(Right):
    def refusal(self, error: OSError) -> Exception:
        return OutputError(f"cannot write:\n{error}")


class Quiet(Right):
    """A full disk is none of its business."""

    def write(self, update: Update) -> None:
        with contextlib.suppress(OutputError):
            super().write(update)


class Loses(Right):
    def write(self, update: Update) -> None:
        if update.seq % 5 != 2:
            super().write(update)


class Strays(Right):
    def __init__(self, path: Path, stream: str, rate: int, **how: bool) -> None:
        super().__init__(path.with_name("mine.lines") if path.parent.is_dir() else path, stream, rate, **how)


class Random(Ctm):
    def turn(self, turn: Turn) -> str:
        return f"{time.monotonic_ns()} {super().turn(turn)}"


class Raises(Ctm):
    def turn(self, turn: Turn) -> str:
        msg = "out of paper"
        raise RuntimeError(msg)
