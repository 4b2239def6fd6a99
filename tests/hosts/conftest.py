"""The command for tests of several hosts."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.command import Diart


@pytest.fixture(scope="session")
def diart() -> Iterator[Diart]:
    """The command. Whatever the tests did to it: in the end nothing may be left."""
    with tempfile.TemporaryDirectory(prefix="hosts-") as folder:  # short: the path of a socket has 107 bytes
        command = Diart(Path(folder))
        yield command
        assert command.left() == []
