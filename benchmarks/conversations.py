"""Conversations put together from utterances of readers, for measuring what recordings with a reference are too few for.

Of each reader there is one utterance. Its first part is for enrolling him; the rest he says in the conversation, a few words at a time and
every word once. So nothing that is said was enrolled, but both are of one recording: the same
microphone, room and day, which is easier than life. ``noisy`` conversations make up for that: every speaker has a place of his own
in a made-up room, there is noise 20 dB below speech, and all is quiet, while the enrolment stays as it was.

Used by ``benchmarks/identify.py``; the same arguments give the same samples.
"""

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from diart_mp.evaluation.der import SpeakerTurn

RATE = 16_000
_FRAME = 320  # samples, 20 ms: of the energy by which speech is found
_SPEECH_DB = -30.0  # below the loudest of an utterance: what is quieter is a pause
_PAUSE_S, _JOIN_S = (
    0.1,
    0.3,
)  # an utterance is cut where so much is quietest; in references shorter pauses than this are speech
_ENROLLED = 0.4  # share of an utterance that is for enrolling
_LEAST_S = 9.0  # of an utterance of which a part is enrolled
_TURN_S = (1.0, 4.0)  # of speech at a time
_GAP_S = (-0.7, 0.9)  # between two turns; negative where they overlap
_ROOM_S, _ROOM = 0.3, 0.4  # decay by 60 dB, and how loud the reverberation is beside the voice
_NOISE_DB, _QUIET = -20.0, 0.2

Samples = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Audio as FLAC, who talks when (s), and for every speaker his recording for enrolment."""

    audio: Path
    reference: Sequence[SpeakerTurn]
    enrolment: dict[str, Path]


@dataclass(frozen=True, slots=True)
class _Utterance:
    enrolled: Samples
    pieces: Sequence[Samples]


def conversations(
    speakers: Path, folder: Path, *, count: int, part: str, noisy: bool, people: int = 5
) -> Iterator[Conversation]:
    """Make ``count`` conversations of readers of whom each is in one; readers of different ``part`` ("a", "b") are others."""
    readers = [reader for reader in _readers(speakers) if zlib.crc32(reader.name.encode()) % 2 == "ab".index(part)]
    if len(readers) < count * people:
        msg = f"{speakers}: {len(readers)} readers of part {part} are too few for {count} conversations of {people}"
        raise SystemExit(msg)
    for number in range(count):
        name = f"{part}{number}-{'noisy' if noisy else 'clean'}"
        yield _conversation(readers[number * people : (number + 1) * people], folder / name, number, noisy=noisy)


def _readers(speakers: Path) -> list[Path]:
    """Readers with an utterance that is long enough, in an order that has nothing to do with who they are."""
    long = [path for path in speakers.glob("*/*.flac") if soundfile.info(path).duration >= _LEAST_S]
    return sorted({path.parent for path in long}, key=lambda path: zlib.crc32(b"order" + path.name.encode()))


def _conversation(readers: Sequence[Path], folder: Path, seed: int, *, noisy: bool) -> Conversation:
    generator = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    enrolment, waiting = dict[str, Path](), dict[str, list[Samples]]()
    for reader in readers:
        utterance = _cut(soundfile.read(next(reader.glob("*.flac")))[0])
        enrolment[reader.name] = folder / f"enrol-{reader.name}.flac"
        soundfile.write(enrolment[reader.name], utterance.enrolled, RATE)
        waiting[reader.name] = list(utterance.pieces)
    placed = list(_placed(waiting, generator))
    length = max(start + len(piece) for start, piece, _ in placed) + RATE
    voices = {name: np.zeros(length) for name in waiting}
    for start, piece, name in placed:
        voices[name][start : start + len(piece)] += piece
    reference = [turn for name, voice in voices.items() for turn in _turns(voice, name)]
    samples = _in_a_room(voices, generator) if noisy else np.sum([*voices.values()], axis=0)
    samples += generator.normal(0, 1e-4, length)
    soundfile.write(folder / "talk.flac", np.clip(samples, -1, 1), RATE)
    return Conversation(folder / "talk.flac", sorted(reference), enrolment)


def _placed(waiting: dict[str, list[Samples]], generator: np.random.Generator) -> Iterator[tuple[int, Samples, str]]:
    """Who says what from which sample on: not twice the same one after the other, while there is somebody else."""
    end, last = RATE // 2, ""
    while any(waiting.values()):
        others = [name for name, pieces in waiting.items() if pieces and name != last] or [last]
        last = others[int(generator.integers(len(others)))]
        gap = generator.uniform(*_GAP_S) if len(others) > 1 else generator.uniform(0, _GAP_S[1])
        start = max(0, end + int(gap * RATE))
        piece = waiting[last].pop(0)
        yield start, piece, last
        end = max(end, start + len(piece))


def _cut(samples: Samples) -> _Utterance:
    """What is for enrolling, and the rest, a few words at a time."""
    middle = _quietest(samples, round(0.8 * _ENROLLED * len(samples)), round(1.2 * _ENROLLED * len(samples)))
    pieces, rest = list[Samples](), samples[middle:]
    low, high = (round(bound * RATE) for bound in _TURN_S)
    while len(rest) > high:
        cut = _quietest(rest, low, min(high, len(rest) - low))
        pieces.append(rest[:cut])
        rest = rest[cut:]
    return _Utterance(samples[:middle], [*pieces, rest])


def _quietest(samples: Samples, low: int, high: int) -> int:
    """The middle of the quietest ``_PAUSE_S`` between two samples: a pause, if there is one."""
    length = round(_PAUSE_S * RATE)
    energy = np.cumsum(np.concatenate([[0.0], samples[low:high] ** 2]))
    return low + int((energy[length:] - energy[:-length]).argmin()) + length // 2


def _turns(voice: Samples, name: str) -> list[SpeakerTurn]:
    """When a voice is heard that is silent most of the time."""
    frames = voice[: len(voice) // _FRAME * _FRAME].reshape(-1, _FRAME)
    level = 10 * np.log10((frames**2).mean(axis=1) + 1e-12)
    spoken = level > np.percentile(level[level > -100], 95) + _SPEECH_DB
    edges = np.flatnonzero(np.diff(np.concatenate([[False], spoken, [False]]).astype(int))) * _FRAME / RATE
    turns = list[SpeakerTurn]()
    for start, end in edges.reshape(-1, 2).tolist():
        if turns and start - turns[-1][1] < _JOIN_S:
            turns[-1] = (turns[-1][0], end, name)
        else:
            turns.append((start, end, name))
    return turns


def _in_a_room(voices: dict[str, Samples], generator: np.random.Generator) -> Samples:
    from scipy.signal import fftconvolve, lfilter

    times = np.arange(int(_ROOM_S * RATE)) / RATE
    total: Samples = np.zeros(len(next(iter(voices.values()))))
    for voice in voices.values():
        tail = generator.normal(size=len(times)) * 10 ** (-3 * times / _ROOM_S)
        tail *= _ROOM / np.sqrt((tail**2).sum())
        tail[0] = 1.0
        total += fftconvolve(voice, tail)[: len(voice)]
    loud = np.sqrt((total[np.abs(total) > 0.01] ** 2).mean())
    noise = lfilter([1.0], [1.0, -0.7], generator.normal(size=len(total)))  # more of it at low pitches
    return _QUIET * (total + noise * (loud * 10 ** (_NOISE_DB / 20) / noise.std()))
