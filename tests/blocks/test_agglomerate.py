"""Agglomerative clustering from sums: the two corrections, and what grouping must not change."""

import numpy as np
from numpy.typing import NDArray

from diart_mp.blocks.agglomerate import Voices, agglomerate

EAST, NORTH = np.eye(2)


def at(degrees: float) -> NDArray[np.float64]:
    return np.array([np.cos(np.radians(degrees)), np.sin(np.radians(degrees))])


def voices(*rows: tuple[float, float]) -> Voices:
    """Each (degrees, seconds)."""
    return Voices.single(np.array([at(angle) for angle, _ in rows]), np.array([long for _, long in rows]), 5.0)


def clusters(
    found: Voices, *, nearest: float = 0.2, noise: float = 0.0, apart: float = 0.0, together: object = None
) -> list[int]:
    beside = np.zeros((len(found), len(found))) if together is None else np.array(together, np.float64)
    labels: list[int] = agglomerate(found, beside, nearest=nearest, noise=noise, apart=apart).tolist()
    return labels


def test_near_voices_are_one_and_far_ones_are_not() -> None:
    # cosine distances: 0.015 between 10 degrees, 0.36 between 50 degrees, 0.5 between 60
    assert clusters(voices((0, 3), (60, 3), (10, 3), (70, 3))) == [0, 1, 0, 1]
    assert clusters(voices((0, 3))) == [0]
    assert clusters(voices()) == []


def test_a_short_voice_may_lie_further_away() -> None:
    # 40 degrees are 0.234: with 0.1 of noise for a second, 0.1 * (1/1 + 1/5) = 0.12 are taken off, and 0.04 for 5 s each
    assert clusters(voices((0, 5), (40, 1)), noise=0.1) == [0, 0]
    assert clusters(voices((0, 5), (40, 5)), noise=0.1) == [0, 0]
    assert clusters(voices((0, 5), (40, 5)), noise=0.05) == [0, 1]
    assert clusters(voices((0, 5), (40, 1)), noise=0.05) == [0, 0]


def test_who_is_heard_beside_another_is_somebody_else() -> None:
    # 30 degrees are 0.134
    pair = voices((0, 3), (30, 3))
    assert clusters(pair, apart=0.1) == [0, 0]
    assert clusters(pair, apart=0.1, together=[[0, 3], [3, 0]]) == [0, 1]
    assert clusters(pair, apart=0.1, together=[[0, 1], [1, 0]]) == [0, 0], "a third of the time may be a mistake"


def test_the_average_decides_not_the_nearest_pair() -> None:
    # a chain: each is near the next, but the last is far from the average of those before
    chain = clusters(voices(*((10.0 * step, 3.0) for step in range(13))), nearest=0.1)
    assert 2 <= len(set(chain)) <= 5


def test_sums_are_as_good_as_the_voices_in_them() -> None:
    whole = voices((0, 3), (10, 2), (60, 3), (12, 5), (64, 1))
    joined = Voices.join(whole.grouped(np.array([0, 0, 1, -1, -1]), 2), whole.only(np.array([0, 0, 0, 1, 1]) == 1))
    assert clusters(whole) == [0, 0, 1, 0, 1]
    assert clusters(joined) == [0, 1, 0, 1]
    left_out = whole.grouped(np.array([0, -1, 0, -1, 0]), 1)
    assert left_out.seconds.tolist() == [7.0]
