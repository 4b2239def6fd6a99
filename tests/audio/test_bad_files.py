"""Files that cannot be read, or not as a whole: one line that says what and where."""

import os
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from diart_mp.audio.file import FileSource, check
from diart_mp.errors import AudioError


def tone(path: Path, seconds: float = 4.0, subtype: str | None = None) -> bytearray:
    """Write a tone of mono 16 kHz, and give the bytes of the file."""
    times = np.arange(round(seconds * 16000)) / 16000
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * 300 * times), 16000, subtype=subtype)
    return bytearray(path.read_bytes())


def message(path: Path, **options: int) -> str:
    """The error that ``check`` raises, after making sure that it is one line and names the file."""
    with pytest.raises(AudioError) as caught:
        check(path, **options)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def read_all(source: FileSource) -> int:
    samples = 0
    while (block := source.read()) is not None:
        samples += len(block)
    return samples


def test_not_there(tmp_path: Path) -> None:
    assert "no such file" in message(tmp_path / "a.wav")


def test_a_folder(tmp_path: Path) -> None:
    assert "is a folder" in message(tmp_path)


def test_a_named_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    assert "not a regular file" in message(tmp_path / "a.wav")


def test_no_permission() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.wav"
        tone(path)
        path.chmod(0)
        Path(folder).chmod(0o755)
        user = os.geteuid()
        if user == 0:
            os.seteuid(65534)  # root may read everything
        try:
            assert "permission denied" in message(path)
        finally:
            os.seteuid(user)


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.txt", "a"])
def test_text(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("How now, brown cow\n" * 100)
    assert "not readable as audio (libsndfile: Format not recognised); if other programs play it" in message(
        tmp_path / name
    )


def test_no_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.wav").touch()
    assert "is an empty file (0 bytes)" in message(tmp_path / "a.wav")


def test_raw_pcm(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(1000))
    assert "pipe it into standard input" in message(tmp_path / "a.raw")


@pytest.mark.parametrize("name", ["a.wav", "a.flac", "a.ogg", "a.mp3"])
def test_a_header_cut_short(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(tone(path)[:20])
    assert "not readable as audio" in message(path)


@pytest.mark.parametrize(
    ("at", "value", "words"),
    [
        (22, struct.pack("<H", 0), "Channel count is zero"),
        (24, struct.pack("<I", 0), "not readable as audio"),
        (24, struct.pack("<I", 3), "3 Hz makes no sense"),
        (24, struct.pack("<I", 2_000_000_000), "2000000000 Hz makes no sense"),
    ],
)
def test_impossible_wav_headers(tmp_path: Path, at: int, value: bytes, words: str) -> None:
    data = tone(tmp_path / "a.wav")
    data[at : at + len(value)] = value
    (tmp_path / "a.wav").write_bytes(data)
    assert words in message(tmp_path / "a.wav")


def test_a_channel_that_is_not_there(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    assert "no channel 1; it has 1" in message(tmp_path / "a.wav", channel=1)


def test_a_target_rate_that_makes_no_sense(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    assert "16 Hz makes no sense" in message(tmp_path / "a.wav", rate=16)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_a_number(tmp_path: Path, bad: float) -> None:
    samples = np.zeros(32000)
    samples[20000] = bad
    path = tmp_path / "a.wav"
    soundfile.write(path, samples, 16000, subtype="FLOAT")
    check(path)
    with FileSource(path) as source, pytest.raises(AudioError, match=r"a\.wav: the sample at 1\.250 s is not a finite"):
        read_all(source)


@pytest.mark.parametrize("subtype", ["PCM_16", "PCM_24", "FLOAT"])
def test_wav_with_half_its_samples(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.wav"
    data = tone(path, subtype=subtype)
    path.write_bytes(data[: len(data) // 2])
    with FileSource(path) as source:
        assert source.duration == pytest.approx(2, abs=0.01)
        (warning,) = source.warnings()
        assert source.warnings() == []
        assert read_all(source) == pytest.approx(32000, abs=100)
        assert source.warnings() == []
    assert "cut short" in warning
    assert "2.0 s are there" in warning


def test_wav_that_was_never_finished(tmp_path: Path) -> None:
    data = tone(tmp_path / "a.wav")
    data[40:44] = bytes(4)
    (tmp_path / "a.wav").write_bytes(data)
    with FileSource(tmp_path / "a.wav") as source:
        assert source.read() is None
        assert "says that it holds 0 s, but has 128044 bytes" in source.warnings()[0]


@pytest.mark.parametrize("subtype", ["VORBIS", "OPUS"])
def test_ogg_without_its_end(tmp_path: Path, subtype: str) -> None:
    path = tmp_path / "a.ogg"
    data = tone(path, 20, subtype)
    path.write_bytes(data[: len(data) // 2])
    with FileSource(path) as source:
        samples = read_all(source)
        assert 0 < samples < 19 * 16000
        assert f"its end is missing, it may be cut short; {samples / 16000:.1f} s are there" in source.warnings()[0]


def test_mp3_with_half_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "a.mp3"
    data = tone(path, 20)
    path.write_bytes(data[: len(data) // 2])
    with FileSource(path) as source:
        samples = read_all(source)
        assert 0 < samples < 19 * 16000
        words = f"ends after {samples / 16000:.1f} s of the 20.0 s that its header promises"
        assert words in " ".join(source.warnings())


@pytest.mark.parametrize("damage", ["cut", "overwritten"])
def test_flac_damaged_in_the_middle(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "a.flac"
    data = tone(path, 20)
    middle = len(data) // 2
    if damage == "cut":
        del data[middle:]
    else:
        data[middle : middle + 3000] = np.random.default_rng(3).bytes(3000)
    path.write_bytes(data)
    with FileSource(path) as source:
        with pytest.raises(AudioError, match=r"a\.flac: damaged after [0-9.]+ s of the 20\.0 s .*lost sync") as caught:
            read_all(source)
        place = float(str(caught.value).split("damaged after ")[1].split()[0])
        assert 0 < place < 12


def test_resuming_where_a_flac_file_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    data = tone(path, 20)
    path.write_bytes(data[: len(data) // 2])
    with FileSource(path) as source, pytest.raises(AudioError, match=r"a\.flac: cannot go to 19\.0 s of the 20\.0 s"):
        source.skip(19 * 16000)
