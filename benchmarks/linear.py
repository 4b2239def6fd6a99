"""Whether cost grows linearly: processor time per chunk with 1, 2, 4 and 8 streams at a time, and in minutes 1, 10 and 60 of one stream.

    python -m benchmarks.linear [--minutes 60] [--seconds 60] [--precision fast] [--null] [--json]

Processor time of all processes, so that what else runs on the machine counts little. The first of each row is 1; exits with 1 where
another one is above it by more than ``LIMIT`` (several streams make larger batches, which cost less).
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from diart_mp.config import Settings
from diart_mp.evaluation.bench import ChunkTimes, Load, Measurement, measure
from diart_mp.evaluation.bench_audio import sample_recording, with_length
from diart_mp.models import null
from diart_mp.runtime.local import Models

STREAMS = (1, 2, 4, 8)
MINUTES = (1, 10, 60)
LIMIT = 0.10
_NS_PER_MS = 1e6


def cpu_ms(measurement: Measurement) -> float:
    """Processor time per chunk of all processes together."""
    return 1000 * sum(used.cpu_s for used in measurement.usage.values()) / len(measurement.chunks)


def minute_ms(chunks: Sequence[ChunkTimes], minute: int, per_minute: int) -> float:
    """Time in stages per chunk of one minute (from 1) of a stream; the median, since other programs only ever add to it."""
    own = sorted(
        sum((hop.done - hop.started) / hop.batch for hop in chunk.hops) / _NS_PER_MS
        for chunk in chunks
        if (minute - 1) * per_minute <= chunk.seq < minute * per_minute
    )
    return own[len(own) // 2]


def rows(found: Mapping[str, Sequence[float]]) -> list[dict[str, object]]:
    """Each with its figures, how they compare with the first, and whether all are near it."""
    made: list[dict[str, object]] = []
    for name, values in found.items():
        ratios = [round(value / values[0], 3) for value in values]
        flat = max(ratios) <= 1 + LIMIT
        made.append({"name": name, "ms": [round(value, 3) for value in values], "ratios": ratios, "flat": flat})
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=int, default=MINUTES[-1], help="of the long stream (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="of each of several (default: %(default)s)")
    parser.add_argument("--precision", choices=("exact", "fast"), default="fast")
    parser.add_argument("--null", action="store_true", help="models that compute nothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    models = Models(precision=options.precision)
    if options.null:
        models = Models(segmentation=null.SEGMENTATION, embedding=null.EMBEDDING)
    settings = Settings.from_seconds(start="exact")
    with tempfile.TemporaryDirectory() as folder:
        source = None if options.null else sample_recording()
        short = with_length(source, options.seconds, Path(folder) / "short.wav")
        long = with_length(source, 60 * options.minutes, Path(folder) / "long.wav")
        several = [cpu_ms(measure(Load(recordings=(short,), streams=n), models, settings)) for n in STREAMS]
        whole = measure(Load(recordings=(long,)), models, settings)
    per_minute = 60 * settings.rate // settings.step
    minutes = [minute for minute in MINUTES if minute <= options.minutes]
    times = [minute_ms(whole.chunks, minute, per_minute) for minute in minutes]
    found = rows({f"streams {STREAMS}, CPU per chunk": several, f"minutes {tuple(minutes)}, in stages": times})
    if options.json:
        print(json.dumps(found))
    else:
        for row in found:
            print(f"{row['name']:<40}{row['ms']} ms, ratios {row['ratios']}: {'flat' if row['flat'] else 'NOT FLAT'}")
    return int(not all(row["flat"] for row in found))


if __name__ == "__main__":
    sys.exit(main())
