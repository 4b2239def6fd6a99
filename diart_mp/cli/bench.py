"""``diart-mp bench``: how fast a pipeline is on this machine, and where every millisecond goes."""

import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click

from diart_mp import __version__
from diart_mp.cli import options
from diart_mp.cli.bench_table import describe, describe_ratios
from diart_mp.errors import OutputError, UsageError

_LIVE_S = 60.0  # of audio, where nothing else is said
_CAPACITY_S = 30.0
_NULL_S = 1800.0
_SAMPLE_S = 120.0
_MOST_STREAMS = 512
_OUTPUTS = ("plot", "trace")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Plan:
    """What to measure, all checked."""

    load: Any
    models: Any
    settings: Any
    runs: int
    environment: Mapping[str, str]


@click.command()
@click.argument("sources", nargs=-1, metavar="[SOURCE...]")
@click.option("--live", is_flag=True, help="Play recordings at the pace of the clock, and measure latency.")
@click.option("--streams", type=click.IntRange(1, _MOST_STREAMS), help="Streams at a time; default: one per SOURCE.")
@click.option("--find-capacity", is_flag=True, help="Search how many live streams keep p99 of the lag under one step.")
@click.option("--null", is_flag=True, help="Models that compute nothing: the cost of everything else.")
@click.option("--seconds", type=click.FloatRange(1), help="Of audio per stream; a shorter SOURCE is repeated.")
@click.option("--runs", type=click.IntRange(1), default=1, show_default=True, help="Measure so often, give medians.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
@click.option("--plot", type=click.Path(path_type=Path, dir_okay=False), help="Draw the first run (PNG, SVG, PDF).")
@click.option("--trace", type=click.Path(path_type=Path, dir_okay=False), help="Chrome trace of the first run.")
@click.option("--compare", type=click.Path(path_type=Path, dir_okay=False), help="Ratios to what --json once gave.")
@options.pipeline_options
def command(**values: Any) -> None:
    """Measure throughput: SOURCE... as fast as possible. With --live, latency; with --find-capacity, capacity.

    Without SOURCE, the recording that pyannote.audio ships (or noise) is taken: 120 s of it, 60 s with --live, 30 s with
    --find-capacity, 1800 s with --null.
    """
    _check(values)
    old = None if values["compare"] is None else _read(values["compare"])
    with tempfile.TemporaryDirectory(prefix="diart-mp-bench-") as folder:
        plan = _plan(values, Path(folder))
        measured, first = _capacity(plan) if values["find_capacity"] else _measure(plan)
    report = {"bench": 1, **_circumstances(values, plan), **measured}
    if old is not None:
        from diart_mp.evaluation.bench_report import ratios

        report["compare"] = ratios(measured, old)
    if values["as_json"]:
        click.echo(json.dumps(report))
    else:
        click.echo("\n".join([*describe(report), *describe_ratios(report)]))
    if first is not None:
        _write(first, measured["runs"][0], values)


def _measure(plan: _Plan) -> tuple[dict[str, Any], Any]:
    """Medians over all runs, each run's own figures; and the first run itself, which is drawn."""
    from diart_mp.evaluation.bench import measure
    from diart_mp.evaluation.bench_report import figures, medians

    runs: list[dict[str, Any]] = []
    first = None
    for index in range(plan.runs):
        measurement = measure(plan.load, plan.models, plan.settings, environment=plan.environment)
        runs.append(figures(measurement))
        first = first or measurement
        if plan.runs > 1:
            rate = runs[-1]["throughput"]["chunks_per_s"]
            _say(f"run {index + 1} of {plan.runs}: {rate:.1f} chunks/s, p50 {runs[-1]['latency_ms']['p50']:.1f} ms")
    return {**medians(runs), "runs": runs}, first


def _write(measurement: Any, figures: Mapping[str, Any], values: Mapping[str, Any]) -> None:
    """The files that were asked for; the figures have been said by then, whatever becomes of these."""
    try:
        if values["trace"] is not None:
            from diart_mp.evaluation.bench_trace import chrome_trace

            values["trace"].write_text(json.dumps(chrome_trace(measurement)))
        if values["plot"] is not None:
            from diart_mp.evaluation.bench_plot import plot

            plot(measurement, figures, values["plot"])
    except OSError as error:
        msg = f"cannot write {' and '.join(str(values[name]) for name in _OUTPUTS if values[name])}: {error.strerror}"
        raise OutputError(msg) from error


def _capacity(plan: _Plan) -> tuple[dict[str, Any], None]:
    """The most live streams of which none is late: 99 % of all chunks answered within a step, and none left out."""
    from diart_mp.evaluation.bench import find_capacity, measure
    from diart_mp.evaluation.bench_report import figures, medians

    bound_ms = 1000 * plan.settings.step / plan.settings.rate
    probes: list[dict[str, Any]] = []

    def holds(streams: int) -> bool:
        load = replace(plan.load, streams=streams)
        found = figures(measure(load, plan.models, plan.settings, environment=plan.environment))
        late = found["latency_ms"]["p99"]
        good = bool(late < bound_ms and not found["skipped"] and not found["lost_s"])
        probes.append({"streams": streams, "holds": good, "skipped": found["skipped"], **found["latency_ms"]})
        _say(
            f"{streams} live streams: p99 {late:.0f} ms, {found['skipped']} windows skipped: {'held' if good else 'late'}"
        )
        return good

    found = [{"streams": find_capacity(holds, most=_MOST_STREAMS)} for _ in range(plan.runs)]
    return {"capacity": {**medians(found), "bound_ms": bound_ms, "probes": probes}, "runs": found}, None


def _plan(values: Mapping[str, Any], folder: Path) -> _Plan:
    from diart_mp.evaluation.bench import Load
    from diart_mp.models import null
    from diart_mp.runtime.local import Models

    models = Models(segmentation=null.SEGMENTATION, embedding=null.EMBEDDING)
    if not values["null"]:
        models = options.models(values)
        options.fetch_models(models)
    recordings = _recordings(values, folder)
    live = values["live"] or values["find_capacity"]
    load = Load(recordings=recordings, streams=values["streams"] or len(recordings), live=live)
    if not values["null"]:
        models = options.with_workers(models, _load_s(load, many=values["find_capacity"]))
    return _Plan(
        load=load,
        models=models,
        settings=options.settings(values, values["start"] or "exact"),
        runs=values["runs"],
        environment={"HF_TOKEN": values["hf_token"]} if values["hf_token"] else {},
    )


def _load_s(load: Any, *, many: bool) -> float:
    """Seconds of audio that call for more workers: one live stream needs no more than two, however long it is."""
    from diart_mp.audio.file import check

    if load.live:
        return 3600.0 if many or load.streams > 1 else 0.0
    return sum(check(load.recordings[i % len(load.recordings)]).duration or 0.0 for i in range(load.streams))


def _recordings(values: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    """What is played: the sources as they are, unless their length is to be another."""
    from diart_mp.audio.file import check
    from diart_mp.evaluation.bench_audio import sample_recording, with_length

    given: list[Path | None] = [check(name).path for name in values["sources"]]
    seconds = values["seconds"] or _seconds(values)
    if seconds is None:
        return tuple(path for path in given if path is not None)
    given = given or [None if values["null"] else sample_recording()]
    return tuple(with_length(path, seconds, folder / f"{index}.wav") for index, path in enumerate(given))


def _seconds(values: Mapping[str, Any]) -> float | None:
    """The usual length; None for whole recordings."""
    if values["find_capacity"]:
        return _CAPACITY_S
    if values["live"]:
        return _LIVE_S
    if values["sources"]:
        return None
    return _NULL_S if values["null"] else _SAMPLE_S


def _check(values: Mapping[str, Any]) -> None:
    """Whatever would be an error after the measurement is one before it."""
    if values["null"] and (values["segmentation"] or values["embedding"]):
        msg = "--null takes models of its own; leave out --segmentation and --embedding, or --null"
        raise UsageError(msg)
    if values["find_capacity"] and (values["streams"] or values["live"] or any(values[name] for name in _OUTPUTS)):
        msg = "--find-capacity makes many live runs: it cannot be mixed with --live, --streams, --plot or --trace"
        raise UsageError(msg)
    if values["streams"] and values["streams"] < len(values["sources"]):
        msg = f"--streams {values['streams']} leaves out some of the {len(values['sources'])} sources; name fewer"
        raise UsageError(msg)
    for name in _OUTPUTS:
        path = values[name]
        if path is not None and not path.absolute().parent.is_dir():
            msg = f"cannot write {path}: there is no folder {path.absolute().parent}; make it first"
            raise OutputError(msg)
        if path is not None and not os.access(path if path.exists() else path.absolute().parent, os.W_OK):
            msg = f"cannot write {path}: permission denied; name a file in a folder of your own"
            raise OutputError(msg)
    if values["plot"] is not None:
        from diart_mp.evaluation.bench_plot import check_plot

        check_plot(values["plot"])


def _read(path: Path) -> dict[str, Any]:
    """An earlier report; UsageError for anything else."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise OutputError(msg) from error
    except ValueError as error:
        msg = f"{path} is not JSON: {error}"
        raise UsageError(msg) from error
    if not isinstance(report, dict) or "bench" not in report:
        msg = f"{path} is no report of diart-mp bench --json"
        raise UsageError(msg)
    return report


def _circumstances(values: Mapping[str, Any], plan: _Plan) -> dict[str, Any]:
    """What was measured, and where."""
    mode = "capacity" if values["find_capacity"] else "live" if values["live"] else "throughput"
    return {
        "version": __version__,
        "mode": mode,
        "streams": plan.load.streams,
        "models": {"segmentation": plan.models.segmentation, "embedding": plan.models.embedding},
        "settings": plan.settings.to_map(),
        "machine": {
            "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
        },
    }


def _say(text: str) -> None:
    """How far it is, for who waits; on standard error, so that standard output is the report alone."""
    sys.stderr.write(f"{text}\n")
