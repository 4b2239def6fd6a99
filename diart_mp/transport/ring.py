"""The shared-memory audio ring: written once by the owner of a stream, read in place by the stages on its host.

Layout of the file: a header of eight little-endian 64-bit words (magic, generation, capacity, window, tail, head,
rate, end: where a stream that is over was padded with silence, else 0), padded to one page, then
``capacity + window`` float32 samples. Sample ``i`` lies at ``i % capacity`` and, where that is below ``window``,
once more at ``i % capacity + capacity``: so every range of up to ``window`` samples is contiguous and a reader gets a
NumPy view, no copy, while the writer copies only what is new. Behind them lie ``capacity // 16 + 2`` checksums: the sum,
modulo 2^32, of the bits of all samples before sample ``16 j`` is at ``j % (capacity // 16 + 2)``. The difference of two is
the sum of what was written between them, so a flipped bit anywhere in a range is found at the price of one addition
per sample; of a range that does not begin and end at a multiple of 16, up to 15 samples at either end go unchecked.

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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.errors import DamagedAudioError, OutputError, StaleAudioError
from diart_mp.messages import AudioRef, Message

PREFIX = "diart-mp-"
_MAGIC = 0x32676E6972_706D  # "mpring2"
_HEADER = 4096  # bytes: one page, so that the samples are page-aligned
_NAME = re.compile(r"diart-mp-[A-Za-z0-9._-]{1,200}")
_YOUNG_S = 60.0  # that a ring must be old to count as abandoned: its writer may be about to lock it, or to be restarted
_MASK = 0xFFFF_FFFF
_GRAIN = 16  # samples between two checksums
_MAX_OPEN = 64  # rings that a reader keeps mapped
_GENERATION, _CAPACITY, _WINDOW, _TAIL, _HEAD, _RATE, _END = range(1, 8)

Samples = NDArray[np.float32]
Sums = NDArray[np.uint32]


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
        self._map = _create(self.path, _size(capacity, window))
        self._words: Any = memoryview(self._map)[:_HEADER].cast("Q")
        self._samples, self._sums = _arrays(self._map, capacity, window)
        self._sum = 0  # of the bits of all samples so far, modulo 2^32
        # Kept here as well: what a stray write does to the shared words does not come back.
        self.head, self.tail = first, max(0, first - window)
        for index, value in enumerate((_MAGIC, generation, capacity, window, self.tail, first, rate)):
            self._words[index] = value

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
        self.tail = self._words[_TAIL] = max(self.tail, head + count - self.capacity)
        self._add_up(head, samples.astype(np.float32, copy=False).view(np.uint32))
        offset = head % self.capacity
        part = min(count, self.capacity - offset)
        self._store(offset, samples[:part])
        self._store(0, samples[part:])
        self.head = head + count
        self._words[_HEAD] = self.head

    def _add_up(self, head: int, bits: Sums) -> None:
        """Enter the checksums at all multiples of the grain in [head, head + len(bits)]."""
        lead = -head % _GRAIN
        whole = (len(bits) - lead) // _GRAIN
        if whole >= 0:
            sums = np.empty(whole + 1, np.uint32)
            sums[0] = (self._sum + _add(bits[:lead])) & _MASK
            # A sum along an axis of 16 costs ten times as much.
            np.einsum("ij->i", bits[lead : lead + whole * _GRAIN].reshape(whole, _GRAIN), out=sums[1:])
            np.add.accumulate(sums, out=sums)
            self._enter((head + lead) // _GRAIN, sums)
            self._sum, bits = int(sums[-1]), bits[lead + whole * _GRAIN :]
        self._sum = (self._sum + _add(bits)) & _MASK

    def _enter(self, index: int, sums: Sums) -> None:
        """Write checksum ``index`` and those that follow it."""
        place = index % len(self._sums)
        part = min(len(sums), len(self._sums) - place)
        self._sums[place : place + part] = sums[:part]
        self._sums[: len(sums) - part] = sums[part:]

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
        self._open: OrderedDict[tuple[str, int], _Ring] = OrderedDict()

    def view(self, reference: AudioRef) -> Samples:
        """The samples (count,) of ``reference``, in place.

        Raises StaleAudioError if they are not there (any more), DamagedAudioError if they are not what was written.
        """
        ring = self._ring(reference)
        samples = ring.range(reference.first, reference.count)
        whole = len(samples) == reference.count and ring.is_sound(reference.first, samples)
        if reference.count > ring.window or not ring.holds(reference):
            msg = (
                f"samples {reference.first} to {reference.first + reference.count} of {reference.ring} are gone: "
                f"it holds {ring.words[_TAIL]} to {ring.words[_HEAD]}"
            )
            raise StaleAudioError(msg)
        if not whole:
            msg = (
                f"samples {reference.first} to {reference.first + reference.count} of {reference.ring} are not those that "
                "were captured (their checksum differs): bad memory, or a program that writes into the ring"
            )
            raise DamagedAudioError(msg)
        return samples

    def head(self, reference: AudioRef) -> int:
        """How many samples of the stream have been written; StaleAudioError where its ring is gone."""
        return int(self._ring(reference).words[_HEAD])

    def is_valid(self, reference: AudioRef) -> bool:
        """Whether the samples have not been overwritten by newer ones: to be asked again after a view was used."""
        return self._ring(reference).holds(reference)

    def inline(self, message: Message) -> Message:
        """``message`` with its samples in place of a reference to them, for links that leave the host.

        Samples that are gone or damaged stay a reference: whoever comes to use them will say so.
        """
        reference = message.fields.get("audio")
        if not isinstance(reference, AudioRef):
            return message
        try:
            samples = self.view(reference).copy()
            return message.with_fields({"audio": samples}) if self.is_valid(reference) else message
        except (StaleAudioError, DamagedAudioError):
            return message

    def tail_from(self, reference: AudioRef, first: int) -> Samples:
        """A copy of all samples of the stream from ``first`` on; StaleAudioError if the first is not there any more."""
        ring = self._ring(reference)
        head, window = int(ring.words[_END] or ring.words[_HEAD]), ring.window
        parts = [
            self.view(AudioRef(reference.ring, reference.generation, begin, min(window, head - begin))).copy()
            for begin in range(first, head, window)
        ]
        return np.concatenate([np.zeros(0, np.float32), *parts])

    def forget(self, ring: str) -> None:
        """Let go of a ring whose stream has ended."""
        for key in [key for key in self._open if key[0] == ring]:
            del self._open[key]

    def _ring(self, reference: AudioRef) -> "_Ring":
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


@dataclass(frozen=True, slots=True)
class _Ring:
    """A ring that a reader has mapped; capacity and window as they were when its size was checked against them."""

    words: Any
    samples: Samples
    sums: Sums
    capacity: int
    window: int

    def holds(self, reference: AudioRef) -> bool:
        return bool(self.words[_TAIL] <= reference.first and reference.first + reference.count <= self.words[_HEAD])

    def range(self, first: int, count: int) -> Samples:
        offset = first % self.capacity
        return self.samples[offset : offset + count]

    def is_sound(self, first: int, samples: Samples) -> bool:
        """Whether the checksum of ``samples``, the first of which is sample ``first``, is what it was when written."""
        begin, end = -(-first // _GRAIN), (first + len(samples)) // _GRAIN
        if end <= begin:
            return True
        written = int(self.sums[end % len(self.sums)]) - int(self.sums[begin % len(self.sums)])
        bits = samples[begin * _GRAIN - first : end * _GRAIN - first].view(np.uint32)
        return (written - _add(bits)) & _MASK == 0


def _size(capacity: int, window: int) -> int:
    """Bytes of the file of a ring."""
    return _HEADER + 4 * (capacity + window) + 4 * _count_sums(capacity)


def _count_sums(capacity: int) -> int:
    return capacity // _GRAIN + 2


def _arrays(mapped: mmap.mmap, capacity: int, window: int) -> tuple[Samples, Sums]:
    """The samples and the checksums of a mapped ring."""
    samples = np.frombuffer(mapped, np.float32, count=capacity + window, offset=_HEADER)
    sums = np.frombuffer(mapped, np.uint32, count=_count_sums(capacity), offset=_HEADER + samples.nbytes)
    return samples, sums


def _add(bits: Sums) -> int:
    return int(np.add.reduce(bits, dtype=np.uint32))


def _attach(reference: AudioRef) -> _Ring:
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
    words = memoryview(mapped)[:_HEADER].cast("Q") if size >= _HEADER else None
    if words is None or words[0] != _MAGIC or size != _size(words[_CAPACITY], words[_WINDOW]):
        msg = f"{reference.ring} is not an audio ring ({size} bytes)"
        raise StaleAudioError(msg)
    if words[_GENERATION] != reference.generation:
        msg = f"the audio ring {reference.ring} is generation {words[_GENERATION]}, the chunk means {reference.generation}"
        raise StaleAudioError(msg)
    capacity, window = int(words[_CAPACITY]), int(words[_WINDOW])
    return _Ring(words, *_arrays(mapped, capacity, window), capacity, window)
