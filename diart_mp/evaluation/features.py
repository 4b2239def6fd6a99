"""What models say of a recording, computed once and kept on disk: everything that clustering needs, without the audio.

    cache = FeatureCache(Models())
    features = cache.get(Path("talk.wav"), settings)      # runs the models only the first time
    embeddings = cache.embeddings(Path("talk.wav"), features, settings)
    updates = diarize(features, embeddings, settings)      # evaluation.replay

A file of the cache (``evaluation.feature_files``) belongs to one recording, one pair of models, one window and one step, all by
checksum. Settings that only clustering or pooling looks at are not part of it: tau, rho, delta,
latency, and gamma and beta where the embedding model has a pooling of its own. Knows nothing of processes, references or
scores. Runs in the command.
"""

import hashlib
import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.file import FileSource, check
from diart_mp.audio.resample import resample_windows
from diart_mp.audio.sound import has_sound, listen
from diart_mp.audio.windows import WindowPlan
from diart_mp.blocks.embeddings import normalize_embeddings
from diart_mp.blocks.weights import overlap_aware_weights
from diart_mp.config import Settings
from diart_mp.errors import AudioError, ModelError
from diart_mp.evaluation.feature_files import LIMIT_GB, FeatureFiles
from diart_mp.messages import Message, Plain
from diart_mp.models.base import EmbeddingModel, SegmentationModel, SplitEmbeddingModel
from diart_mp.models.builtin import cache_folder
from diart_mp.models.checksum import file_checksum, model_checksum
from diart_mp.precision import Precision
from diart_mp.runtime.local import Models
from diart_mp.runtime.stage import Chunk
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader

_VERSION = 2
_BATCH = 32  # windows per call of a model
_ROLES = ("segmentation", "embedding")


@dataclass(frozen=True, slots=True, eq=False)
class Features:
    """The windows of one recording of ``length`` samples, in order.

    starts: (windows,) int64, first sample of each, negative where it begins before the recording. segmentation: (windows,
    frames, local speakers) float32. silent: (windows,) bool, where all samples are zero. trunk: (windows, rows, channels)
    float32, of embedding models that have one. key: what the cache calls it.
    """

    key: str
    length: int
    starts: NDArray[np.int64]
    segmentation: NDArray[np.float32]
    silent: NDArray[np.bool_]
    trunk: NDArray[np.float32] | None

    def first(self, count: int) -> "Features":
        """The first ``count`` windows alone."""
        trunk = None if self.trunk is None else self.trunk[:count]
        return replace(
            self,
            starts=self.starts[:count],
            segmentation=self.segmentation[:count],
            silent=self.silent[:count],
            trunk=trunk,
        )


class FeatureCache:
    """Features by recording and settings. ``folder``: default is the cache folder of the program (DIART_MP_CACHE).

    ``limit_gb``: what was used longest ago is removed once there is more; nothing of the last hour is.

    Several processes may share a folder: what one computes the others wait for. Models are loaded when they are needed.
    """

    def __init__(self, models: Models | None = None, folder: Path | None = None, *, limit_gb: float = LIMIT_GB) -> None:
        self._models = models or Models()
        self._files = FeatureFiles(folder or cache_folder() / "features", limit_gb)
        self._checksums = {role: model_checksum(getattr(self._models, role), role) for role in _ROLES}
        self._audio: dict[Path, tuple[tuple[int, int], str]] = {}
        self._loaded: tuple[SegmentationModel, EmbeddingModel] | None = None

    def get(self, audio: Path, settings: Settings) -> Features:
        """The features of a recording; computed if the cache has none, or damaged ones.

        Raises AudioError, ModelError, and OutputError where the cache cannot be written.
        """
        key, longest = self._key(audio, settings)
        features = _features(key, self._files.read(key))
        if features is None:
            with self._files.locked(key):
                features = _features(key, self._files.read(key))
                if features is None:
                    features = self._compute(audio, longest, key)
                    self._files.save(key, {**_arrays(features), "length": np.array(features.length)})
        return features.first(_count(features, settings))

    def busy(self, audio: Path, settings: Settings) -> bool:
        """Whether another process computes the features of a recording just now."""
        return self._files.busy(self._key(audio, settings)[0])

    def embeddings(
        self, audio: Path, features: Features, settings: Settings, *, keep: bool = False
    ) -> NDArray[np.float32]:
        """Of every local speaker, shape (windows, local speakers, dimension), unit length or NaN.

        Pooled from the trunk, and kept on disk if that is asked for. For models without a trunk, and for the adaptive
        clustering, the audio is gone through again where something in ``pooling_of`` is new, and the result is always kept.
        """
        pooling = pooling_of(settings)
        key = _digest({"features": features.key, "pooling": pooling})
        arrays = self._files.read(key)
        if arrays is None and not keep and features.trunk is not None and settings.clustering == "exact":
            return self._pooled(features, settings)
        if arrays is None:
            with self._files.locked(key):
                arrays = self._files.read(key)
                if arrays is None:
                    arrays = {"embeddings": self._embedded(audio, settings)}
                    self._files.save(key, arrays)
        found: NDArray[np.float32] = arrays["embeddings"][: len(features.starts)]
        return found

    def _key(self, audio: Path, settings: Settings) -> tuple[str, Settings]:
        """What the cache calls a recording, and the settings with which its windows are found.

        Less latency means fewer windows of silence at the end, so those of the highest latency serve for all; only a
        recording that is hardly longer than a window begins elsewhere.
        """
        duration = check(audio, rate=settings.rate).duration
        short = duration is None or duration < settings.duration / settings.rate + 1.0
        longest = settings if short else _longest(settings)
        windows = {name: getattr(longest, name) for name in ("rate", "duration", "step", "latency", "start")}
        models = {**self._checksums, "precision": self._models.precision}
        values = {"version": _VERSION, "audio": self._audio_checksum(audio), "models": models, **windows}
        return _digest(values), longest

    def _audio_checksum(self, audio: Path) -> str:
        """Of the file's content; computed again only when the file has changed."""
        status = audio.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if self._audio.get(audio, (None, ""))[0] != stamp:
            self._audio[audio] = (stamp, file_checksum(audio))
        return self._audio[audio][1]

    def _load_models(self) -> tuple[SegmentationModel, EmbeddingModel]:
        if self._loaded is None:
            from diart_mp.models.load import load_embedding, load_segmentation

            device, threads = self._models.device, self._models.threads
            precision = Precision(self._models.precision)
            self._loaded = (
                load_segmentation(self._models.segmentation, device=device, threads=threads, precision=precision),
                load_embedding(self._models.embedding, device=device, threads=threads, precision=precision),
            )
        return self._loaded

    def _compute(self, audio: Path, settings: Settings, key: str) -> Features:
        segmentation, embedding = self._load_models()
        starts, scores, silent, trunks = list[int](), [], list[bool](), []
        plan = WindowPlan(settings)
        for first, waveforms in batches(audio, plan, settings):
            starts += first
            heard = resample_windows(waveforms, settings.rate, segmentation.sample_rate)
            scores.append(np.asarray(segmentation(heard), np.float32))
            silent += [not has_sound(waveform) for waveform in waveforms]
            if isinstance(embedding, SplitEmbeddingModel):
                trunks.append(embedding.trunk(resample_windows(waveforms, settings.rate, embedding.sample_rate)))
        if not starts:
            msg = f"{audio}: holds no audio (0 s)"
            raise AudioError(msg)
        found = np.concatenate(scores)
        if found.ndim != 3 or not np.isfinite(found).all():
            msg = f"the model '{self._models.segmentation}' gave no finite scores of shape (windows, frames, speakers)"
            raise ModelError(msg)
        trunk = np.concatenate(trunks) if trunks else None
        return Features(key, plan.samples, np.array(starts), found, np.array(silent), trunk)

    def _pooled(self, features: Features, settings: Settings) -> NDArray[np.float32]:
        model = self._load_models()[1]
        if not isinstance(model, SplitEmbeddingModel) or features.trunk is None:
            msg = f"the model '{self._models.embedding}' has no pooling of its own"
            raise ModelError(msg)
        everyone = np.ones(features.segmentation.shape[::2], np.bool_)
        samples = round(settings.duration * model.sample_rate / settings.rate)
        rows = model.pool(features.trunk, _weights(features.segmentation, settings), everyone, samples)
        return normalize_embeddings(np.asarray(rows, np.float32)).astype(np.float32, copy=False)

    def _embedded(self, audio: Path, settings: Settings) -> NDArray[np.float32]:
        """Of all windows that the cache has, by pooling or, without a trunk, by the whole model."""
        longest = self._key(audio, settings)[1]
        features = self.get(audio, longest)
        if features.trunk is not None and settings.clustering == "exact":
            return self._pooled(features, settings)
        if settings.clustering == "exact":
            settings = replace(settings, tau_active=0.0)  # everybody's, so that they serve for any threshold
        stages: Any = importlib.import_module("diart_mp.stages.embedding")  # this folder lies elsewhere in the checkout
        models, rings, rows = self._models, RingReader(), list[Any]()
        stage = stages.Embedding(
            StageConfig(
                name="embedding",
                model=models.embedding,
                device=models.device,
                precision=models.precision,
                threads=models.threads,
            )
        )
        stage.open()
        common = Plain(settings.to_map())
        for _, waveforms in batches(audio, WindowPlan(longest), longest):
            scores = features.segmentation[len(rows) : len(rows) + len(waveforms)]
            fields = [
                {"settings": common, "audio": waveform, "segmentation": each}
                for waveform, each in zip(waveforms, scores, strict=True)
            ]
            chunks = [Chunk(Message(kind="chunk", stream="features", seq=0, fields=each), rings) for each in fields]
            rows += [answer["embeddings"] for answer in stage.process(chunks)]
        return np.stack(rows).astype(np.float32, copy=False)


def pooling_of(settings: Settings) -> tuple[Any, ...]:
    """What, beside the windows, decides the embeddings: for the adaptive clustering it is the threshold of speech."""
    if settings.clustering != "exact":
        return (settings.clustering, settings.tau_active)
    return (settings.gamma, settings.beta, settings.normalize_embedding_weights)


def batches(
    audio: Path, plan: WindowPlan, settings: Settings, size: int = _BATCH
) -> Iterator[tuple[list[int], NDArray[np.float32]]]:
    """All windows of a recording as ``plan`` gives them: first samples, and audio of shape (windows, duration).

    The recording is read block by block, as capture does; what lies before it and after it is silence.
    """
    starts, waveforms = list[int](), list[NDArray[np.float32]]()
    with FileSource(audio, rate=settings.rate) as source:
        kept, begin, ended = np.zeros(0, np.float32), 0, False
        while not plan.finished:
            block = source.read()
            if block is None:
                ended = True
                plan.finish()
            else:
                listen(plan, block)
                kept = np.concatenate([kept, block])
                plan.advance(len(block))
            while (window := plan.take()) is not None:
                starts.append(window.start)
                waveforms.append(_cut(kept, window.start - begin, settings.duration))
                if len(starts) == size:
                    yield starts, np.stack(waveforms)
                    starts, waveforms = [], []
            if not ended and plan.next is not None and plan.next > begin:
                kept, begin = kept[plan.next - begin :], plan.next
    if starts:
        yield starts, np.stack(waveforms)


def _cut(kept: NDArray[np.float32], start: int, length: int) -> NDArray[np.float32]:
    """``length`` samples from ``start`` on; zeros where there are none."""
    inside = kept[max(0, start) : max(0, start + length)]
    before = min(length, max(0, -start))
    return np.pad(inside, (before, length - before - len(inside)))


def _weights(segmentation: NDArray[np.float32], settings: Settings) -> NDArray[np.float32]:
    weights = overlap_aware_weights(
        segmentation, gamma=settings.gamma, beta=settings.beta, normalize=settings.normalize_embedding_weights
    )
    return weights.astype(np.float32, copy=False)


def _longest(settings: Settings) -> Settings:
    return replace(settings, latency=settings.duration)


def _count(features: Features, settings: Settings) -> int:
    """How many of the windows there are at the latency of ``settings`` (see ``WindowPlan``)."""
    covered = features.starts[:-1] + settings.duration
    return 1 + int(np.count_nonzero(covered < features.length + settings.latency - settings.step))


def _arrays(features: Features) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {
        "starts": features.starts,
        "segmentation": features.segmentation,
        "silent": features.silent,
    }
    return arrays if features.trunk is None else {**arrays, "trunk": features.trunk}


def _features(key: str, arrays: Mapping[str, NDArray[Any]] | None) -> Features | None:
    if arrays is None:
        return None
    return Features(
        key, int(arrays["length"]), arrays["starts"], arrays["segmentation"], arrays["silent"], arrays.get("trunk")
    )


def _digest(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:32]
