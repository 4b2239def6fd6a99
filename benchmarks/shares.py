"""How much of the processor time of segmentation and embedding is spent in their models: the rest is what processes cost.

    python -m benchmarks.shares [--recording FILE] [--seconds S] [--runs N] [--json]

Runs the public command on a recording as fast as possible and at live pace, in exact and in fast precision, with the built-in pair.
Medians over the runs. "Models" is what a model does with audio and scores, front ends included. Exits with 1 where the
share in both stages together is below the limit, as fast as possible; live there is less to do than there are moments to wait for.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

STAGES = ("segmentation", "embedding")
PRECISIONS = ("exact", "fast")
LIMIT = 0.85
_LIVE_S = "30"  # of audio


@dataclass(frozen=True, slots=True)
class Shares:
    """Of one way to run: the share of each stage, of both together, and ms of processor time per chunk in their models and beside them."""

    name: str
    segmentation: float
    embedding: float
    together: float
    models_ms: float
    other_ms: float
    judged: bool

    @property
    def kept(self) -> bool:
        """Whether the limit is kept, where there is one."""
        return not self.judged or self.together >= LIMIT

    def row(self) -> str:
        """The line of the table."""
        shares = "".join(f"{100 * share:14.1f}" for share in (self.segmentation, self.embedding, self.together))
        verdict = f">= {100 * LIMIT:g} {'kept' if self.kept else 'NOT KEPT'}" if self.judged else ""
        return f"{self.name:<14}{shares}{self.models_ms:12.2f}{self.other_ms:12.2f}   {verdict}".rstrip()


def shares(name: str, report: Mapping[str, Any], *, judged: bool) -> Shares:
    """The shares in a report of ``diart-mp bench``; 0 where the system does not tell."""
    cpu = {stage: report["stages"][stage]["cpu_s"] or 0.0 for stage in STAGES}
    models = {stage: (report["stages"][stage]["models"] or 0.0) * cpu[stage] for stage in STAGES}
    each = {stage: models[stage] / cpu[stage] if cpu[stage] else 0.0 for stage in STAGES}
    spent, whole = sum(models.values()), sum(cpu.values())
    per_chunk = 1000 / report["chunks"]
    return Shares(
        name=name,
        segmentation=each["segmentation"],
        embedding=each["embedding"],
        together=spent / whole if whole else 0.0,
        models_ms=spent * per_chunk,
        other_ms=(whole - spent) * per_chunk,
        judged=judged,
    )


def bench(*options: str) -> dict[str, Any]:
    """The report of one call of ``diart-mp bench``."""
    command: list[str | Path] = [Path(sys.executable).with_name("diart-mp"), "bench", "--json", *options]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    return report


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recording", help="default: the one that pyannote.audio ships")
    parser.add_argument("--seconds", default="120", help="of audio, as fast as possible (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=1, help="of each kind (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print the rows as a JSON list")
    options = parser.parse_args(arguments)
    given = [options.recording] if options.recording else []
    rows = []
    for precision in PRECISIONS:
        common = (*given, "--precision", precision, "--runs", str(options.runs))
        rows.append(shares(f"{precision}, file", bench(*common, "--seconds", options.seconds), judged=True))
        rows.append(shares(f"{precision}, live", bench(*common, "--seconds", _LIVE_S, "--live"), judged=False))
    if options.json:
        print(json.dumps([{**asdict(row), "kept": row.kept} for row in rows]))
    else:
        heads = "".join(f"{head + ' %':>14}" for head in (*STAGES, "together"))
        print("\n".join([f"{'in models':<14}{heads}{'models, ms':>12}{'rest, ms':>12}", *(row.row() for row in rows)]))
    return int(not all(row.kept for row in rows))


if __name__ == "__main__":
    sys.exit(main())
