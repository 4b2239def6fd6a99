"""One stream of ``diart_mp.pipeline``: what the program that opened it writes, reads, awaits and is told.

Updates come in a thread of the pipeline's and are taken in the program's, or in its event loop. Knows nothing of stages or of who runs
them. Runs in programs that use the library.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from numpy.typing import NDArray

from diart_mp.audio.push import PushSource
from diart_mp.audio.source import Source
from diart_mp.errors import AudioError, OutputError, StageError
from diart_mp.outputs.events import update_from_dict
from diart_mp.outputs.output import GuardedOutput, Output
from diart_mp.turns import Update

Hook = Callable[[Update], None]


class Stream:
    """One stream: iterate over it for its updates, in order; ``write`` and ``end`` it if it was opened for pushing.

    Updates that nobody takes wait in memory. What ends the stream before its time is raised once the updates before that are taken; a
    chunk that a stage could not process costs that chunk alone, and StageError tells of it when the stream is over.
    """

    def __init__(self, source: Source, hooks: Sequence[Hook | Output], stop: Callable[[], object]) -> None:
        """``stop`` has the pipeline let go of the stream, from any thread."""
        self.name, self.source = source.name, source
        self._stop = stop
        self._hooks, self._outputs = list[Hook](), list[GuardedOutput]()
        self._told = threading.RLock()  # one at a time: an update is written, or outputs are closed
        for hook in hooks:
            self.attach(hook)
        self._updates = _Mailbox()
        self._failed: list[str] = []  # what was said of chunks that could not be processed
        self._closed = False  # nothing more is heard of it
        self._over = False  # and all of it is taken

    def write(self, samples: NDArray[Any], timeout: float | None = None) -> None:
        """Add samples, (n,) or (n, channels), of any n; waits while more than 10 s wait. AudioError as ``PushSource.write``."""
        self._pushed().write(samples, timeout)

    async def awrite(self, samples: NDArray[Any], timeout: float | None = None) -> None:
        """``write``, without holding up the event loop while it waits."""
        await asyncio.to_thread(self.write, samples, timeout)

    def end(self) -> None:
        """There is no more audio; what is on its way still comes."""
        self._pushed().end()

    def close(self) -> None:
        """Give the stream up where it is: iterating ends, and files that it writes stay as they are. Idempotent; from any thread."""
        self._finish(None)

    def attach(self, hook: Hook | Output) -> None:
        """Have ``hook`` called with each update, in a thread of the pipeline's; it must be quick. What it raises ends the stream.

        An ``Output`` gets each update, and is closed when the stream is over.
        """
        if isinstance(hook, Output):
            output = GuardedOutput(type(hook).__name__, hook)
            self._outputs.append(output)
            self._hooks.append(output.write)
        else:
            self._hooks.append(hook)

    def __iter__(self) -> Iterator[Update]:
        while not self._over:
            if (update := self._taken(self._updates.get())) is not None:
                yield update

    async def __aiter__(self) -> AsyncIterator[Update]:
        while not self._over:
            if (update := self._taken(await self._updates.aget())) is not None:
                yield update

    def report(self, event: str, **values: Any) -> None:
        """What the owner says of the stream; in the owner's thread."""
        if self._closed:
            return
        if event == "result":
            update = update_from_dict(values["update"], rate=values["rate"])
            self._updates.put(update)
            try:
                with self._told:
                    for hook in self._hooks:
                        hook(update)
            except Exception as error:  # noqa: BLE001  # the user's own code; its failure is his stream's
                self._finish(error)
        elif event == "error":
            self._failed.append(str(values["text"]))
        elif event == "failed":
            self.fail(StageError(str(values["text"])))
        elif event == "done":
            self._over_with(StageError(_summary(self.name, self._failed)) if self._failed else None)

    def fail(self, error: Exception) -> None:
        """Nothing more comes, because of ``error``; from any thread."""
        if not self._closed:
            self._over_with(error)

    def _finish(self, error: Exception | None) -> None:
        if not self._closed:
            self._over_with(error)
            self._stop()

    def _over_with(self, error: Exception | None) -> None:
        """Nothing more is heard: close what is attached, and say so to who takes the updates."""
        self._closed = True
        outputs, self._outputs = self._outputs, []
        for output in outputs:
            try:
                with self._told:  # not while it writes
                    output.close()
            except OutputError as failed:
                error = error or failed
        self._updates.put(error)

    def _taken(self, item: Update | Exception | None) -> Update | None:
        if isinstance(item, Update):
            return item
        self._over = True
        if item is not None:
            raise item
        return None

    def _pushed(self) -> PushSource:
        if not isinstance(self.source, PushSource):
            msg = (
                f"{self.name} is read from {type(self.source).__name__}; only a stream of Pipeline.open can be written"
            )
            raise AudioError(msg)
        return self.source


class _Mailbox:
    """First in, first out, for a reader in a thread or in an event loop: there no thread waits, and who is cancelled loses nothing."""

    def __init__(self) -> None:
        self._items: deque[Update | Exception | None] = deque()
        self._changed = threading.Condition()
        self._wake: list[Callable[[], Any]] = []

    def put(self, item: Update | Exception | None) -> None:
        with self._changed:
            self._items.append(item)
            self._changed.notify()
            wake, self._wake = self._wake, []
        for each in wake:
            with suppress(RuntimeError):  # the loop is closed
                each()

    def get(self) -> Update | Exception | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items))
            return self._items.popleft()

    async def aget(self) -> Update | Exception | None:
        while True:
            with self._changed:
                if self._items:
                    return self._items.popleft()
                arrived = asyncio.Event()
                self._wake.append(partial(asyncio.get_running_loop().call_soon_threadsafe, arrived.set))
            await arrived.wait()


def _summary(name: str, failed: Sequence[str]) -> str:
    """One line about chunks that could not be processed; the first stands for all."""
    more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
    return f"{name}: chunks are missing in the turns: {failed[0]}{more}"
