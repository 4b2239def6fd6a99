"""The GE2E network as an OpenVINO graph, for CPUs.

What is here: a 3-layer LSTM on 1.6 s of 40 mel bands; the front-end is NumPy's. Which partials are wanted and how
they are pooled is unknown here. The embedding stage runs it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from diart_mp.models.base import FloatArray
from diart_mp.models.batches import batch_invariant, remembered_trial
from diart_mp.models.builtin import tensors_digest
from diart_mp.models.ge2e import BANDS, PARTIAL, MelFrontEnd
from diart_mp.models.openvino import Layers, Session, load_openvino
from diart_mp.precision import Precision

_ROWS = 32  # partials per pass: all that a batch gains, in bounded memory
_TRIED_ROWS = (2, 5, 32)  # passes of these many partials have to agree to the bit


def graph(weights: Mapping[str, FloatArray]) -> Any:
    """(partials, 160, 40) to (partials, 256), not normalised; `weights` by their names in the checkpoint."""
    layers = Layers(weights)
    mel = layers.op.parameter([-1, PARTIAL, BANDS], np.float32, name="mel")
    node = mel
    for layer in range(3):
        node, last = layers.lstm(node, "lstm", layer, bidirectional=False)
    hidden = layers.op.squeeze(last, layers.integers(1))
    out = layers.op.relu(layers.linear(hidden, "linear"))
    return load_openvino().Model([layers.op.result(out)], [mel], "ge2e")


class OpenVinoEncoder:
    """The network on the CPU. It is tried at construction, once on a machine, whether a batch changes the numbers.

    Args:
        weights: parameters by their name in the checkpoint.
        threads: threads that one pass may use.
        precision: see `Session`.

    """

    def __init__(
        self, weights: Mapping[str, FloatArray], *, threads: int = 1, precision: Precision = Precision.EXACT
    ) -> None:
        self._session = Session(graph(weights), threads=threads, precision=precision)
        self._front_end = MelFrontEnd()
        self.batch_invariant = remembered_trial(
            f"ge2e {tensors_digest(weights)} {threads} {precision}",
            lambda: batch_invariant(self._pass, (PARTIAL, BANDS), _TRIED_ROWS),
            *_TRIED_ROWS,
        )

    def __call__(self, waveforms: Sequence[FloatArray], starts: Sequence[Sequence[int]]) -> FloatArray:
        """Encode partials: (all partials, 256)."""
        cut = [self._front_end(waveform, wanted) for waveform, wanted in zip(waveforms, starts, strict=True)]
        rows = np.concatenate(cut)
        return np.concatenate([self._pass(rows[first : first + _ROWS]) for first in range(0, len(rows), _ROWS)])

    def _pass(self, partials: FloatArray) -> FloatArray:
        """One run of the network. A single partial goes in twice: alone it would be summed in another order."""
        rows = np.repeat(partials, 2, axis=0) if len(partials) == 1 else partials
        return self._session(rows)[: len(partials)]
