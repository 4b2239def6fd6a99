"""Three hosts, with everything that can happen to them: ``python -m tests.hosts.trial RECORDING [PART...]``. For root; about six minutes.

A has capture and clustering, B two replicas of segmentation, C embedding; CURVE on all links; the built-in models. A recording is
diarized while a link is cut for 10 s, a replica, all of B and then C are killed and started again; then four live streams, undisturbed,
and one with B cut for 10 s; all that once more with B behind a link that takes 50 ms either way and loses 1 % of the packets. PART...: only
what has such a name.
"""

import json
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import soundfile

from diart_mp.keys import new_key
from tests.cli.command import COMMAND, ROOT, Diart
from tests.hosts.namespaces import Network, network
from tests.hosts.rig import started, write_plan

BUILTIN = {"segmentation": "builtin", "embedding": "builtin", "clustering": ""}
_DELAY_S, _LOSS = 0.05, 0.01  # of a slow link, in either direction
_CAUGHT_UP_MS = 2000.0
PLACES: dict[str, Sequence[str]] = {"segmentation": ["B", "B"], "embedding": ["C"]}


class Trial:
    """Three hosts and a recording."""

    def __init__(self, hosts: Network, folder: Path, audio: Path) -> None:
        self.hosts, self.folder, self.audio = hosts, folder, audio
        self.diart = Diart(folder)
        self.plan = folder / "plan.toml"
        addresses = {"": hosts.addresses["A"], **hosts.addresses}
        write_plan(self.plan, PLACES, addresses, BUILTIN, keys="keys", home="A")
        for place in "ABC":
            new_key(folder / "keys", place)
        local = self.diart("run", audio, "--output", folder / "local", "--latency", "1", "--quiet")
        assert local.code == 0, local.err
        self.expected = (folder / "local" / f"{audio.stem}.rttm").read_bytes()
        self.stack = ExitStack()
        self.stages: dict[str, subprocess.Popen[bytes]] = {}
        for name in ("segmentation/0", "segmentation/1", "embedding"):
            self.start(name)

    def start(self, name: str) -> None:
        """Start a stage on its host."""
        host = "C" if name == "embedding" else "B"
        made = self.stack.enter_context(started(self.diart, self.plan, name, prefix=self.hosts.on(host)))
        self.stages |= made

    def kill(self, *names: str) -> None:
        """Kill stages and start them again."""
        for name in names:
            self.stages[name].kill()
            self.stages[name].wait()
        for name in names:
            self.start(name)

    def cut(self, host: str, seconds: float) -> None:
        """Cut a host off for a while."""
        self.hosts.cut(host)
        time.sleep(seconds)
        self.hosts.heal(host)

    def record(self, what: str, disturb: Callable[[], None] | None = None) -> None:
        """Diarize the recording while something happens, and compare."""
        output = self.folder / what.replace(" ", "-")
        command = [*self.hosts.on("A"), str(COMMAND), "run", str(self.audio), "--output", str(output), "--latency", "1"]
        begun = time.monotonic()
        with subprocess.Popen(
            [*command, "--topology", str(self.plan), "--json", "--log", str(self.folder / "log")],
            env=self.diart.environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            for _ in range(10):
                run.stdout.readline()
            if disturb is not None:
                disturb()
            results = 10 + len(run.stdout.readlines())
        same = (output / f"{self.audio.stem}.rttm").read_bytes() == self.expected
        tell(
            f"{what}: exit code {run.returncode}, {results} lines, {time.monotonic() - begun:.1f} s, identical: {same}"
        )

    def live(self, what: str, streams: int, disturb: Callable[[], None] | None = None) -> None:
        """The recording at live pace, several times at once."""
        output = self.folder / what.replace(" ", "-")
        command = [*self.hosts.on("A"), sys.executable, "-m", "tests.hosts.live", str(self.plan), str(output)]
        sent = {host: self.hosts.sent(host) for host in "ABC"}
        with subprocess.Popen(
            [*command, *[str(self.audio)] * streams],
            cwd=ROOT,
            env=self.diart.environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            events: list[dict[str, Any]] = []
            ended_at: list[float] = []  # of the disturbance, monotonic s

            def meanwhile(disturb: Callable[[], None]) -> None:
                disturb()
                ended_at.append(time.monotonic())

            for line in run.stdout:
                events.append({**json.loads(line), "at": time.monotonic()})
                if disturb is not None and sum(each["event"] == "result" for each in events) == 20 * streams:
                    threading.Thread(target=meanwhile, args=(disturb,)).start()
                    disturb = None
        same = [path.read_bytes().splitlines() for path in sorted(output.glob("*.rttm"))]
        wanted = [line.replace(self.audio.stem.encode(), b"X") for line in self.expected.splitlines()]
        equal = sum(
            [line.replace(f"{self.audio.stem}-{number}".encode(), b"X") for line in lines] == wanted
            for number, lines in enumerate(same)
        )
        of = {
            kind: [each for each in events if each["event"] == kind]
            for kind in ("result", "gap", "skipped", "failed", "error")
        }
        seconds = soundfile.info(self.audio).duration * streams
        rates = (f"{host} {(self.hosts.sent(host) - sent[host]) / seconds / 1000:.0f}" for host in "ABC")
        lags = sorted(each["update"]["latency_ms"] for each in of["result"])
        gaps = sum(each["seconds"] for each in of["gap"])
        skipped = sum(each["windows"] for each in of["skipped"])
        tell(
            f"{what}: {len(of['result'])} results, {equal} of {streams} as the recording, gaps {gaps:.1f} s, {skipped} windows skipped, "
            f"{len(of['failed']) + len(of['error'])} failures, kB sent per second of a stream {', '.join(rates)}, latency ms median {lags[len(lags) // 2]:.0f}, largest {lags[-1]:.0f}"
            + (caught_up(of["result"], ended_at[0]) if ended_at else "")
        )


def caught_up(results: Sequence[Any], healed_at: float) -> str:
    """How fast a live stream caught up after its link was healed: until its results were at most 2 s old."""
    before = [each for each in results if each["at"] <= healed_at]
    after = [each for each in results[len(before) :] if each["update"]["latency_ms"] < _CAUGHT_UP_MS]
    if not (before and after):
        return ", did not catch up"
    audio_s = after[0]["update"]["end"] - before[-1]["update"]["end"]
    took_s = after[0]["at"] - healed_at
    return (
        f", {audio_s:.1f} s of audio {took_s:.1f} s after its link was healed: {audio_s / took_s:.1f} times real time"
    )


def tell(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(audio: Path, parts: Sequence[str]) -> None:
    """All of it, or what has one of the names ``parts``."""
    with tempfile.TemporaryDirectory(prefix="nt-") as name, network("A", "B", "C") as hosts:
        trial = Trial(hosts, Path(name), audio)
        disturbances: dict[str, Callable[[], None] | None] = {
            "quiet": None,
            "cut of B 10 s": lambda: trial.cut("B", 10),
            "cut of C 4 s": lambda: trial.cut("C", 4),
            "kill of a replica": lambda: trial.kill("segmentation/1"),
            "kill of B": lambda: trial.kill("segmentation/0", "segmentation/1"),
            "kill of C": lambda: trial.kill("embedding"),
        }
        live: dict[str, tuple[int, Callable[[], None] | None]] = {
            "live": (4, None),
            "live with a cut of B 10 s": (1, lambda: trial.cut("B", 10)),
        }
        with trial.stack:
            for suffix in ("", ", slow"):
                if suffix:
                    hosts.worsen("B", delay_s=_DELAY_S, loss=_LOSS)
                for what, disturb in disturbances.items():
                    if not parts or what + suffix in parts:
                        trial.record(what + suffix, disturb)
                for what, (streams, disturb) in live.items():
                    if not parts or what + suffix in parts:
                        trial.live(what + suffix, streams, disturb)
            tell(f"packets lost by the slow link: {hosts.lost()}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
