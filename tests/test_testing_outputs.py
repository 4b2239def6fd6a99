"""The conformance suite finds what is wrong with an output, and finds nothing wrong with those that are right."""

import gc
import itertools
import warnings
from collections.abc import Iterator

import pytest

from diart_mp.outputs.formats import FORMATS
from diart_mp.testing import check_output, updates
from tests import wrong_outputs


@pytest.fixture(autouse=True)
def _no_garbage_of_others() -> Iterator[None]:
    """check_output collects garbage again and again, which takes long beside all that other tests have imported."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Appends", "killed after 1 updates and given all of them again"),
        ("GoesOn", "killed after 1 updates and given all of them again"),
        ("Buffered", "not complete when close() has returned"),
        ("Deaf", "whether what was said is corrected or not"),
        ("Surprised", "fails at update 11, which has a revision"),
        ("Keeps", "bytes of each update, also of those in which nobody talks"),
        ("Leaves", "leaves files, sockets or threads behind"),
        ("Clock", "something else the second time"),
        ("Chatty", "what it says of a full disk has several lines"),
        ("Quiet", "a full disk goes unnoticed"),
        ("Loses", "the same whether anybody talks in update 2 or not"),
        ("Strays", "it writes mine.lines, which is not the file"),
        ("Random", "something else the second time"),
        ("Raises", "RuntimeError: out of paper"),
        ("NoSuch", "cannot import the output"),
        ("rows_of", "is no subclass of"),
    ],
)
def test_wrong_output_is_found_out(name: str, says: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # some of them close nothing
        problems = check_output(f"tests.wrong_outputs:{name}")
        wrong_outputs.Leaves.left.clear()
        gc.collect()
    assert any(says in problem for problem in problems), problems
    assert not any("\n" in problem for problem in problems)


def test_right_output_has_no_problem() -> None:
    assert check_output(wrong_outputs.Right) == []
    assert check_output(wrong_outputs.Ctm) == []
    assert check_output(wrong_outputs.Table, read=wrong_outputs.rows_of) == []


@pytest.mark.parametrize("name", ["rttm", "jsonl", "srt"])
def test_our_own_formats_are_right(name: str) -> None:
    assert name in FORMATS
    assert check_output(name) == []


def test_class_that_cannot_be_imported_is_told() -> None:
    class Inner(wrong_outputs.Right):
        """Nobody else can find it."""

    with pytest.raises((AttributeError, TypeError), match="Inner"):
        check_output(Inner)


def test_made_up_updates_are_like_those_of_a_run() -> None:
    made = updates()
    assert [update.seq for update in made] == list(range(25))
    assert all(before.end == after.start for before, after in itertools.pairwise(made))
    assert made[0].start < 0
    assert sum(update.revision is not None for update in made) == 2
    assert any(not update.turns for update in made[:-1])
    assert any(len(update.turns) == 2 for update in made)
