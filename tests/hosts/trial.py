"""Three hosts, with everything that can happen to them: ``python -m tests.hosts.trial RECORDING``. For root; about five minutes.

A has capture and clustering, B two replicas of segmentation, C embedding; CURVE on all links; the built-in models. A recording is
diarized while a link is cut for 10 s, a replica, all of B and then C are killed and started again; then four live streams, undisturbed
and with B cut for 10 s.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from diart_mp.keys import new_key
from tests.cli.command import COMMAND, ROOT, Diart
from tests.hosts.namespaces import Network, network
from tests.hosts.rig import started, write_plan

BUILTIN = {"segmentation": "builtin", "embedding": "builtin", "clustering": ""}
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
        with subprocess.Popen(
            [*command, *[str(self.audio)] * streams],
            cwd=ROOT,
            env=self.diart.environment(),
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            events: list[dict[str, Any]] = []
            for line in run.stdout:
                events.append(json.loads(line))
                if disturb is not None and sum(each["event"] == "result" for each in events) == 20 * streams:
                    disturb()
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
        lags = sorted(each["update"]["latency_ms"] for each in of["result"])
        gaps = sum(each["seconds"] for each in of["gap"])
        skipped = sum(each["windows"] for each in of["skipped"])
        tell(
            f"{what}: {len(of['result'])} results, {equal} of {streams} as the recording, gaps {gaps:.1f} s, {skipped} windows skipped, "
            f"{len(of['failed']) + len(of['error'])} failures, latency ms median {lags[len(lags) // 2]:.0f}, largest {lags[-1]:.0f}"
        )


def tell(text: str) -> None:
    """Print a line."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main(audio: Path) -> None:
    """All of it."""
    with tempfile.TemporaryDirectory(prefix="nt-") as name, network("A", "B", "C") as hosts:
        trial = Trial(hosts, Path(name), audio)
        with trial.stack:
            trial.record("quiet")
            trial.record("cut of B 10 s", lambda: trial.cut("B", 10))
            trial.record("cut of C 4 s", lambda: trial.cut("C", 4))
            trial.record("kill of a replica", lambda: trial.kill("segmentation/1"))
            trial.record("kill of B", lambda: trial.kill("segmentation/0", "segmentation/1"))
            trial.record("kill of C", lambda: trial.kill("embedding"))
            trial.live("live", 4)
            trial.live("live with a cut of B 10 s", 1, lambda: trial.cut("B", 10))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
