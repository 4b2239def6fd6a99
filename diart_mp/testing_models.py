"""For those who test what is around the models: fast models without weights, and audio that they understand.

    turns = conversation(Path("talk.wav"), seconds=20.0, seed=1)
    config = PipelineConfig(models=TONE_MODELS)

Each "speaker" is a tone of his own pitch. On the command line: ``--segmentation diart_mp.testing_models:ToneSegmentation --embedding
diart_mp.testing_models:ToneEmbedding``; a whole pipeline starts in less than a second. Runs in tests, in whatever process runs models.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diart_mp.models.base import BoolArray, EmbeddingModel, EndToEndModel, FloatArray, SegmentationModel
from diart_mp.runtime.local import Models

RATE = 16_000
PITCHES = (300.0, 700.0, 1500.0, 3000.0)  # Hz
_FRAME = 400  # samples: 40 Hz per bin of the spectrum, every pitch in a bin of its own
_LOCAL_SPEAKERS = 3
_AUDIBLE = 0.05  # amplitude from which a pitch is heard

TONE_MODELS = Models(segmentation=f"{__name__}:ToneSegmentation", embedding=f"{__name__}:ToneEmbedding")


def conversation(path: Path, *, seconds: float, seed: int) -> list[tuple[float, float, int]]:
    """Write a recording of people who hum at their pitches, with pauses and overlaps; returns (start_s, end_s, speaker)."""
    import soundfile

    generator = np.random.default_rng(seed)
    samples = generator.normal(0, 0.003, int(seconds * RATE))
    turns, position = [], 0.2
    while position < seconds - 0.5:
        speaker = int(generator.integers(len(PITCHES)))
        end = min(seconds, position + generator.uniform(0.4, 4.0))
        begin, stop = int(position * RATE), int(end * RATE)
        samples[begin:stop] += 0.3 * np.sin(2 * np.pi * PITCHES[speaker] * np.arange(stop - begin) / RATE)
        turns.append((begin / RATE, stop / RATE, speaker))
        position = end + generator.uniform(-0.4, 0.8)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return turns


def _amplitudes(waveforms: FloatArray) -> NDArray[np.float64]:
    """How loud each pitch is in each frame: (batch, frames, pitches)."""
    frames = waveforms[:, : waveforms.shape[1] // _FRAME * _FRAME].reshape(len(waveforms), -1, _FRAME)
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(_FRAME), axis=-1)) * (4 / _FRAME)
    bins = [round(pitch * _FRAME / RATE) for pitch in PITCHES]
    heard: NDArray[np.float64] = spectrum[..., bins]
    return heard


class ToneSegmentation(SegmentationModel):
    """Local speakers are the loudest pitches of the window, loudest first: who is who changes from window to window."""

    sample_rate = RATE

    def __call__(self, waveforms: FloatArray) -> FloatArray:
        """Scores (batch, frames, 3)."""
        heard = _amplitudes(waveforms)
        order = np.argsort(-heard.sum(axis=1), axis=-1, kind="stable")[:, None, :_LOCAL_SPEAKERS]
        local = np.take_along_axis(heard, order, axis=-1)
        surer = np.linspace(0.35, 1.0, heard.shape[1])[:, None]  # with time: so it matters which windows are aggregated
        scores: FloatArray = (surer / (1 + np.exp(-60 * (local - _AUDIBLE)))).astype(np.float32)
        return scores


class ToneEmbedding(EmbeddingModel):
    """The spectrum at the four pitches, weighted by when each local speaker hums."""

    sample_rate = RATE
    dimension = len(PITCHES)

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embeddings (batch, 3, 4)."""
        heard = _amplitudes(waveforms) + 1e-6
        embeddings: FloatArray = np.einsum("bfs,bfd->bsd", weights**2, heard).astype(np.float32)
        embeddings[~active] = np.nan
        return embeddings


class ToneActivity(EndToEndModel):
    """Who hums at which pitch, with identity; new people are numbered as they come, which is what is remembered."""

    sample_rate = RATE
    lookahead = 0.5  # s

    def __call__(self, samples: FloatArray, state: Mapping[str, Any] | None) -> tuple[FloatArray, Mapping[str, Any]]:
        """Scores (frames, 4) of the audio half a second before."""
        late = round(self.lookahead * RATE)
        kept = np.zeros(late, np.float32) if state is None else state["kept"]
        order: list[int] = [] if state is None else state["order"].tolist()
        audio = np.concatenate([kept, samples])
        heard = _amplitudes(audio[None, : len(samples)])[0]
        order += [
            pitch
            for pitch in heard.max(axis=0).argsort()[::-1].tolist()
            if pitch not in order and heard[:, pitch].max() > _AUDIBLE
        ]
        scores = np.zeros((len(heard), len(PITCHES)), np.float32)
        scores[:, : len(order)] = heard[:, order] > _AUDIBLE
        return scores, {"kept": audio[len(audio) - late :], "order": np.array(order, np.int64)}
