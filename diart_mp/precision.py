"""How exactly models compute. Knows nothing of models; options, topologies and loaders use it."""

from enum import StrEnum


class Precision(StrEnum):
    """``exact``: float32 and diart's own arithmetic. ``fast``: shortcuts that keep the turns as good, not the numbers."""

    EXACT = "exact"
    FAST = "fast"
