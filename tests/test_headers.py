"""Headers as they come from outside, and control messages."""

from typing import Any

import msgpack
import pytest

from diart_mp.errors import ProtocolError
from diart_mp.headers import integer, pack_control, shown, unpack_control

from .test_messages import nested


def test_control_messages() -> None:
    packed = pack_control("event", text="caf\udce9", count=3)
    header = unpack_control([packed])
    assert header == {"v": 1, "kind": "event", "text": "caf\\udce9", "count": 3}
    assert integer(header, "count") == 3
    with pytest.raises(ProtocolError, match="'count' must be an integer from 0 to 2, not 3"):
        integer(header, "count", high=2)
    with pytest.raises(ProtocolError, match="'none' must be an integer"):
        integer(header, "none")
    kinds: list[Any] = ["chunk", "zzz", [], nested(1000), None]
    for kind in kinds:
        with pytest.raises(ProtocolError, match="unknown kind of control message"):
            unpack_control([msgpack.packb({"v": 1, "kind": kind})])


def test_values_are_shown_short() -> None:
    assert shown("a\nb") == "'a\\nb'"
    assert len(shown("x" * 10_000)) <= 60
    assert len(shown({str(number): nested(500) for number in range(100)})) <= 60
