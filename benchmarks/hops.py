"""What ZeroMQ alone takes for the hops of a live chunk: the least that any pipeline of such processes can take on this machine.

Three processes behind one another, joined as stages are (ROUTER and DEALER over ipc), pass on two frames as large as those of a chunk
as they are: nothing is encoded, checked, counted or computed. Used by ``benchmarks/transport.py``.
"""

import multiprocessing
import os
import tempfile
import time
from collections.abc import Sequence

import zmq

HEADER, ARRAYS = 700, 3_516  # bytes: a header, and the scores of one window (293 frames, 3 speakers)
STAGES = 3


def bare_hops(count: int, pause_s: float) -> list[float]:
    """Milliseconds from sending to having received again, ``count`` times, ``pause_s`` after one another."""
    with tempfile.TemporaryDirectory() as folder, zmq.Context() as context:
        first, last = context.socket(zmq.ROUTER), context.socket(zmq.PULL)
        first.bind(f"ipc://{folder}/0")
        last.bind(f"ipc://{folder}/{STAGES}")
        spawn = multiprocessing.get_context("spawn")
        stages = [spawn.Process(target=_stage, args=(folder, place), daemon=True) for place in range(STAGES)]
        for stage in stages:
            stage.start()
        try:
            receiver = first.recv_multipart()[0]
            frames = [receiver, os.urandom(HEADER), os.urandom(ARRAYS)]
            return [_once(first, last, frames, pause_s) for _ in range(count + 1)][1:]
        finally:
            for stage in stages:
                stage.kill()
                stage.join()
            first.close(linger=0)
            last.close(linger=0)


def _once(first: "zmq.Socket[bytes]", last: "zmq.Socket[bytes]", frames: Sequence[bytes], pause_s: float) -> float:
    time.sleep(pause_s)  # the pace of the clock: nothing waits for this
    begun = time.perf_counter()
    first.send_multipart(frames, copy=False)
    last.recv_multipart(copy=False)
    return 1000 * (time.perf_counter() - begun)


def _stage(folder: str, place: int) -> None:
    """Pass on whatever comes, for ever."""
    context = zmq.Context()
    before, receiver = context.socket(zmq.DEALER), list[bytes]()
    before.connect(f"ipc://{folder}/{place}")
    if place == STAGES - 1:
        after = context.socket(zmq.PUSH)
        after.connect(f"ipc://{folder}/{STAGES}")
    else:
        after = context.socket(zmq.ROUTER)
        after.bind(f"ipc://{folder}/{place + 1}")
        receiver = [after.recv_multipart()[0]]  # who comes behind is there
    before.send(b"")
    while True:
        after.send_multipart([*receiver, *before.recv_multipart(copy=False)], copy=False)
