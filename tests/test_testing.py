"""The conformance suite finds what is wrong with a stage, and finds nothing wrong with those that are right."""

import pytest

from diart_mp.testing import check_stage, chunks
from diart_mp.topology import StageConfig

WRONG = "tests.wrong_stages:"


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("Raises", "raises on chunk 0: RuntimeError: out of paper"),
        ("Hangs", "hangs: no answer within 3 s while it processed chunk 0"),
        ("Twice", "gave 2 answers to 1 chunks"),
        ("Never", "gave 0 answers to 1 chunks"),
        ("Shape", "gives segmentation of shape (7,) in place of (293, 3)"),
        ("Mutates", "changes the arrays of its chunks"),
        ("Forks", "starts processes while it works"),
        ("Prints", "prints to standard output: 'here I am"),
        ("Dies", "ended its process (exit code 7) while it processed chunk 0"),
        ("Remembers", "says something else of chunk"),
        ("Leaky", "says something else of chunk 1 after a restore to chunk 0"),
        ("NoSuch", "cannot be used: cannot import the stage"),
    ],
)
def test_wrong_stage_is_found_out(name: str, says: str) -> None:
    problems = check_stage(WRONG + name, chunks(count=4), timeout_s=3 if name == "Hangs" else 60)
    assert any(says in problem for problem in problems), problems
    assert all(problem.startswith(WRONG + name) and "\n" not in problem for problem in problems)


@pytest.mark.parametrize(
    ("reference", "keyed"),
    [
        (WRONG + "Right", False),
        ("diart_mp.stages.clustering:Clustering", True),
        ("diart_mp.stages.vad:Vad", True),
    ],
)
def test_right_stage_has_no_problem(reference: str, keyed: bool) -> None:
    assert check_stage(reference, chunks(), config=StageConfig(name="under-test", keyed=keyed)) == []
