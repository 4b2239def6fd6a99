"""Names of streams and speakers as they may stand in a line, a field or a file name.

A name is whatever a file was called or a client sent: it may hold line breaks, escape sequences, slashes or bytes that
are no text. Knows nothing of formats or folders. Every process may use it.
"""

import os
import zlib

MAX_NAME_BYTES = 200
"""Longest file name made from a stream name, without its extension (file systems end at 255 bytes)."""

_NOT_IN_FILE_NAMES = frozenset('/\\:*?"<>|')


def one_line(name: str) -> str:
    """The name without line breaks, tabs, escape sequences and other unprintable characters (a space each)."""
    return "".join(char if char.isprintable() else " " for char in name)


def one_field(name: str) -> str:
    """The name as one field of a line that is separated by whitespace (RTTM): each whitespace becomes ``_``."""
    return "".join("_" if char.isspace() else char for char in one_line(name)) or "_"


def safe_file_name(name: str) -> str:
    """A file name, without extension, for a stream of that name.

    Characters that a file system or a shell could trip over, and a leading dot, become ``_``; a name over
    ``MAX_NAME_BYTES`` is cut and ends in a checksum of the whole, so that long names that begin alike stay apart.
    """
    safe = "".join("_" if char in _NOT_IN_FILE_NAMES or not char.isprintable() else char for char in name) or "stream"
    if safe.startswith("."):
        safe = "_" + safe[1:]
    raw = os.fsencode(safe)
    if len(raw) <= MAX_NAME_BYTES:
        return safe
    mark = f"-{zlib.crc32(raw):08x}"
    return raw[: MAX_NAME_BYTES - len(mark)].decode("utf-8", "ignore") + mark
