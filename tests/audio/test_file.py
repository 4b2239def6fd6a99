"""Files of every kind, written by the tests; bad ones are in test_bad_files."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from diart_mp.audio.file import FileSource, check

FORMATS = {
    "WAV": "PCM_16",
    "FLAC": "PCM_24",
    "OGG": "VORBIS",
    "MP3": "MPEG_LAYER_III",
}
OTHER_WAV = ["FLOAT", "ULAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"]


def signal(seconds: float, rate: int, channels: int = 1) -> np.ndarray:
    """A sweep with some noise, shape (n, channels), another one in each channel."""
    times = np.arange(round(seconds * rate)) / rate
    sweeps = [0.4 * np.sin(2 * np.pi * (200 + 80 * times + 50 * one) * times) for one in range(channels)]
    hiss = np.random.default_rng(7).normal(0, 0.01, (len(times), channels))
    return np.asarray(np.stack(sweeps, axis=1) + hiss)


def write(path: Path, samples: np.ndarray, rate: int, subtype: str | None = None) -> Path:
    soundfile.write(path, samples, rate, subtype=subtype)
    return path


def read_all(source: FileSource) -> np.ndarray:
    blocks = []
    while (block := source.read()) is not None:
        assert block.dtype == np.float32
        assert block.ndim == 1
        assert len(block) > 0
        blocks.append(block)
    return np.concatenate([*blocks, np.zeros(0, np.float32)])


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("channels", [1, 2])
def test_equal_rate_gives_the_samples_of_the_file(tmp_path: Path, kind: str, channels: int) -> None:
    path = write(tmp_path / f"a.{kind.lower()}", signal(2.3, 16000, channels), 16000, FORMATS[kind])
    expected, _ = soundfile.read(path, dtype="float32", always_2d=True)
    with FileSource(path) as source:
        samples = read_all(source)
        assert source.warnings() == []
        assert source.gaps() == []
    assert len(samples) == round(2.3 * 16000)
    tolerance = 2e-7 if kind == "MP3" else 0  # its decoder differs in the last bit after a seek, which read() does
    np.testing.assert_allclose(samples, expected.mean(axis=1), rtol=0, atol=tolerance)


@pytest.mark.parametrize("rate", [8000, 44100, 48000])
@pytest.mark.parametrize("kind", FORMATS)
def test_other_rates_are_resampled_as_a_whole(tmp_path: Path, kind: str, rate: int) -> None:
    path = write(tmp_path / f"a.{kind.lower()}", signal(1.7, rate, 2), rate, FORMATS[kind])
    whole, _ = soundfile.read(path, dtype="float32")
    with FileSource(path) as source:
        assert source.duration == pytest.approx(1.7)
        samples = read_all(source)
    assert abs(len(samples) - round(1.7 * 16000)) <= 1
    np.testing.assert_allclose(samples, soxr.resample(whole.mean(axis=1), rate, 16000), atol=1e-6)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize(("kind", "subtype"), [*FORMATS.items(), *(("WAV", one) for one in OTHER_WAV)])
def test_skipping_is_reading(tmp_path: Path, kind: str, subtype: str, rate: int) -> None:
    path = write(tmp_path / f"a.{kind.lower()}", signal(3, rate), rate, subtype)
    with FileSource(path) as source:
        whole = read_all(source)
    for first, second in [(0, 0), (1, 8000), (8000, 1), (12345, 6789), (40000, 100000)]:
        with FileSource(path) as source:
            assert source.skip(first // 3) == first // 3
            assert source.skip(first - first // 3) == first - first // 3
            block = source.read()
            assert block is not None
            here = first + len(block)
            np.testing.assert_array_equal(block, whole[first:here])
            assert source.skip(second) == min(second, len(whole) - here)
            np.testing.assert_array_equal(read_all(source), whole[here + second :])
            assert source.skip(1) == 0
            assert source.warnings() == []


def test_a_long_way_is_sought_not_decoded(tmp_path: Path) -> None:
    """The samples that are jumped over are not looked at: here they are not even numbers."""
    samples = signal(3, 16000)
    samples[16000] = np.nan
    with FileSource(write(tmp_path / "a.wav", samples, 16000, "FLOAT")) as source:
        assert source.skip(32000) == 32000
        np.testing.assert_array_equal(read_all(source), samples[32000:, 0].astype(np.float32))


def test_one_channel_can_be_chosen(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", signal(0.7, 16000, 3), 16000, "FLOAT")
    whole, _ = soundfile.read(path, dtype="float32")
    for channel in range(3):
        with FileSource(path, channel=channel) as source:
            np.testing.assert_array_equal(read_all(source), whole[:, channel])


@pytest.mark.parametrize("block_s", [1e-9, 0.01, 0.5, 100])
def test_the_size_of_blocks_does_not_matter(tmp_path: Path, block_s: float) -> None:
    path = write(tmp_path / "a.wav", signal(0.3, 44100), 44100)
    with FileSource(path) as source, FileSource(path, block_s=block_s) as other:
        np.testing.assert_array_equal(read_all(source), read_all(other))


def test_what_a_source_says_of_itself(tmp_path: Path) -> None:
    path = write(tmp_path / "Gespräch mit Zoë 日本.flac", signal(1.5, 48000, 2), 48000)
    with FileSource(path) as source:
        assert source.name == "Gespräch mit Zoë 日本"
        assert (source.rate, source.live, source.duration, source.fileno()) == (16000, False, 1.5, None)
        before = source.read_time
        assert len(read_all(source)) == 24000
        assert source.read_time >= before
    assert source.read() is None
    source.close()
    info = check(path)
    assert (info.rate, info.channels, info.frames, info.duration, info.kind) == (48000, 2, 72000, 1.5, "FLAC PCM_16")


@pytest.mark.parametrize("kind", ["WAV", "OGG"])
@pytest.mark.parametrize("rate", [16000, 44100])
def test_an_empty_recording_ends_at_once(tmp_path: Path, kind: str, rate: int) -> None:
    path = write(tmp_path / f"a.{kind.lower()}", np.zeros((0, 1)), rate, FORMATS[kind])
    with FileSource(path) as source:
        assert source.duration == 0
        assert source.read() is None
        assert source.skip(5) == 0
        assert source.warnings() == []


def test_flac_of_unknown_length(tmp_path: Path) -> None:
    """An encoder that writes into a pipe cannot go back to fill in the number of samples (36 bits from byte 21 on)."""
    path = write(tmp_path / "a.flac", signal(1.2, 16000), 16000)
    with FileSource(path) as source:
        whole = read_all(source)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with FileSource(path) as source:
        assert source.duration is None
        assert source.skip(1000) == 1000
        np.testing.assert_array_equal(read_all(source), whole[1000:])
        assert source.warnings() == []


def test_wav_from_a_pipe_has_no_length_to_break(tmp_path: Path) -> None:
    path = write(tmp_path / "a.wav", signal(1.2, 16000), 16000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    with FileSource(path) as source:
        assert len(read_all(source)) == 19200
        assert source.warnings() == []


def test_a_real_recording(shared: Path) -> None:
    path = shared / "data" / "sample.wav"
    expected, rate = soundfile.read(path, dtype="float32")
    assert rate == 16000
    with FileSource(path) as source:
        np.testing.assert_array_equal(read_all(source), expected)


READ_IT = """
import resource, sys
from diart_mp.audio.file import FileSource
with FileSource(sys.argv[1]) as source:
    samples = 0
    while (block := source.read()) is not None:
        samples += len(block)
print(samples, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
assert not {"torch", "sounddevice", "scipy"} & sys.modules.keys()
"""


def test_a_long_file_needs_no_more_memory(tmp_path: Path) -> None:
    peaks = []
    for minutes in (1, 10):
        path = tmp_path / f"{minutes}.wav"
        with soundfile.SoundFile(path, "w", 22050, 2) as file:
            for _ in range(minutes * 6):
                file.write(signal(10, 22050, 2))
        run = subprocess.run([sys.executable, "-c", READ_IT, path], capture_output=True, text=True, check=True)
        samples, peak = map(int, run.stdout.split())
        assert samples == minutes * 60 * 16000
        peaks.append(peak)
    assert peaks[1] - peaks[0] < 4096, f"peak memory in KiB for 1 and 10 minutes: {peaks}"  # 10 minutes: 38 MB as mono
