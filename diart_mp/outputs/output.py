"""An output of your own: the contract. ``--format my_package:Table`` and ``Pipeline.stream(formats=...)`` take it by its name,
``Stream.attach`` takes an object. Where each turn is a piece of text in one file, a subclass of ``outputs.formats.Format`` is less work.

Knows nothing of formats or of how updates come about. Runs in the owner of a stream: capture, or the program with the ``Pipeline``.
"""

import importlib
import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar

from diart_mp.errors import DiartMpError, OutputError, UsageError
from diart_mp.turns import Update

T = TypeVar("T")


class Output(ABC):
    """What becomes of the updates of one stream.

    When called: it is made when its stream begins, one for each stream; then ``write`` with each update; then ``close``, once, when the
    stream has ended, also where it ended too early.

    How often, and in which order: each update once, by ascending ``seq``. All calls come one after the other.

    After a restart: an owner that was killed is started again and makes a new object, with ``resume``, which gets all updates again, from
    the first one on; they are equal to those that it gave before. So what was put anywhere must be put there again to the same place
    (a file from its beginning, a row under stream and ``seq``) or be seen to be there.

    Revisions: an update may have a ``revision`` (``--start early``, ``--clustering adaptive``), which corrects what was said before; the
    last update may have nothing else. ``outputs.revising.RevisedTurns`` folds them in, ``outputs.stitching.Stitcher`` joins turns that regions cut.

    Errors: raise OutputError with one line; it ends the stream and is shown. An OSError, and anything else, is made one.

    Not guaranteed: that ``close`` comes (a killed process calls nothing: what ``write`` returned from should be with the operating system);
    in which thread; how fast, or how far apart in time, updates come; that there are turns in them.

    The classic mistake: opening the file to append. After a restart everything is there twice.

    It must be quick: while ``write`` waits for a network, no stream of its owner goes on. ``diart_mp.testing.check_output`` asks for
    all of this.
    """

    extension: ClassVar[str] = ""
    """Of the file that it writes, with its dot; empty: it writes no file."""

    def __init__(self, path: Path, stream: str, rate: int, *, recorded: bool, resume: bool) -> None:
        """``path``: its file, in a folder that is there (without ``extension``, what a file of that stream would be called).

        ``stream``: the name, whatever somebody called it. ``rate``: samples per second. ``recorded``: leave out what differs from run to
        run, such as latencies and the time of day. ``resume``: an earlier process may have written some of this already.
        Unless ``resume`` is set, a file at ``path`` is to be replaced: whether that may be is decided before.
        """
        self.path, self.stream, self.rate, self.recorded, self.resume = path, stream, rate, recorded, resume

    @abstractmethod
    def write(self, update: Update) -> None:
        """The next update."""

    def close(self) -> None:  # noqa: B027  # what keeps nothing open has nothing to do
        """There is no more."""


class GuardedOutput:
    """An output of the user's, of which whatever fails is an OutputError that names it."""

    def __init__(self, name: str, output: Output) -> None:
        """``name``: what the user calls it."""
        self._name, self._output = name, output

    @classmethod
    def opened(cls, name: str, make: Callable[[], Output]) -> Self:
        """What ``make`` gives; OutputError where it cannot be made."""
        with _guard(name, "cannot be opened"):
            return cls(name, make())

    def write(self, update: Update) -> None:
        """Pass an update on."""
        with _guard(self._name, f"failed at update {update.seq} of {update.stream}"):
            self._output.write(update)

    def close(self) -> None:
        """Pass the end on."""
        with _guard(self._name, "failed at the end"):
            self._output.close()


@contextmanager
def _guard(name: str, what: str) -> Iterator[None]:
    """Whatever is raised within becomes an OutputError, one line that names the output."""
    try:
        yield
    except OutputError:
        raise
    except Exception as error:  # somebody else's code
        text = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"the output {name} {what}: {text}"
        raise OutputError(msg) from error


def import_output(reference: str, *kinds: type[T]) -> type[T]:
    """The class that ``module:Class`` names, of one of ``kinds``; UsageError, one line, if there is none."""
    module, _, name = reference.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))  # last, so that nothing in the working folder hides an installed package
    try:
        found: Any = getattr(importlib.import_module(module), name)
    except DiartMpError:
        raise
    except Exception as error:  # the user's module may raise anything while it is imported
        why = " ".join(f"{type(error).__name__}: {error}".split())
        msg = f"cannot import the output {reference}: {why}; is it written as package.module:Class, and installed or in this folder?"
        raise UsageError(msg) from error
    if not inspect.isclass(found) or not issubclass(found, kinds):
        wanted = " or ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds)
        msg = f"{reference} is no subclass of {wanted}, so it cannot be an output"
        raise UsageError(msg)
    return found
