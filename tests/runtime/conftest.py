"""Fixtures for streams whose owner dies in the middle of a test."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from diart_mp.transport.ring import PREFIX, ring_directory

from .answering import stream_id


@pytest.fixture
def no_rings_of_the_dead(tmp_path: Path) -> Iterator[None]:
    """Owners that died in this process have left their rings."""
    yield
    for path in ring_directory().glob(f"{PREFIX}{stream_id(tmp_path)}-*"):
        path.unlink()


@pytest.fixture
def every_position_is_written_down(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it does not depend on the clock where a new process begins."""
    monkeypatch.setattr("diart_mp.runtime.stream._SAVE_S", -1.0)
