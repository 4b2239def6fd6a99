"""Turns and updates: what the pipeline says about who speaks when.

Positions are integers, in samples of the stream's audio clock; seconds appear where people read them.
Knows nothing of files, processes or models. Used in the clustering stage, the owner and the outputs.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, order=True)
class Turn:
    """One speaker talking from ``start`` to ``end`` (samples, end excluded)."""

    start: int
    end: int
    speaker: str


@dataclass(frozen=True, slots=True)
class Revision:
    """What was said of [start, end) (samples) is taken back: these are the turns there.

    ``renamed``: (name before, name now) of speakers, all at once, for everything before ``start``.
    """

    start: int
    end: int
    turns: tuple[Turn, ...]
    renamed: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Update:
    """What one result adds to a stream: the turns in the region [start, end) (samples).

    Regions of consecutive ``seq`` follow each other. A turn may end some samples after its region
    (the region's last frame is rounded up, as in diart). Turns of consecutive updates that are less
    than 50 ms apart are one turn; ``outputs.stitching`` joins them.

    ``revision``: what is known better by now of all up to ``end``; ``outputs.revising`` folds it in. The last update of a
    stream that is revised has nothing else.
    """

    stream: str
    seq: int
    start: int
    end: int
    rate: int
    turns: tuple[Turn, ...]
    latency_ms: float | None = None
    revision: Revision | None = None
