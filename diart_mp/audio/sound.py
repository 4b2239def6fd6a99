"""Where there is sound at all: what a device that is off, or a player that has not begun, gives is silence.

Says nothing about speech. Runs in owners, which place windows by it, and in the segmentation stage.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.windows import WindowPlan

QUIETEST: Final = np.float32(2**-15)
"""One step of 16-bit PCM. Resampling spreads faint ripples a few ms ahead of the first sound; what is below is no sound yet,
so that a recording and its copies at other rates begin at the same place."""


def first_sound(samples: NDArray[np.float32]) -> int | None:
    """Index of the first sample that is a sound; None if all are silent."""
    loud = np.abs(samples) >= QUIETEST
    return int(np.argmax(loud)) if loud.any() else None


def listen(plan: WindowPlan, samples: NDArray[np.float32]) -> None:
    """Tell ``plan`` where the first sound is, if it is in the ``samples`` that it is about to count."""
    first = first_sound(samples) if plan.sound is None else None
    if first is not None:
        plan.begin_at(plan.samples + first)


def has_sound(samples: NDArray[np.float32]) -> bool:
    """Whether any sample is a sound."""
    return samples.size > 0 and bool(max(samples.max(), -samples.min()) >= QUIETEST)
