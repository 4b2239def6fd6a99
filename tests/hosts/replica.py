"""A second replica of the slowest stage, started during a run: ``python -m tests.hosts.replica``.

Segmentation sleeps 0.1 s per chunk, so that it is the bottleneck whatever else the machine does. What is compared is the time between
results before and after the second process is there; the outputs must be those of a local run.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path

from tests.cli.command import COMMAND, ROOT, TONES, Diart
from tests.fakes import conversation
from tests.hosts.rig import started, write_plan

_RESULTS = 80  # per part
_SLOW = ("env", "DIART_MP_FAULTS=segmentation:slow=0.1")


def _read(run: subprocess.Popen[str], count: int) -> list[float]:
    """When each of the next results came, s."""
    assert run.stdout is not None
    return [(run.stdout.readline(), time.monotonic())[1] for _ in range(count)]


def main() -> int:
    """The exit code: whether throughput grew by half at least."""
    with tempfile.TemporaryDirectory(prefix="rp-") as name:
        folder, diart = Path(name), Diart(Path(name))
        audio, plan = folder / "talk.wav", folder / "plan.toml"
        conversation(audio, seconds=160.0, seed=5)
        run = ("run", str(audio), "--latency", "1", "--json", "--output")
        assert diart(*run, folder / "local", *TONES).code == 0
        write_plan(plan, {"segmentation": ["B", "B"]})
        command = [str(COMMAND), *run, str(folder / "out"), "--topology", str(plan)]
        with (
            started(diart, plan, "segmentation/0", prefix=_SLOW),
            subprocess.Popen(command, cwd=ROOT, env=diart.environment(), stdout=subprocess.PIPE, text=True) as process,
        ):
            _read(process, 20)
            alone = _read(process, _RESULTS)
            with started(diart, plan, "segmentation/1", prefix=_SLOW):
                joined = _read(process, 2 * _RESULTS)[-_RESULTS:]  # it is there long before the second half of them
                assert process.stdout is not None
                process.stdout.read()
                process.wait(120)
        same = (folder / "out" / "talk.rttm").read_bytes() == (folder / "local" / "talk.rttm").read_bytes()
        rates = [(len(part) - 1) / (part[-1] - part[0]) for part in (alone, joined)]
        largest = max(after - before for before, after in pairwise(joined))
        sys.stdout.write(
            f"{rates[0]:.1f} chunks a second alone, {rates[1]:.1f} with a second replica: {rates[1] / rates[0]:.2f} times; "
            f"largest pause {largest:.2f} s, median {statistics.median(b - a for a, b in pairwise(joined)):.3f} s; the same turns: {same}\n"
        )
        return 0 if same and rates[1] > 1.5 * rates[0] else 1


if __name__ == "__main__":
    sys.exit(main())
