"""How much of what enrolled people say gets their name, for each choice of three of the people of a conversation.

    python benchmarks/identify.py --shared ../shared [--latency 5]

Everybody is enrolled from his file of ``data/enrol``; the models go over ``data/conv5.flac`` once for each clustering (about a
minute; kept in the cache), then the clustering and identify stages run for every choice.
"""

import argparse
import itertools
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diart_mp.stages.clustering import Clustering
from diart_mp.stages.identify import Identify
from numpy.typing import NDArray

from diart_mp.config import Settings
from diart_mp.enrolment import enrol
from diart_mp.evaluation.features import FeatureCache, Features
from diart_mp.messages import Message, Plain
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.outputs.read import load_rttm
from diart_mp.runtime.local import Models
from diart_mp.runtime.stage import Chunk
from diart_mp.speakers import EnrolledSpeakers
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader

TICK = 160  # samples: turns are compared at 100 Hz
Ticks = dict[str, NDArray[np.bool_]]


def said(features: Features, embeddings: NDArray[np.float32], settings: Settings, speakers: Path) -> Ticks:
    """When each name or label is in the turns."""
    clustering = Clustering(StageConfig(name="clustering", keyed=True))
    identify = Identify(StageConfig(name="identify", keyed=True, options={"speakers": str(speakers)}))
    identify.open()
    rings, ticks, starts = RingReader(), Ticks(), features.starts.tolist()
    active = features.segmentation.max(axis=1) >= settings.tau_active
    heard = np.where(active[..., np.newaxis], embeddings, np.float32(np.nan))
    for seq, start in enumerate(starts):
        fields = {"settings": Plain(settings.to_map()), "segmentation": features.segmentation[seq]}
        fields |= {"embeddings": heard[seq]}
        message = Message(kind="chunk", stream="conv5", seq=seq, start=start, origin=starts[0], fields=fields)
        for stage in (clustering, identify):
            message = message.with_fields(dict(stage.process([Chunk(message, rings)])[0]))
        for begin, end, name in message.plain("turns")["turns"]:
            row = ticks.setdefault(name, np.zeros(features.length // TICK + 600, np.bool_))
            row[begin // TICK : end // TICK] = True
    return ticks


def shares(truth: Ticks, ticks: Ticks, chosen: Sequence[str]) -> tuple[float, float, float]:
    """Of the chosen ones' speech: named right; of that part of it that was taken for speech at all; of the most named stranger's."""
    nothing = np.zeros_like(next(iter(truth.values())))
    anybody = np.any([*ticks.values()], axis=0)
    right = sum(int((truth[name] & ticks.get(name, nothing)).sum()) for name in chosen)
    found = sum(int((truth[name] & anybody).sum()) for name in chosen)
    strangers = [name for name in truth if name not in chosen]
    wrong = np.any([nothing, *(ticks.get(name, nothing) & ~truth[name] for name in chosen)], axis=0)
    worst = max(float((truth[name] & wrong).sum() / truth[name].sum()) for name in strangers)
    return right / sum(int(truth[name].sum()) for name in chosen), right / found, worst


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--latency", type=float, default=5.0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(arguments.shared, arguments.latency, Path(folder))


def measure(shared: Path, latency: float, folder: Path) -> None:
    data = shared / "data"
    cache, audio = FeatureCache(Models()), data / "conv5.flac"
    models = load_segmentation("builtin"), load_embedding("builtin")
    voices = {file.stem: enrol([file], *models)[0] for file in sorted((data / "enrol").glob("*.flac"))}
    for clustering in ("exact", "adaptive"):
        settings = Settings.from_seconds(latency=latency, clustering=clustering)
        features = cache.get(audio, settings)
        embeddings = cache.embeddings(audio, features, settings, keep=True)
        truth = {name: np.zeros(features.length // TICK + 600, np.bool_) for name in voices}
        for start, end, name in load_rttm(data / "conv5.rttm")["conv5"]:
            truth[name][round(100 * start) : round(100 * end)] = True
        rows = []
        for chosen in itertools.combinations(voices, 3):
            file = folder / "three.json"
            EnrolledSpeakers(voices={name: voices[name] for name in chosen}).save(file)
            rows.append(shares(truth, said(features, embeddings, settings, file), chosen))
            print(
                clustering,
                " ".join(chosen),
                "right {:.1%}, of what was heard {:.1%}, stranger named {:.1%}".format(*rows[-1]),
            )
        mean, least = np.mean(rows, axis=0), np.min(rows, axis=0)
        print(
            f"{clustering}: right {mean[0]:.1%} (least {least[0]:.1%}), of what was heard {mean[1]:.1%} (least {least[1]:.1%})"
        )


if __name__ == "__main__":
    main()
