"""What a stage is working on, kept where its death does not take it along: the way to find a chunk that kills.

Before each batch the stage writes the ids of its chunks over a small file in the run folder, and empties it afterwards (a few
microseconds). When the process dies the supervisor reads the file; the next process reads it too, and takes those chunks one
by one, so that from the second death on the culprit stands alone. Runs in stages (writer) and the supervisor (reader).
"""

import mmap
import os
from collections.abc import Sequence
from pathlib import Path

import msgpack

ChunkId = tuple[str, int]  # stream, seq
_LENGTH = 4  # bytes in front of the ids: how long they are
_MAX_BYTES = 1 << 16


class Activity:
    """The file of one stage process. ``suspects`` is what the process before it was working on when it died."""

    def __init__(self, path: Path) -> None:
        self.suspects = frozenset(read_activity(path))
        self._map: mmap.mmap | None = _mapped(path)

    def begin(self, chunks: Sequence[ChunkId]) -> None:
        """``chunks`` are about to be processed."""
        data = msgpack.packb(chunks)[: _MAX_BYTES - _LENGTH]
        if self._map is not None:
            self._map[:_LENGTH] = bytes(_LENGTH)  # none of it counts until all of it is there
            self._map[_LENGTH : _LENGTH + len(data)] = data
            self._map[:_LENGTH] = len(data).to_bytes(_LENGTH, "little")

    def end(self) -> None:
        """They are done."""
        if self._map is not None:
            self._map[:_LENGTH] = bytes(_LENGTH)

    def close(self) -> None:
        """Close the file; idempotent."""
        if self._map is not None:
            self._map.close()
        self._map = None


def _mapped(path: Path) -> mmap.mmap:
    """The file at ``path`` in memory: what is written there outlives the process, and costs no system call."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.pwrite(descriptor, bytes(_MAX_BYTES), 0)  # a full disk is found out now, not by a bus error later
        return mmap.mmap(descriptor, _MAX_BYTES)
    finally:
        os.close(descriptor)


def activity_file(directory: Path, stage: str, replica: int) -> Path:
    """Where a stage says what it is working on."""
    return directory / f"{stage}-{replica}.activity"


def read_activity(path: Path) -> list[ChunkId]:
    """What the process that wrote ``path`` was working on; empty if nothing, or if the file is not whole."""
    try:
        data = path.read_bytes()[:_MAX_BYTES]
    except FileNotFoundError:
        return []
    length = int.from_bytes(data[:_LENGTH], "little")
    try:
        chunks = msgpack.unpackb(data[_LENGTH : _LENGTH + length]) if length else []
    except (ValueError, msgpack.exceptions.UnpackException):
        return []
    return [(str(stream), int(seq)) for stream, seq in chunks]
