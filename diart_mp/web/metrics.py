"""What the gateway counts, for Prometheus: prefix ``diart_mp_``, base units, nothing per stream. Runs in the gateway."""

from collections.abc import Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from diart_mp.turns import Update

_BUCKETS = (0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 5.0, 10.0)  # s


class Metrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        prefix = "diart_mp_"
        self.connections = Gauge(f"{prefix}connections", "WebSocket connections now.", registry=registry)
        self.sessions = Gauge(f"{prefix}sessions", "Streams now, those without a client included.", registry=registry)
        self.started = Counter(f"{prefix}sessions_started", "Streams begun.", registry=registry)
        self.resumed = Counter(
            f"{prefix}sessions_resumed", "Clients that came back to their stream.", registry=registry
        )
        self.ended = Counter(f"{prefix}sessions_ended", "Streams ended.", ["reason"], registry=registry)
        self.errors = Counter(f"{prefix}client_errors", "Connections ended with an error.", ["code"], registry=registry)
        self.audio = Counter(f"{prefix}audio_seconds", "Audio taken and acknowledged, s.", registry=registry)
        self.dropped = Counter(f"{prefix}dropped_audio_seconds", "Audio that was lost, s.", registry=registry)
        self.skipped = Counter(f"{prefix}skipped_windows", "Windows left out in overload.", registry=registry)
        self.results = Counter(f"{prefix}results", "Results (chunks answered).", registry=registry)
        self.segments = Counter(f"{prefix}segments", "Final segments.", registry=registry)
        self.latency = Histogram(
            f"{prefix}result_latency_seconds",
            "From the arrival of the last sample of a step to its result, s; live streams.",
            registry=registry,
            buckets=_BUCKETS,
        )
        self.result_count = 0
        self.ready = Gauge(f"{prefix}ready", "1 while chunks go through.", registry=registry)
        self._chunks = Gauge(
            f"{prefix}stage_chunks", "Chunks done by the stage's process.", ["stage"], registry=registry
        )
        self._restarts = Gauge(f"{prefix}stage_restarts", "Restarts of the stage.", ["stage"], registry=registry)
        self._queue = Gauge(f"{prefix}stage_queue", "Chunks that wait in the stage.", ["stage"], registry=registry)

    def on_update(self, update: Update, *, live: bool) -> None:
        """A result of a client's stream; what is sent as fast as possible has no latency worth a figure."""
        self.results.inc()
        self.result_count += 1
        if live and update.latency_ms is not None:
            self.latency.observe(update.latency_ms / 1000)

    def on_status(self, status: Mapping[str, Any]) -> None:
        """What the supervisor says of the stages."""
        for stage in status.get("stages", []):
            self._chunks.labels(stage["stage"]).set(stage["done"] or 0)
            self._restarts.labels(stage["stage"]).set(stage["restarts"])
            self._queue.labels(stage["stage"]).set((stage["queue"] or 0) + (stage["waiting"] or 0))

    def text(self) -> bytes:
        """All of them in Prometheus' text format."""
        return generate_latest(self._registry)
