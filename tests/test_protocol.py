"""The golden bytes of the protocol page are those that links send."""

import re
from pathlib import Path

from diart_mp.headers import pack_control

DOCS = Path(__file__).resolve().parents[1] / "docs"


def test_golden_bytes() -> None:
    room, hello = re.findall(r"^```hex\n(.*?)^```", (DOCS / "protocol.md").read_text(), flags=re.DOTALL | re.MULTILINE)
    packed = pack_control("room", replica=0, epoch=7, **{"for": 3}, received=5, limit=21)
    assert bytes.fromhex(room) == packed
    assert bytes.fromhex(hello) == pack_control("hello", **{"from": ["segmentation", 3]})
