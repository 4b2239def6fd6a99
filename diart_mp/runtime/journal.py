"""What an owner writes so that a new process can go on for it: results as lines, and the checkpoint that covers them.

Three files per stream in the run folder. The journal gets one line per result, its CRC (8 hex digits) and the result as JSON, flushed before
anything else is done with that result; from a damaged line on it counts as never written. The checkpoint is replaced (temporary file,
rename) and carries a CRC too; the one before it is kept, for the case that the newest is damaged. If both are, or lie behind a
damaged line, a recording is computed again from its beginning, which costs time but no word; a live stream cannot go back and
ends. Runs in owners.
"""

import contextlib
import json
import os
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from diart_mp.errors import OutputError
from diart_mp.runtime.ledger import Checkpoint


@dataclass(frozen=True, slots=True)
class Position:
    """Where a stream was: its newest checkpoint, where its windows are, the audio ring, and the clock of a live source.

    ``window`` is the first sample of the chunk after the checkpoint, None before there is one; ``clock`` is the
    monotonic time (s) at which sample ``samples`` was captured. ``sound``: the first sample that is a sound.
    """

    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    origin: int | None = None
    window: int | None = None
    ring: str = ""
    generation: int = 0
    samples: int = 0
    clock: float = 0.0
    sound: int | None = None


class Journal:
    """The journal of one stream. Opening it reads back what an earlier process wrote.

    ``lines``: those results. ``damaged``: there were more, but a line after them is not what was written.
    """

    def __init__(self, directory: Path, name: str) -> None:
        self._path = directory / f"{name}.journal"
        self._checkpoint = directory / f"{name}.checkpoint"
        self._older = directory / f"{name}.older"
        self.resumed = self._path.exists()  # an earlier process has begun this stream
        self.damaged = False
        self.lines = self._read()
        try:
            self._file = self._path.open("ab")
        except OSError as error:
            msg = f"cannot write the journal {self._path}: {error.strerror}"
            raise OutputError(msg) from error

    def append(self, result: dict[str, Any]) -> None:
        """Write one result; after this call it survives the death of the process."""
        try:
            data = json.dumps(result).encode()
            self._file.write(b"%08x %b\n" % (zlib.crc32(data), data))
            self._file.flush()
        except OSError as error:
            msg = f"cannot write the journal {self._path}: {error.strerror}; free some space in {self._path.parent}"
            raise OutputError(msg) from error

    def save(self, position: Position) -> None:
        """Replace the checkpoint."""
        values = {
            "seq": position.checkpoint.seq,
            "states": dict(position.checkpoint.states),
            "origin": position.origin,
            "window": position.window,
            "ring": position.ring,
            "generation": position.generation,
            "samples": position.samples,
            "clock": position.clock,
            "sound": position.sound,
        }
        data = msgpack.packb(values)
        temporary = self._checkpoint.with_suffix(".new")
        try:
            temporary.write_bytes(zlib.crc32(data).to_bytes(4, "little") + data)
            if self._checkpoint.exists():
                os.replace(self._checkpoint, self._older)
            os.replace(temporary, self._checkpoint)
        except OSError as error:
            msg = f"cannot write the checkpoint {self._checkpoint}: {error.strerror}"
            raise OutputError(msg) from error

    def load(self) -> Position | None:
        """The newest checkpoint that is whole and covered by the results; None if there is none."""
        return self._load(self._checkpoint) or self._load(self._older)

    @property
    def done(self) -> int:
        """How many chunks have a result: one more than the last ``seq``."""
        return int(self.lines[-1]["seq"]) + 1 if self.lines else 0

    @property
    def begun(self) -> bool:
        """Whether an earlier process got as far as to take audio."""
        return bool(self.lines) or self.damaged or self._checkpoint.exists() or self._older.exists()

    def _load(self, path: Path) -> Position | None:
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return None
        if len(data) <= 4 or zlib.crc32(data[4:]).to_bytes(4, "little") != data[:4]:
            return None
        values = msgpack.unpackb(data[4:])
        if values["seq"] >= self.done:
            return None
        checkpoint = Checkpoint(values.pop("seq"), values.pop("states"))
        return Position(checkpoint, **values)

    def close(self) -> None:
        """Close the journal; idempotent."""
        with contextlib.suppress(OSError):  # what could not be written, ``append`` has told
            self._file.close()

    def remove(self) -> None:
        """Close and delete: nobody will go on with this stream."""
        self.close()
        for path in (self._path, self._checkpoint, self._older):
            path.unlink(missing_ok=True)

    def _read(self) -> list[dict[str, Any]]:
        """All lines up to the first that is not whole; it is cut off, and what follows it too. A torn last one is no damage."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return []
        lines, good = [], 0
        while (end := data.find(b"\n", good)) >= 0:
            line = data[good:end]
            if line[:9] != b"%08x " % zlib.crc32(line[9:]):
                self.damaged = True
                break
            lines.append(json.loads(line[9:]))
            good = end + 1
        if good < len(data):
            os.truncate(self._path, good)
        return lines
