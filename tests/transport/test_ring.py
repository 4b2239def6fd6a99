"""The audio ring: what is read is what was written, or it is known to be gone."""

import contextlib
import mmap
import os
import secrets
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from diart_mp.errors import DamagedAudioError, OutputError, StaleAudioError
from diart_mp.messages import AudioRef, Message
from diart_mp.transport.ring import PREFIX, RingReader, RingWriter, ring_directory

MakeRing = Callable[..., RingWriter]
RAMP_WRITER = Path(__file__).with_name("ramp_writer.py")
MAPS = Path("/proc/self/maps")


def new_name() -> str:
    return f"{PREFIX}test-{secrets.token_hex(4)}"


@pytest.fixture
def make_ring() -> Iterator[MakeRing]:
    """Makes rings, and takes them away after the test."""
    made: list[RingWriter] = []

    def make(capacity: int = 50, window: int = 20, generation: int = 1, first: int = 0) -> RingWriter:
        ring = RingWriter(new_name(), capacity=capacity, window=window, rate=16_000, generation=generation, first=first)
        made.append(ring)
        return ring

    yield make
    for ring in made:
        ring.close()


def ramp(first: int, count: int) -> np.ndarray:
    return np.arange(first, first + count, dtype=np.float32)


@settings(max_examples=150)
@given(st.data())
def test_ring_is_the_end_of_a_list(data: st.DataObject) -> None:
    window = data.draw(st.integers(1, 30), "window")
    capacity = data.draw(st.integers(window, 80), "capacity")
    first = data.draw(st.integers(0, 100), "first")
    ring = RingWriter(new_name(), capacity=capacity, window=window, rate=16_000, generation=3, first=first)
    try:
        reader, model = RingReader(), [0.0] * first
        for size in data.draw(st.lists(st.integers(0, 3 * capacity), max_size=6), "blocks"):
            ring.write(ramp(len(model) + 1, size))
            model += ramp(len(model) + 1, size).tolist()
            tail, head = max(0, first - window, len(model) - capacity), len(model)
            assert (ring.tail, ring.head) == (tail, head)
            begin = data.draw(st.integers(max(0, tail - 5), head + 5), "first read")
            count = data.draw(st.integers(0, window + 3), "samples read")
            reference = ring.reference(begin, count)
            if count <= window and tail <= begin and begin + count <= head:
                assert reader.view(reference).tolist() == model[begin : begin + count]
                assert reader.is_valid(reference)
            else:
                with pytest.raises(StaleAudioError):
                    reader.view(reference)
            assert reader.tail_from(reference, tail).tolist() == model[tail:]
    finally:
        ring.close()
    assert not ring.path.exists()


def test_views_are_the_shared_memory_itself(make_ring: MakeRing) -> None:
    ring, reader = make_ring(), RingReader()
    ring.write(ramp(0, 50))
    view = reader.view(ring.reference(35, 15))
    assert not view.flags.writeable
    assert not view.flags.owndata
    assert view.dtype == np.float32
    ring.write(ramp(50, 1))
    assert view.tolist() == ramp(35, 15).tolist()
    assert reader.view(ring.reference(45, 6)).tolist() == [45, 46, 47, 48, 49, 50]  # across the end


def test_overwritten_while_in_use(make_ring: MakeRing) -> None:
    ring, reader = make_ring(), RingReader()
    ring.write(ramp(0, 50))
    reference = ring.reference(10, 20)
    reader.view(reference)
    ring.write(ramp(50, 10))
    assert reader.is_valid(reference)
    ring.write(ramp(60, 1))
    assert not reader.is_valid(reference)
    with pytest.raises(StaleAudioError, match=r"samples 10 to 30 of .* are gone: it holds 11 to 61"):
        reader.view(reference)
    with pytest.raises(StaleAudioError, match="it holds 11 to 61"):
        reader.view(ring.reference(50, 12))
    with pytest.raises(StaleAudioError):
        reader.tail_from(reference, 10)


class Watched:
    """The memory of a ring of 50 samples and windows of 20, with a look at its header whenever something is written."""

    def __init__(self, ring: RingWriter) -> None:
        self._path, self._memory = ring.path, ring._samples
        self.looks = 0

    def __setitem__(self, places: slice, samples: np.ndarray) -> None:
        tail, head = struct.unpack_from("<2Q", self._path.read_bytes(), 32)
        held = {sample % 50 for sample in range(tail, head)}
        held |= {place + 50 for place in held if place < 20}
        assert held.isdisjoint(range(places.start, places.stop))
        self._memory[places] = samples
        self.looks += 1


def test_nothing_is_overwritten_that_the_header_says_is_there(make_ring: MakeRing) -> None:
    """At no moment, as a reader may look at any: tail goes before the samples are written, head after."""
    ring = make_ring(capacity=50, window=20)
    watched = Watched(ring)
    ring._samples = watched  # type: ignore[assignment]
    for size in (50, 7, 33, 20, 19, 61, 1):
        ring.write(ramp(ring.head, size))
    assert watched.looks > 20
    assert RingReader().view(ring.reference(171, 20)).tolist() == ramp(171, 20).tolist()


def test_silence_before_the_beginning_and_after_the_end(make_ring: MakeRing) -> None:
    ring, reader = make_ring(first=120), RingReader()
    ring.write(ramp(1, 10))
    assert reader.view(ring.reference(100, 20)).tolist() == [0.0] * 20
    ring.pad(7)
    ring.pad(5)
    assert ring.head == 142
    assert reader.view(ring.reference(128, 14)).tolist() == [9.0, 10.0, *[0.0] * 12]
    assert reader.tail_from(ring.reference(0, 0), 125).tolist() == ramp(6, 5).tolist()  # what the stream had


def test_a_ring_of_any_size(make_ring: MakeRing) -> None:
    ring = make_ring(capacity=7, window=4)
    ring.write(ramp(0, 9))
    assert RingReader().view(ring.reference(5, 4)).tolist() == [5, 6, 7, 8]
    assert ring.path.stat().st_size == 4096 + 4 * (11 + 2)


def test_layout_of_the_file(make_ring: MakeRing) -> None:
    ring = make_ring(capacity=50, window=20, generation=9, first=30)
    ring.write(ramp(30, 40))
    data = ring.path.read_bytes()
    assert struct.unpack_from("<8s6Q", data) == (b"mpring2\0", 9, 50, 20, 20, 70, 16_000)
    assert struct.unpack_from("<f", data, 4096 + 4 * (69 % 50)) == (69.0,)
    assert struct.unpack_from("<f", data, 4096 + 4 * (69 % 50 + 50)) == (69.0,)
    sums = struct.unpack_from("<5I", data, 4096 + 4 * 70)  # before samples 16 j, at j % 5
    bits = np.array([0.0] * 30 + ramp(30, 40).tolist(), np.float32).view(np.uint32).astype(np.uint64)
    assert sums == tuple(int(bits[:before].sum()) % 2**32 for before in (0, 16, 32, 48, 64))
    assert ring.path.stat().st_mode & 0o777 == 0o600


def flip(path: Path, byte: int, bit: int) -> None:
    """Change one bit of a file in place, as bad memory would."""
    with path.open("r+b") as file:
        file.seek(byte)
        changed = file.read(1)[0] ^ 1 << bit
        file.seek(byte)
        file.write(bytes([changed]))


@settings(max_examples=150)
@given(st.data())
def test_a_flipped_bit_is_found_wherever_it_is(data: st.DataObject) -> None:
    """In any sample between multiples of 16, however the samples were written."""
    ring = RingWriter(
        new_name(), capacity=200, window=80, rate=16_000, generation=1, first=data.draw(st.integers(0, 50))
    )
    try:
        chance = np.random.default_rng(data.draw(st.integers(0, 99), "noise"))
        for size in data.draw(st.lists(st.integers(0, 150), min_size=1, max_size=8), "blocks"):
            ring.write(chance.standard_normal(size).astype(np.float32))
        begin = data.draw(st.integers(ring.tail, ring.head), "first read")
        count = data.draw(st.integers(0, min(80, ring.head - begin)), "samples read")
        reader, reference = RingReader(), ring.reference(begin, count)
        whole = reader.view(reference).tolist()
        checked = range(-(-begin // 16) * 16, (begin + count) // 16 * 16)
        for sample in checked[:: data.draw(st.integers(1, 7), "every")]:
            byte, bit = 4096 + 4 * (begin % 200 + sample - begin) + int(chance.integers(4)), int(chance.integers(8))
            flip(ring.path, byte, bit)
            with pytest.raises(
                DamagedAudioError, match=f"samples {begin} to {begin + count} of .*their checksum differs"
            ):
                reader.view(reference)
            flip(ring.path, byte, bit)
        assert reader.view(reference).tolist() == whole
    finally:
        ring.close()


def test_a_header_that_was_written_over(make_ring: MakeRing) -> None:
    """Never other samples than those asked for; and the next write puts right what says where the ring begins and ends."""
    for bit in range(8 * 64):
        ring, reader = make_ring(capacity=96, window=48), RingReader()
        ring.write(ramp(1, 100))
        reference = ring.reference(32, 32)
        reader.view(reference)
        flip(ring.path, bit // 8, bit % 8)
        for each in (reader, RingReader()):
            with contextlib.suppress(StaleAudioError):
                assert each.view(reference).tolist() == ramp(33, 32).tolist()
        ring.write(ramp(101, 20))
        assert reader.view(ring.reference(80, 40)).tolist() == ramp(81, 40).tolist()
        ring.close()


def test_damaged_samples_are_not_sent_elsewhere(make_ring: MakeRing) -> None:
    ring = make_ring()
    ring.write(ramp(0, 32))
    message = Message(kind="chunk", stream="s", seq=0, fields={"audio": ring.reference(0, 16)})
    assert np.array_equal(RingReader().inline(message).array("audio"), ramp(0, 16))
    flip(ring.path, 4096, 0)
    assert RingReader().inline(message) is message


def test_closing_takes_the_file_away_and_leaves_readers_alone(make_ring: MakeRing) -> None:
    ring, reader = make_ring(), RingReader()
    ring.write(ramp(0, 30))
    view = reader.view(ring.reference(0, 20))
    ring.close()
    ring.close()
    assert not ring.path.exists()
    assert view.tolist() == ramp(0, 20).tolist()
    assert reader.is_valid(ring.reference(0, 20))
    reader.forget(ring.name)
    with pytest.raises(StaleAudioError, match=r"is gone \(No such file"):
        reader.view(ring.reference(0, 20))


def test_another_generation_is_another_ring(make_ring: MakeRing) -> None:
    ring = make_ring(generation=2)
    ring.write(ramp(0, 30))
    with pytest.raises(StaleAudioError, match="is generation 2, the chunk means 1"):
        RingReader().view(AudioRef(ring.name, 1, 0, 10))


@pytest.mark.parametrize("name", ["", "x", "../etc/passwd", "diart-mp-../x", "diart-mp-a/b", "diart-mp-" + "x" * 201])
def test_names_from_outside(name: str) -> None:
    with pytest.raises(StaleAudioError, match="is not the name of an audio ring"):
        RingReader().view(AudioRef(name, 1, 0, 1))


def empty(path: Path) -> None:
    path.touch()


def garbage(path: Path) -> None:
    path.write_bytes(bytes(range(256)) * 32)


def short(path: Path) -> None:
    path.write_bytes(struct.pack("<8s7Q", b"mpring2\0", 1, 10, 5, 0, 10, 16_000, 0))


def wrong_size(path: Path) -> None:
    path.write_bytes(struct.pack("<8s7Q", b"mpring2\0", 1, 10, 5, 0, 10, 16_000, 0) + bytes(4096))


def link(path: Path) -> None:
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("make", [empty, garbage, short, wrong_size, link, os.mkfifo, os.mkdir])
def test_files_that_are_no_ring(make: Callable[[Path], None]) -> None:
    name = new_name()
    path = ring_directory() / name
    make(path)
    try:
        with pytest.raises(StaleAudioError, match=name):
            RingReader().view(AudioRef(name, 1, 0, 1))
    finally:
        path.rmdir() if path.is_dir() else path.unlink()


@pytest.mark.skipif(not MAPS.exists(), reason="no /proc to count mappings in")
def test_readers_keep_few_rings_mapped(make_ring: MakeRing) -> None:
    reader = RingReader()
    rings = [make_ring() for _ in range(70)]
    for ring in rings:
        ring.write(ramp(0, 20))
        reader.view(ring.reference(0, 20))
    mapped = [ring for ring in rings if MAPS.read_text().count(ring.name) == 2]  # writer and reader
    assert mapped == rings[6:]
    for ring in rings[1:]:
        ring.close()
    reader.view(rings[0].reference(0, 20))
    assert [ring for ring in rings if MAPS.read_text().count(ring.name) == 2] == rings[:1]


def test_no_memory_leaves_no_file() -> None:
    name = new_name()
    code = (
        "import resource, sys; from diart_mp.transport.ring import RingWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        f"RingWriter({name!r}, capacity=100_000, window=20, rate=16_000, generation=1)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "OutputError: no 0.4 MB of shared memory for the audio ring in" in done.stderr
    assert not (ring_directory() / name).exists()


def test_a_name_is_used_once(make_ring: MakeRing) -> None:
    ring = make_ring()
    with pytest.raises(OutputError, match=r"cannot create the audio ring .*File exists"):
        RingWriter(ring.name, capacity=10, window=5, rate=16_000, generation=1)
    assert ring.path.exists()


@pytest.mark.parametrize("seed", [1, 2])
def test_another_process_reads_while_one_writes_until_killed(seed: int) -> None:
    """Whatever is valid is what was written, during the writing and after a kill in the midst of it."""
    name, capacity, window = new_name(), 4000, 1000
    path = ring_directory() / name
    command = [sys.executable, str(RAMP_WRITER), name, str(capacity), str(window), str(seed)]
    try:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            reader = RingReader()
            read_along(reader, name, path, window)
            process.kill()
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
            tail, head = struct.unpack_from("<2Q", mapped, 32)
        assert head - tail <= capacity
        assert reader.tail_from(AudioRef(name, 1, 0, 0), tail).tolist() == saw_tooth(tail, head - tail).tolist()
    finally:
        path.unlink(missing_ok=True)


def saw_tooth(first: int, count: int) -> np.ndarray:
    """What the writer writes."""
    return (np.arange(first, first + count) % 10_007).astype(np.float32)


def read_along(reader: RingReader, name: str, path: Path, window: int) -> None:
    """Read the newest window until that was in time often enough."""
    valid = 0
    deadline = time.monotonic() + 60
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        while valid < 500:
            assert time.monotonic() < deadline
            (head,) = struct.unpack_from("<Q", mapped, 40)
            reference = AudioRef(name, 1, head - window, window)
            try:
                samples = reader.view(reference).copy()
            except StaleAudioError:
                continue
            if reader.is_valid(reference):
                assert (samples == saw_tooth(head - window, window)).all()
                valid += 1
