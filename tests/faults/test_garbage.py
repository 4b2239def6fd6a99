"""That ``garbage`` finds what grows with each connection: servers that forget to let go."""

import subprocess
import sys

import psutil
import pytest

from tests.faults import garbage

SERVER = """
import socket, sys
leak, kept = sys.argv[1], []
with socket.create_server(("127.0.0.1", 0), backlog=500) as server:
    print(server.getsockname()[1], flush=True)
    while True:
        connection, _ = server.accept()
        if leak == "descriptors":
            kept.append(connection)
        else:
            connection.close()
        if leak == "memory":
            kept.append(bytes(20_000))
"""


@pytest.mark.parametrize(
    ("leak", "complaint"), [("", ""), ("descriptors", "descriptors more than before"), ("memory", "MB more than")]
)
def test_what_grows_is_found(monkeypatch: pytest.MonkeyPatch, leak: str, complaint: str) -> None:
    monkeypatch.setattr(garbage, "_CLOSED_S", 0.2 if leak == "descriptors" else 10.0)
    with subprocess.Popen([sys.executable, "-c", SERVER, leak], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        ports = [int(process.stdout.readline())]
        complaints = garbage.growth([psutil.Process(process.pid)], lambda: garbage.knock(ports, 40))
        process.kill()
    assert len(complaints) == (1 if leak else 0)
    assert all(complaint in text for text in complaints)
