"""The report of ``diart-mp bench`` as lines for people."""

from collections.abc import Iterator, Mapping
from typing import Any

_PERCENTILES = ("p50", "p95", "p99")
_TIMES = ("wait", "compute", "transport")
_WIDTH = 25  # of three times


def describe(report: Mapping[str, Any]) -> list[str]:
    """A report as lines; all times in ms unless they say otherwise."""
    if "capacity" in report:
        capacity = report["capacity"]
        return [f"{capacity['streams']:g} live streams hold 99 % of their chunks under {capacity['bound_ms']:g} ms"]
    return [*_summary(report), "", *_table(report)]


def describe_ratios(report: Mapping[str, Any]) -> list[str]:
    """What --compare found: new over old, a line per figure."""
    if "compare" not in report:
        return []
    rows = list(_leaves(report["compare"] or {}))
    width = max((len(name) for name, _ in rows), default=0)
    return ["", "new / old", *(f"{name:<{width}}  {ratio:8.3f}" for name, ratio in rows)]


def _summary(report: Mapping[str, Any]) -> Iterator[str]:
    throughput, start, total = report["throughput"], report["start_s"], report["total"]
    factor = throughput["real_time_factor"]
    runs = f", medians of {len(report['runs'])} runs" if len(report["runs"]) > 1 else ""
    yield (
        f"{report['mode']}: {report['streams']} streams, {report['audio_s']:.1f} s of audio in {report['wall_s']:.2f} s{runs}"
    )
    yield f"chunks/s {throughput['chunks_per_s']:.1f}, real-time factor {factor:.4f} ({1 / factor:.1f} times real time)"
    yield f"latency  {_three(report['latency_ms'])} ms (p50 / p95 / p99)"
    yield f"overhead {_three(report['overhead_ms'])} ms of it on the way from stage to stage and in queues"
    yield f"start    {start['ready']:.2f} s until ready, {start['first_result']:.2f} s until the first result"
    yield f"cost     {_number(total['cpu_s'], 2)} s of processor time, {_number(total['memory_mb'], 0)} MB at most"
    if report["skipped"] or report["lost_s"]:
        yield f"overload {report['skipped']:g} windows skipped, {report['lost_s']:.2f} s of audio lost"


def _table(report: Mapping[str, Any]) -> Iterator[str]:
    heads = [f"{name + ' ms':>{_WIDTH}}" for name in _TIMES]
    yield f"{'p50 / p95 / p99':<15}" + "".join(heads) + "  chunks/s  busy %  batch   CPU s  models %  memory MB"
    for name, stage in report["stages"].items():
        times = "".join(f"{_three(stage[f'{kind}_ms']):>{_WIDTH}}" for kind in _TIMES)
        yield (
            f"{name:<15}{times}{stage['chunks_per_s']:10.1f}{100 * stage['busy']:8.1f}{stage['batch']:7.2f}"
            f"{_number(stage['cpu_s'], 2):>8}{_percent(stage.get('models')):>10}{_number(stage['memory_mb'], 0):>11}"
        )
    supervisor = report["supervisor"]
    blank = " " * (_WIDTH * len(_TIMES) + 25)
    yield f"{'supervisor':<15}{blank}{_number(supervisor['cpu_s'], 2):>8}{'':>10}{_number(supervisor['memory_mb'], 0):>11}"


def _three(values: Mapping[str, float]) -> str:
    numbers = [values[name] for name in _PERCENTILES]
    return " / ".join(f"{number:.{2 if number < 10 else 1 if number < 1000 else 0}f}" for number in numbers)


def _number(value: float | None, digits: int) -> str:
    return "?" if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.1f}"


def _leaves(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
