"""Whether a batch changes the numbers of a network. Knows nothing of what runs the network; models try it when they start."""

from collections.abc import Callable, Sequence

import numpy as np

from diart_mp.models.base import FloatArray


def batch_invariant(run: Callable[[FloatArray], FloatArray], item: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether `run` gives an item the same bits in batches of all `sizes`, whatever its place in the batch.

    Matrix kernels are chosen by shape, and on some processors a batch of 2 is summed in another order than one of 5.
    """
    noise = np.random.default_rng(0).standard_normal((max(sizes), *item), dtype=np.float32)
    whole = run(noise)
    return all(np.array_equal(run(noise[-size:]), whole[-size:]) for size in sizes if size < len(noise))
