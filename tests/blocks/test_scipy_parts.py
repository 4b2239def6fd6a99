"""What is taken of SciPy without importing it: the same bits as its public functions give, and those where it is another one."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.optimize
from scipy.spatial.distance import cdist

from diart_mp.blocks import scipy_parts


def test_assignments_are_scipys() -> None:
    random = np.random.default_rng(0)
    quick = scipy_parts.quick_assignment()
    for _ in range(300):
        shape = random.integers(1, 6, 2)
        costs = random.integers(0, 4, shape) * random.choice([0.1, 1.0, 1e10])  # many ties
        for maximize in (False, True):
            wanted = scipy.optimize.linear_sum_assignment(costs, maximize=maximize)
            np.testing.assert_array_equal(quick(costs, maximize=maximize), wanted)


def test_distances_are_scipys_to_the_bit() -> None:
    random = np.random.default_rng(1)
    quick = scipy_parts.quick_distances()
    for dtype in (np.float32, np.float64):
        a: Any = random.standard_normal((3, 512))[:, ::2].astype(dtype)
        b: Any = random.standard_normal((20, 512))[:, ::2].astype(dtype)
        a[1] = 0.0  # no direction: no distance
        np.testing.assert_array_equal(quick(a, b), cdist(a, b, "cosine"))
    assert quick(a[:0], b).shape == (0, 20)


def test_vectors_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and \(1, 4\)"):
        scipy_parts.quick_distances()(np.ones((2, 3)), np.ones((1, 4)))


def other(*_: Any, **__: Any) -> Any:
    """Does something else than is expected."""
    return np.zeros(2, np.intp), np.zeros(2, np.intp)


class Changed:
    """A compiled file of another release."""

    linear_sum_assignment = staticmethod(other)
    cdist_cosine_double_wrap = staticmethod(other)


@pytest.mark.parametrize("found", [ImportError, Changed, object])
def test_another_release_of_scipy_is_used_as_anybody_would(found: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled(*_: str) -> Any:
        if found is ImportError:
            raise ImportError
        return found

    monkeypatch.setattr(scipy_parts, "_compiled", compiled)
    choices: list[Callable[[], Any]] = [scipy_parts._choose_assignment, scipy_parts._choose_distances]
    assign, distances = (choose() for choose in choices)
    assert assign is scipy.optimize.linear_sum_assignment
    np.testing.assert_array_equal(distances(np.eye(2), np.eye(2)), 1 - np.eye(2))


def test_clustering_starts_without_scipy() -> None:
    code = "import sys, diart_mp.stages.clustering; print([name for name in sys.modules if name.startswith('scipy')])"
    folder = Path(__file__).parents[2]
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=folder).stdout
    assert said == "[]\n"
