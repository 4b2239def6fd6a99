"""Clustering alone, from features that are there: the same turns as the pipeline gives, without models or processes.

The clustering stage itself is run, in this process, on chunks with the fields that the other stages would have added. Runs in
the command.
"""

import importlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.config import Settings
from diart_mp.evaluation.features import Features
from diart_mp.messages import FieldValue, Message, Plain
from diart_mp.runtime.answers import revision_from_plain, turns_from_plain
from diart_mp.runtime.stage import Chunk
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader
from diart_mp.turns import Revision, Update

_STREAM = "replay"


def diarize(features: Features, embeddings: NDArray[np.float32], settings: Settings) -> list[Update]:
    """The updates of one recording. ``embeddings``: (windows, local speakers, dimension), of all local speakers."""
    stages: Any = importlib.import_module("diart_mp.stages.clustering")  # this folder lies elsewhere in the checkout
    stage, rings = stages.Clustering(StageConfig(name="clustering")), RingReader()
    active = features.segmentation.max(axis=1) >= settings.tau_active
    heard = np.where(active[..., np.newaxis], embeddings, np.float32(np.nan))
    starts, common = features.starts.tolist(), Plain(settings.to_map())
    updates = list[Update]()
    for seq, start in enumerate(starts):
        fields: dict[str, FieldValue] = {
            "settings": common,
            "segmentation": features.segmentation[seq],
            "embeddings": heard[seq],
            **({"silent": Plain(value=True)} if features.silent[seq] else {}),
        }
        message = Message(
            kind="chunk", stream=_STREAM, seq=seq, start=start, origin=starts[0], rate=settings.rate, fields=fields
        )
        answer = stage.process([Chunk(message, rings)])[0]
        region, turns = turns_from_plain(_plain(answer, "turns"))
        updates.append(Update(_STREAM, seq, *region, settings.rate, turns, revision=_revision(answer)))
    end = Message(kind="end", stream=_STREAM, seq=len(starts), origin=starts[0], fields={"settings": common})
    if updates and (last := _revision(stage.finish(Chunk(end, rings)))) is not None:
        updates.append(Update(_STREAM, end.seq, updates[-1].end, updates[-1].end, settings.rate, (), revision=last))
    return updates


def _revision(answer: Mapping[str, FieldValue]) -> Revision | None:
    return revision_from_plain(_plain(answer, "revision")) if "revision" in answer else None


def _plain(answer: Mapping[str, FieldValue], name: str) -> Any:
    value = answer[name]
    if not isinstance(value, Plain):
        msg = f"the clustering stage answered with {type(value).__name__}"
        raise TypeError(msg)
    return value.value
