"""Checkpoints of keyed stages as bytes: a flat map of numbers, truth values, text and arrays, with a CRC in front.

Knows nothing of what the values mean. Runs in keyed stages.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import msgpack
import numpy as np

from diart_mp.errors import ProtocolError
from diart_mp.messages import DTYPES

_CRC_BYTES = 4


def pack_state(state: Mapping[str, Any]) -> bytes:
    """The map as bytes; arrays keep dtype and shape. ProtocolError for an array of a dtype that the wire does not carry."""
    packed = {}
    for name, value in state.items():
        if isinstance(value, np.ndarray):
            array = np.asarray(value, value.dtype.newbyteorder("<"), order="C")
            if array.dtype.str not in DTYPES:
                msg = f"'{name}' has dtype {array.dtype}; a checkpoint carries {', '.join(DTYPES)}"
                raise ProtocolError(msg)
            packed[name] = [array.dtype.str, list(array.shape), array.tobytes()]
        else:
            packed[name] = value
    data: bytes = msgpack.packb(packed)
    return zlib.crc32(data).to_bytes(_CRC_BYTES, "little") + data


def unpack_state(data: bytes) -> dict[str, Any]:
    """What ``pack_state`` was given; ProtocolError for anything else."""
    body = data[_CRC_BYTES:]
    if zlib.crc32(body).to_bytes(_CRC_BYTES, "little") != data[:_CRC_BYTES]:
        msg = f"a checkpoint of {len(data)} bytes is damaged (its checksum does not match)"
        raise ProtocolError(msg)
    try:
        return {name: _value(value) for name, value in msgpack.unpackb(body).items()}
    except (ValueError, TypeError, AttributeError, msgpack.exceptions.UnpackException) as error:
        msg = f"a checkpoint of {len(data)} bytes is not one of this version ({error})"
        raise ProtocolError(msg) from error


def _value(value: Any) -> Any:
    match value:
        case [str(dtype), list(shape), bytes(data)] if dtype in DTYPES:
            return np.frombuffer(data, dtype).reshape(shape).copy()
    return value
