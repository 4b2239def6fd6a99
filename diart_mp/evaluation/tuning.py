"""What a trial is: hyper-parameters in, an error in percent out, by clustering features that are in memory.

Runs in the command and in its workers.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.config import Settings, check_names
from diart_mp.errors import AudioError, UsageError
from diart_mp.evaluation.benchmark import check_corpus, turns_of
from diart_mp.evaluation.corpus import Corpus, Recording
from diart_mp.evaluation.features import FeatureCache, Features, pooling_of
from diart_mp.evaluation.replay import diarize
from diart_mp.evaluation.scores import Score, score, streaming, total_values
from diart_mp.models.checksum import model_checksum
from diart_mp.runtime.local import Models

METRICS = ("der", "jer", "latency-aware")
BOUNDS: Mapping[str, tuple[float, float]] = {
    "tau_active": (0.0, 1.0),
    "rho_update": (0.0, 1.0),
    "delta_new": (0.0, 2.0),
    "gamma": (0.0, 10.0),
    "beta": (0.0, 50.0),
    "latency": (0.0, 0.0),  # from the step to the duration
}
"""What can be tuned, and from where to where; the first three are diart's."""

_POINTS_PER_S = 1.0  # of DER that a second of label latency costs in the metric "latency-aware"


def bounds(name: str, base: Settings) -> tuple[float, float]:
    """Lowest and highest value of a hyper-parameter; the latency is in seconds."""
    check_names({name: None}, BOUNDS, "hyper-parameter")
    return (base.step / base.rate, base.duration / base.rate) if name == "latency" else BOUNDS[name]


def values_of(settings: Settings, names: Sequence[str]) -> dict[str, float]:
    """The hyper-parameters of these names; the latency in seconds."""
    return {name: settings.latency / settings.rate if name == "latency" else getattr(settings, name) for name in names}


def with_values(base: Settings, values: Mapping[str, float]) -> Settings:
    """``base`` with other hyper-parameters: all that is not in ``values`` stays, its duration and step among it."""
    others = {name: value for name, value in values.items() if name != "latency"}
    latency = {"latency": round(values["latency"] * base.rate)} if "latency" in values else {}
    changed: Settings = replace(base, **others, **latency)  # type: ignore[arg-type]
    return changed


class Objective:
    """The error of one corpus by settings.

    Args:
        corpus: the recordings; those that cannot be used become problems.
        base: what a trial does not change.
        models: segmentation and embedding.
        metric: ``der``, ``jer``, or ``latency-aware``: DER in percent plus the median label latency in seconds.
        cache: of the features.

    Raises:
        UsageError: an unknown metric.

    """

    def __init__(
        self, corpus: Corpus, base: Settings, models: Models, *, metric: str = "der", cache: FeatureCache | None = None
    ) -> None:
        check_names({metric: None}, dict.fromkeys(METRICS), "metric")
        self._corpus, self._base, self._models, self._metric = corpus, base, models, metric
        self._cache = cache or FeatureCache(models)
        self._features: dict[str, Features] = {}
        self._pooling = pooling_of(base)  # of ``_pooled``
        self._pooled: dict[str, NDArray[np.float32]] = {}

    def prepare(self, on_file: Callable[[str], None] = lambda name: None, *, strict: bool = False) -> None:
        """Bring the features of all recordings into memory; those that other processes compute just now come last."""
        left = list(self._corpus.recordings.values())
        while left:
            recording = next((each for each in left if not self._busy(each)), left[0])
            left.remove(recording)
            try:
                features = self._cache.get(_audio(recording), self._base)
            except AudioError as error:
                self._corpus.problems[recording.name] = str(error)
                del self._corpus.recordings[recording.name]
                check_corpus(self._corpus, strict=strict)
                continue
            pooled = self._cache.embeddings(_audio(recording), features, self._base, keep=True)
            self._features[recording.name], self._pooled[recording.name] = features, pooled
            on_file(recording.name)

    def setup(self) -> dict[str, Any]:
        """What must not change between trials of a study."""
        models = {role: model_checksum(getattr(self._models, role), role) for role in ("segmentation", "embedding")}
        models["precision"] = self._models.precision
        recordings = sorted(self._corpus.recordings)
        truth = [(name, each.reference, each.uem) for name, each in sorted(self._corpus.recordings.items())]
        return {
            "recordings": recordings,
            "references": hashlib.sha256(json.dumps(truth).encode()).hexdigest()[:16],
            "settings": asdict(self._base),
            "models": models,
            "metric": self._metric,
        }

    def __call__(self, values: Mapping[str, float]) -> float:
        """The error in percent with these hyper-parameters."""
        settings = with_values(self._base, values)
        scores, late = [], []
        for recording in self._corpus.recordings.values():
            found, latency = self._score(recording, settings)
            scores.append(found)
            late.append(latency)
        total = total_values(scores, [None] * len(scores), 0.0)
        if self._metric == "latency-aware":
            return float(total["der"] + _POINTS_PER_S * float(np.mean(late)))
        return float(total[self._metric])

    def _score(self, recording: Recording, settings: Settings) -> tuple[Score, float]:
        if settings.latency == self._base.latency:
            features, embeddings = self._features[recording.name], self._embeddings(recording, settings)
        else:
            features = self._cache.get(_audio(recording), settings)
            embeddings = self._cache.embeddings(_audio(recording), features, settings)
        updates = diarize(features, embeddings, settings)
        length = features.length / settings.rate
        found = score(recording.reference, turns_of(updates, settings.rate), duration=length, uem=recording.uem)
        if self._metric != "latency-aware":
            return found, 0.0
        return found, streaming(updates, settings, audio_s=length, work_s=0.0).label_latency_s[0]

    def _embeddings(self, recording: Recording, settings: Settings) -> NDArray[np.float32]:
        """Made anew only when what decides them has changed."""
        if self._pooling != pooling_of(settings):
            self._pooling, self._pooled = pooling_of(settings), {}
        if recording.name not in self._pooled:
            features = self._features[recording.name]
            self._pooled[recording.name] = self._cache.embeddings(_audio(recording), features, settings)
        return self._pooled[recording.name]

    def _busy(self, recording: Recording) -> bool:
        return self._cache.busy(_audio(recording), self._base)


def _audio(recording: Recording) -> Any:
    if recording.audio is None:
        msg = f"{recording.name}: tuning needs its audio"
        raise UsageError(msg)
    return recording.audio
