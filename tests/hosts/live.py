"""A program that diarizes recordings at live pace, with stages on other hosts: ``python -m tests.hosts.live PLAN OUTPUT RECORDING...``.

Prints the events of the run as JSON lines.
"""

import json
import sys
from pathlib import Path
from typing import Any

from diart_mp.config import Settings
from diart_mp.runtime.local import LocalPipeline, Models
from diart_mp.topology import Job, SourceConfig, Topology


def main(plan: Path, output: Path, recordings: list[Path]) -> None:
    """Run to the end of the recordings."""
    sources = tuple(
        SourceConfig(kind="paced", name=f"{recording.stem}-{number}", path=str(recording))
        for number, recording in enumerate(recordings)
    )
    job = Job(
        sources=sources,
        settings=Settings.from_seconds(latency=1.0),
        output=str(output),
        formats=("rttm",),
        jobs=len(sources),
    )

    def on_event(event: dict[str, Any]) -> None:
        if event["event"] != "level":
            sys.stdout.write(json.dumps(event, default=str) + "\n")
            sys.stdout.flush()

    with LocalPipeline(job, Models(), on_event=on_event, plan=Topology.read(plan)) as pipeline:
        pipeline.run()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), [Path(each) for each in sys.argv[3:]])
