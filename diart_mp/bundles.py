"""Bundles: several messages in one ZeroMQ multipart, for receivers that say that they take them.

    frame 0   {"v": 1, "kind": "bundle", "messages": [header, header, ...]}   each header packed, as of a message alone
    frame 1   the arrays of all of them, one behind the other: {"frame": 1, "offset": 3520, "dtype": ..., "shape": ...}

What a multipart costs, however little is in it, is then paid once for many chunks. Nothing waits for a bundle to fill: it holds
what is there. Each message in it is checked by itself, so that a bad one costs nobody but its sender. Every process uses it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from diart_mp.errors import ProtocolError
from diart_mp.messages import (
    VERSION,
    AudioRef,
    Message,
    Plain,
    buffer_of,
    decode,
    decode_header,
    encode,
    message_of,
    pack_header,
    plain_spec,
    unpack_header,
    wire_array,
)

KIND = "bundle"
MOST = 64  # messages
_MAX_ARRAYS = 1 << 16  # bytes of arrays of one message; one with more (samples) travels alone
_MAX_HEADERS = 1 << 18  # bytes, far below what a header may have
_ALIGNED = 8  # bytes


def encode_all(messages: Sequence[Message], sender: tuple[str, int]) -> Iterator[tuple[int, list[Any]]]:
    """The multiparts that carry ``messages`` of ``sender``, in order, each with the number of messages in it."""
    bundle = _Bundle(sender)
    for message in messages:
        arrays = sum(value.nbytes for value in message.fields.values() if isinstance(value, np.ndarray))
        if arrays > _MAX_ARRAYS or bundle.is_full:
            yield from bundle.multiparts()
            bundle = _Bundle(sender)
        if arrays > _MAX_ARRAYS:
            yield 1, encode(message, sender)
        else:
            bundle.add(message)
    yield from bundle.multiparts()


def decode_all(frames: Sequence[Any], header: Mapping[str, Any] | None = None) -> Iterator[Message | ProtocolError]:
    """The messages in one multipart, or in place of each bad one what is wrong with it. ``header`` as in ``decode``."""
    try:
        header = decode_header(frames) if header is None else header
        if header.get("kind") != KIND:
            yield decode(frames, header)
            return
        packed = header.get("messages")
        if not isinstance(packed, list) or len(packed) > MOST or not all(isinstance(each, bytes) for each in packed):
            msg = f"'messages' of a bundle must be a list of at most {MOST} packed headers"
            raise ProtocolError(msg)
    except ProtocolError as error:
        yield error
        return
    buffers = [buffer_of(frame) for frame in frames]
    for each in packed:
        try:
            yield message_of(unpack_header(each), buffers, len(each))
        except ProtocolError as error:
            yield error


@dataclass(slots=True)
class _Bundle:
    """Messages that are about to be sent together."""

    sender: tuple[str, int]
    first: Message | None = None
    headers: list[bytes] = field(default_factory=list)
    header_bytes: int = 0
    arrays: list[Any] = field(default_factory=list)
    array_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.headers) == MOST or self.header_bytes > _MAX_HEADERS

    def add(self, message: Message) -> None:
        specs: dict[str, Any] = {}
        for name, value in message.fields.items():
            if isinstance(value, AudioRef | Plain):
                specs[name] = plain_spec(value)
            else:
                array = wire_array(name, value)
                specs[name] = {
                    "frame": 1,
                    "offset": self.array_bytes,
                    "dtype": array.dtype.str,
                    "shape": array.shape,
                }
                padding = -array.nbytes % _ALIGNED
                self.arrays += (array.reshape(-1).data if array.size else b"", bytes(padding))
                self.array_bytes += array.nbytes + padding
        header = pack_header(message, specs, self.sender)
        self.first = self.first or message
        self.headers.append(header)
        self.header_bytes += len(header)

    def multiparts(self) -> Iterator[tuple[int, list[Any]]]:
        """The one that carries what is in it, none if that is nothing."""
        count, first = len(self.headers), self.first
        if first is not None:
            header = msgpack.packb({"v": VERSION, "kind": KIND, "messages": self.headers})
            yield count, encode(first, self.sender) if count == 1 else [header, b"".join(self.arrays)]
