"""`--clustering adaptive` beside `exact`: errors of what is said at once and of what is known in the end, speakers, flicker.

    python -m benchmarks.clustering [--shared FOLDER] [--cache FOLDER] [--latency 0.5 --latency 5.0 ...] [--hour|--made] [NAME ...]

Reads recordings and references from the folder of shared facts (``data/NAME.flac``). The models run once per recording
(``evaluation.features``, kept in the cache), then the clustering stage itself is run on what they say, at default settings; that this is
what the pipeline says is tested. DER: no collar, overlap included, over the whole recording; the mean gives each recording
one vote. Label changes: a speaker ends and another one begins within 50 ms, in the middle of a turn of the reference, per minute.
First label: from a speaker's first word until his label, as matched over the whole recording, is heard (median over speakers).

``--hour``: the recordings one after the other, again and again for an hour: time per window, size of the state, and whether who
comes back after 20 minutes has his label. ``--made``: 24 short conversations of two to four readers (``benchmarks.conversations``),
half of them quiet, noisy and reverberant, instead of the recordings. The rows ``without ...`` take one part of the adaptive clustering away.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean, median
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.conversations import conversations
from diart_mp.blocks.diarization import OnlineDiarization
from diart_mp.config import Settings
from diart_mp.evaluation.der import SpeakerTurn, compare, diarization_error
from diart_mp.evaluation.features import FeatureCache, Features
from diart_mp.evaluation.replay import diarize
from diart_mp.outputs.read import load_rttm
from diart_mp.outputs.revising import RevisedTurns
from diart_mp.outputs.stitching import Stitcher
from diart_mp.runtime.state import pack_state
from diart_mp.turns import Turn, Update

HINDSIGHT, ADAPTIVE = "diart_mp.blocks.hindsight", "diart_mp.blocks.adaptive"
STEADY, DIARIZATION = "diart_mp.blocks.steady", "diart_mp.blocks.diarization"
ABLATIONS: dict[str, dict[str, float]] = {
    "hindsight in live labels": {f"{HINDSIGHT}.OFTEN_S": 1e9},
    "doubt of unsure voices": {f"{ADAPTIVE}.SURE_S": 0.0},
    "correction for shortness": {f"{ADAPTIVE}.NOISE": 0.0, f"{ADAPTIVE}.NEAREST": 0.9},
    "pushing apart": {f"{HINDSIGHT}._APART": 0.0},
    "a higher score for what is said": {f"{DIARIZATION}._SURER": 0.0},
    "a second region for new names": {f"{STEADY}.KNOWN_S": 0.0},
    "a minimum of speech": {f"{HINDSIGHT}._SHORTEST_S": 0.1, f"{HINDSIGHT}._SOMEBODY_S": 0.1, f"{ADAPTIVE}.FOUNDING_S": 0.1},
    "a long horizon (10 s)": {f"{HINDSIGHT}.HORIZON_S": 10.0},
}  # fmt: skip
"""What is taken away, by what it is then; where distances are not corrected, the threshold fits that."""


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording with its reference (s) and what the models say of it."""

    path: Path
    reference: Sequence[SpeakerTurn]
    features: Features
    embeddings: dict[str, Any]  # by clustering

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.features.length / Settings().rate


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one recording and run: errors in percent, numbers of speakers, label changes, seconds until a speaker's first label."""

    live: float
    revised: float
    speakers: tuple[int, int]
    changes: int
    first: Sequence[float]


def load(shared: Path, names: Sequence[str], cache: FeatureCache) -> Iterator[Recording]:
    """The recordings that have a reference, by name."""
    for path in sorted((shared / "data").glob("*.*")):
        if (
            path.suffix in (".flac", ".wav")
            and path.with_suffix(".rttm").exists()
            and (not names or path.stem in names)
        ):
            turns = load_rttm(path.with_suffix(".rttm"))
            yield recorded(path, [turn for each in turns.values() for turn in each], cache)


def made(shared: Path, folder: Path, cache: FeatureCache) -> Iterator[Recording]:
    """Conversations of readers, made in ``folder``."""
    for people, part, noisy in itertools.product((2, 3, 4), "ab", (False, True)):
        speakers, kind = shared / "data" / "speakers", "noisy" if noisy else "clean"
        talks = conversations(speakers, folder / f"{people}", count=2, part=part, noisy=noisy, people=people)
        for number, talk in enumerate(talks):
            path = talk.audio.rename(talk.audio.with_name(f"{people}-{part}{number}-{kind}.flac"))
            yield recorded(path, talk.reference, cache)


def recorded(path: Path, reference: Sequence[SpeakerTurn], cache: FeatureCache) -> Recording:
    """Have the models hear one recording, or remember what they said."""
    longest = Settings.from_seconds(latency="max")
    features = cache.get(path, longest)
    kinds = {kind: replace(longest, clustering=kind) for kind in ("exact", "adaptive")}
    embeddings = {kind: cache.embeddings(path, features, each, keep=True) for kind, each in kinds.items()}
    return Recording(path, reference, features, embeddings)


def run(recording: Recording, settings: Settings) -> list[Update]:
    """What the clustering stage says."""
    covered = recording.features.starts[:-1] + settings.duration
    count = 1 + int(np.count_nonzero(covered < recording.features.length + settings.latency - settings.step))
    return diarize(recording.features.first(count), recording.embeddings[settings.clustering][:count], settings)


def turns_of(updates: Sequence[Update], rate: int) -> tuple[list[SpeakerTurn], list[SpeakerTurn]]:
    """What was said at once, and what is known in the end."""
    stitcher, known = Stitcher(rate), RevisedTurns(rate)
    said = list[Turn]()
    for update in updates:
        said += stitcher.push(update)
        known.push(update)
    both = (said + stitcher.finish(), known.turns())
    live, revised = ([(turn.start / rate, turn.end / rate, turn.speaker) for turn in turns] for turns in both)
    return live, revised


def changes(reference: Sequence[SpeakerTurn], said: Sequence[SpeakerTurn]) -> int:
    """How often the label changes while one person goes on talking."""
    ends = [
        end
        for _, end, before in said
        if any(abs(start - end) < 0.05 and speaker != before for start, _, speaker in said)
    ]
    return sum(
        any(start + 0.25 < end < stop - 0.25 for start, stop, _ in reference)
        and sum(start < end < stop for start, stop, _ in reference) == 1
        for end in ends
    )


def first_labels(reference: Sequence[SpeakerTurn], said: Sequence[SpeakerTurn], length: float) -> list[float]:
    """Seconds of each speaker from his first word to the first of it that has his label."""
    label = {speaker: name for name, speaker in compare(reference, said, duration=length).matched.items()}
    waits = []
    for speaker in {speaker for *_, speaker in reference}:
        begin = min(start for start, _, who in reference if who == speaker)
        heard = [max(start, begin) for start, end, name in said if name == label.get(speaker) and end > begin]
        waits.append(min(heard, default=length) - begin)
    return waits


def measure(recording: Recording, settings: Settings) -> Figures:
    """Run and score one recording."""
    live, revised = turns_of(run(recording, settings), settings.rate)
    errors = [
        diarization_error(recording.reference, turns, duration=recording.seconds).rate for turns in (live, revised)
    ]
    return Figures(
        100 * errors[0],
        100 * errors[1],
        (len({who for *_, who in recording.reference}), len({who for *_, who in revised})),
        changes(recording.reference, live),
        first_labels(recording.reference, live, recording.seconds),
    )


@contextmanager
def without(values: dict[str, float]) -> Iterator[None]:
    """Other values for some constants."""
    patches = [mock.patch(name, value) for name, value in values.items()]
    for patch in patches:
        patch.start()
    try:
        yield
    finally:
        for patch in patches:
            patch.stop()


def compare_at(recordings: Sequence[Recording], latency: str) -> None:
    """The table of one latency, and its ablations."""
    base = Settings.from_seconds(latency=float(latency))
    exact, adaptive = (
        [measure(each, replace(base, clustering=kind)) for each in recordings] for kind in ("exact", "adaptive")
    )
    say = print
    say(f"latency {latency} s     exact %   live %  revised %   speakers: there  exact  revised")
    for recording, old, new in zip(recordings, exact, adaptive, strict=True):
        counts = f"{old.speakers[0]:22}{old.speakers[1]:7}{new.speakers[1]:9}"
        say(f"{recording.path.stem:<16}{old.live:10.1f}{new.live:9.1f}{new.revised:11.1f}{counts}")
    minutes = sum(each.seconds for each in recordings) / 60
    for name, values in (("exact", exact), ("adaptive", adaptive)):
        waits = [wait for each in values for wait in each.first]
        say(f"{name + ': mean':<16}{_means(values, minutes, 19)}, first label {median(waits):.2f} s")
    for what, values in ABLATIONS.items():
        with without(values):
            rows = [measure(each, replace(base, clustering="adaptive")) for each in recordings]
        say(f"without {what:<31}{_means(rows, minutes, 5)}")
    say("", flush=True)


def _means(rows: Sequence[Figures], minutes: float, width: int) -> str:
    """Of the two errors, and label changes per minute; the first number takes ``width``."""
    live, revised = (fmean(getattr(row, kind) for row in rows) for kind in ("live", "revised"))
    return (
        f"{live:{width}.1f}{revised:11.1f}   label changes per minute {sum(row.changes for row in rows) / minutes:.2f}"
    )


def an_hour(recordings: Sequence[Recording], seconds: float = 3600.0) -> None:
    """All recordings again and again as one stream: cost over time, and labels of those who come back."""
    settings = Settings.from_seconds(latency=0.5, clustering="adaptive")
    block = OnlineDiarization(settings)
    times, sizes, heard = list[float](), list[int](), list[tuple[str, float, dict[str, str]]]()
    offset, known = 0, RevisedTurns(settings.rate)
    while offset < seconds * settings.rate:
        for recording in recordings:
            begin = offset
            for place in range(int((recording.features.length - settings.duration) / settings.step)):
                scores, embeddings = recording.features.segmentation[place], recording.embeddings["adaptive"][place]
                clock = time.process_time()
                region = block(offset, scores, embeddings)
                revision = block.revision()
                times.append(time.process_time() - clock)
                turns = tuple(Turn(start, end, str(speaker)) for start, end, speaker in region.turns)
                known.push(
                    Update("hour", len(times), region.start, region.end, settings.rate, turns, None, _named(revision))
                )
                offset += settings.step
            sizes.append(len(pack_state(block.state())))
            heard.append((recording.path.stem, begin / settings.rate, {}))
    turns = [(turn.start / settings.rate, turn.end / settings.rate, turn.speaker) for turn in known.turns()]
    _report_hour(recordings, times, sizes, [(name, begin) for name, begin, _ in heard], turns)


def _named(revision: Any) -> Any:
    from diart_mp.turns import Revision

    if revision is None:
        return None
    turns = tuple(Turn(start, end, str(speaker)) for start, end, speaker in revision.turns)
    return Revision(revision.start, revision.end, turns, tuple((str(a), str(b)) for a, b in revision.renamed.items()))


def _report_hour(
    recordings: Sequence[Recording],
    times: Sequence[float],
    sizes: Sequence[int],
    heard: Sequence[tuple[str, float]],
    turns: Sequence[SpeakerTurn],
) -> None:
    quarter = len(times) // 4
    ms = [1000 * fmean(times[i * quarter : (i + 1) * quarter]) for i in range(4)]
    say = print
    say(
        f"an hour: CPU time per window by quarter {', '.join(f'{value:.2f}' for value in ms)} ms; longest {1000 * max(times):.0f} ms"
    )
    say(
        f"state after each pass {', '.join(f'{size / 1000:.0f}' for size in sizes[len(recordings) - 1 :: len(recordings)])} kB"
    )
    by_name = {each.path.stem: each for each in recordings}
    same = total = 0
    first: dict[tuple[str, str], str] = {}
    when: dict[tuple[str, str], float] = {}
    for name, begin in heard:
        recording = by_name[name]
        here = [
            (max(0.0, a - begin), b - begin, who) for a, b, who in turns if b > begin and a < begin + recording.seconds
        ]
        matched = {
            who: label for label, who in compare(recording.reference, here, duration=recording.seconds).matched.items()
        }
        for who, label in matched.items():
            key = (name, who)
            if key in first and begin - when[key] >= 1200:
                total += 1
                same += first[key] == label
            first.setdefault(key, label)
            when[key] = begin
    say(f"who came back after 20 minutes or more: {same} of {total} have the label that they had at first")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(__file__).resolve().parents[2] / "shared"
    parser.add_argument("names", nargs="*", metavar="NAME", help="recordings; default: all")
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared facts (default: %(default)s)")
    parser.add_argument("--cache", type=Path, help="folder for what the models say (default: the program's cache)")
    parser.add_argument("--latency", action="append", help="may be repeated; default: 0.5 and 5.0")
    parser.add_argument("--hour", action="store_true", help="an hour-long stream instead")
    parser.add_argument("--made", action="store_true", help="conversations of readers instead")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        cache = FeatureCache(folder=arguments.cache)
        found = (
            made(arguments.shared, Path(folder), cache)
            if arguments.made
            else load(arguments.shared, arguments.names, cache)
        )
        recordings = list(found)
    if arguments.hour:
        an_hour(recordings)
        return
    for latency in arguments.latency or ("0.5", "5.0"):
        compare_at(recordings, latency)


if __name__ == "__main__":
    main()
