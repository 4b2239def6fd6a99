"""From scores of frames to speaker turns in seconds.

Pure arithmetic on one part of a region, as diart does it (blocks/utils.py, ``Binarize``). Knows nothing of streams or of
the other parts. Runs in the clustering stage.
"""

import numpy as np

from diart_mp.blocks.aggregation import Frames


def binarize(frames: Frames, threshold: float) -> list[tuple[float, float, int]]:
    """Turns (start, end, global speaker) in seconds, sorted.

    A frame is active if its score is above ``threshold`` (not at it). A turn lasts from the middle of its first active
    frame to the middle of the first inactive one; the frame after the last counts as inactive, so that a turn may
    end half a frame after the part.
    """
    num_frames, num_labels = frames.scores.shape
    if not num_labels:
        return []
    active = np.zeros((num_labels, num_frames + 2), dtype=np.int8)
    active[:, 1:-1] = (frames.scores > threshold).T
    change = np.diff(active)
    columns, onsets = np.nonzero(change > 0)
    _, offsets = np.nonzero(change < 0)  # row by row, as the onsets: the n-th onset ends at the n-th offset
    turns = zip(onsets.tolist(), offsets.tolist(), frames.labels[columns].tolist(), strict=True)
    return sorted((frames.middle(onset), frames.middle(offset), label) for onset, offset, label in turns)
