"""How much of what enrolled people say gets their name, for each choice of three of the people of a conversation.

    python -m benchmarks.identify [--shared ../shared] [--made 6] [--latency 5] [--cache FOLDER]

``conv5``: everybody is enrolled from his file of ``data/enrol``; ten minutes. ``clean a`` to ``noisy b``: ``--made`` conversations of five other
readers each, three quarters of a minute long (``benchmarks/conversations.py``); the mean embedding that the program subtracts is of readers of
part a, those of part b had no part in it. The models go over all of it once for each clustering (a minute for ten minutes; kept in the
cache), then the clustering and identify stages themselves are run. ``in the end``: with all revisions, as in RTTM.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from diart_mp.stages.clustering import Clustering
from diart_mp.stages.identify import Identify
from numpy.typing import NDArray

from benchmarks.conversations import conversations
from diart_mp.config import Settings
from diart_mp.enrolment import enrol
from diart_mp.errors import AudioError
from diart_mp.evaluation.der import SpeakerTurn
from diart_mp.evaluation.features import FeatureCache
from diart_mp.messages import Message, Plain
from diart_mp.models.load import load_embedding, load_segmentation
from diart_mp.outputs.read import load_rttm
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.runtime.answers import revision_from_plain, turns_from_plain
from diart_mp.runtime.local import Models
from diart_mp.runtime.stage import Chunk
from diart_mp.speakers import EnrolledSpeakers
from diart_mp.topology import StageConfig
from diart_mp.transport.ring import RingReader
from diart_mp.turns import Update

TICKS = 100  # per second, at which turns are compared
Ticks = dict[str, NDArray[np.bool_]]
Voices = dict[str, NDArray[np.float32]]


@dataclass(frozen=True, slots=True)
class Talk:
    """One conversation: its set, its reference (s), and the voices of those who can be enrolled."""

    kind: str
    audio: Path
    reference: Sequence[SpeakerTurn]
    voices: Voices


def talks(data: Path, made: int, folder: Path) -> Iterator[Talk]:
    """All conversations; who has said too little for an enrolment stays a stranger."""
    models = load_segmentation("builtin"), load_embedding("builtin")

    def voices(files: dict[str, Path]) -> Voices:
        found = Voices()
        for name, file in files.items():
            try:
                found[name] = enrol([file], *models)[0]
            except AudioError as error:
                print(f"not enrolled: {error}")
        return found

    own = {file.stem: file for file in sorted((data / "enrol").glob("*.flac"))}
    yield Talk("conv5", data / "conv5.flac", load_rttm(data / "conv5.rttm")["conv5"], voices(own))
    for noisy, part in itertools.product((False, True), "ab"):
        for each in conversations(data / "speakers", folder, count=made, part=part, noisy=noisy):
            kind = f"{'noisy' if noisy else 'clean'} {part}"
            yield Talk(kind, each.audio, each.reference, voices(each.enrolment))


def clustered(cache: FeatureCache, audio: Path, settings: Settings) -> tuple[list[Message], int]:
    """The chunks of a conversation behind clustering, its end last, and its length in ticks with room for late ends."""
    features = cache.get(audio, settings)
    embeddings = cache.embeddings(audio, features, settings, keep=True)
    stage, rings, starts = (
        Clustering(StageConfig(name="clustering", keyed=True)),
        RingReader(),
        features.starts.tolist(),
    )
    active = features.segmentation.max(axis=1) >= settings.tau_active
    heard = np.where(active[..., np.newaxis], embeddings, np.float32(np.nan))
    chunks, common = list[Message](), {"settings": Plain(settings.to_map())}
    for seq, start in enumerate(starts):
        fields = {**common, "segmentation": features.segmentation[seq], "embeddings": heard[seq]}
        message = Message(kind="chunk", stream="talk", seq=seq, start=start, origin=starts[0], fields=fields)
        chunks.append(message.with_fields(dict(stage.process([Chunk(message, rings)])[0])))
    end = Message(kind="end", stream="talk", seq=len(starts), origin=starts[0], fields=common)
    chunks.append(end.with_fields(dict(stage.finish(Chunk(end, rings)))))
    return chunks, features.length * TICKS // settings.rate + 7 * TICKS


def said(chunks: Sequence[Message], length: int, speakers: Path, rate: int) -> tuple[Ticks, Ticks]:
    """When each name or label is in the turns: as they are said at once, and as they are known in the end."""
    identify, rings = (
        Identify(StageConfig(name="identify", keyed=True, options={"speakers": str(speakers)})),
        RingReader(),
    )
    identify.open()
    known, live = RevisedTurns(rate), list[SpeakerTurn]()
    for message in chunks:
        chunk = Chunk(message, rings)
        answer = identify.finish(chunk) if message.kind == "end" else identify.process([chunk])[0]
        named = message.with_fields(dict(answer))
        turns = turns_from_plain(named.plain("turns"))[1] if "turns" in named.fields else ()
        revision = revision_from_plain(named.plain("revision")) if "revision" in named.fields else None
        known.push(Update("talk", message.seq, 0, 0, rate, turns, revision=revision))
        live += [(turn.start / rate, turn.end / rate, turn.speaker) for turn in turns]
    final = [(turn.start / rate, turn.end / rate, turn.speaker) for turn in known.turns()]
    return ticks(live, length), ticks(final, length)


def ticks(turns: Sequence[SpeakerTurn], length: int) -> Ticks:
    """When each of the speakers talks."""
    rows = Ticks()
    for start, end, name in turns:
        rows.setdefault(name, np.zeros(length, np.bool_))[round(TICKS * start) : round(TICKS * end)] = True
    return rows


def counts(truth: Ticks, found: Ticks, chosen: Sequence[str]) -> NDArray[np.float64]:
    """In ticks: of the chosen ones' speech, named right, heard at all, all; of the strangers', called by a chosen one's name, all."""
    nothing = np.zeros_like(next(iter(truth.values())))
    anybody = np.any([nothing, *found.values()], axis=0)
    wrong = np.any([nothing, *(found.get(name, nothing) & ~truth[name] for name in chosen)], axis=0)
    strangers = [truth[name] for name in truth if name not in chosen]
    return np.array(
        [
            sum((truth[name] & found.get(name, nothing)).sum() for name in chosen),
            sum((truth[name] & anybody).sum() for name in chosen),
            sum(truth[name].sum() for name in chosen),
            sum((each & wrong).sum() for each in strangers),
            sum(each.sum() for each in strangers),
        ],
        np.float64,
    )


def measure(talk: Talk, cache: FeatureCache, settings: Settings, file: Path) -> NDArray[np.float64]:
    """``counts`` for all choices of three: (choices, at once and in the end, 5)."""
    chunks, length = clustered(cache, talk.audio, settings)
    truth, rows = ticks(talk.reference, length), []
    for chosen in itertools.combinations(talk.voices, 3):
        EnrolledSpeakers(voices={name: talk.voices[name] for name in chosen}).save(file)
        rows.append([counts(truth, found, chosen) for found in said(chunks, length, file, settings.rate)])
    return np.array(rows)


def report(clustering: str, kind: str, rows: NDArray[np.float64]) -> None:
    """Shares over all choices, and of the least lucky one."""
    for when, each in (("at once", rows[:, 0]), ("in the end", rows[:, 1])):
        right, heard, spoken, wrong, strange = each.sum(axis=0)
        least, most = (each[:, 0] / each[:, 2]).min(), (each[:, 3] / each[:, 4]).max()
        print(
            f"{clustering:<9}{kind:<8}{when:<11}right {right / spoken:.1%} (least {least:.1%}), of what was heard "
            f"{right / heard:.1%}; strangers named {wrong / strange:.1%} (most {most:.1%})",
            flush=True,
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shared", type=Path, default=Path(__file__).resolve().parents[2] / "shared")
    parser.add_argument("--made", type=int, default=6, help="conversations of each set (default: %(default)s)")
    parser.add_argument("--latency", type=float, default=5.0)
    parser.add_argument("--cache", type=Path, help="folder for what the models say (default: the program's cache)")
    arguments = parser.parse_args()
    base, cache = Settings.from_seconds(latency=arguments.latency), FeatureCache(Models(), arguments.cache)
    with tempfile.TemporaryDirectory() as folder:
        found = list(talks(arguments.shared / "data", arguments.made, Path(folder)))
        for clustering in ("exact", "adaptive"):
            rows: dict[str, list[NDArray[np.float64]]] = {}
            for talk in found:
                settings = replace(base, clustering=clustering)
                rows.setdefault(talk.kind, []).append(measure(talk, cache, settings, Path(folder) / "three.json"))
            for kind, each in rows.items():
                report(clustering, kind, np.concatenate(each))


if __name__ == "__main__":
    main()
