"""All 24 orders of starting the four stages by hand over TCP: ``python -m tests.hosts.orders``. About two minutes."""

import itertools
import sys
import tempfile
import time
from pathlib import Path

from diart_mp.config import Settings
from diart_mp.topology import CHAIN, Job, SourceConfig
from tests.fakes import TONE_MODELS, conversation
from tests.hosts.test_tcp import started, tcp_topology
from tests.pipeline_runs import run


def main() -> int:
    """The number of orders whose outputs are not those of a local run."""
    wrong = 0
    with tempfile.TemporaryDirectory(prefix="or-") as name:
        audio = Path(name) / "hum.wav"
        conversation(audio, seconds=10.0, seed=4)
        settings = Settings.from_seconds(latency=1.0)
        local = run(audio, Path(name) / "local", settings=settings, models=TONE_MODELS)
        for number, order in enumerate(itertools.permutations(CHAIN)):
            folder = Path(name) / str(number)
            folder.mkdir()
            source = SourceConfig(kind="file", name="hum", path=str(audio))
            job = Job(sources=(source,), settings=settings, output=str(folder / "out"), formats=("rttm", "jsonl"))
            begun = time.monotonic()
            with started(order, tcp_topology(folder, job)) as processes:
                code = processes["capture"].wait(60)
            files = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}
            same = files == local.files and code == 0
            wrong += not same
            sys.stdout.write(
                f"{' '.join(order)}: {'as a local run' if same else 'WRONG'}, {time.monotonic() - begun:.1f} s\n"
            )
            sys.stdout.flush()
    return wrong


if __name__ == "__main__":
    sys.exit(main())
