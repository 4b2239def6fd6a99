"""Enrolment: from recordings of one person to embeddings of his voice.

Windows of a recording go through the segmentation model, and what its loudest local speaker says alone through the embedding
model. Knows nothing of the file of speakers or of streams. Runs in the command that enrols.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from diart_mp.audio.resample import resample_windows
from diart_mp.audio.windows import WindowPlan
from diart_mp.blocks.embeddings import normalize_embeddings
from diart_mp.blocks.weights import clean_speech
from diart_mp.config import Settings
from diart_mp.errors import AudioError
from diart_mp.evaluation.features import batches
from diart_mp.models.base import EmbeddingModel, SegmentationModel, embed_clean

SHORTEST_S = 1.5
"""Seconds of speech, all recordings of a person together, below which an enrolment would not be worth having."""

_WINDOW_SPEECH_S = 0.5  # of a person alone in a window, from which the window gives an embedding
_SECOND_VOICE = 0.2  # share of a recording's speech that a second person may have


def enrol(
    recordings: list[Path],
    segmentation: SegmentationModel,
    embedding: EmbeddingModel,
    settings: Settings | None = None,
) -> tuple[NDArray[np.float32], float]:
    """Embeddings (windows, dimension) of the person who talks in ``recordings``, unit rows, and his seconds of speech.

    Raises AudioError where a recording cannot be read, holds several people, or all together hold too little speech.
    """
    settings = settings or Settings()
    settings = replace(settings, step=settings.duration // 2, latency=settings.duration)
    rows, heard_s = list[NDArray[np.float32]](), 0.0
    for path in recordings:
        own, own_s, other_s = _embed(path, segmentation, embedding, settings)
        if other_s > _SECOND_VOICE * own_s:
            msg = (
                f"{path}: {other_s:.1f} s are spoken by somebody else than the {own_s:.1f} s of the main speaker; "
                "give recordings of one person"
            )
            raise AudioError(msg)
        rows.append(own)
        heard_s += own_s
    if heard_s < SHORTEST_S:
        msg = f"{', '.join(map(str, recordings))}: {heard_s:.1f} s of speech, at least {SHORTEST_S:g} s are needed"
        raise AudioError(msg)
    return np.concatenate(rows), heard_s


def _embed(
    path: Path, segmentation: SegmentationModel, embedding: EmbeddingModel, settings: Settings
) -> tuple[NDArray[np.float32], float, float]:
    """Embeddings of the main speaker of each window, his seconds of speech, and those of others."""
    rows, own_s, other_s = [np.zeros((0, embedding.dimension), np.float32)], 0.0, 0.0
    seen_s = 0.0  # end of what the windows so far hold: they overlap, and each second counts once
    for starts, waveforms in batches(path, WindowPlan(settings), settings):
        heard = resample_windows(waveforms, settings.rate, segmentation.sample_rate)
        clean = clean_speech(np.asarray(segmentation(heard), np.float32), settings.tau_active)
        frame_s = settings.duration / settings.rate / clean.shape[1]
        seconds = clean.sum(axis=1) * frame_s
        main = seconds.argmax(axis=1)
        for window, start in enumerate(starts):
            times = start / settings.rate + frame_s * np.arange(clean.shape[1])
            fresh = clean[window, times >= seen_s].sum(axis=0) * frame_s
            own_s += float(fresh[main[window]])
            other_s += float(fresh.sum() - fresh[main[window]])
            seen_s = (start + settings.duration) / settings.rate
        masks = np.take_along_axis(clean, main[:, None, None], axis=2)
        masks &= (seconds.max(axis=1) >= _WINDOW_SPEECH_S)[:, None, None]
        heard = resample_windows(waveforms, settings.rate, embedding.sample_rate)
        found = normalize_embeddings(np.asarray(embed_clean(embedding, heard, masks), np.float32))[:, 0]
        rows.append(found[np.isfinite(found).all(axis=1)].astype(np.float32))
    return np.concatenate(rows), own_s, other_s
