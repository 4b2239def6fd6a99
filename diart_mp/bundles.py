"""Bundles: several messages in one ZeroMQ multipart, for receivers that say that they take them.

    frame 0   {"v": 1, "kind": "bundle", "messages": [header, ...], "common": [header, ...]}   each header packed
    frame 1   the arrays of all of them, one behind the other: {"frame": 1, "offset": 3520, "dtype": ..., "shape": ...}

A header in ``messages`` is as that of a message alone, or it has ``of``: n and leaves to header n of ``common`` what it shares with
others of its stream, such as the settings. Those stay the same from bundle to bundle, so each is read once.

What a multipart costs, however little is in it, is then paid once for many chunks. Nothing waits for a bundle to fill: it holds
what is there. Each message in it is checked by itself, so that a bad one costs nobody but its sender. Every process uses it.
"""

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgpack
import numpy as np

from diart_mp.errors import ProtocolError
from diart_mp.headers import VERSION, buffer_of, decode_header, shown, unpack_header, unpack_map
from diart_mp.messages import (
    AudioRef,
    FieldValue,
    Message,
    Plain,
    decode,
    encode,
    fields_of,
    message_of,
    plain_spec,
    wire_array,
)

KIND = "bundle"
MOST = 64  # messages
_MAX_ARRAYS = 1 << 16  # bytes of arrays of one message; one with more (samples) travels alone
_MAX_HEADERS = 1 << 18  # bytes, far below what a header may have
_ALIGNED = 8  # bytes
_MAX_REMEMBERED = 1 << 14  # bytes of a common header that is read once
_OF_STREAMS = ("settings", "bundles")  # fields that say the same of each chunk of a stream

Common = tuple[Mapping[str, Any], Mapping[str, FieldValue], int]  # a common header, the fields in it, its size in bytes


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
        packed, common = _headers(header, "messages"), _headers(header, "common")
    except ProtocolError as error:
        yield error
        return
    buffers = [buffer_of(frame) for frame in frames]
    shared = [_common(each) for each in common]
    for each in packed:
        try:
            yield _message(each, shared, buffers)
        except ProtocolError as error:
            yield error


def _headers(bundle: Mapping[str, Any], name: str) -> list[bytes]:
    headers = bundle.get(name, [] if name == "common" else None)
    if type(headers) is list and len(headers) <= MOST and all(type(each) is bytes for each in headers):
        return headers
    msg = f"'{name}' of a bundle must be a list of at most {MOST} packed headers"
    raise ProtocolError(msg)


def _message(packed: bytes, shared: Sequence[Common | ProtocolError], buffers: Sequence[memoryview]) -> Message:
    own = unpack_map(packed)
    place = own.get("of")
    if place is None:
        return message_of(unpack_header(packed), buffers, len(packed))
    if type(place) is not int or not 0 <= place < len(shared):
        msg = f"a header of a bundle leaves the rest to common header {shown(place)} of {len(shared)}"
        raise ProtocolError(msg)
    common = shared[place]
    if isinstance(common, ProtocolError):
        raise common
    header, fields, size = common
    return message_of({**header, **own}, buffers, len(packed) + size, fields)


def _common(packed: bytes) -> Common | ProtocolError:
    """A common header, or what is wrong with it: once for a bundle, whoever refers to it."""
    try:
        return _read(packed) if len(packed) <= _MAX_REMEMBERED else _read.__wrapped__(packed)
    except ProtocolError as error:
        return error


@functools.lru_cache(maxsize=256)
def _read(packed: bytes) -> Common:
    """A common header. Whatever it says is looked at with each message; its fields, which are no arrays, here."""
    header = unpack_header(packed)
    specs = header.pop("fields", {})
    if not isinstance(specs, dict):
        msg = f"fields of a common header must be a map, not {shown(specs)}"
        raise ProtocolError(msg)
    return header, fields_of(specs, ()), len(packed)


@dataclass(slots=True)
class _Bundle:
    """Messages that are about to be sent together."""

    sender: tuple[str, int]
    first: Message | None = None
    headers: list[bytes] = field(default_factory=list)
    common: dict[tuple[Any, ...], int] = field(default_factory=dict)  # what messages share, and its place in ``shared``
    shared: list[bytes] = field(default_factory=list)
    header_bytes: int = 0
    arrays: list[Any] = field(default_factory=list)
    array_bytes: int = 0

    @property
    def is_full(self) -> bool:
        return len(self.headers) == MOST or self.header_bytes > _MAX_HEADERS

    def add(self, message: Message) -> None:
        specs: dict[str, Any] = {}
        place = self._place_of(message)
        for name, value in message.fields.items():
            if name in _OF_STREAMS and isinstance(value, Plain):
                continue
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
        own = {"of": place, "seq": message.seq, "start": message.start, "fields": specs, "trace": message.trace}
        header = msgpack.packb(own)
        self.first = self.first or message
        self.headers.append(header)
        self.header_bytes += len(header)

    def _place_of(self, message: Message) -> int:
        """Where the common header is that goes with a message."""
        fields = {name: value for name in _OF_STREAMS if isinstance(value := message.fields.get(name), Plain)}
        values = (message.kind, message.stream, message.origin, message.rate, message.reply_to, message.attempt)
        key = (*values, *map(id, fields.values()))  # they live as long as the messages
        place = self.common.get(key)
        if place is None:
            place = self.common[key] = len(self.shared)
            specs = {name: plain_spec(value) for name, value in fields.items()}
            self.shared.append(_pack_common(message, specs, self.sender))
            self.header_bytes += len(self.shared[-1])
        return place

    def multiparts(self) -> Iterator[tuple[int, list[Any]]]:
        """The one that carries what is in it, none if that is nothing."""
        count, first = len(self.headers), self.first
        if first is not None:
            header = msgpack.packb({"v": VERSION, "kind": KIND, "messages": self.headers, "common": self.shared})
            yield count, encode(first, self.sender) if count == 1 else [header, b"".join(self.arrays)]


def _pack_common(message: Message, specs: Mapping[str, Any], sender: tuple[str, int]) -> bytes:
    header = {
        "v": VERSION,
        "kind": message.kind,
        "stream": message.stream,
        "origin": message.origin,
        "rate": message.rate,
        "reply_to": message.reply_to,
        "attempt": message.attempt,
        "from": sender,
        "fields": specs,
    }
    packed: bytes = msgpack.packb(header)
    return packed
