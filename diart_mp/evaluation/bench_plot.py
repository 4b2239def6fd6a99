"""A measurement as a picture: where a chunk's time goes, stage by stage, and how the latencies are spread.

Matplotlib is imported when a picture is wanted, and only then. Runs in the process of ``diart-mp bench``.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from diart_mp.errors import UsageError
from diart_mp.evaluation.bench import Measurement

_PARTS = {"transport": "tab:orange", "wait": "tab:gray", "compute": "tab:blue"}
_LINES = {"p50": "-", "p95": "--", "p99": ":"}


def check_plot(path: Path) -> None:
    """Raise UsageError if there is nothing to draw ``path`` with: said before a measurement rather than after it."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = f"--plot needs matplotlib, which cannot be imported ({error}); run: pip install matplotlib"
        raise UsageError(msg) from error
    known, suffix = Figure().canvas.get_supported_filetypes(), path.suffix[1:].lower()
    if suffix and suffix not in known:
        msg = f"cannot draw {path}: .{suffix} is no format of pictures that matplotlib knows; use .png, .svg or .pdf"
        raise UsageError(msg)


def plot(measurement: Measurement, figures: Mapping[str, Any], path: Path) -> None:
    """Draw into ``path`` (PNG, SVG or PDF, by its suffix). ``figures`` are those of ``bench_report.figures``."""
    from matplotlib.figure import Figure

    picture = Figure(figsize=(11, 4.5), layout="constrained")
    left, right = picture.subplots(1, 2)
    _draw_stages(left, figures["stages"])
    _draw_latency(right, measurement, figures["latency_ms"])
    try:
        picture.savefig(path)
    except ValueError as error:
        msg = f"cannot draw {path}: {error}"
        raise UsageError(msg) from error


def _draw_stages(axes: Any, stages: Mapping[str, Any]) -> None:
    """One bar per stage: the medians of its parts on top of each other."""
    names = list(stages)
    base = np.zeros(len(names))
    for part, color in _PARTS.items():
        heights = np.array([stages[name][f"{part}_ms"]["p50"] for name in names])
        axes.bar(names, heights, bottom=base, color=color, label=part)
        base += heights
    axes.set_ylabel("ms per chunk (median)")
    axes.set_title("Where the time goes")
    axes.legend()


def _draw_latency(axes: Any, measurement: Measurement, latency: Mapping[str, float]) -> None:
    """Share of the chunks that were answered within a time."""
    times = np.sort([(chunk.answered - chunk.captured) / 1e6 for chunk in measurement.chunks])
    axes.step(times, np.arange(1, len(times) + 1) / len(times), where="post")
    for name, value in latency.items():
        axes.axvline(value, linestyle=_LINES[name], color="tab:gray", label=f"{name}: {value:.1f} ms")
    axes.set_xlabel("ms from the last sample to the result")
    axes.set_ylabel("share of the chunks")
    axes.set_title(f"Latency of {len(times)} chunks")
    axes.legend()
