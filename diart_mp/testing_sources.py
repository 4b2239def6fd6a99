"""For those who write audio sources: what an owner relies on, asked of a source before it feeds a pipeline.

    problems = check_source(lambda: MySource("talk.wav"))

A source is right if there are no problems, one line each. ``make`` is called several times and must give the same recording; a live
source is given something to hear by its test. Runs in tests, and with ``diart-mp`` not at all.
"""

import select
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.source import Source

_SILENT_S = 5.0  # for which a source with a descriptor may have nothing to say

Samples = NDArray[np.float32]


def check_source(make: Callable[[], Source], *, longest_s: float = 60.0) -> list[str]:
    """What is wrong with the sources that ``make`` gives; empty if nothing is. A source that goes on is read for ``longest_s``."""
    problems = list[str]()
    samples, ended = _read(make(), problems, longest_s)
    if samples is None or problems:
        return problems
    source = make()
    name, rate = source.name, source.rate
    source.close()
    source.close()  # again is fine
    if not name or rate <= 0:
        problems.append(f"it is called {name!r} and has {rate} samples per second")
    if source.duration is not None and ended and abs(source.duration - len(samples) / rate) > 0.1:
        problems.append(f"it says that it lasts {source.duration:g} s and gives {len(samples) / rate:g} s")
    if not source.live and ended:
        problems += _check_again(make, samples, longest_s)
    return problems


def _check_again(make: Callable[[], Source], samples: Samples, longest_s: float) -> list[str]:
    """A recording gives the same samples each time, and from a later position on the rest of them."""
    problems = list[str]()
    again, _ = _read(make(), problems, longest_s)
    if again is not None and not np.array_equal(again, samples):
        problems.append("it gives other samples when it is opened again; an owner that was killed could not go on")
    source, wanted = make(), len(samples) // 2
    try:
        gone = source.skip(wanted)
    except Exception as error:  # noqa: BLE001  # somebody else's code, and finding this out is what we are for
        source.close()
        if source.fileno() is None:
            problems.append(f"it cannot be read from a later position: {type(error).__name__}: {error}")
        return problems
    rest, _ = _read(source, problems, longest_s)
    if gone != wanted:
        problems.append(f"skip({wanted}) went on by {gone} samples of {len(samples)}")
    elif rest is not None and not np.array_equal(rest, samples[wanted:]):
        problems.append(f"after skip({wanted}) it gives other samples than those from {wanted} on")
    return problems


def _read(source: Source, problems: list[str], longest_s: float) -> tuple[Samples | None, bool]:
    """All that a source gives, and whether it ended; None where there is nothing to go on with."""
    blocks, count, before = list[Samples](), 0, source.read_time if hasattr(source, "read_time") else 0.0
    try:
        while count < longest_s * source.rate:
            descriptor = source.fileno()
            if descriptor is not None and not select.select([descriptor], [], [], _SILENT_S)[0]:
                problems.append(f"its descriptor was not readable for {_SILENT_S:g} s, although it has not ended")
                return None, False
            block = source.read()
            if block is None:
                return np.concatenate([*blocks, np.zeros(0, np.float32)]), True
            if not _is_sound(block, count, source, problems):
                return None, False
            if len(block) and not before <= source.read_time <= time.monotonic() + 0.1:
                problems.append(
                    f"read_time went from {before:.3f} to {source.read_time:.3f} s, which is not the time on the monotonic clock"
                )
                return None, False
            before = source.read_time if len(block) else before
            blocks.append(block.copy())
            count += len(block)
        return np.concatenate(blocks), False
    except Exception as error:  # noqa: BLE001  # somebody else's code
        problems.append(f"raises at {count / source.rate:g} s: {type(error).__name__}: {' '.join(str(error).split())}")
        return None, False
    finally:
        source.close()


def _is_sound(block: Samples, count: int, source: Source, problems: list[str]) -> bool:
    if not isinstance(block, np.ndarray) or block.dtype != np.float32 or block.ndim != 1:
        what = f"{block.dtype} of shape {block.shape}" if isinstance(block, np.ndarray) else type(block).__name__
        problems.append(f"reads {what} at {count / source.rate:g} s; wanted are float32 of shape (n,)")
    elif not len(block) and source.fileno() is None:
        problems.append(
            f"reads nothing at {count / source.rate:g} s, and has no descriptor that says when there is more"
        )
    elif not np.isfinite(block).all():
        problems.append(f"gives numbers that are not finite at {count / source.rate:g} s")
    return not problems
