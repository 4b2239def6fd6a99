"""Who a global speaker is: by all that was heard of him, with a threshold, and without flickering."""

import math

import numpy as np
import pytest

from diart_mp.blocks.identification import HOLD, RIVAL, Identification, ShownNames

ANN, BO = np.array([[1.0, 0.0, 0.0], [0.8, 0.6, 0.0]]), np.array([[0.0, 0.0, 1.0]])
VOICES = {"Ann": ANN, "Bo": BO}
SECOND = np.ones(1)


def test_nearest_name_above_the_threshold() -> None:
    identification = Identification(VOICES, threshold=0.7)
    embeddings = np.array([[0.9, 0.436, 0.0], [0.0, 0.1, 0.99], [0.577, 0.577, 0.577], [np.nan] * 3])
    identification.learn([4, 0, 1, -1], embeddings, np.array([1.0, 0.8, 2.0, 0.0]))
    # Ann: the mean of 0.9 and 0.9 * 0.8 + 0.436 * 0.6 is 0.94; the third is 0.69 from her, 0.58 from Bo.
    assert identification.similarities(4) == pytest.approx([0.94, 0.0], abs=0.01)
    assert [identification.name(label) for label in (4, 0, 1, 2)] == ["Ann", "Bo", None, None]


def test_somebody_hardly_heard_has_no_name_yet() -> None:
    identification = Identification(VOICES, threshold=0.7)
    identification.learn([0], BO, np.array([0.3]))
    assert identification.name(0) is None
    identification.learn([0], BO, np.array([0.3]))
    assert identification.name(0) == "Bo"


def test_name_is_held_against_one_hardly_nearer_and_given_up_for_one_that_is() -> None:
    near = np.array([[0.70, 0.0, 0.71414]])  # by 0.014 nearer to Bo
    identification = Identification({"Ann": ANN[:1], "Bo": BO}, threshold=0.5)
    identification.learn([0], ANN[:1], SECOND)
    for _ in range(200):
        identification.learn([0], near, SECOND)
    assert 0 < np.subtract(*identification.similarities(0)[::-1]) < HOLD
    assert identification.name(0) == "Ann"
    for _ in range(20):
        identification.learn([0], BO, SECOND)
    assert identification.name(0) == "Bo"
    for _ in range(2000):
        identification.learn([0], np.array([[0.0, 1.0, 0.0]]), SECOND)
    assert identification.name(0) is None


def test_label_that_is_somebody_else_now_has_his_name_where_the_memory_is_short() -> None:
    for memory_s, name in ((math.inf, "Ann"), (8.0, "Bo")):
        identification = Identification(VOICES, threshold=0.7, memory_s=memory_s)
        for voice, seconds in ((ANN[:1], 60), (BO, 12)):
            for _ in range(seconds):
                identification.learn([0], voice, SECOND)
        assert identification.name(0) == name


@pytest.mark.parametrize("memory_s", [math.inf, 5.0])
def test_restored_one_goes_on_alike(memory_s: float) -> None:
    generator = np.random.default_rng(3)
    rows = [generator.normal(size=(2, 3)) for _ in range(30)]
    whole, other = (Identification(VOICES, threshold=0.2, memory_s=memory_s) for _ in range(2))
    said = []
    for place, row in enumerate(rows):
        whole.learn([0, 1], row / np.linalg.norm(row, axis=1, keepdims=True), np.ones(2))
        said.append((whole.name(0), whole.name(1)))
        if place == 5:
            whole.rename({1: 0, 0: 1})
        if place == 9:
            other.restore(whole.state())
    assert len(set(said)) > 1
    for place in range(10, 30):
        other.learn([0, 1], rows[place] / np.linalg.norm(rows[place], axis=1, keepdims=True), np.ones(2))
        assert (other.name(0), other.name(1)) == said[place]
    assert other.names_of_all() == whole.names_of_all()


def test_embeddings_of_another_model_are_refused() -> None:
    with pytest.raises(ValueError, match="Ann is enrolled with embeddings of 3 numbers, the stream's have 2"):
        Identification(VOICES, threshold=0.7).learn([0], np.array([[1.0, 0.0]]), SECOND)


def test_what_all_voices_have_in_common_says_nothing() -> None:
    """Everybody is near (1, 1, 1); Ann goes from there in one direction, the stranger in another."""
    common, voices = np.ones(3) / np.sqrt(3), np.array([[1.3, 1.0, 1.0]]) / np.sqrt(3.69)
    stranger = np.array([[1.0, 1.3, 1.0]]) / np.sqrt(3.69)
    for mean, name in ((None, "Ann"), (common, None)):
        identification = Identification({"Ann": voices}, threshold=0.7, mean=mean)
        identification.learn([0], stranger, SECOND)
        identification.learn([1], voices, SECOND)
        assert (identification.name(0), identification.name(1)) == (name, "Ann")


def test_somebody_whose_name_a_nearer_one_has_must_be_nearer_than_others() -> None:
    almost = 0.7 + RIVAL / 2
    second = np.array([[0.0, np.sqrt(1 - almost**2), almost]])
    identification = Identification({"Bo": BO}, threshold=0.7)
    identification.learn([1], second, SECOND)
    assert identification.name(1) == "Bo"
    identification.learn([0], BO, SECOND)
    for _ in range(3):
        identification.learn([1], second, SECOND)
    assert identification.name(1) == "Bo", "held"
    late = Identification({"Bo": BO}, threshold=0.7)
    late.learn([0], BO, SECOND)
    late.learn([1], second, SECOND)
    assert (late.name(0), late.name(1)) == ("Bo", None)


def test_what_was_heard_moves_with_the_labels() -> None:
    identification = Identification(VOICES, threshold=0.7)
    identification.learn([0, 1, 5], np.concatenate([ANN[:1], BO, BO]), np.array([3.0, 3.0, 1.0]))
    identification.rename({0: 1, 1: 0, 5: 0})
    assert identification.names() == identification.names_of_all() == {1: "Ann", 0: "Bo"}
    identification.learn([5], np.array([[0.0, 1.0, 0.0]]), SECOND)
    assert identification.name(5) is None, "somebody else has the label now"


def test_old_turns_are_named_by_all_that_was_heard() -> None:
    identification = Identification(VOICES, threshold=0.7, memory_s=2.0)
    for voice, seconds in ((np.array([[0.0, 1.0, 0.0]]), 60), (BO, 12)):
        for _ in range(seconds):
            identification.learn([0], voice, SECOND)
    assert (identification.name(0), identification.names_of_all()) == ("Bo", {})


def test_names_that_were_shown_change_only_where_all_of_them_do() -> None:
    shown = ShownNames()
    for name, label in (("speaker0", "speaker0"), ("Ann", "speaker1"), ("Ann", "speaker3"), ("Cy", "speaker4")):
        shown.add(name, label)
    known = {"speaker0": "Bo", "speaker1": "Ann"}
    # speaker3 was Bo all along; his turns were shown as Ann's, whose own are to stay.
    assert shown.rename({"speaker3": "speaker0"}, known) == {"speaker0": "Bo", "Cy": "speaker4"}
    again = ShownNames(shown.state())
    for each in (shown, again):
        each.add("speaker4", "speaker4")
        assert each.rename({"speaker4": "speaker1"}, known) == {"speaker4": "Ann"}
    assert again.state() == shown.state() == [("Ann", ["speaker0", "speaker1"]), ("Bo", ["speaker0"])]
