"""The wire: messages between stages as ZeroMQ multiparts, encoded, decoded and validated.

Frame 0 is a msgpack map (the header), frames 1..n are raw little-endian arrays. Arrays never travel inside
msgpack, nothing is ever unpickled, and every header is checked (types, ranges, sizes) before it is used:
a bad message raises ProtocolError and costs its sender that message. An unknown field is passed on untouched.

Design note. A received array is a read-only view of the frame it came in (no copy); whoever keeps it beyond one
call keeps the whole frame alive. ``audio`` on one host is an AudioRef, a range of samples in a shared-memory ring;
what a ring is, this module does not know. Every process uses it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, Self, TypeVar

import msgpack
import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import ProtocolError
from diart_mp.headers import (
    MAX_FRAMES,
    MAX_HEADER_BYTES,
    MAX_INT,
    MAX_NAME,
    VERSION,
    buffer_of,
    decode_header,
    integer,
    is_integer,
    shown,
    text,
    unpack_header,
)

DTYPES = ("<f4", "<f8", "<f2", "<i2", "<i4", "<i8", "|u1", "|b1")
DATA_KINDS = ("chunk", "end", "result", "error")
_MAX_DIMENSIONS = 8
_MAX_SIZE = 1 << 32  # of one dimension
_MAX_FIELDS = 64
_MAX_ID = 256
_MAX_TRACE = 256
_MAX_RATE = 384_000
_MAX_AUDIO = 300 * _MAX_RATE  # samples of one window
_KNOWN_DTYPES = {name: np.dtype(name) for name in DTYPES}
_LISTS, _INTEGERS = frozenset({list}), frozenset({int})
_NOTHING: Mapping[str, Any] = {}

Array = NDArray[Any]
M = TypeVar("M")


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


@dataclass(frozen=True, kw_only=True)
class Message:
    """A chunk on its way through the chain, or what the last stage answers to its owner (kind "result" or "error").

    ``start`` and ``origin`` are samples of the stream's clock: where this window and window 0 begin. ``attempt``
    grows with every replay by the owner. ``sender`` is the stage that sent this message and its epoch. ``size``, which does
    not travel, is how many bytes its header had when it came.
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
    size: int = field(default=0, compare=False)

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
        return self.changed({**self.fields, **fields})

    def changed(
        self, fields: Mapping[str, FieldValue], *, kind: str = "", trace: tuple[tuple[Any, ...], ...] = ()
    ) -> Self:
        """A copy with these ``fields``, and with another kind and trace if they are given."""
        changes = {"fields": fields, "kind": kind or self.kind, "trace": trace or self.trace}
        return _made(type(self), {**self.__dict__, **changes})


def _made(kind: type[M], values: dict[str, Any]) -> M:
    """A frozen object with all its values, at a quarter of what its constructor costs (4 us): each hop of a chunk makes some."""
    made = object.__new__(kind)
    object.__setattr__(made, "__dict__", values)
    return made


def encode(message: Message, sender: tuple[str, int] | None = None) -> list[Any]:
    """The frames of ``message``: header first, then one buffer per array. Arrays must not change before they are sent.

    ``sender``: who sends it, if that is not said in it.
    """
    frames: list[Any] = [b""]
    specs: dict[str, Any] = {}
    for name, value in message.fields.items():
        if isinstance(value, AudioRef | Plain):
            specs[name] = plain_spec(value)
        else:
            array = wire_array(name, value)
            specs[name] = {"frame": len(frames), "dtype": array.dtype.str, "shape": list(array.shape)}
            frames.append(array.reshape(-1).data if array.size else b"")
    frames[0] = pack_header(message, specs, sender)
    return frames


def pack_header(message: Message, specs: Mapping[str, Any], sender: tuple[str, int] | None) -> bytes:
    """The header of ``message``, whose fields are where ``specs`` says."""
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
        "from": sender or message.sender,
        "fields": specs,
        "trace": message.trace,
    }
    packed: bytes = msgpack.packb(header)
    return packed


def plain_spec(value: AudioRef | Plain) -> dict[str, Any]:
    """What a header says of a field that is no array."""
    if isinstance(value, AudioRef):
        return {"shm": [value.ring, value.generation, value.first, value.count]}
    return {"value": value.value}


def wire_array(name: str, value: Array) -> Array:
    """The array as it travels: little-endian, rows first; ProtocolError if the wire does not carry its dtype."""
    array = np.asarray(value, order="C")
    if array.dtype.str in _KNOWN_DTYPES:
        return array
    array = array.astype(array.dtype.newbyteorder("<"), copy=False)
    if array.dtype.str not in DTYPES:
        msg = f"field '{name}' has dtype {array.dtype}; the wire carries {', '.join(DTYPES)}"
        raise ProtocolError(msg)
    return array


def check_fields(message: Message, fields: Mapping[str, FieldValue]) -> None:
    """Raise what ``encode`` or a receiver's ``decode`` would unless ``message`` can travel with new ``fields``.

    What came with the message has been checked when it came.
    """
    size = message.size
    for name, value in {**fields}.items():
        _field_name(name)
        if isinstance(value, np.ndarray) and value.dtype.str in _KNOWN_DTYPES and value.ndim <= _MAX_DIMENSIONS:
            size += 16 * _MAX_DIMENSIONS
        elif isinstance(value, Plain):
            packed = msgpack.packb({"v": VERSION, "fields": {name: plain_spec(value)}})  # as deep as it will be
            unpack_header(packed)
            size += len(packed)
        else:
            size = MAX_HEADER_BYTES  # something rare
        size += 2 * MAX_NAME
    if 2 * size > MAX_HEADER_BYTES or 2 * (len(fields) + len(message.fields)) > _MAX_FIELDS:  # near the limits
        decode(encode(message.with_fields(fields)))


def decode(frames: Sequence[Any], header: Mapping[str, Any] | None = None) -> Message:
    """The message in ``frames`` (bytes or zmq.Frame); raises ProtocolError for anything that is not a valid data message.

    ``header`` is frame 0 if it has been decoded before.
    """
    header = decode_header(frames) if header is None else header
    buffers = [buffer_of(frame) for frame in frames]
    return message_of(header, buffers, len(buffers[0]))


def message_of(
    header: Mapping[str, Any], buffers: Sequence[memoryview], size: int, given: Mapping[str, FieldValue] = _NOTHING
) -> Message:
    """The message whose header (of ``size`` bytes) has been unpacked, with its arrays in ``buffers``; raises ProtocolError.

    ``given``: fields that it has besides those in its header.
    """
    get = header.get
    kind, stream, seq, start = get("kind"), get("stream"), get("seq"), get("start", 0)
    origin, rate, attempt = get("origin", 0), get("rate", 16_000), get("attempt", 0)
    reply_to, specs, trace = get("reply_to", ""), get("fields", _NOTHING), get("trace", [])
    # What is as it should be is seen at once; what is not is looked at one by one, and told.
    if not (
        type(kind) is str
        and kind in DATA_KINDS
        and type(stream) is type(reply_to) is str
        and 0 < len(stream) <= _MAX_ID
        and len(reply_to) <= _MAX_ID
        and type(seq) is type(start) is type(origin) is type(rate) is type(attempt) is int
        and 0 <= seq <= MAX_INT
        and -_MAX_AUDIO <= start <= MAX_INT
        and -_MAX_AUDIO <= origin <= 0 < rate <= _MAX_RATE
        and 0 <= attempt <= MAX_INT
        and type(specs) is dict
        and len(specs) + len(given) <= _MAX_FIELDS
    ):
        _refuse(header)
    values = {
        "kind": kind,
        "stream": stream,
        "seq": seq,
        "start": start,
        "origin": origin,
        "rate": rate,
        "reply_to": reply_to,
        "attempt": attempt,
        "sender": _sender(header),
        "fields": {**given, **fields_of(specs, buffers)},
        "trace": _trace(trace),
        "size": size,
    }
    return _made(Message, values)


def fields_of(specs: Mapping[str, Any], buffers: Sequence[memoryview]) -> dict[str, FieldValue]:
    """The fields that ``specs`` describes, with their arrays in ``buffers``; raises ProtocolError."""
    return {_field_name(name): _field(name, spec, buffers) for name, spec in specs.items()}


def _refuse(header: Mapping[str, Any]) -> NoReturn:
    """Raise ProtocolError for the first thing that is wrong with a header."""
    kind = text(header, "kind", MAX_NAME)
    if kind not in DATA_KINDS:
        msg = f"unknown kind of message {shown(kind)}"
        raise ProtocolError(msg)
    if not text(header, "stream", _MAX_ID):
        msg = f"{kind} without a stream id"
        raise ProtocolError(msg)
    integer(header, "seq", 0, MAX_INT)
    integer(header, "start", -_MAX_AUDIO, MAX_INT, default=0)
    integer(header, "origin", -_MAX_AUDIO, 0, default=0)
    integer(header, "rate", 1, _MAX_RATE, default=16_000)
    integer(header, "attempt", 0, MAX_INT, default=0)
    text(header, "reply_to", _MAX_ID, default="")
    msg = f"fields of a {kind} must be a map of at most {_MAX_FIELDS}"
    raise ProtocolError(msg)


def _sender(header: Mapping[str, Any]) -> tuple[str, int]:
    value = header.get("from", ["", 0])
    if type(value) is list and len(value) == 2:
        name, epoch = value
        if type(name) is str and len(name) <= MAX_NAME and is_integer(epoch, MAX_INT):
            return name, epoch
    msg = f"'from' must be [stage, epoch], not {shown(value)}"
    raise ProtocolError(msg)


def _trace(value: Any) -> tuple[tuple[Any, ...], ...]:
    if type(value) is not list or len(value) > _MAX_TRACE or not _LISTS.issuperset(map(type, value)):
        msg = f"'trace' must be a list of at most {_MAX_TRACE} lists"
        raise ProtocolError(msg)
    return tuple(map(tuple, value))


def _field_name(name: Any) -> str:
    if type(name) is not str or not 0 < len(name) <= MAX_NAME:
        msg = f"a field name must be text of 1 to {MAX_NAME} characters, not {shown(name)}"
        raise ProtocolError(msg)
    return name


def _field(name: str, spec: Any, buffers: Sequence[memoryview]) -> FieldValue:
    if type(spec) is dict:
        shm = spec.get("shm")
        if type(shm) is list and len(shm) == 4 and type(shm[0]) is str:
            ring, generation, first, count = shm
            positions = is_integer(generation, MAX_INT) and is_integer(first, MAX_INT)
            if len(ring) <= _MAX_ID and positions and is_integer(count, _MAX_AUDIO):
                return AudioRef(ring, generation, first, count)
        elif "value" in spec:
            return Plain(spec["value"])
        elif is_integer(spec.get("frame"), MAX_FRAMES):
            return _array(name, spec, buffers)
    msg = f"field {shown(name)} is neither an array, a value nor a valid range of shared memory"
    raise ProtocolError(msg)


def _array(name: str, spec: Mapping[str, Any], buffers: Sequence[memoryview]) -> Array:
    """The array that ``spec`` describes: a whole frame, or what begins at byte ``offset`` of one."""
    index, dtype, shape = spec["frame"], spec.get("dtype"), spec.get("shape")
    kind = _KNOWN_DTYPES.get(dtype) if type(dtype) is str else None
    if kind is None:
        msg = f"field {shown(name)} has dtype {shown(dtype)}; allowed are {', '.join(DTYPES)}"
        raise ProtocolError(msg)
    if not 1 <= index < len(buffers):
        msg = f"field {shown(name)} is in frame {index} of a message of {len(buffers)}"
        raise ProtocolError(msg)
    if (
        type(shape) is not list
        or len(shape) > _MAX_DIMENSIONS
        or not (
            _INTEGERS.issuperset(map(type, shape)) and 0 <= min(shape, default=0) <= max(shape, default=0) <= _MAX_SIZE
        )
    ):
        msg = f"field {shown(name)} has shape {shown(shape)}"
        raise ProtocolError(msg)
    data, offset, count = buffers[index], spec.get("offset", 0), math.prod(shape)
    needed = count * kind.itemsize
    fits = (
        needed == len(data) if "offset" not in spec else is_integer(offset, len(data)) and offset + needed <= len(data)
    )
    if not fits:
        where = f" from byte {shown(offset)} on" if "offset" in spec else ""
        msg = f"field {shown(name)} of shape {shape} and dtype {dtype} needs {needed} bytes, its frame has {len(data)}{where}"
        raise ProtocolError(msg)
    if dtype == "|b1" and not set(data[offset : offset + needed].tobytes()) <= {0, 1}:  # NumPy takes it for granted
        msg = f"field {shown(name)} has truth values other than 0 and 1"
        raise ProtocolError(msg)
    try:
        array = np.frombuffer(data, kind, count, offset).reshape(shape) if count else np.zeros(shape, kind)
    except ValueError as error:  # a size of 0 beside sizes that NumPy cannot multiply
        msg = f"field {shown(name)} has shape {shape}, which no array can have"
        raise ProtocolError(msg) from error
    array.flags.writeable = False
    return array
