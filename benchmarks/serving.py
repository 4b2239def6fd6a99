"""Many clients at one server, each with limits that it has to keep; exits with 1 where one is not kept.

    python -m benchmarks.serving clients RECORDING...      each streamed at live pace, all at once: turns of the file, first result
    python -m benchmarks.serving churn RECORDING           one client per second comes and goes for five minutes: nothing is left
    python -m benchmarks.serving hostile RECORDING         what must not be sent, beside good clients: their p99
    python -m benchmarks.serving latency RECORDING         from the last sample sent to the result heard, beside diart.serve
    python -m benchmarks.serving outage RECORDING          a client whose network is gone for 5 s, twice: turns of the file
    python -m benchmarks.serving diart RECORDING           diart's own diart.client streams it: its turns, as RTTM

``--json`` prints one object. Servers are started by the command ``diart-mp serve``; sockets are real ones of this machine.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.served import RATE, Player, Server, load, of_files, percentile, play_all
from benchmarks.serving_diart import diart_client, latency
from benchmarks.serving_hostile import hostile
from benchmarks.serving_outage import outage
from benchmarks.transport import Figure
from diart_mp.evaluation.der import SpeakerTurn, diarization_error

_SETTLE_S = 90.0  # in which a stream that its client left is kept, and then ended
_WARM_S = 60.0  # after which a server that is used evenly is expected not to grow any more


# --- clients


def first_result(player: Player, turns: Sequence[SpeakerTurn]) -> float:
    """From sending the first sample of speech to hearing of it, s."""
    heard = player.of("segment")
    return heard[0][0] - player.sent_at(min(start for start, _, _ in turns)) if heard and turns else float("inf")


def clients(recordings: Sequence[Path]) -> tuple[list[Figure], list[str]]:
    """All recordings at once."""
    expected = of_files(recordings)
    samples = [load(path) for path in recordings]
    with Server() as server:
        players = [Player(server.url, each) for each in samples]
        before, begin = sum(server.cpu().values()), time.monotonic()
        asyncio.run(play_all(players))
        spent, took = sum(server.cpu().values()) - before, time.monotonic() - begin
        skipped, results = server.metric("skipped_windows_total"), server.metric("results_total")
    rows, errors, firsts = [f"{'recording':<16}{'DER, %':>8}{'first, s':>10}{'p50, ms':>10}{'p99, ms':>10}"], [], []
    for path, player, audio in zip(recordings, players, samples, strict=True):
        turns = expected.get(path.stem, [])
        errors.append(100 * diarization_error(turns, player.turns(), duration=len(audio) / RATE).rate)
        firsts.append(first_result(player, turns))
        delays = [1000 * each for each in player.latencies()]
        rows.append(
            f"{path.stem:<16}{errors[-1]:8.2f}{firsts[-1]:10.2f}{percentile(delays, 50):10.0f}{percentile(delays, 99):10.0f}"
        )
    found = [
        Figure("turns beside the file's, worst DER, %", max(errors), 0.5),
        Figure("first result, slowest, s", max(firsts), 1.5),
        Figure("closed otherwise than well", sum(player.close_code != 1000 for player in players), 0),
        Figure("windows skipped", skipped, 0),
    ]
    rows += ["", f"processor time of the server: {1000 * spent / results:.1f} ms per result, {spent / took:.2f} cores"]
    return found, rows


# --- churn


def sizes(server: Server) -> dict[str, float]:
    """Open files and threads in all, memory of each process (MB) that cannot be given back."""
    found = {"files": 0.0, "threads": 0.0}
    for name, process in server.processes.items():
        found["files"] += process.num_fds()
        found["threads"] += process.num_threads()
        found[name] = process.memory_full_info().uss / 1e6
    return found


async def come_and_go(server: Server, recording: Any, seconds: float) -> list[dict[str, float]]:
    """One client per second, with 3 s of audio; every other one leaves without a word. What the server has, every 10 s."""
    looks, playing = [], set()
    begin, number = time.monotonic(), 0
    while number < seconds:
        await asyncio.sleep(begin + number - time.monotonic())
        at = number * RATE % max(1, len(recording) - 3 * RATE)
        player = Player(server.url, recording[at : at + 3 * RATE])
        playing.add(asyncio.create_task(player.play(leave=number % 2 == 1)))
        playing = {task for task in playing if not task.done() or task.result()}
        number += 1
        if number % 10 == 0:
            looks.append(await asyncio.to_thread(sizes, server))
    await asyncio.gather(*playing)
    return looks


def growth(looks: Sequence[dict[str, float]], name: str) -> float:
    """From the first third to the last one, at the median of each."""
    third = max(1, len(looks) // 3)
    return percentile([look[name] for look in looks[-third:]], 50) - percentile(
        [look[name] for look in looks[:third]], 50
    )


def churn(recording: Path, seconds: float) -> tuple[list[Figure], list[str]]:
    """Come and go; then wait until all that was left has ended."""
    with Server("--max-streams", "200") as server:
        server.metric("sessions")  # the first question makes a thread that answers all of them
        before = sizes(server)
        looks = asyncio.run(come_and_go(server, load(recording), seconds))
        deadline = time.monotonic() + _SETTLE_S
        while (server.metric("sessions") or server.files()) and time.monotonic() < deadline:
            time.sleep(1)
        left, sessions, after = server.files(), server.metric("sessions"), sizes(server)
        started = server.metric("sessions_started_total")
    even = looks[round(_WARM_S / 10) :] or looks
    names = [name for name in before if name not in ("files", "threads")]
    found = [
        Figure("clients that came", started, seconds, at_least=True),
        Figure("sessions left", sessions, 0),
        Figure("rings and files of streams left", len(left), 0),
        Figure("open files, after less before", after["files"] - before["files"], 0),
        Figure("threads, after less before", after["threads"] - before["threads"], 0),
        *(Figure(f"memory of {name}: growth, MB", growth(even, name), 0.05 * even[0][name]) for name in names),
    ]
    return found, [
        f"{n * 10 + 10:>5} s  " + "  ".join(f"{k} {v:.0f}" for k, v in look.items()) for n, look in enumerate(looks)
    ]


# --- the command


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["clients", "churn", "hostile", "latency", "diart", "outage"])
    parser.add_argument("recordings", type=Path, nargs="+")
    parser.add_argument("--seconds", type=float, default=300, help="of coming and going (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="of each server, in turn (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    options = parser.parse_args(arguments)
    first = options.recordings[0]
    match options.what:
        case "clients":
            found, rows = clients(options.recordings)
        case "churn":
            found, rows = churn(first, options.seconds)
        case "hostile":
            found, rows = hostile(first)
        case "latency":
            found, rows = latency(first, options.rounds)
        case "outage":
            found, rows = outage(first)
        case _:
            found, rows = diart_client(first)
    if options.json:
        print(json.dumps({"figures": [asdict(figure) for figure in found], "rows": rows}))
    else:
        print("\n".join([*(figure.row() for figure in found), "", *rows]))
    return int(not all(figure.kept for figure in found))


if __name__ == "__main__":
    sys.exit(main())
