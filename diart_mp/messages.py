"""The wire: messages between stages as ZeroMQ multiparts, encoded, decoded and validated.

Frame 0 is a msgpack map (the header), frames 1..n are raw little-endian arrays. Arrays never travel inside
msgpack, nothing is ever unpickled, and every header is checked (types, ranges, sizes) before it is used:
a bad message raises ProtocolError and costs its sender that message. An unknown field is passed on untouched.

Design note. A received array is a read-only view of the frame it came in (no copy); whoever keeps it beyond one
call keeps the whole frame alive. ``audio`` on one host is an AudioRef, a range of samples in a shared-memory ring;
what a ring is, this module does not know. Every process uses it.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import msgpack
import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import ProtocolError

VERSION = 1
DTYPES = ("<f4", "<f8", "<f2", "<i2", "<i4", "<i8", "|u1", "|b1")
DATA_KINDS = ("chunk", "end", "result", "error")
CONTROL_KINDS = (
    "room",
    "hello",
    "ready",
    "beat",
    "event",
    "fatal",
    "start",
    "restarted",
    "set_aside",
    "drain",
    "stop",
    "status",
)

_MAX_HEADER_BYTES = 1 << 20
_MAX_FRAMES = 64
_MAX_DIMENSIONS = 8
_MAX_SIZE = 1 << 32  # of one dimension
_MAX_FIELDS = 64
_MAX_NAME = 64
_MAX_ID = 256
_MAX_TRACE = 256
_MAX_INT = (1 << 62) - 1
_MAX_AUDIO = 300 * 384_000  # samples of one window

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class AudioRef:
    """Samples [first, first + count) of a shared-memory ring, counted from the ring's own beginning."""

    ring: str
    generation: int
    first: int
    count: int


@dataclass(frozen=True, slots=True)
class Plain:
    """A field that is a plain value (numbers, text, lists, maps) and travels inside the header."""

    value: Any


FieldValue = Array | AudioRef | Plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """A chunk on its way through the chain, or what the last stage answers to its owner (kind "result" or "error").

    ``start`` and ``origin`` are samples of the stream's clock: where this window and window 0 begin. ``attempt``
    grows with every replay by the owner. ``sender`` is the stage that sent this message and its epoch.
    """

    kind: str
    stream: str
    seq: int
    start: int = 0
    origin: int = 0
    rate: int = 16_000
    reply_to: str = ""
    attempt: int = 0
    sender: tuple[str, int] = ("", 0)
    fields: Mapping[str, FieldValue] = field(default_factory=dict)
    trace: tuple[tuple[Any, ...], ...] = ()

    def array(self, name: str) -> Array:
        """The array in field ``name``; ProtocolError if there is none."""
        value = self.fields.get(name)
        if not isinstance(value, np.ndarray):
            msg = f"chunk {self.seq} of stream {self.stream} has no array '{name}' (fields: {', '.join(self.fields) or 'none'})"
            raise ProtocolError(msg)
        return value

    def plain(self, name: str) -> Any:
        """The plain value in field ``name``; ProtocolError if there is none."""
        value = self.fields.get(name)
        if not isinstance(value, Plain):
            msg = f"chunk {self.seq} of stream {self.stream} has no value '{name}' (fields: {', '.join(self.fields) or 'none'})"
            raise ProtocolError(msg)
        return value.value

    def with_fields(self, fields: Mapping[str, FieldValue]) -> Self:
        """A copy with ``fields`` added or replaced."""
        return replace(self, fields={**self.fields, **fields})


def encode(message: Message) -> list[Any]:
    """The frames of ``message``: header first, then one buffer per array. Arrays must not change before they are sent."""
    frames: list[Any] = [b""]
    specs: dict[str, Any] = {}
    for name, value in message.fields.items():
        if isinstance(value, AudioRef):
            specs[name] = {"shm": [value.ring, value.generation, value.first, value.count]}
        elif isinstance(value, Plain):
            specs[name] = {"value": value.value}
        else:
            array = np.asarray(value, order="C")
            array = array.astype(array.dtype.newbyteorder("<"), copy=False)
            if array.dtype.str not in DTYPES:
                msg = f"field '{name}' has dtype {array.dtype}; the wire carries {', '.join(DTYPES)}"
                raise ProtocolError(msg)
            specs[name] = {"frame": len(frames), "dtype": array.dtype.str, "shape": list(array.shape)}
            frames.append(array.reshape(-1).data if array.size else b"")
    header = {
        "v": VERSION,
        "kind": message.kind,
        "stream": message.stream,
        "seq": message.seq,
        "start": message.start,
        "origin": message.origin,
        "rate": message.rate,
        "reply_to": message.reply_to,
        "attempt": message.attempt,
        "from": list(message.sender),
        "fields": specs,
        "trace": [list(entry) for entry in message.trace],
    }
    frames[0] = msgpack.packb(header)
    return frames


def decode(frames: Sequence[Any], header: Mapping[str, Any] | None = None) -> Message:
    """The message in ``frames`` (bytes or zmq.Frame); raises ProtocolError for anything that is not a valid data message.

    ``header`` is frame 0 if it has been decoded before.
    """
    header = decode_header(frames) if header is None else header
    kind = _text(header, "kind", _MAX_NAME)
    if kind not in DATA_KINDS:
        msg = f"unknown kind of message {shown(kind)}"
        raise ProtocolError(msg)
    stream = _text(header, "stream", _MAX_ID)
    if not stream:
        msg = f"{kind} without a stream id"
        raise ProtocolError(msg)
    specs = header.get("fields", {})
    if not isinstance(specs, dict) or len(specs) > _MAX_FIELDS:
        msg = f"fields of a {kind} must be a map of at most {_MAX_FIELDS}"
        raise ProtocolError(msg)
    return Message(
        kind=kind,
        stream=stream,
        seq=_integer(header, "seq", 0, _MAX_INT),
        start=_integer(header, "start", -_MAX_AUDIO, _MAX_INT, default=0),
        origin=_integer(header, "origin", -_MAX_AUDIO, 0, default=0),
        rate=_integer(header, "rate", 1, 384_000, default=16_000),
        reply_to=_text(header, "reply_to", _MAX_ID, default=""),
        attempt=_integer(header, "attempt", 0, _MAX_INT, default=0),
        sender=_sender(header),
        fields={_field_name(name): _field(name, spec, frames) for name, spec in specs.items()},
        trace=_trace(header),
    )


def decode_header(frames: Sequence[Any]) -> dict[str, Any]:
    """The msgpack map in frame 0, checked for size, version and key type only; raises ProtocolError."""
    if not 1 <= len(frames) <= _MAX_FRAMES:
        msg = f"a message of {len(frames)} frames; allowed are 1 to {_MAX_FRAMES}"
        raise ProtocolError(msg)
    data = _buffer(frames[0])
    if len(data) > _MAX_HEADER_BYTES:
        msg = f"a header of {len(data)} bytes; the limit is {_MAX_HEADER_BYTES}"
        raise ProtocolError(msg)
    try:
        header = msgpack.unpackb(data, strict_map_key=True, raw=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        msg = f"a header that is not msgpack ({type(error).__name__})"
        raise ProtocolError(msg) from error
    if not isinstance(header, dict) or not all(isinstance(key, str) for key in header):
        msg = f"a header that is a {type(header).__name__}, not a map with text keys"
        raise ProtocolError(msg)
    version = header.get("v")
    if version != VERSION or type(version) is not int:
        msg = f"a message of protocol version {shown(version)}; this side speaks version {VERSION}, so upgrade the older one"
        raise ProtocolError(msg)
    return header


def pack_control(kind: str, **values: Any) -> bytes:
    """A control message (one frame): room, hello, and what supervisor and stages tell each other.

    Text may hold a file name whose bytes are no UTF-8: those are written as escapes.
    """
    packed: bytes = msgpack.packb({"v": VERSION, "kind": kind, **values}, unicode_errors="backslashreplace")
    return packed


def unpack_control(frames: Sequence[Any], header: dict[str, Any] | None = None) -> dict[str, Any]:
    """The header of a control message; raises ProtocolError for an unknown kind."""
    header = decode_header(frames) if header is None else header
    if header.get("kind") not in CONTROL_KINDS:
        msg = f"unknown kind of control message {shown(header.get('kind'))}"
        raise ProtocolError(msg)
    return header


def integer(header: Mapping[str, Any], name: str, low: int = 0, high: int = _MAX_INT) -> int:
    """Value ``name`` of a control message as an int in [low, high]; raises ProtocolError."""
    return _integer(header, name, low, high)


def _integer(header: Mapping[str, Any], name: str, low: int, high: int, default: int | None = None) -> int:
    value = header.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        msg = f"'{name}' must be an integer from {low} to {high}, not {shown(value)}"
        raise ProtocolError(msg)
    return value


def _text(header: Mapping[str, Any], name: str, limit: int, default: str | None = None) -> str:
    value = header.get(name, default)
    if not isinstance(value, str) or len(value) > limit:
        msg = f"'{name}' must be text of at most {limit} characters, not {shown(value)}"
        raise ProtocolError(msg)
    return value


def _sender(header: Mapping[str, Any]) -> tuple[str, int]:
    value = header.get("from", ["", 0])
    match value:
        case [str(name), epoch] if len(name) <= _MAX_NAME and _is_integer(epoch, _MAX_INT):
            return name, epoch
    msg = f"'from' must be [stage, epoch], not {shown(value)}"
    raise ProtocolError(msg)


def _trace(header: Mapping[str, Any]) -> tuple[tuple[Any, ...], ...]:
    value = header.get("trace", [])
    if not isinstance(value, list) or len(value) > _MAX_TRACE or not all(isinstance(entry, list) for entry in value):
        msg = f"'trace' must be a list of at most {_MAX_TRACE} lists"
        raise ProtocolError(msg)
    return tuple(tuple(entry) for entry in value)


def _field_name(name: Any) -> str:
    if not isinstance(name, str) or not 0 < len(name) <= _MAX_NAME:
        msg = f"a field name must be text of 1 to {_MAX_NAME} characters, not {shown(name)}"
        raise ProtocolError(msg)
    return name


def _field(name: str, spec: Any, frames: Sequence[Any]) -> FieldValue:
    match spec:
        case {"shm": [str(ring), generation, first, count]}:
            positions = _is_integer(generation, _MAX_INT) and _is_integer(first, _MAX_INT)
            if len(ring) <= _MAX_ID and positions and _is_integer(count, _MAX_AUDIO):
                return AudioRef(ring, generation, first, count)
        case {"value": value}:
            return Plain(value)
        case {"frame": index, "dtype": str(dtype), "shape": list(shape)} if _is_integer(index, _MAX_FRAMES):
            return _array(name, index, dtype, shape, frames)
    msg = f"field {shown(name)} is neither an array, a value nor a valid range of shared memory"
    raise ProtocolError(msg)


def _array(name: str, index: int, dtype: str, shape: list[Any], frames: Sequence[Any]) -> Array:
    if dtype not in DTYPES:
        msg = f"field {shown(name)} has dtype {shown(dtype)}; allowed are {', '.join(DTYPES)}"
        raise ProtocolError(msg)
    if not 1 <= index < len(frames):
        msg = f"field {shown(name)} is in frame {index} of a message of {len(frames)}"
        raise ProtocolError(msg)
    if len(shape) > _MAX_DIMENSIONS or not all(_is_integer(size, _MAX_SIZE) for size in shape):
        msg = f"field {shown(name)} has shape {shown(shape)}"
        raise ProtocolError(msg)
    data = _buffer(frames[index])
    needed = math.prod(shape) * np.dtype(dtype).itemsize
    if needed != len(data):
        msg = f"field {shown(name)} of shape {shape} and dtype {dtype} needs {needed} bytes, its frame has {len(data)}"
        raise ProtocolError(msg)
    if dtype == "|b1" and not set(data.tobytes()) <= {0, 1}:  # NumPy takes it for granted
        msg = f"field {shown(name)} has truth values other than 0 and 1"
        raise ProtocolError(msg)
    try:
        array = np.frombuffer(data, dtype=dtype).reshape(shape)
    except ValueError as error:  # a size of 0 beside sizes that NumPy cannot multiply
        msg = f"field {shown(name)} has shape {shape}, which no array can have"
        raise ProtocolError(msg) from error
    array.flags.writeable = False
    return array


def _is_integer(value: Any, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= high


def shown(value: Any) -> str:
    """A value from outside for a message: one line, short, however large or deeply nested the value is."""
    return reprlib.repr(value)[:60]


def _buffer(frame: Any) -> memoryview:
    return memoryview(getattr(frame, "buffer", frame)).cast("B")
