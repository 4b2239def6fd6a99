"""The shared-memory audio ring: written once by the owner of a stream, read in place by the stages on its host.

Layout of the file: a header of eight little-endian 64-bit words (magic, generation, capacity, window, tail, head,
rate, end: where a stream that is over was padded with silence, else 0), padded to one page, then
``capacity + window`` float32 samples. Sample ``i`` lies at ``i % capacity`` and, where that is below ``window``,
once more at ``i % capacity + capacity``: so every range of up to ``window`` samples is contiguous and a reader gets a
NumPy view, no copy, while the writer copies only what is new.

Readers write nothing. [tail, head) are the samples that are there: the writer moves ``tail`` before it
overwrites and ``head`` after it wrote, and a reader compares before and after it used a range. What may be
overwritten is the owner's decision (everything acknowledged); references travel by socket, so there is
nothing to poll here. The file lies in /dev/shm where that exists; its name carries the run, so that
``runtime.rundir`` finds what a killed owner left. Runs in the owner (writer) and in the stages (readers).
"""

import fcntl
import mmap
import os
import re
import stat
import tempfile
import time
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import OutputError, StaleAudioError
from diart_mp.messages import AudioRef, Message

PREFIX = "diart-mp-"
_MAGIC = 0x31676E6972_706D  # "mpring1"
_HEADER = 4096  # bytes: one page, so that the samples are page-aligned
_NAME = re.compile(r"diart-mp-[A-Za-z0-9._-]{1,200}")
_YOUNG_S = 60.0  # that a ring must be old to count as abandoned: its writer may be about to lock it, or to be restarted
_MAX_OPEN = 64  # rings that a reader keeps mapped
_GENERATION, _CAPACITY, _WINDOW, _TAIL, _HEAD, _RATE, _END = range(1, 8)

Samples = NDArray[np.float32]


def ring_directory() -> Path:
    """Folder of the ring files: shared memory on Linux, the temporary folder elsewhere."""
    shm = Path("/dev/shm")  # noqa: S108  # a file made here by us, exclusively, mode 0600
    return shm if shm.is_dir() else Path(tempfile.gettempdir())


class RingWriter:
    """Creates a ring and appends samples to it; the only writer.

    ``capacity`` is how many of the newest samples are kept, ``window`` the longest range that is read at once,
    ``first`` the position of the first sample to be written; up to one window before it reads as silence.
    Raises OutputError if the memory is not to be had.
    """

    def __init__(self, name: str, *, capacity: int, window: int, rate: int, generation: int, first: int = 0) -> None:
        self.name, self.generation, self.capacity, self.window = name, generation, capacity, window
        self.path = ring_directory() / name
        size = _HEADER + 4 * (capacity + window)
        self._map = _create(self.path, size)
        self._words: Any = memoryview(self._map)[:_HEADER].cast("Q")
        self._samples: Samples = np.frombuffer(self._map, np.float32, offset=_HEADER)
        self.head = first
        tail = max(0, first - window)
        for index, value in enumerate((_MAGIC, generation, capacity, window, tail, first, rate)):
            self._words[index] = value

    @property
    def tail(self) -> int:
        """Position of the oldest sample that is still there."""
        return int(self._words[_TAIL])

    def write(self, samples: Samples) -> None:
        """Append mono float32 samples; the oldest ones beyond ``capacity`` are gone from then on."""
        for begin in range(0, len(samples), self.window):
            self._write(samples[begin : begin + self.window])

    def pad(self, count: int) -> None:
        """Append ``count`` samples of silence to a stream that has ended."""
        self._words[_END] = self._words[_END] or self.head
        self.write(np.zeros(count, np.float32))

    def _write(self, samples: Samples) -> None:
        head, count = self.head, len(samples)
        self._words[_TAIL] = max(self.tail, head + count - self.capacity)
        offset = head % self.capacity
        part = min(count, self.capacity - offset)
        self._store(offset, samples[:part])
        self._store(0, samples[part:])
        self.head = head + count
        self._words[_HEAD] = self.head

    def _store(self, offset: int, samples: Samples) -> None:
        self._samples[offset : offset + len(samples)] = samples
        mirrored = samples[: max(0, self.window - offset)]
        self._samples[self.capacity + offset : self.capacity + offset + len(mirrored)] = mirrored

    def reference(self, first: int, count: int) -> AudioRef:
        """What a chunk carries instead of the samples."""
        return AudioRef(self.name, self.generation, first, count)

    def close(self) -> None:
        """Remove the ring's name; memory goes when the last reader lets go. Idempotent."""
        self.path.unlink(missing_ok=True)


class RingReader:
    """Opens rings by the references that chunks carry and gives read-only views of their samples."""

    def __init__(self) -> None:
        self._open: OrderedDict[tuple[str, int], tuple[Any, Samples]] = OrderedDict()

    def view(self, reference: AudioRef) -> Samples:
        """The samples (count,) of ``reference``, in place; raises StaleAudioError if they are not there (any more)."""
        words, samples = self._ring(reference)
        if reference.count > words[_WINDOW] or not self._holds(words, reference):
            msg = (
                f"samples {reference.first} to {reference.first + reference.count} of {reference.ring} are gone: "
                f"it holds {words[_TAIL]} to {words[_HEAD]}"
            )
            raise StaleAudioError(msg)
        offset = reference.first % words[_CAPACITY]
        return samples[offset : offset + reference.count]

    def is_valid(self, reference: AudioRef) -> bool:
        """Whether the samples are still unchanged: to be asked again after a view was used."""
        return self._holds(self._ring(reference)[0], reference)

    def inline(self, message: Message) -> Message:
        """``message`` with its samples in place of a reference to them, for links that leave the host.

        Samples that are gone stay a reference: whoever comes to use them will say so.
        """
        reference = message.fields.get("audio")
        if not isinstance(reference, AudioRef):
            return message
        try:
            samples = self.view(reference).copy()
            return message.with_fields({"audio": samples}) if self.is_valid(reference) else message
        except StaleAudioError:
            return message

    def tail_from(self, reference: AudioRef, first: int) -> Samples:
        """A copy of all samples of the stream from ``first`` on; StaleAudioError if the first is not there any more."""
        words, _ = self._ring(reference)
        head, window = int(words[_END] or words[_HEAD]), int(words[_WINDOW])
        parts = [
            self.view(AudioRef(reference.ring, reference.generation, begin, min(window, head - begin))).copy()
            for begin in range(first, head, window)
        ]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def forget(self, ring: str) -> None:
        """Let go of a ring whose stream has ended."""
        for key in [key for key in self._open if key[0] == ring]:
            del self._open[key]

    @staticmethod
    def _holds(words: Any, reference: AudioRef) -> bool:
        return bool(words[_TAIL] <= reference.first and reference.first + reference.count <= words[_HEAD])

    def _ring(self, reference: AudioRef) -> tuple[Any, Samples]:
        key = (reference.ring, reference.generation)
        if key in self._open:
            self._open.move_to_end(key)
            return self._open[key]
        ring = _attach(reference)
        for known in [known for known in self._open if not (ring_directory() / known[0]).exists()]:
            del self._open[known]  # its stream has ended somewhere else
        self._open[key] = ring
        if len(self._open) > _MAX_OPEN:
            self._open.popitem(last=False)
        return ring


def remove_abandoned_rings(keep: Callable[[str], bool]) -> None:
    """Remove rings of this user that no process writes to, made more than a minute ago, unless ``keep`` (of the name) says no."""
    for path in ring_directory().glob(f"{PREFIX}*"):
        try:
            status = path.lstat()
            mine = stat.S_ISREG(status.st_mode) and status.st_uid == os.getuid()
            if mine and time.time() - status.st_mtime > _YOUNG_S and not keep(path.name) and not _has_writer(path):
                path.unlink()
        except OSError:
            continue  # somebody else removed it, or may


def _has_writer(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def _create(path: Path, size: int) -> mmap.mmap:
    """A new zero-filled file of ``size`` bytes, its memory reserved now rather than by a bus error later."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        msg = f"cannot create the audio ring {path}: {error.strerror}"
        raise OutputError(msg) from error
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.ftruncate(descriptor, size)
        # Held for as long as the mapping lives: an unlocked ring has no writer any more.
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return mmap.mmap(descriptor, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        msg = (
            f"no {size / 1e6:.1f} MB of shared memory for the audio ring in {path.parent}: {error.strerror}; "
            "free some, or give the container more (docker run --shm-size)"
        )
        raise OutputError(msg) from error
    finally:
        os.close(descriptor)


def _attach(reference: AudioRef) -> tuple[Any, Samples]:
    """Map a ring for reading; raises StaleAudioError if it is gone or is not what the reference means."""
    if not _NAME.fullmatch(reference.ring):
        msg = f"'{reference.ring:.60}' is not the name of an audio ring"
        raise StaleAudioError(msg)
    path = ring_directory() / reference.ring
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        msg = f"the audio ring {reference.ring} is gone ({error.strerror})"
        raise StaleAudioError(msg) from error
    try:
        mapped = mmap.mmap(descriptor, 0, prot=mmap.PROT_READ)
    except (OSError, ValueError) as error:
        msg = f"the audio ring {reference.ring} cannot be mapped ({error})"
        raise StaleAudioError(msg) from error
    finally:
        os.close(descriptor)
    size = len(mapped)
    words = memoryview(mapped)[: size - size % 8].cast("Q") if size >= _HEADER else None
    if words is None or words[0] != _MAGIC or size != _HEADER + 4 * (words[_CAPACITY] + words[_WINDOW]):
        msg = f"{reference.ring} is not an audio ring ({size} bytes)"
        raise StaleAudioError(msg)
    if words[_GENERATION] != reference.generation:
        msg = f"the audio ring {reference.ring} is generation {words[_GENERATION]}, the chunk means {reference.generation}"
        raise StaleAudioError(msg)
    samples = np.frombuffer(mapped, np.float32, offset=_HEADER)
    return words, samples
