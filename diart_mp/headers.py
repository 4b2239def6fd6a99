"""Headers: the msgpack maps of which messages consist, as they come from outside, and control messages, which are nothing else.

Every map is checked (size, version, key type) before it is used, every value that is asked for by its type and range. Knows
nothing of chunks and their fields: those are ``diart_mp.messages``. Every process uses it.
"""

import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import msgpack

from diart_mp.errors import ProtocolError, VersionError

VERSION = 1
CONTROL_KINDS = (
    "room",
    "hello",
    "ready",
    "beat",
    "event",
    "events",
    "fatal",
    "start",
    "restarted",
    "set_aside",
    "drain",
    "stop",
    "status",
)
MAX_FRAMES = 64
MAX_NAME = 64  # characters
MAX_INT = (1 << 62) - 1
MAX_HEADER_BYTES = 1 << 20
_TEXT = frozenset({str})


def decode_header(frames: Sequence[Any]) -> dict[str, Any]:
    """The msgpack map in frame 0, checked for size, version and key type only; raises ProtocolError."""
    if not 1 <= len(frames) <= MAX_FRAMES:
        msg = f"a message of {len(frames)} frames; allowed are 1 to {MAX_FRAMES}"
        raise ProtocolError(msg)
    return unpack_header(buffer_of(frames[0]))


def unpack_header(data: bytes | memoryview) -> dict[str, Any]:
    """The same for the bytes of a header."""
    header = unpack_map(data)
    version, host = header.get("v"), header.get("host")
    if type(version) is int and version != VERSION and abs(version) <= MAX_INT:
        raise VersionError(version, VERSION, _readable(host) if type(host) is str else "")
    if version != VERSION or type(version) is not int:
        msg = f"a message of protocol version {shown(version)}; this side speaks version {VERSION}, so upgrade the older one"
        raise ProtocolError(msg)
    return header


def unpack_map(data: bytes | memoryview) -> dict[str, Any]:
    """The same for a part of a header, which has no version."""
    if len(data) > MAX_HEADER_BYTES:
        msg = f"a header of {len(data)} bytes; the limit is {MAX_HEADER_BYTES}"
        raise ProtocolError(msg)
    try:
        header = msgpack.unpackb(data, strict_map_key=True, raw=False)
    except (ValueError, msgpack.exceptions.UnpackException, RecursionError) as error:
        msg = f"a header that is not msgpack ({type(error).__name__})"
        raise ProtocolError(msg) from error
    if type(header) is not dict or not _TEXT.issuperset(map(type, header)):
        msg = f"a header that is a {type(header).__name__}, not a map with text keys"
        raise ProtocolError(msg)
    return header


def _readable(text: str) -> str:
    """A name from outside as a part of a line for people."""
    return "".join(each if each.isprintable() else "?" for each in text[:MAX_NAME])


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


def integer(header: Mapping[str, Any], name: str, low: int = 0, high: int = MAX_INT, default: int | None = None) -> int:
    """Value ``name`` of a header as an int in [low, high]; raises ProtocolError."""
    value = header.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        msg = f"'{name}' must be an integer from {low} to {high}, not {shown(value)}"
        raise ProtocolError(msg)
    return value


def text(header: Mapping[str, Any], name: str, limit: int, default: str | None = None) -> str:
    """Value ``name`` of a header as text of at most ``limit`` characters; raises ProtocolError."""
    value = header.get(name, default)
    if not isinstance(value, str) or len(value) > limit:
        msg = f"'{name}' must be text of at most {limit} characters, not {shown(value)}"
        raise ProtocolError(msg)
    return value


def is_integer(value: Any, high: int) -> bool:
    """Whether a value from outside is an int in [0, high]."""
    return type(value) is int and 0 <= value <= high


def shown(value: Any) -> str:
    """A value from outside for a message: one line, short, however large or deeply nested the value is."""
    return reprlib.repr(value)[:60]


def buffer_of(frame: Any) -> memoryview:
    """The bytes of a frame (bytes or zmq.Frame), in place."""
    return memoryview(getattr(frame, "buffer", frame)).cast("B")
