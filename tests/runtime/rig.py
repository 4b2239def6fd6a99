"""A stage loop between a test's own ends: what comes before the stage, the owner and the supervisor are bare sockets.

``Rig.run`` runs the loop in the main thread (it handles SIGTERM) and the test's script in another one, then ends the loop.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import zmq

from diart_mp.bundles import decode_all
from diart_mp.config import Settings
from diart_mp.headers import pack_control, unpack_control
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.runtime.control import StageControl
from diart_mp.runtime.loop import StageLoop
from diart_mp.runtime.stage import Chunk, KeyedStage, Stage
from diart_mp.runtime.state import pack_state, unpack_state
from diart_mp.topology import StageConfig, Topology
from diart_mp.transport.link import Receiver, Sender
from diart_mp.transport.sockets import make_socket

WAIT_S = 20.0  # for anything; nothing takes that long unless the test fails
_WAIT_MS = round(1000 * WAIT_S)
EPOCH = 3


class Double(Stage):
    """A stateless stage: adds ``twice``. A chunk's value ``do`` names a method of the test to be called with the chunk."""

    name = "double"

    def __init__(self, **acts: Callable[[Chunk], Any]) -> None:
        self.acts = acts
        self.batches: list[list[int]] = []

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        self.batches.append([chunk.seq for chunk in chunks])
        return [self._answer(chunk) for chunk in chunks]

    def _answer(self, chunk: Chunk) -> Mapping[str, FieldValue]:
        act = self.acts.get(chunk.value("do"))
        answer = act(chunk) if act is not None else None
        return {"twice": 2 * chunk.audio} if answer is None else answer


class Sum(KeyedStage):
    """A keyed stage: ``turns`` is the sum of all values ``add`` so far, and how many there were."""

    name = "sum"

    def __init__(self, **acts: Callable[[Chunk], Any]) -> None:
        self.acts = acts
        self.sums: dict[str, tuple[int, int]] = {}
        self.forgotten: list[str] = []

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        assert len(chunks) == 1
        chunk = chunks[0]
        if chunk.value("do") in self.acts:
            self.acts[chunk.value("do")](chunk)
        total, count = self.sums[chunk.stream]
        self.sums[chunk.stream] = (total + chunk.value("add"), count + 1)
        return [{"turns": Plain(list(self.sums[chunk.stream])), "scores": np.zeros(3)}]

    def checkpoint(self, stream: str) -> bytes:
        total, count = self.sums[stream]
        return pack_state({"total": total, "count": count})

    def restore(self, stream: str, checkpoint: bytes | None) -> None:
        state = unpack_state(checkpoint) if checkpoint else {"total": 0, "count": 0}
        self.sums[stream] = (state["total"], state["count"])

    def forget(self, stream: str) -> None:
        del self.sums[stream]
        self.forgotten.append(stream)


class Rig:
    """The neighbours of one stage. Everything but ``run`` is for the script."""

    def __init__(self, folder: Path, stage: Stage, stack: ExitStack) -> None:
        self.stage = stage
        self.topology = make_topology(folder)
        self.context = zmq.Context[zmq.Socket[bytes]]()
        stack.callback(self.context.destroy, linger=0)
        before, after = self.topology.before(stage.name), self.topology.after(stage.name)
        self.upstream = Sender(self.context, before.bind, stage=before.name, epoch=1)
        self.owner = make_socket(self.context, zmq.ROUTER)
        self.owner.bind(self.topology.results)
        self.supervisor = make_socket(self.context, zmq.ROUTER)
        self.supervisor.bind(self.topology.control)
        self.control = StageControl(self.context, self.topology.control, stage=stage.name, replica=0, epoch=EPOCH)
        self.loop = StageLoop(stage, self.topology, replica=0, epoch=EPOCH, control=self.control, context=self.context)
        self.downstream: Receiver | None = None
        if after is not None:
            ends = self.topology.stage(stage.name).endpoints()
            self.downstream = Receiver(self.context, ends, stage=after.name, replica=0, epoch=1, capacity=100)
        self.got: list[Message] = []
        self.multiparts: list[int] = []  # how many results came in each of those to the owner
        self._heard = False
        for end in (self.upstream, self.owner, self.supervisor, self.control, self.loop, self.downstream):
            if end is not None:
                stack.callback(end.close)

    def run(self, script: Callable[[], None]) -> None:
        with ThreadPoolExecutor(1) as pool:
            done = pool.submit(self._play, script)
            try:
                self.loop.run()
            finally:
                self.loop.close()
                self.control.close()
            done.result()

    def _play(self, script: Callable[[], None]) -> None:
        try:
            script()
        finally:
            self.stop()

    def stop(self) -> None:
        identity = f"{self.stage.name}/0/{EPOCH}".encode()
        assert self._heard or self.supervisor.poll(_WAIT_MS)  # who has said something can be told something
        self.supervisor.send_multipart([identity, pack_control("stop")])

    def send(self, *messages: Message) -> None:
        for message in messages:
            self.upstream.send(message)
        self.upstream.receive()

    def take(self, count: int) -> list[Message]:
        """Wait for as many further answers as the stage gives them: to the next stage, or to the owner."""
        first = len(self.got)
        self.until(lambda: len(self.got) >= first + count)
        return self.got[first:]

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline
            self.turn()

    def turn(self) -> None:
        self.upstream.socket.poll(1)
        self.upstream.receive()
        if self.downstream is not None:
            self.downstream.announce()
            self.downstream.sockets[0].poll(1)
            messages = self.downstream.receive()
            self.downstream.done(len(messages))
            self.got += messages
        while self.owner.poll(1):
            results = [each for each in decode_all(self.owner.recv_multipart()[1:]) if isinstance(each, Message)]
            self.got += results
            self.multiparts.append(len(results))

    def hear(self, event: str) -> dict[str, Any]:
        """Wait for an event from the stage."""
        while True:
            assert self.supervisor.poll(_WAIT_MS)
            message = unpack_control(self.supervisor.recv_multipart()[1:])
            self._heard = True
            if message.get("event") == event:
                return message


@contextmanager
def make_rig(folder: Path, stage: Stage) -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(folder, stage, stack)


def make_topology(folder: Path) -> Topology:
    stages = (
        StageConfig(name="capture", bind=f"ipc://{folder}/capture"),
        StageConfig(name="double", bind=f"ipc://{folder}/double", max_batch=4),
        StageConfig(name="sum", keyed=True),
    )
    return Topology(
        run="r",
        directory=str(folder),
        stages=stages,
        results=f"ipc://{folder}/results",
        control=f"ipc://{folder}/control",
    )


def chunk(
    seq: int, do: str = "", *, attempt: int = 0, reply_to: str = "", stream: str = "s", **fields: FieldValue
) -> Message:
    """A chunk of four samples that are ``seq``."""
    given: dict[str, FieldValue] = {
        "settings": Plain(Settings().to_map()),
        "audio": np.full(4, seq, np.float32),
        "do": Plain(do),
        "add": Plain(seq + 1),
        **fields,
    }
    return Message(kind="chunk", stream=stream, seq=seq, attempt=attempt, reply_to=reply_to, fields=given)
