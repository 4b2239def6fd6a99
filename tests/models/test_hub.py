"""The hub's answers, from a small server that speaks its protocol, and its cache without a network."""

import os
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import ClassVar

import pytest

FETCH = """
import sys
from diart_mp.errors import ModelError
from diart_mp.models.hub import fetch_checkpoint
from diart_mp.models.reference import parse_reference
for name in sys.argv[1:]:
    try:
        print(fetch_checkpoint(parse_reference(name)).read_bytes())
    except ModelError as error:
        print(error)
"""
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Answers for a model's file as the hub does: a status and an error code in a header."""

    refusals: ClassVar = {"gated": (403, "GatedRepo"), "gone": (401, "RepoNotFound"), "bare": (404, "EntryNotFound")}
    tokens: ClassVar[list[str | None]] = []

    def do_HEAD(self) -> None:
        owner, name, _, revision, *_ = self.path.strip("/").split("/")  # owner/name/resolve/revision/file
        self.tokens.append(self.headers.get("Authorization"))
        status, code = self.refusals.get(name, (200, ""))
        if status == 200 and revision != "main":
            status, code = 404, "RevisionNotFound"
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{owner}-{name}"')
        self.send_header("Content-Length", "7" if status == 200 else "0")
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        self.wfile.write(b"weights")

    def log_message(self, *_: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def endpoint() -> Iterator[str]:
    Hub.tokens.clear()
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _fetch(names: list[str], home: Path, **settings: str) -> list[str]:
    """What fetching each name gives, in a process with these environment variables."""
    plain = {key: value for key, value in os.environ.items() if not key.startswith("HF_")}
    environment = {**plain, "HF_HOME": str(home), "HF_HUB_DISABLE_PROGRESS_BARS": "1", **settings}
    command = [sys.executable, "-W", "ignore", "-c", FETCH, *names]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


def test_each_refusal_is_one_line_that_says_what_to_do(endpoint: str, tmp_path: Path) -> None:
    names = ["org/good", "org/gated", "org/gone", "org/bare", "org/good@v9"]
    good, gated, gone, bare, revision = _fetch(names, tmp_path, HF_ENDPOINT=endpoint, HF_TOKEN="hf_secret")
    assert good == "b'weights'"
    assert "org/gated is gated" in gated
    assert "https://huggingface.co/org/gated" in gated
    assert "HF_TOKEN" in gated
    assert "hf auth login" in gated
    assert "no model org/gone" in gone
    assert "https://huggingface.co/org/gone" in gone
    assert "no file pytorch_model.bin" in bare
    assert "no revision 'v9'" in revision
    assert Hub.tokens
    assert set(Hub.tokens) == {"Bearer hf_secret"}
    assert "hf_secret" not in gated + gone + bare + revision


def test_the_cache_is_enough_without_a_network(tmp_path: Path) -> None:
    model = tmp_path / "hub" / "models--org--cached"
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(COMMIT)
    (model / "snapshots" / COMMIT).mkdir(parents=True)
    (model / "snapshots" / COMMIT / "pytorch_model.bin").write_bytes(b"cached")
    cached, missing = _fetch(["org/cached", "org/missing"], tmp_path, HF_HUB_OFFLINE="1")
    assert cached == "b'cached'"
    assert "org/missing is not in the hub's cache" in missing
    assert "HF_HUB_OFFLINE" in missing
