"""Labels with hindsight: what a later clustering changes, what it must keep, and that it stays small."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diart_mp.blocks.hindsight import Hindsight, Revision
from diart_mp.config import Settings
from diart_mp.runtime.state import pack_state, unpack_state

EAST, NORTH, UP = np.eye(3)
NOBODY = np.full(3, np.nan)
Spans = Sequence[tuple[float, float, NDArray[np.float64]]]


def hindsight(**changes: Any) -> tuple[Hindsight, Settings]:
    settings = Settings.from_seconds(rate=4000, clustering="adaptive", **changes)
    return Hindsight(settings), settings


class Stream:
    """Feeds windows cut from spoken spans (start_s, end_s, voice) to a Hindsight, and folds what it revises."""

    def __init__(self, spans: Spans, **changes: Any) -> None:
        self.block, self.settings = hindsight(**changes)
        self.spans, self.count = spans, 0
        self.turns: list[tuple[int, int, int]] = []
        self.revisions: list[Revision] = []

    def window(self, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Scores (100, 3) and embeddings of the window at ``index`` steps; voices are local speakers in order."""
        start = index * 0.5
        times = start + (np.arange(100) + 0.5) * 0.05
        scores, embeddings = np.zeros((100, 3)), np.full((3, 3), np.nan)
        voices: list[NDArray[np.float64]] = []
        for begin, end, voice in self.spans:
            talking = (times >= begin) & (times < end)
            if talking.any():
                local = next((i for i, known in enumerate(voices) if np.array_equal(known, voice)), len(voices))
                if local == len(voices):
                    voices.append(voice)
                scores[talking, local] = 1.0
                embeddings[local] = voice
        return scores, embeddings

    def feed(self, labels: Sequence[int]) -> None:
        """The next window, with the labels that were said at once."""
        start = self.count * self.settings.step
        self.block.add(start, *self.window(self.count), np.array(labels))
        self.count += 1
        if self.block.due:
            self.revise()

    def revise(self) -> Revision | None:
        end = (self.count - 1) * self.settings.step + self.settings.duration
        revision = self.block.revise(end)
        if revision is not None:
            self.revisions.append(revision)
            before = [turn for turn in self.turns if turn[0] < revision.start]
            renamed = [(a, min(b, revision.start), revision.renamed.get(c, c)) for a, b, c in before]
            self.turns = [*renamed, *revision.turns]
        return revision

    def seconds(self, speaker: int) -> float:
        return sum(end - start for start, end, who in self.turns if who == speaker) / self.settings.rate


def test_one_person_who_was_split_is_one_again() -> None:
    stream = Stream([(0, 12, EAST), (12, 20, EAST)])
    for index in range(30):
        stream.feed([0 if index < 10 else 1, -1, -1])
    stream.revise()
    assert {who for _, _, who in stream.turns} == {1}, "by the name that he was called for longer"
    assert stream.seconds(1) == pytest.approx(19.5, abs=0.1)


def test_two_people_who_were_one_are_two_again() -> None:
    stream = Stream([(0, 8, EAST), (9, 17, NORTH), (18, 26, EAST)])
    for _ in range(40):
        stream.feed([0, -1, -1])
    stream.revise()
    assert stream.seconds(0) == pytest.approx(14.5, abs=0.2), "who talks longer keeps the name"
    assert stream.seconds(1) == pytest.approx(8, abs=0.2)
    assert [(start, who) for start, _, who in stream.turns] == sorted((start, who) for start, _, who in stream.turns)


def test_whoever_is_heard_beside_somebody_is_somebody_else() -> None:
    near = (EAST + 0.75 * NORTH) / 1.25  # distance 0.2
    stream = Stream([(t, t + 1, EAST if t % 2 else near) for t in range(20)])
    for _ in range(30):
        stream.feed([0, 1, -1])
    stream.revise()
    assert stream.seconds(0) + stream.seconds(1) == pytest.approx(19.5, abs=0.2)
    assert stream.seconds(0) == pytest.approx(10, abs=0.8)


def test_who_is_nobody_yet_keeps_what_he_was_called_unless_that_is_somebodys_name() -> None:
    stream = Stream([(0, 20, EAST)])
    scores, embeddings = stream.window(3)
    scores[20:80, 1] = 1.0  # beside the other one all the time, so nothing is known of the voice
    for index in range(10):
        said = [0, 2, -1] if index < 8 else [1, 0, -1]
        stream.block.add(index * stream.settings.step, scores, embeddings, np.array(said))
    known = stream.block.speakers()
    assert known is not None
    assert known[0].names.tolist() == [0]
    assert [labels.tolist() for labels in known[1].values()] == [[0, 2, -1]] * 8 + [[0, -1, -1]] * 2
    revision = stream.block.revise(stream.settings.duration)
    assert revision is not None
    assert {who for _, _, who in revision.turns} == {0, 2}


def test_a_lone_speaker_is_not_lost_to_a_short_second_one() -> None:
    stream = Stream([(0, 20, EAST)])
    scores, embeddings = stream.window(3)
    scores[40:42, 1] = 1.0
    for index in range(10):
        stream.block.add(index * stream.settings.step, scores, embeddings, np.array([0, -1, -1]))
    revision = stream.block.revise(stream.settings.duration)
    assert revision is not None
    assert {who for _, _, who in revision.turns} == {0}
    assert sum(end - start for start, end, _ in revision.turns) == pytest.approx(stream.settings.duration, rel=0.02)


def test_settled_windows_are_renamed_when_their_speakers_turn_out_to_be_one() -> None:
    first, then = (EAST, (EAST + 0.9 * NORTH) / np.linalg.norm([1, 0.9]))  # distance 0.26: two people at first
    middle = (first + then) / np.linalg.norm(first + then)
    stream = Stream([(0, 30, first), (31, 60, then), (60, 200, middle)])
    for index in range(380):
        stream.feed([0 if index < 60 else 1, -1, -1])
    stream.revise()
    assert any(revision.renamed for revision in stream.revisions)
    assert len({who for _, _, who in stream.turns}) == 1
    assert stream.seconds(stream.turns[0][2]) == pytest.approx(193.5, abs=0.5)


def test_there_are_at_most_max_speakers() -> None:
    voices = np.eye(6)
    stream = Stream([(6 * i, 6 * i + 5, voices[i]) for i in range(6)], max_speakers=3)
    stream.window = lambda index: _six(stream, index)  # type: ignore[method-assign]
    for _ in range(70):
        stream.feed([0, 1, 2])
    stream.revise()
    assert {who for _, _, who in stream.turns} <= {0, 1, 2}


def _six(stream: Stream, index: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    times = index * 0.5 + (np.arange(100) + 0.5) * 0.05
    scores, embeddings = np.zeros((100, 3)), np.full((3, 6), np.nan)
    for begin, end, voice in stream.spans:
        talking = (times >= begin) & (times < end)
        if talking.any():
            local = int(np.argmax(voice)) % 3
            scores[talking, local], embeddings[local] = 1.0, voice
    return scores, embeddings


def test_nothing_to_say_without_windows_or_speech() -> None:
    stream = Stream([])
    assert stream.revise() is None
    stream.feed([-1, -1, -1])
    revision = stream.revise()
    assert revision is not None
    assert revision.turns == ()
    assert stream.revise() is None, "nothing came since"


def test_memory_is_the_same_after_a_long_time() -> None:
    talk = [(3.0 * i, 3.0 * i + 2.5, (EAST, NORTH, UP)[i % 3]) for i in range(200)]
    sizes = []
    stream = Stream(talk)
    for index in range(1000):
        stream.feed([index % 2, -1, -1])
        sizes.append(len(pack_state(stream.block.state())))
    assert max(sizes[500:]) <= max(sizes[:200])
    assert max(len(revision.turns) for revision in stream.revisions[5:]) < 40


@pytest.mark.parametrize("stop", [7, 25, 61, 95, 130])
def test_a_restored_block_goes_on_bit_for_bit(stop: int) -> None:
    talk = [(2.0 * i, 2.0 * i + 1.7, (EAST, NORTH, (EAST + UP) / np.sqrt(2))[i % 3]) for i in range(60)]
    whole, first, second = Stream(talk), Stream(talk), Stream(talk)
    for index in range(150):
        whole.feed([index % 2, 2, -1])
    for index in range(stop):
        first.feed([index % 2, 2, -1])
    second.block.restore(unpack_state(pack_state(first.block.state())))
    second.count, second.turns, second.revisions = first.count, first.turns, first.revisions
    for index in range(stop, 150):
        second.feed([index % 2, 2, -1])
    assert second.revisions == whole.revisions
    assert pack_state(second.block.state()) == pack_state(whole.block.state())


def test_what_is_no_state_is_refused() -> None:
    stream = Stream([(0, 5, EAST)])
    stream.feed([0, -1, -1])
    state = stream.block.state()
    with pytest.raises(ValueError, match="settled"):
        stream.block.restore({**state, "kept_settled": 5})
    with pytest.raises(ValueError, match="no kept windows"):
        stream.block.restore({**state, "kept_seconds": np.zeros((3, 3))})
