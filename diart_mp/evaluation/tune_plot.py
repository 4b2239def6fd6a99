"""A study as pictures: how the best value came down, and which hyper-parameters mattered.

Matplotlib is imported when a picture is wanted, and only then. Runs in the process of ``diart-mp tune``.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any


def plot_history(values: Sequence[float], path: Path) -> None:
    """Each trial and the best so far, in percent; the first is the base configuration."""
    from matplotlib.figure import Figure

    best = [min(values[: index + 1]) for index in range(len(values))]
    picture = Figure(figsize=(8, 4), layout="constrained")
    axes = picture.subplots()
    axes.plot(range(len(values)), values, ".", color="tab:gray", label="trial")
    axes.step(range(len(values)), best, where="post", color="tab:blue", label="best so far")
    axes.axhline(values[0], color="tab:orange", linestyle="--", label="base configuration")
    axes.set(xlabel="trial", ylabel="error, %", ylim=(min(best) - 2, min(max(values), values[0] + 30) + 2))
    axes.legend()
    picture.savefig(path)


def plot_importance(study: Any, path: Path) -> bool:
    """How much of the spread of the values each hyper-parameter explains (fANOVA); False where that cannot be told."""
    import optuna
    from matplotlib.figure import Figure

    try:
        shares = optuna.importance.get_param_importances(study)
    except (ImportError, RuntimeError, ValueError):
        return False
    picture = Figure(figsize=(8, 1 + 0.5 * len(shares)), layout="constrained")
    axes = picture.subplots()
    axes.barh(list(shares)[::-1], list(shares.values())[::-1], color="tab:blue")
    axes.set(xlabel="importance", xlim=(0, 1))
    picture.savefig(path)
    return True
