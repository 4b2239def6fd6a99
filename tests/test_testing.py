"""The conformance suite finds what is wrong with a stage, and finds nothing wrong with those that are right."""

import numpy as np
import pytest

from diart_mp.config import Settings
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
        ("Mutates", "changes segmentation of its chunks (chunk 0)"),
        ("ForksAtOnce", "starts processes, which a killed stage would leave behind"),
        ("Deaf", "gives segmentation with numbers that are not finite (chunk 3)"),
        ("Unloadable", "raises while it is loaded: OSError: no such file"),
        ("MixesUp", "mixes up streams: of chunk 0"),
        ("Forgetful", "says something else at the end of a stream after a restore to chunk 0"),
        ("Textual", "gives a checkpoint that is a str, not bytes"),
        ("Unrestorable", "raises while it was restored to chunk 0: ValueError: invalid literal"),
        ("Forks", "starts processes, which a killed stage would leave behind"),
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
        (WRONG + "Counts", True),
        (WRONG + "EmptiesItsCopy", False),
        ("diart_mp.stages.clustering:Clustering", True),
        ("diart_mp.stages.vad:Vad", True),
    ],
)
def test_right_stage_has_no_problem(reference: str, keyed: bool) -> None:
    assert check_stage(reference, chunks(), config=StageConfig(name="under-test", keyed=keyed)) == []


def test_made_up_chunks_are_like_those_of_a_run() -> None:
    made = chunks(settings=Settings.from_seconds(start="early"))
    assert [message.start for message in made[:2]] == [-72_000, -64_000]
    assert made[0].plain("name") == "stream"
    assert [message.plain("turns")["region"] for message in made[:2]] == [[0, 8000], [8000, 16_000]]
    silent = [message for message in made if "silent" in message.fields]
    assert 0 < len(silent) < len(made)
    assert all(np.isnan(message.array("embeddings")).all() and not message.array("audio").any() for message in silent)
