"""The trial whether a batch changes the numbers."""

import numpy as np

from diart_mp.models.batches import batch_invariant


def test_numbers_that_depend_on_the_batch_are_noticed() -> None:
    assert batch_invariant(lambda batch: batch * 2, (4,), (1, 2, 3))
    assert not batch_invariant(lambda batch: batch / np.float32(len(batch)), (4,), (1, 2, 3))
    assert not batch_invariant(lambda batch: batch + batch[:1], (4,), (1, 2, 3))
