"""What one more stage costs: 20 ms of latency if it takes 20 ms, and no throughput while another stage takes longer.

    python -m benchmarks.insert [--rounds 5]

Two chains in turn, with models that compute next to nothing: one has a stage that waits 30 ms for each chunk (the bottleneck), the
other has behind it one more stage that waits 20 ms. At live pace the latency of both, as fast as possible their throughput.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import soundfile

from diart_mp.config import Settings
from diart_mp.messages import FieldValue
from diart_mp.runtime.chain import compose, with_options
from diart_mp.runtime.local import LocalPipeline, Models, default_stages
from diart_mp.runtime.stage import Chunk, Stage
from diart_mp.topology import Job, SourceConfig, StageConfig

SETTINGS = Settings.from_seconds(latency=0.5)
RATE = SETTINGS.rate


class Wait(Stage):
    """Takes option ``ms`` for each chunk, and no processor time; adds nothing."""

    def process(self, chunks: Sequence[Chunk]) -> Sequence[Mapping[str, FieldValue]]:
        """Wait."""
        for _ in chunks:
            time.sleep(float(self.config.options["ms"]) / 1000)
        return [{} for _ in chunks]


def chain(models: Models, waits: Mapping[str, float]) -> tuple[StageConfig, ...]:
    insert = [f"{name}=benchmarks.insert:Wait@segmentation" for name in reversed(waits)]
    options = [f"{name}.ms={ms}" for name, ms in waits.items()]
    return with_options(compose(default_stages(models), insert=insert), options)


def run(audio: Path, kind: str, stages: Sequence[StageConfig], models: Models) -> tuple[float, float]:
    """Median latency (ms) and chunks per second of one run."""
    latencies, times = list[float](), list[float]()

    def on_event(event: Mapping[str, object]) -> None:
        if event["event"] == "result":
            update = event["update"]
            assert isinstance(update, dict)
            latencies.append(update["latency_ms"])
            times.append(time.monotonic())

    job = Job(sources=(SourceConfig(kind=kind, name="noise", path=str(audio)),), settings=SETTINGS)
    with LocalPipeline(job, models, on_event=on_event, stages=stages) as pipeline:
        summary = pipeline.run()
    assert not summary.failures, summary.failures
    kept = len(times) // 4  # the first results come from an empty pipeline
    return statistics.median(latencies[kept:]), (len(times) - 1 - kept) / (times[-1] - times[kept])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=120.0, help="of noise, for throughput; an eighth of it live")
    arguments = parser.parse_args()
    models = Models(
        segmentation="diart_mp.models.null:NullSegmentation", embedding="diart_mp.models.null:NullEmbedding"
    )
    waits = {"short": {"bottleneck": 30.0}, "long": {"bottleneck": 30.0, "inserted": 20.0}}
    chains = {name: chain(models, each) for name, each in waits.items()}
    latency, throughput = list[float](), list[float]()
    with tempfile.TemporaryDirectory() as folder:
        files = {}
        for kind, seconds in (("paced", arguments.seconds / 8), ("file", arguments.seconds)):
            files[kind] = Path(folder) / f"{kind}.wav"
            soundfile.write(files[kind], np.random.default_rng(1).normal(0, 0.1, round(seconds * RATE)), RATE)
        for number in range(arguments.rounds):
            live = {name: run(files["paced"], "paced", stages, models)[0] for name, stages in chains.items()}
            fast = {name: run(files["file"], "file", stages, models)[1] for name, stages in chains.items()}
            latency.append(live["long"] - live["short"])
            throughput.append(fast["long"] / fast["short"])
            print(
                f"round {number}: latency {live['short']:.1f} -> {live['long']:.1f} ms, "
                f"throughput {fast['short']:.2f} -> {fast['long']:.2f} chunks/s"
            )
    print(
        f"a stage of 20 ms adds {statistics.median(latency):.1f} ms; throughput x {statistics.median(throughput):.3f}"
    )


if __name__ == "__main__":
    main()
