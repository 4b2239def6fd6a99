"""Checkpoints of keyed stages: what is packed comes back, anything else is refused."""

import zlib
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from diart_mp.errors import ProtocolError
from diart_mp.messages import DTYPES
from diart_mp.runtime.state import pack_state, unpack_state

shapes = st_numpy.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
arrays = st.sampled_from(DTYPES).flatmap(lambda dtype: st_numpy.arrays(dtype, shapes))
plain = st.integers(-(1 << 63), (1 << 64) - 1) | st.booleans() | st.none() | st.text() | st.floats(allow_nan=False)
STATE = {
    "centers": np.arange(6.0).reshape(2, 3),
    "count": 3,
    "name": "x",
    "known": np.array([True, False]),
    "none": None,
}


@given(st.dictionaries(st.text(), arrays | plain, max_size=6))
def test_round_trip(state: dict[str, Any]) -> None:
    back = unpack_state(pack_state(state))
    assert list(back) == list(state)
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            assert (back[name].dtype, back[name].shape) == (value.dtype, value.shape)
            assert back[name].tobytes() == value.tobytes()
            assert back[name].flags.writeable
        else:
            assert back[name] == value
            assert type(back[name]) is type(value)


def test_other_byte_orders_and_layouts() -> None:
    value = np.arange(6, dtype=">f8").reshape(2, 3).T
    back = unpack_state(pack_state({"x": value}))["x"]
    assert back.dtype == np.dtype("<f8")
    np.testing.assert_array_equal(back, value)


def test_every_flipped_bit_is_found() -> None:
    data = pack_state(STATE)
    for position in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[position // 8] ^= 1 << position % 8
        with pytest.raises(ProtocolError, match="is damaged"):
            unpack_state(bytes(damaged))


@given(st.binary(max_size=60))
def test_foreign_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        unpack_state(data)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb(3),
        msgpack.packb([1]),
        msgpack.packb({1: 2}),
        msgpack.packb({"x": ["<f4", [2], b"123"]}),
        msgpack.packb({"x": ["<f4", [2], b"1234"]}),
        msgpack.packb({"x": ["<f4", ["2"], b"1234"]}),
        msgpack.packb({"x": ["<f4", [0, 1 << 62], b""]}),
        b"\x91" * 5000,
    ],
)
def test_a_right_checksum_does_not_make_a_checkpoint(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="is not one of this version"):
        unpack_state(zlib.crc32(body).to_bytes(4, "little") + body)


@pytest.mark.parametrize("dtype", [object, np.uint32, np.complex64])
def test_arrays_that_would_not_come_back(dtype: Any) -> None:
    with pytest.raises(ProtocolError, match="'x' has dtype"):
        pack_state({"x": np.zeros(2, dtype)})
