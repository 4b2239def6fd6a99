"""The recording that a measurement runs on: a given one, the one that pyannote.audio ships, or noise, at a given length.

Runs in the process of ``diart-mp bench``.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.file import FileSource
from diart_mp.config import RATE
from diart_mp.errors import AudioError

_NOISE_S: Final = 60.0  # of noise, over and over
_SYLLABLES_HZ: Final = 4.0  # how often noise swells in a second, about as speech does

Samples = NDArray[np.float32]


def sample_recording() -> Path | None:
    """Half a minute of real conversation, which comes with pyannote.audio; None where that is not installed."""
    try:
        found = find_spec("pyannote.audio")
    except ModuleNotFoundError:
        return None
    folders = found.submodule_search_locations if found is not None else None
    paths = [Path(folder) / "sample" / "sample.wav" for folder in folders or []]
    return next((path for path in paths if path.is_file()), None)


def with_length(source: Path | None, seconds: float, path: Path) -> Path:
    """Write the first ``seconds`` of ``source`` (None: noise) to ``path`` as WAV, mono, 16 kHz, 16 bits.

    A shorter recording is repeated. Raises AudioError where ``source`` cannot be read or holds nothing.
    """
    import soundfile

    missing = max(1, round(seconds * RATE))
    samples = _noise(min(seconds, _NOISE_S)) if source is None else _read(source, missing)
    with soundfile.SoundFile(path, "w", RATE, channels=1, subtype="PCM_16") as file:
        while missing > 0:
            file.write(samples[:missing])
            missing -= len(samples)
    return path


def _read(source: Path, count: int) -> Samples:
    """Up to ``count`` samples from the beginning of a recording."""
    blocks, have = [np.zeros(0, np.float32)], 0
    with FileSource(source, rate=RATE) as file:
        while have < count and (block := file.read()) is not None:
            blocks.append(block)
            have += len(block)
    if not have:
        msg = f"{source}: holds no audio; take another recording to measure with"
        raise AudioError(msg)
    return np.concatenate(blocks)[:count]


def _noise(seconds: float) -> Samples:
    generator = np.random.default_rng(0)
    times = np.arange(max(1, round(seconds * RATE))) / RATE
    swell = 0.5 - 0.5 * np.cos(2 * np.pi * _SYLLABLES_HZ * times)
    noise: Samples = (0.1 * swell * generator.standard_normal(len(times))).astype(np.float32)
    return noise
