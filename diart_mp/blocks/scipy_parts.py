"""The two functions of SciPy that the blocks take, without the 0.4 s and 50 MB that its packages cost a process at its start.

They are SciPy's own, from the two compiled files in which it keeps them: the same code gives the same bits. Where those files
are not where they are expected, or do not do what is expected (another release of SciPy), SciPy is imported as anybody
would. Runs in the clustering stage.
"""

from collections.abc import Callable
from importlib.machinery import PathFinder
from importlib.util import find_spec, module_from_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Assignment = Callable[..., tuple[NDArray[np.intp], NDArray[np.intp]]]
Distances = Callable[[NDArray[np.floating], NDArray[np.floating]], NDArray[np.float64]]


def _compiled(package: str, name: str) -> Any:
    """A compiled module of a package of SciPy, by itself; ImportError where there is none."""
    found = find_spec("scipy")  # which is not imported by that
    folders = [str(Path(folder) / package) for folder in (found.submodule_search_locations or [] if found else [])]
    spec = PathFinder.find_spec(name, folders)
    if spec is None or spec.loader is None:
        msg = f"SciPy has no {package}/{name}"
        raise ImportError(msg)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def quick_assignment() -> Assignment:
    """``scipy.optimize.linear_sum_assignment`` from its compiled file; raises whatever that file gives reason to."""
    assign: Assignment = _compiled("optimize", "_lsap").linear_sum_assignment
    rows, columns = assign(np.array([[4.0, 1.0, 3.0], [2.0, 0.0, 5.0]]), maximize=True)
    if rows.tolist() != [0, 1] or columns.tolist() != [0, 2]:
        msg = "this linear_sum_assignment is another one"
        raise ImportError(msg)
    return assign


def quick_distances() -> Distances:
    """``scipy.spatial.distance.cdist(a, b, "cosine")`` from its compiled file; raises whatever that file gives reason to."""
    fill = _compiled("spatial", "_distance_wrap").cdist_cosine_double_wrap

    def distances(a: NDArray[np.floating], b: NDArray[np.floating]) -> NDArray[np.float64]:
        result = np.empty((len(a), len(b)))
        if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1]:  # the compiled code takes that for granted
            msg = f"vectors of shape {a.shape} and {b.shape} have no distances"
            raise ValueError(msg)
        fill(np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b, np.float64), result)
        return result

    if distances(np.eye(2), np.array([[0.0, 2.0]])).tolist() != [[1.0], [0.0]]:
        msg = "this cdist_cosine_double_wrap is another one"
        raise ImportError(msg)
    return distances


def _choose_assignment() -> Assignment:
    try:
        return quick_assignment()
    except Exception:  # noqa: BLE001  # a private file of another project: whatever is wrong with it, there is the public way
        from scipy.optimize import linear_sum_assignment as public

        chosen: Assignment = public
        return chosen


def _choose_distances() -> Distances:
    try:
        return quick_distances()
    except Exception:  # noqa: BLE001  # as above
        from scipy.spatial.distance import cdist

        return lambda a, b: np.asarray(cdist(a, b, "cosine"), np.float64)


linear_sum_assignment: Assignment = _choose_assignment()
cosine_distances: Distances = _choose_distances()
