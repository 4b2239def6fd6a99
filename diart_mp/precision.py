"""How exactly models compute. Knows nothing of models; options, topologies and loaders use it."""

from enum import StrEnum


class Precision(StrEnum):
    """``exact``: float32 and diart's own arithmetic. ``fast``: shortcuts that keep the turns as good, not the numbers.

    ``reference``: float32 in torch, whose sums have diart's order, so that even their last bits are diart's on one processor.
    """

    EXACT = "exact"
    FAST = "fast"
    REFERENCE = "reference"
