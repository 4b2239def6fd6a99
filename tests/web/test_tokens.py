"""Tokens in a file that changes while they are used."""

import os
from pathlib import Path

import pytest

from diart_mp.errors import UsageError
from diart_mp.web.protocol import ClientError
from diart_mp.web.tokens import Tokens


def change(file: Path, text: str) -> None:
    """So that it is seen, however coarse the clock of the file system."""
    stamp = file.stat().st_mtime_ns + 10**9
    file.write_text(text)
    os.utime(file, ns=(stamp, stamp))


def test_a_mistake_in_a_file_that_is_in_use_takes_nobody_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = tmp_path / "tokens"
    file.write_text("ann\n")
    tokens = Tokens("", file)
    change(file, "ann\nbob steams=2\n")
    for _ in range(2):
        assert tokens.check("ann").streams is None
    assert [record.message.count("line 2: 'steams=2'") for record in caplog.records] == [1]  # said once
    with pytest.raises(ClientError):
        tokens.check("bob")
    change(file, "bob streams=2\n")
    assert tokens.check("bob").streams == 2
    with pytest.raises(ClientError):
        tokens.check("ann")
    change(file, "bob steams=2\n")
    with pytest.raises(UsageError):
        Tokens("", file)
