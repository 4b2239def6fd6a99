"""GE2E, the built-in speaker encoder: its mel front-end, its partials, and the pooling that makes it overlap-aware.

What is here: a chunk is cut into partials of 1.6 s, each goes through the network once (Wan et al. 2018, "Generalized
end-to-end loss for speaker verification", as Resemblyzer trained it), and a speaker's embedding is the mean of the partials
by the speaker's weights; for the adaptive clustering, partials are cut from a speaker's clean speech alone. NumPy alone: what
runs the network (``ge2e_torch``, ``ge2e_openvino``) and where its weights come from are unknown here. The embedding stage
runs it.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from diart_mp.models.base import BoolArray, FloatArray, SplitEmbeddingModel, no_embeddings
from diart_mp.models.overlap import PIECE, Memory, Print, fingerprints

SAMPLE_RATE = 16_000
DIMENSION = 256
FFT, HOP, BANDS = 400, 160, 40  # samples, samples, mel bands
PARTIAL = 160  # mel frames of a partial: 1.6 s
_STRIDE = 77  # mel frames from one partial to the next: 1.3 partials per second
_MIN_COVERAGE = 0.75  # share of the last partial that has to be audio
_GRID, _GRID_START = 50, 35  # mel frames from one partial of the grid to the next, and of a window before the first
_BLOCK = PIECE // HOP  # mel frames that are computed and remembered together: 0.25 s
_LEVEL = 1e-3  # mean power of clean speech: -30 dBFS, to which the training data were brought
_SILENCE = 1e-10  # mean power below which there is nothing to be embedded: -100 dBFS


class Encoder(Protocol):
    """What runs the network.

    Attributes:
        batch_invariant: a partial's numbers do not depend on what else is encoded with it.

    """

    batch_invariant: bool

    def __call__(self, waveforms: Sequence[FloatArray], starts: Sequence[Sequence[int]]) -> FloatArray:
        """Encode partials: for each waveform (samples,) those that begin at the mel frames `starts`.

        Returns:
            (all partials, 256), waveform after waveform, not normalised.

        """


def mel_basis() -> FloatArray:
    """Slaney's mel filters, (40, 201): triangles of unit area, linear below 1 kHz and logarithmic above."""
    hertz_per_mel, log_step, corner = 200 / 3, np.log(6.4) / 27, 15.0  # the corner, in mels, is 1 kHz
    top = corner + np.log(SAMPLE_RATE / 2 / 1000) / log_step
    mels = np.linspace(0, top, BANDS + 2)
    edges = np.where(mels < corner, mels * hertz_per_mel, 1000 * np.exp((mels - corner) * log_step))
    bins = np.linspace(0, SAMPLE_RATE / 2, FFT // 2 + 1)
    rising = (bins - edges[:-2, None]) / np.diff(edges)[:-1, None]
    falling = (edges[2:, None] - bins) / np.diff(edges)[1:, None]
    triangles = np.maximum(0, np.minimum(rising, falling))
    return (triangles * (2 / (edges[2:] - edges[:-2]))[:, None]).astype(np.float32)


class MelFrontEnd:
    """Mel power of a waveform, in NumPy: frames of 400 samples every 160, a periodic Hann window, no logarithm.

    The transform is two matrix products: a frame is folded at its middle, so that cosines meet its even half and sines its
    odd half. For so short a frame that is twice as fast as a fast Fourier transform.
    """

    def __init__(self) -> None:
        half = FFT // 2
        angles = 2 * np.pi / FFT * np.outer(np.arange(half + 1), np.arange(half + 1))
        self._window = (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(FFT) / FFT)).astype(np.float32)
        self._cosines = np.cos(angles).astype(np.float32)
        self._sines = np.sin(angles[1:-1]).astype(np.float32)
        self._basis = np.ascontiguousarray(mel_basis().T)
        self._memory = Memory[FloatArray]()

    def __call__(self, waveform: FloatArray, starts: Sequence[int]) -> FloatArray:
        """Cut the mel frames of a waveform (samples,) into (partials, 160, 40); beyond its ends there is silence."""
        self._memory.next_window()
        first, last = min(starts) // _BLOCK, (max(starts) + PARTIAL - 1) // _BLOCK
        prints = fingerprints(np.ascontiguousarray(waveform), range(first - 1, last + 2))
        mel = np.concatenate(
            [self._block(waveform, first + i, tuple(prints[i : i + 3])) for i in range(last + 1 - first)]
        )
        return np.stack([mel[start - _BLOCK * first :][:PARTIAL] for start in starts])

    def _block(self, waveform: FloatArray, block: int, prints: tuple[Print, ...]) -> FloatArray:
        """Mel frames of 0.25 s: (25, 40); ``prints`` of the piece before, of this one and of the next."""
        within = None not in prints  # else the end of the audio lies in it, and where it does is not in the prints
        mel = self._memory.get(prints) if within else None
        if mel is None:
            begin = block * PIECE - FFT // 2
            end = begin + (_BLOCK - 1) * HOP + FFT
            cut = waveform[max(0, begin) : max(0, end)]
            padded = np.pad(cut, (max(0, -begin), end - max(0, begin) - len(cut)))
            frames = np.lib.stride_tricks.sliding_window_view(padded, FFT)[::HOP] * self._window
            mel = self._power(frames) @ self._basis
            if within:
                self._memory.put(prints, mel)
        return mel

    def _power(self, frames: FloatArray) -> FloatArray:
        """Squared magnitudes of the spectrum: (frames, 400) to (frames, 201)."""
        half = FFT // 2
        even, mirrored = frames[:, : half + 1].copy(), frames[:, :half:-1]
        even[:, 1:-1] += mirrored
        real = even @ self._cosines
        imaginary = (frames[:, 1:half] - mirrored) @ self._sines
        power: FloatArray = real * real + imaginary * imaginary
        return power


def partial_starts(samples: int) -> list[int]:
    """First mel frames of the partials of a chunk: 0, 77, 154 ..., the last one at least 75 % audio; never none."""
    frames = -(-(samples + 1) // HOP)
    starts = list(range(0, max(1, frames - PARTIAL + _STRIDE + 1), _STRIDE))
    coverage = (samples - starts[-1] * HOP) / (PARTIAL * HOP)
    return starts[:-1] if coverage < _MIN_COVERAGE and len(starts) > 1 else starts


def grid_starts(samples: int) -> list[int]:
    """First mel frames of partials every 0.5 s that hold nothing but audio of the window: 35, 85, 135 ...

    Windows a multiple of 0.5 s apart have them in common. A window that is too short has those of `partial_starts`.
    """
    last = (samples - FFT // 2) // HOP + 1 - PARTIAL
    return list(range(_GRID_START, last + 1, _GRID)) or partial_starts(samples)


class RememberingEncoder:
    """An encoder that remembers the partials that it has encoded, by their audio; those that reach beyond its end never."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._memory = Memory[FloatArray]()
        self.batch_invariant = encoder.batch_invariant

    def __call__(self, waveforms: Sequence[FloatArray], starts: Sequence[Sequence[int]]) -> FloatArray:
        """Encode partials: (all partials, 256)."""
        wanted: list[tuple[int, int, Hashable]] = []  # waveform, start, key
        for index, (waveform, own) in enumerate(zip(waveforms, starts, strict=True)):
            self._memory.next_window()
            prints = fingerprints(np.ascontiguousarray(waveform), range(len(waveform) // PIECE))
            wanted += [(index, start, _partial_key(start, prints) or (index, start)) for start in own]
        rows = {key: row for *_, key in wanted if (row := self._memory.get(key)) is not None}
        missing = {key: (index, start) for index, start, key in wanted if key not in rows}
        if missing:
            places = missing.values()
            found = self._encoder([waveforms[index] for index, _ in places], [[start] for _, start in places])
            for (key, (index, start)), row in zip(missing.items(), found, strict=True):
                rows[key] = row
                if key != (index, start):
                    self._memory.put(key, row)
        return np.stack([rows[key] for *_, key in wanted])


def _partial_key(start: int, prints: Sequence[Print]) -> Hashable:
    """Of the audio of one partial: where it begins in which pieces; None where it reaches beyond them."""
    begin, end = start * HOP - FFT // 2, partial_end(start)
    if end > len(prints) * PIECE:
        return None
    within = begin % PIECE if begin >= 0 else begin  # below 0: with silence before it
    return (within, *prints[max(0, begin // PIECE) : -(-end // PIECE)])


def partial_end(start: int) -> int:
    """Samples of a chunk that a partial needs which begins at mel frame ``start``."""
    return (start + PARTIAL - 1) * HOP + FFT // 2


def partial_weights(weights: FloatArray, samples: int, starts: Sequence[int] | None = None) -> NDArray[np.float64]:
    """Mean weight of each speaker over each partial: (frames, speakers) to (partials, speakers)."""
    frames, seconds = len(weights), samples / SAMPLE_RATE
    means = []
    for start in partial_starts(samples) if starts is None else starts:
        low = round(0.01 * start / seconds * frames)
        high = round((0.01 * start + 1.6) / seconds * frames)
        means.append(weights[low : max(high, low + 1)].mean(axis=0, dtype=np.float64))
    return np.stack(means)


@dataclass(frozen=True, slots=True)
class _Plan:
    """What has to be computed for a chunk: weights (partials, speakers), and which partials anybody needs."""

    chunk: int
    weights: NDArray[np.float64]
    needed: BoolArray


class BuiltinEmbedding(SplitEmbeddingModel):
    """GE2E as a stage runs it: all partials of a batch go through the network together.

    Args:
        encoder: what runs the network.
        reproducible: embed chunks one by one, as is done where the encoder's numbers depend on the batch.
        grid: take partials that windows have in common, each encoded once, instead of those of Resemblyzer (and diart).

    """

    sample_rate = SAMPLE_RATE
    dimension = DIMENSION
    duration = 5.0

    def __init__(self, encoder: Encoder, *, reproducible: bool = False, grid: bool = False) -> None:
        self._remembering = RememberingEncoder(encoder)
        shared = grid and encoder.batch_invariant and not reproducible
        self._encoder: Encoder = self._remembering if shared else encoder
        self._starts = grid_starts if grid else partial_starts
        self._one_by_one = reproducible or not encoder.batch_invariant

    def __call__(self, waveforms: FloatArray, weights: FloatArray, active: BoolArray) -> FloatArray:
        """Embed (batch, samples) for the active ones of (batch, speakers); rows have unit length or are NaN."""
        result = no_embeddings(active, DIMENSION)
        starts = self._starts(waveforms.shape[1])
        plans = [
            _plan(int(b), weights[b], active[b], waveforms.shape[1], starts) for b in np.flatnonzero(active.any(axis=1))
        ]
        plans = [plan for plan in plans if plan.needed.any()]
        groups = [[plan] for plan in plans] if self._one_by_one else [plans] if plans else []
        for group in groups:
            rows = self._encode(waveforms, group)
            for plan in group:
                count = int(plan.needed.sum())
                result[plan.chunk] = pool(rows[:count], plan.weights[plan.needed], active[plan.chunk])
                rows = rows[count:]
        return result

    def prepare(self, begun: FloatArray, samples: int) -> int:
        """See the base class."""
        if self._one_by_one:
            return 0
        self._encoder = self._remembering
        starts = self._starts(samples)
        there = len(begun) // PIECE * PIECE  # audio is remembered by whole pieces
        ready = [start for start in starts if partial_end(start) <= there]
        if ready:
            self._remembering([begun], [ready])
        missing = min((partial_end(start) for start in starts if start not in ready), default=samples)
        needed = -(-missing // PIECE) * PIECE
        return needed if needed < samples else 0

    def trunk(self, waveforms: FloatArray) -> FloatArray:
        """Embeddings of all partials: (batch, samples) to (batch, partials, 256); rows have unit length."""
        count = len(self._starts(waveforms.shape[1]))
        plans = [_Plan(b, np.zeros((count, 0)), np.ones(count, np.bool_)) for b in range(len(waveforms))]
        groups = [[plan] for plan in plans] if self._one_by_one else [plans] if plans else []
        rows = [self._encode(waveforms, group) for group in groups]
        return np.concatenate([np.zeros((0, DIMENSION), np.float32), *rows]).reshape(-1, count, DIMENSION)

    def pool(self, trunk: FloatArray, weights: FloatArray, active: BoolArray, samples: int) -> FloatArray:
        """See the base class."""
        result = no_embeddings(active, DIMENSION)
        for b in np.flatnonzero(active.any(axis=1)):
            plan = _plan(int(b), weights[b], active[b], samples, self._starts(samples))
            result[b] = pool(trunk[b][plan.needed], plan.weights[plan.needed], active[b])
        return result

    def clean(self, waveforms: FloatArray, masks: BoolArray) -> FloatArray:
        """Embed (batch, samples) from the frames of (batch, frames, speakers) alone, as if there were no others.

        So a partial never holds two people, and short turns count. Rows have unit length or are NaN.
        """
        result = np.full((len(masks), masks.shape[2], DIMENSION), np.nan, dtype=np.float32)
        pieces = [
            (chunk, speaker, speech)
            for chunk in range(len(masks))
            for speaker in np.flatnonzero(masks[chunk].any(axis=0)).tolist()
            if (speech := clean_waveform(waveforms[chunk], masks[chunk, :, speaker])) is not None
        ]
        groups = [[piece] for piece in pieces] if self._one_by_one else [pieces] if pieces else []
        for group in groups:
            starts = [_clean_starts(len(speech)) for *_, speech in group]
            rows = unit_rows(self._encoder([speech for *_, speech in group], starts))
            for (chunk, speaker, _), own in zip(group, starts, strict=True):
                mean = rows[: len(own)].mean(axis=0, dtype=np.float64)
                rows = rows[len(own) :]
                with np.errstate(invalid="ignore"):
                    result[chunk, speaker] = mean / np.linalg.norm(mean)
        return result

    def _encode(self, waveforms: FloatArray, plans: list[_Plan]) -> FloatArray:
        """Embeddings of all needed partials, chunk after chunk, each of unit length: (partials, 256)."""
        starts = np.array(self._starts(waveforms.shape[1]))
        rows = self._encoder(
            [waveforms[plan.chunk] for plan in plans], [starts[plan.needed].tolist() for plan in plans]
        )
        return unit_rows(rows)


def _plan(chunk: int, weights: FloatArray, active: BoolArray, samples: int, starts: Sequence[int]) -> _Plan:
    """Find out which partials of a chunk matter: a partial that no active speaker weighs need not be computed."""
    means = partial_weights(weights, samples, starts)
    return _Plan(chunk, means, np.any(means[:, active] > 0, axis=1))


def clean_waveform(waveform: FloatArray, mask: BoolArray) -> FloatArray | None:
    """The samples of the frames of ``mask`` (frames,) one after the other, at the level of the training data.

    What is shorter than a partial is repeated. None where nothing can be heard.
    """
    hops = len(waveform) // HOP
    at = np.minimum(((np.arange(hops) + 0.5) * len(mask) / max(1, hops)).astype(np.intp), len(mask) - 1)
    speech = waveform[: hops * HOP].reshape(hops, HOP)[mask[at]].ravel()
    power = float(np.square(speech, dtype=np.float64).mean()) if speech.size else 0.0
    if power < _SILENCE:
        return None
    return np.resize(speech, max(speech.size, PARTIAL * HOP)) * np.float32(np.sqrt(_LEVEL / power))


def _clean_starts(samples: int) -> list[int]:
    """First mel frames of the partials of clean speech: spread evenly, about as dense as those of a chunk."""
    last = samples // HOP - PARTIAL
    starts: list[int] = np.linspace(0, last, round(last / _STRIDE) + 1).astype(np.intp).tolist()
    return starts


def unit_rows(rows: FloatArray) -> FloatArray:
    """Each row at unit length; NaN where a row is 0."""
    with np.errstate(invalid="ignore"):
        unit: FloatArray = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return unit


def pool(partials: FloatArray, weights: NDArray[np.float64], active: BoolArray) -> FloatArray:
    """Weighted mean of partials (partials, 256) for each active speaker, at unit length; (speakers, 256)."""
    result = no_embeddings(active, DIMENSION)
    for speaker in np.flatnonzero(active):
        own = weights[:, speaker]
        kept = own > 0  # a weight of 0 adds nothing, even where the partial itself has no embedding
        with np.errstate(invalid="ignore"):
            mean = (own[kept, None] * partials[kept]).sum(axis=0) / own[kept].sum()
            result[speaker] = mean / np.linalg.norm(mean)
    return result
