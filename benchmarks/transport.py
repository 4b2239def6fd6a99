"""What the pipeline costs besides its models: chunks per second through all stages, and the delay of all hops when live.

    python -m benchmarks.transport [--runs N] [--seconds S] [--live-seconds S] [--json]

Runs the public command with models that compute nothing: windows of 5 s every 0.5 s, read from a recording as fast as
possible, then played at live pace. Medians over the runs. Beside it what bare ZeroMQ takes for the same hops (``benchmarks.hops``), which no
pipeline can go below. Exits with 1 where a limit is not kept.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.hops import bare_hops

_STEP_S = 0.5


@dataclass(frozen=True, slots=True)
class Figure:
    """One number with its limit: ``at_least`` says on which side of it is good."""

    name: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether the limit is kept."""
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def row(self) -> str:
        """The line of the table."""
        sign = ">=" if self.at_least else "<="
        return f"{self.name:<34}{self.value:10.2f}   {sign} {self.limit:<8g} {'kept' if self.kept else 'NOT KEPT'}"


def bench(*options: str) -> dict[str, Any]:
    """The report of one call of ``diart-mp bench``."""
    command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "bench", "--null", "--json", *options]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report


def figures(fast: dict[str, Any], live: dict[str, Any]) -> list[Figure]:
    """What is promised of the transport."""
    return [
        Figure("chunks/s through all stages", fast["throughput"]["chunks_per_s"], 3000, at_least=True),
        Figure("live: all hops, p50, ms", live["overhead_ms"]["p50"], 1.5),
        Figure("live: all hops, p99, ms", live["overhead_ms"]["p99"], 5.0),
    ]


def details(fast: dict[str, Any], live: dict[str, Any]) -> list[str]:
    """Processor time per chunk and process, as fast as possible; the delay of each hop, live."""
    lines = [f"{'':<14}{'us of CPU per chunk':>22}{'live hop p50, ms':>20}{'p99':>8}"]
    for name, stage in fast["stages"].items():
        hop = live["stages"][name]["transport_ms"]
        cost = 1e6 * (stage["cpu_s"] or 0.0) / fast["chunks"]
        lines.append(f"{name:<14}{cost:22.0f}{hop['p50']:20.2f}{hop['p99']:8.2f}")
    cost = 1e6 * (fast["supervisor"]["cpu_s"] or 0.0) / fast["chunks"]
    return [*lines, f"{'supervisor':<14}{cost:22.0f}"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5, help="of each kind (default: %(default)s)")
    parser.add_argument("--seconds", default="1800", help="of audio, as fast as possible (default: %(default)s)")
    parser.add_argument("--live-seconds", default="20", help="of audio, live (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")
    options = parser.parse_args(arguments)
    fast = bench("--runs", str(options.runs), "--seconds", options.seconds)
    live = bench("--runs", str(options.runs), "--seconds", options.live_seconds, "--live")
    count = round(options.runs * float(options.live_seconds) / _STEP_S)
    bare_ms, ours_ms = median(bare_hops(count, _STEP_S)), live["overhead_ms"]["p50"]
    found = figures(fast, live)
    if options.json:
        rows = [asdict(figure) for figure in found]
        print(json.dumps({"figures": rows, "bare_ms": bare_ms, "throughput": fast, "live": live}))
    else:
        bare = f"bare ZeroMQ, the same hops, p50, ms{bare_ms:9.2f}   ours take {ours_ms / bare_ms:.2f} times that"
        print("\n".join([*(figure.row() for figure in found), bare, "", *details(fast, live)]))
    return int(not all(figure.kept for figure in found))


if __name__ == "__main__":
    sys.exit(main())
