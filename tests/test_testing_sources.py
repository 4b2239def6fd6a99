"""The conformance suite finds what is wrong with a source, and finds nothing wrong with those that are right."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from diart_mp.audio.file import FileSource
from diart_mp.audio.push import PushSource
from diart_mp.audio.source import Source
from diart_mp.testing_sources import check_source

SAMPLES = np.random.default_rng(1).normal(0, 0.1, 40_000).astype(np.float32)


class Right(Source):
    """Two and a half seconds of noise in blocks of a second."""

    def __init__(self) -> None:
        self.name, self.rate, self.live, self.duration, self.read_time = "noise", 16_000, False, 2.5, time.monotonic()
        self.position = 0

    def read(self) -> NDArray[np.float32] | None:
        block = SAMPLES[self.position : self.position + 16_000]
        self.position += len(block)
        self.read_time = time.monotonic()
        return block if len(block) else None

    def skip(self, samples: int) -> int:
        self.position += samples
        return samples

    def close(self) -> None:
        pass


class Wide(Right):
    def read(self) -> Any:
        block = super().read()
        return None if block is None else block.astype(np.float64)


class Nan(Right):
    def read(self) -> NDArray[np.float32] | None:
        block = super().read()
        return None if block is None else block * np.float32("nan")


class Empty(Right):
    def read(self) -> NDArray[np.float32] | None:
        return SAMPLES[:0]


class Raises(Right):
    def read(self) -> NDArray[np.float32] | None:
        msg = "the tape is torn"
        raise RuntimeError(msg)


class Longer(Right):
    def __init__(self) -> None:
        super().__init__()
        self.duration = 5.0


class Forgetful(Right):
    def skip(self, samples: int) -> int:
        return samples


class Unlike(Right):
    made = 0

    def read(self) -> NDArray[np.float32] | None:
        block = super().read()
        Unlike.made += 1
        return None if block is None else block * np.float32(Unlike.made)


class Early(Right):
    def read(self) -> NDArray[np.float32] | None:
        block = super().read()
        self.read_time = 0.0
        return block


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (Wide, "reads float64 of shape (16000,) at 0 s"),
        (Nan, "numbers that are not finite at 0 s"),
        (Empty, "reads nothing at 0 s, and has no descriptor"),
        (Raises, "raises at 0 s: RuntimeError: the tape is torn"),
        (Longer, "it says that it lasts 5 s and gives 2.5 s"),
        (Forgetful, "after skip(20000) it gives other samples"),
        (Unlike, "other samples when it is opened again"),
        (Early, "which is not the time on the monotonic clock"),
    ],
)
def test_wrong_source_is_found_out(make: Callable[[], Source], says: str) -> None:
    problems = check_source(make)
    assert any(says in problem for problem in problems), problems
    assert all("\n" not in problem for problem in problems)


def test_right_sources_have_no_problem(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "noise.wav", SAMPLES, 16_000)

    def pushed() -> Source:
        source = PushSource("noise", 16_000, 16_000)
        source.write(SAMPLES)
        source.end()
        return source

    for make in (Right, lambda: FileSource(tmp_path / "noise.wav"), pushed):
        assert check_source(make) == []
