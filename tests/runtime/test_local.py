"""How many processes a job gets."""

import os

import pytest

from diart_mp.runtime import local
from diart_mp.runtime.local import Models, default_stages, workers_for


@pytest.mark.parametrize(
    ("precision", "workers", "segmentation", "embedding"),
    [
        ("exact", 1, 1, 1),
        ("exact", 2, 1, 1),
        ("exact", 3, 1, 2),
        ("exact", 5, 2, 3),
        ("fast", 2, 1, 1),
        ("fast", 3, 2, 1),
        ("fast", 9, 6, 3),
        ("reference", 3, 1, 2),
    ],
)
def test_workers_are_shared_by_what_a_chunk_costs(
    precision: str, workers: int, segmentation: int, embedding: int
) -> None:
    stages = {stage.name: stage.replicas for stage in default_stages(Models(precision=precision, workers=workers))}
    assert stages == {"capture": 1, "segmentation": segmentation, "embedding": embedding, "clustering": 1}


def test_short_recordings_are_not_worth_another_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    for costly, worth in ((False, [2, 2, 2, 3, 3]), (True, [2, 3, 3, 3, 3])):
        assert [workers_for(seconds, costly=costly) for seconds in (0.0, 30.0, 89.0, 91.0, 36000.0)] == worth
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(64), raising=False)
    assert [workers_for(seconds) for seconds in (30.0, 200.0, 36000.0)] == [2, 4, local._MOST_WORKERS]
