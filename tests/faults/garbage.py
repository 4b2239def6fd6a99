"""Thousands of garbage connections at the TCP links of a pipeline with keys, while a recording is diarized.

    python -m tests.faults.garbage [connections]

Both hosts are this one. What is asked: that the outputs are those of a quiet run, that a stage started behind the garbage is let
in (a new run's clustering), that memory and descriptors of the stages do not grow with as many connections again, and how many of
them were counted as not let in.
"""

import json
import os
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import psutil

from diart_mp.keys import new_key
from diart_mp.topology import Topology
from tests.cli.command import TONES, Diart
from tests.fakes import conversation
from tests.hosts.rig import started, write_plan

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"CURVE".ljust(20, b"\0") + bytes(32)
_MOST_OPEN = 200  # connections that are kept open, saying nothing more
_ROUNDS = 4  # of garbage; the first brings memory to what it stays at
_MOST_GROWTH = 1.0  # MB of a process from the first round to the last; half of it was seen
_CLOSED_S = 10.0  # after the last of them, a process has closed all that it opened for connections


def tell(*what: object) -> None:
    """Print a line."""
    sys.stdout.write(" ".join(map(str, what)) + "\n")


def knock(ports: list[int], count: int) -> int:
    """Connect ``count`` times, with garbage of several kinds; the number of connections that were made."""
    kept: list[socket.socket] = []
    made = 0
    for number in range(count):
        garbage = (b"GET / HTTP/1.1\r\n\r\n", os.urandom(500), _GREETING, _GREETING + os.urandom(300), b"")[number % 5]
        with suppress(OSError):
            connection = socket.create_connection(("127.0.0.1", ports[number % len(ports)]), timeout=5)
            made += 1
            kept.append(connection)
            connection.sendall(garbage)
        if kept and (len(kept) > _MOST_OPEN or number % 3):
            with suppress(OSError):
                kept.pop(0).close()
    for connection in kept:
        connection.close()
    return made


def growth(processes: Sequence[psutil.Process], make: Callable[[], object]) -> list[str]:
    """What of ``processes`` grows when connections are made (``make``) several times: one line each, none if all is well."""
    memory: list[list[float]] = [[] for _ in processes]
    before = [process.num_fds() for process in processes]
    complaints = []
    for _ in range(_ROUNDS):
        make()
        deadline = time.monotonic() + _CLOSED_S
        for process, least, so_far in zip(processes, before, memory, strict=True):
            while process.num_fds() > least and time.monotonic() < deadline:
                time.sleep(0.05)
            so_far.append(process.memory_full_info().uss / 2**20)
    for process, least, so_far in zip(processes, before, memory, strict=True):
        name, now = process.cmdline()[0], process.num_fds()
        tell(f"{name}: {least} descriptors before, {now} after; MB:", *(f"{size:.2f}" for size in so_far))
        if now > least:
            complaints.append(f"{name}: {now - least} descriptors more than before")
        if so_far[-1] - so_far[0] > _MOST_GROWTH:
            complaints.append(f"{name}: {so_far[-1] - so_far[0]:.1f} MB more than after the first round")
    return complaints


def main(count: int) -> int:
    """Run it all; the exit code."""
    with tempfile.TemporaryDirectory(prefix="gb-") as name:
        folder, diart = Path(name), Diart(Path(name))
        conversation(folder / "talk.wav", seconds=600.0, seed=5)
        run = ("run", folder / "talk.wav", "--latency", "1", "--quiet", "--output")
        assert diart(*run, folder / "local", *TONES).code == 0
        plan = folder / "plan.toml"
        write_plan(plan, {"segmentation": ["B"], "embedding": ["B"]}, keys="keys")
        for place in ("home", "B"):
            new_key(folder / "keys", place)
        topology = Topology.read(plan)
        endpoints = [*(stage.bind for stage in topology.stages[:-1]), topology.results, topology.report]
        ports = [int(endpoint.rpartition(":")[2]) for endpoint in endpoints]
        with started(diart, plan, "segmentation", "embedding") as stages:
            begun = time.monotonic()
            made: list[int] = []
            flood = threading.Thread(target=lambda: made.append(knock(ports, count)))
            with diart.started(*run, folder / "out", "--topology", plan) as process:
                while knock(ports, len(ports)) < len(ports):
                    time.sleep(0.1)
                flood.start()
                flood.join()
                tell(
                    f"{made[0]} connections in {time.monotonic() - begun:.1f} s, run {'goes on' if process.poll() is None else 'is over'}"
                )
                status = diart("top", "--json").out
                code = process.wait(600)
            if status:
                tell(
                    json.dumps(
                        {each["stage"]: each["counters"] for each in json.loads(status.splitlines()[0])["elsewhere"]}
                    )
                )
            same = (folder / "out" / "talk.rttm").read_bytes() == (folder / "local" / "talk.rttm").read_bytes()
            tell(f"exit code {code}, the same turns: {same}")
            begun = time.monotonic()
            again = diart(
                *run, folder / "again", "--topology", plan
            )  # its clustering connects to a port that has seen it all
            tell(f"another run with the same stages: exit code {again.code} in {time.monotonic() - begun:.1f} s")
            own = [int(stage.bind.rpartition(":")[2]) for stage in topology.stages[1:-1]]
            watched = [psutil.Process(process.pid) for process in stages.values()]
            complaints = growth(watched, lambda: knock(own, count // _ROUNDS))
            tell(*(complaints or ["memory and descriptors do not grow"]))
        return 0 if code == 0 and same and again.code == 0 and not complaints else 1


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000))
