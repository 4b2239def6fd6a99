"""Hostile messages, and a client that throws them at every socket of a running pipeline. Seeded; run as a program for many of them.

Stages take chunks from sockets that connect, which nobody else can reach: there, a neighbour that has gone mad is the only danger, and
``attacked_receiver`` is at its mercy.

python -m tests.faults.hostile --messages 1000000
"""

import argparse
import os
import random
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import zmq

from diart_mp.bundles import encode_all
from diart_mp.config import Settings
from diart_mp.headers import CONTROL_KINDS, pack_control
from diart_mp.messages import DATA_KINDS, AudioRef, FieldValue, Message, Plain, encode
from diart_mp.runtime.local import LocalPipeline
from diart_mp.transport.link import Receiver, identity_of
from diart_mp.transport.sockets import make_socket
from tests.fakes import TONE_MODELS, conversation
from tests.pipeline_runs import Run, run, set_brake

SOCKETS = ("capture", "segmentation", "embedding", "results", "control")
_BURST = 200  # messages to each socket between two looks at the pipeline
_VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    2**31,
    2**32,
    2**62,
    2**63,
    -(2**63),
    1.5,
    float("nan"),
    "",
    "x" * 300,
    b"\xff",
    [],
    {},
    [[]] * 50,
)


def corpus() -> list[list[bytes]]:
    """Valid messages of every kind, as frames."""
    scores = np.linspace(0, 1, 12, dtype=np.float32).reshape(4, 3)
    turns = Plain({"region": [0, 8000], "turns": [[0, 4000, "speaker0"]]})
    fields: dict[str, FieldValue] = {
        "audio": AudioRef("diart-mp-x-0-1", 1, 80_000, 80_000),
        "segmentation": scores,
        "turns": turns,
    }
    data = [Message(kind=kind, stream="x-0", seq=3, reply_to="ipc:///x", fields=fields) for kind in DATA_KINDS]
    values = {
        "stage": "segmentation",
        "replica": 0,
        "epoch": 2,
        "from": ["capture", 1],
        "for": 1,
        "limit": 9,
        "received": 0,
    }
    control = [
        [pack_control(kind, **values, text="x", event="result", update={})]
        for kind in CONTROL_KINDS
        if kind != "status"
    ]
    bundles = [frames for _, frames in encode_all(data, ("segmentation", 2))]
    return [[bytes(frame) for frame in frames] for frames in (*map(encode, data), *bundles)] + control


def hostile_messages(seed: int) -> Iterator[list[bytes]]:
    """Endless messages that are wrong in one way or another (some, by chance, in none)."""
    chance, valid = random.Random(seed), corpus()
    while True:
        frames = list(chance.choice(valid))
        match chance.randrange(7):
            case 0:
                frames = [chance.randbytes(chance.randrange(200)) for _ in range(chance.randrange(1, 4))]
            case 1:
                frames[0] = _flip(frames[0], chance)
            case 2:
                frames[0] = frames[0][: chance.randrange(len(frames[0]))]
            case 3:
                frames[0] = _replaced(frames[0], chance)
            case 4:
                frames = frames[: chance.randrange(len(frames) + 1)] or [b""]
            case 5:
                frames[0] = b"\x81\xa6fields" + b"\x91" * chance.randrange(5000)  # nested lists without an end
            case 6:
                frames += [b""] * chance.choice([1, 100])
        yield frames


def _flip(data: bytes, chance: random.Random) -> bytes:
    changed = bytearray(data)
    for _ in range(chance.randrange(1, 5)):
        changed[chance.randrange(len(changed))] ^= 1 << chance.randrange(8)
    return bytes(changed)


def _replaced(data: bytes, chance: random.Random) -> bytes:
    """The header with one value, at any depth, replaced by one of another type or size."""
    header: Any = msgpack.unpackb(data)
    place: Any = header
    while True:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = chance.choice(keys)
        if not isinstance(place[key], dict | list) or not place[key] or chance.random() < 0.3:
            break
        place = place[key]
    place[key] = chance.choice([value for value in _VALUES if value != -(2**63)])
    packed: bytes = msgpack.packb(header)
    return packed


class Attack:
    """Throws ``count`` messages at each socket of a pipeline while it runs."""

    def __init__(self, *, seed: int, count: int, brake: Path) -> None:
        self._messages = hostile_messages(seed)
        self._count = self._left = count
        self._brake = brake
        self._context = zmq.Context[zmq.Socket[bytes]]()
        self._sockets: list[zmq.Socket[bytes]] = []
        self.refused: dict[str, int] = {}

    def __call__(self, pipeline: LocalPipeline, so_far: Run) -> None:
        """One burst; the pipeline is held back until all have been thrown and counted."""
        if not so_far.shown:
            return
        if not self._sockets:
            self._connect(Path(pipeline.directory))
        for _ in range(min(_BURST, self._left)):
            for socket in self._sockets:
                socket.send_multipart(next(self._messages))
        self._left -= min(_BURST, self._left)
        self.refused = {name: sum(_refusals(beat)) for name, beat in pipeline.supervisor.beats().items()}
        self.refused["supervisor"] = pipeline.supervisor.refused
        if self._left == 0 and all_counted(self.refused, self._count):
            set_brake(self._brake, 0)

    def close(self) -> None:
        """Close all sockets."""
        self._context.destroy(linger=0)

    def _connect(self, directory: Path) -> None:
        for name in SOCKETS:
            socket = self._context.socket(zmq.DEALER)
            socket.sndhwm = 1000  # at most so many wait: the attack goes on at the pace at which they are refused
            socket.connect(f"ipc://{directory / name}")
            self._sockets.append(socket)


def _refusals(beat: Any) -> list[int]:
    counters = beat.get("counters", {})
    return [counters.get("refused", 0), counters.get("refused_rooms", 0)]


def all_counted(refused: Mapping[str, int], count: int) -> bool:
    """Whether each process has counted each of ``count`` messages; capture has two sockets, one of which takes bundles apart."""
    each = all(refused[name] == count for name in ("segmentation", "embedding", "supervisor"))
    return each and refused["capture"] >= 2 * count


def attacked_run(
    audio: Path, output: Path, *, seed: int, count: int, brake_s: float = 0.2
) -> tuple[Run, dict[str, int]]:
    """A run of the tone models under attack; and how many messages each process refused.

    brake_s: what a chunk takes until all messages have been thrown and counted, s.
    """
    brake = output.parent / f"brake-{seed}"
    set_brake(brake, brake_s)
    attack = Attack(seed=seed, count=count, brake=brake)
    faults = {"DIART_MP_FAULTS": f"clustering:slow={brake}"}
    try:
        done = run(
            audio, output, settings=Settings.from_seconds(), models=TONE_MODELS, environment=faults, each_step=attack
        )
    finally:
        attack.close()
    return done, attack.refused


def attacked_receiver(endpoint: str, *, seed: int, count: int) -> tuple[int, int]:
    """A receiver whose sender sends ``count`` hostile messages, then one that is none; how many it refused and took."""
    context = zmq.Context[zmq.Socket[bytes]]()
    router = make_socket(context, zmq.ROUTER)
    router.bind(endpoint)
    receiver = Receiver(context, [endpoint], stage="embedding", replica=0, epoch=1, capacity=1)
    identity, messages = identity_of("embedding", 0, 1), hostile_messages(seed)
    last = Message(kind="chunk", stream="sound", seq=0, sender=("segmentation", 2**62 - 1))
    taken: list[Message] = []
    try:
        while not router.poll(50):
            receiver.announce()
        for left in range(count, 0, -_BURST):
            for _ in range(min(_BURST, left)):
                router.send_multipart([identity, *next(messages)])
            taken += receiver.receive()
        router.send_multipart([identity, *encode(last)])
        while not taken or taken[-1].stream != last.stream:
            assert receiver.sockets[0].poll(10_000)
            taken += receiver.receive()
    finally:
        receiver.close()
        context.destroy(linger=0)
    return receiver.refused, len(taken) - 1


def main() -> None:
    """Attack with many messages and say what came of it; exit code 1 if anything changed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="to each socket")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        audio = Path(folder) / "hum.wav"
        # Long enough for the braked pipeline to be at work until the last message, on a busy machine, too.
        conversation(audio, seconds=max(60.0, arguments.messages / 2000), seed=3)
        calm = run(audio, Path(folder) / "calm", settings=Settings.from_seconds(), models=TONE_MODELS)
        attacked, refused = attacked_run(
            audio, Path(folder) / "attacked", seed=arguments.seed, count=arguments.messages, brake_s=2.0
        )
        endpoint = f"ipc://{folder}/mad-{os.getpid()}"
        ignored, taken = attacked_receiver(endpoint, seed=arguments.seed, count=arguments.messages)
    sys.stdout.write(f"refused: {refused}; restarts: {attacked.summary.restarts}\n")
    sys.stdout.write(f"a stage whose neighbour has gone mad: {ignored} refused, {taken} taken (valid by chance)\n")
    if attacked.files != calm.files or attacked.summary.restarts:
        raise SystemExit("the attack changed something")
    if not all_counted(refused, arguments.messages):
        raise SystemExit("a message was not counted")
    sys.stdout.write("outputs are identical, and every message was counted\n")


if __name__ == "__main__":
    main()
