"""What a run says: events of the pipeline to a view, the summary, and the score against a reference."""

import bisect
import itertools
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Mapping
from typing import Any, Protocol, Self

from diart_mp.config import Settings
from diart_mp.outputs.events import update_from_dict
from diart_mp.outputs.log import EventLog
from diart_mp.outputs.names import one_field
from diart_mp.outputs.stitching import Stitcher
from diart_mp.turns import Turn, Update

_STEP = math.log(1.01)  # of the latency histogram

Reference = Mapping[str, list[tuple[float, float, str]]]


class View(Protocol):
    """What shows a run: lines, JSON objects, or a picture on a terminal."""

    def update(self, update: Update) -> None:
        """The next result of a stream."""

    def progress(self, stream: str, position_s: float, duration_s: float | None, factor: float | None) -> None:
        """How far a stream is, and how many times faster than real time."""

    def level(self, stream: str, dbfs: float) -> None:
        """How loud a live source is."""

    def note(self, text: str) -> None:
        """Something that the user should know."""

    def ended(self, stream: str) -> None:
        """A stream is over."""

    def finish(self, text: str, values: Mapping[str, Any]) -> None:
        """The run is over: its summary as text and as values."""

    def refresh(self) -> None:
        """Draw what has not been drawn yet; called often."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *details: Any) -> None: ...


def make_view(*, as_json: bool, quiet: bool, several: bool) -> View:
    """The view that the options and standard output ask for."""
    from diart_mp.outputs.plain import JsonView, PlainView, QuietView

    if quiet:
        return QuietView(sys.stdout, sys.stderr)
    if as_json:
        return JsonView(sys.stdout, sys.stderr)
    if not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        return PlainView(sys.stdout, sys.stderr, several=several)
    from diart_mp.outputs.live import LiveView

    return LiveView()


class Reporter:
    """Passes events on to a view, and keeps the turns if they are to be scored."""

    def __init__(
        self, view: View, *, reference: Reference | None, settings: Settings, live: bool, log: EventLog | None = None
    ) -> None:
        self._view, self._reference, self._settings, self._live = view, reference, settings, live
        self._log = log
        self._stitchers: dict[str, Stitcher] = {}
        self._turns: dict[str, list[Turn]] = {}
        self._latencies: Counter[int] = Counter()  # results by latency, in steps of 1 %: bounded, however long the run
        self._begun: dict[str, tuple[float, float, float | None]] = {}  # when (monotonic s), where, length (s)

    def event(self, event: Mapping[str, Any]) -> None:
        """One event of the pipeline."""
        if self._log is not None:
            self._log.write(event)
        match event["event"]:
            case "ready":
                self._view.note("listening; Ctrl-C ends" if self._live else "ready")
            case "result":
                self._update(update_from_dict(event["update"], rate=event["rate"]))
            case "progress":
                self._progress(event["stream"], event["seconds"], event["duration"])
            case "level":
                self._view.level(event["stream"], event["dbfs"])
            case "gap":
                self._view.note(f"{event['seconds']:.2f} s of audio lost at {event['start']:.2f} s: {event['text']}")
            case "skipped":
                self._view.note(f"overload: {event['windows']} windows skipped before chunk {event['seq']}")
            case "restart" | "note":
                self._view.note(event["text"])
            case "done":
                self._progress(event["stream"], event["seconds"])
                self._view.ended(event["stream"])

    def refresh(self) -> None:
        """Let the view draw; called often."""
        self._view.refresh()

    def finish(self, summary: Any) -> None:
        """The last word: what was done, and how well."""
        if self._log is not None:
            self._log.close()
        for stream, stitcher in self._stitchers.items():
            self._turns[stream].extend(stitcher.finish())
        wall = summary.wall_s
        values: dict[str, Any] = {
            "kind": "summary",
            "streams": sorted(summary.seconds),
            "results": summary.results,
            "audio_s": round(summary.audio_s, 3),
            "wall_s": round(wall, 3),
            "real_time_factor": round(wall / summary.audio_s, 4) if summary.audio_s else None,
            "latency_ms": self._latency(),
            "restarts": summary.restarts,
            "skipped": summary.skipped,
            "lost_s": round(summary.gaps_s, 3),
            "failures": summary.failures,
        }
        if spent := summary.shares.means():
            values["spent_ms"] = spent
        if self._reference is not None:
            values["der"] = self._score(summary)
        self._view.finish(describe(values), values)

    def _progress(self, stream: str, seconds: float, duration: float | None = None) -> None:
        """Tell the view how far a stream is, and how many times faster than real time that went so far."""
        now = time.monotonic()
        since, first, duration = self._begun.setdefault(stream, (now, seconds, duration))
        factor = (seconds - first) / (now - since) if now > since and not self._live else None
        self._view.progress(stream, seconds, duration, factor)

    def _update(self, update: Update) -> None:
        if update.latency_ms is not None:
            self._latencies[round(math.log(max(update.latency_ms, 0.01)) / _STEP)] += 1
        if self._reference is not None:
            stitcher = self._stitchers.setdefault(update.stream, Stitcher(update.rate))
            self._turns.setdefault(update.stream, []).extend(stitcher.push(update))
        self._view.update(update)

    def _latency(self) -> dict[str, float] | None:
        """Median, 95th and 99th percentile of the time from the last sample of a step to its result, in ms."""
        if not self._latencies:
            return None
        steps = sorted(self._latencies)
        counts = list(itertools.accumulate(self._latencies[step] for step in steps))
        found = {p: steps[bisect.bisect_left(counts, counts[-1] * p / 100)] for p in (50, 95, 99)}
        return {f"p{p}": round(math.exp(step * _STEP), 1) for p, step in found.items()}

    def _score(self, summary: Any) -> dict[str, float | None]:
        """DER in percent by stream: no collar, overlap included, over the whole recording."""
        from diart_mp.evaluation.der import diarization_error

        scores: dict[str, float | None] = {}
        for stream, duration in summary.seconds.items():
            reference = self._reference_of(stream, alone=len(summary.seconds) == 1)
            if reference is None:
                scores[stream] = None
                continue
            rate = self._settings.rate
            said = [(turn.start / rate, turn.end / rate, turn.speaker) for turn in self._turns.get(stream, [])]
            scores[stream] = round(100 * diarization_error(reference, said, duration=duration).rate, 2)
        return scores

    def _reference_of(self, stream: str, *, alone: bool) -> list[tuple[float, float, str]] | None:
        """By name, as RTTM writes it; a stream alone may have the only reference under any name."""
        references = self._reference or {}
        if alone and len(references) == 1:
            return next(iter(references.values()))
        return references.get(one_field(stream))


def describe(summary: Mapping[str, Any]) -> str:
    """The summary as a line for people."""
    factor = summary["real_time_factor"]
    speed = f", {1 / factor:.1f} times real time" if factor else ""
    parts = [f"{summary['audio_s']:.1f} s of audio in {summary['wall_s']:.1f} s{speed}"]
    if summary["restarts"]:
        parts.append(f"{summary['restarts']} restarts")
    if summary["lost_s"]:
        parts.append(f"{summary['lost_s']:.1f} s of audio lost")
    for stream, der in summary.get("der", {}).items():
        parts.append(f"DER of {stream}: {der:.2f} %" if der is not None else f"no reference for {stream}")
    return "; ".join(parts)
