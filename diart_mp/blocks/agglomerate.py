"""Agglomerative clustering of voices by what is known of each: sums of embeddings, seconds, and who talked beside whom.

Average linkage, with two corrections. An embedding of little speech lies far from everything, also from its own
speaker: measured over read speech and meetings, two embeddings of t and u seconds of one person are ``noise * (1/t + 1/u)`` further
apart than those of long turns, and that much is taken off. And two local speakers of one window are never the same person,
so clusters are pushed apart by the share of their speech that was heard beside the other's. Everything needed of a cluster
are sums, so the past of a stream is as small as its number of speakers. Knows nothing of time, windows or labels.
Runs in the clustering stage.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FAR = 9.0  # beyond any distance

_SUMS = ("weights", "sums", "brevity", "seconds")

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class Voices:
    """Sums over embeddings x of unit length, weighted by q: one row per cluster.

    weights: sum of q, (voices,). sums: sum of q * x, (voices, dimension). brevity: sum of q / seconds, (voices,).
    seconds: (voices,).
    """

    weights: Floats
    sums: Floats
    brevity: Floats
    seconds: Floats

    @staticmethod
    def single(embeddings: NDArray[np.floating], seconds: NDArray[np.floating], most_s: float) -> "Voices":
        """A voice for each of (n, dimension); each weighs its seconds of speech (n,), ``most_s`` at most."""
        long = np.asarray(seconds, np.float64)
        weights = np.minimum(long, most_s)
        return Voices(weights, weights[:, None] * embeddings, weights / long, long)

    @staticmethod
    def join(*parts: "Voices") -> "Voices":
        """The voices of all ``parts``, in order."""
        columns = ([getattr(part, name) for part in parts] for name in _SUMS)
        return Voices(*(np.concatenate(column) for column in columns))

    def to_map(self, prefix: str) -> dict[str, Floats]:
        """The sums under names that begin with ``prefix``, for a checkpoint."""
        return {f"{prefix}_{name}": getattr(self, name) for name in _SUMS}

    @staticmethod
    def from_map(values: Mapping[str, Any], prefix: str) -> "Voices":
        """What ``to_map`` gave; raises KeyError, or ValueError if it is not such a map."""
        voices = Voices(*(np.array(values[f"{prefix}_{name}"], np.float64) for name in _SUMS))
        rows = {len(getattr(voices, name)) for name in _SUMS}
        if len(rows) > 1 or voices.sums.ndim != 2 or not np.isfinite(voices.sums).all():
            msg = f"sums of shape {voices.sums.shape} are no voices"
            raise ValueError(msg)
        return voices

    def __len__(self) -> int:
        return len(self.weights)

    def grouped(self, groups: NDArray[np.integer], count: int) -> "Voices":
        """Sums over the voices of each group 0 to ``count`` - 1; those of group -1 are left out."""
        member = (groups[None, :] == np.arange(count)[:, None]).astype(np.float64)
        return Voices(member @ self.weights, member @ self.sums, member @ self.brevity, member @ self.seconds)

    def only(self, wanted: NDArray[np.bool_] | NDArray[np.integer]) -> "Voices":
        """Some of the voices, by a mask or by their places."""
        return Voices(self.weights[wanted], self.sums[wanted], self.brevity[wanted], self.seconds[wanted])


def agglomerate(voices: Voices, together: Floats, *, nearest: float, noise: float, apart: float) -> NDArray[np.intp]:
    """Merge the two nearest clusters again and again, until none are nearer than ``nearest``.

    Args:
        voices: what to cluster.
        together: seconds for which two voices were heard beside each other, (voices, voices), symmetric.
        nearest: corrected cosine distance from which two clusters are two people.
        noise: cosine distance that 1 s of speech adds (see the module).
        apart: distance added between clusters of which one was never heard without the other.

    Returns:
        Cluster of each voice, 0, 1, 2 ... in the order of their first voices, shape (voices,).

    """
    weights, sums, brevity, seconds = (
        part.copy() for part in (voices.weights, voices.sums, voices.brevity, voices.seconds)
    )
    beside = together.copy()
    clusters = np.arange(len(weights))
    alive = np.ones(len(weights), np.bool_)

    def distances(row: int) -> Floats:
        """From one cluster to all others."""
        cosine = 1 - (sums @ sums[row]) / (weights * weights[row])
        correction = noise * (brevity / weights + brevity[row] / weights[row])
        found: Floats = cosine - correction + apart * beside[row] / np.minimum(seconds, seconds[row])
        found[~alive] = found[row] = _FAR
        return found

    table = np.array([distances(row) for row in range(len(weights))]).reshape(len(weights), len(weights))
    for _ in range(len(weights) - 1):
        one, other = sorted(divmod(int(table.argmin()), len(weights)))
        if table[one, other] >= nearest:
            break
        for part in (weights, sums, brevity, seconds, beside):
            part[one] += part[other]
        beside[:, one] += beside[:, other]
        alive[other] = False
        clusters[clusters == other] = one
        table[other] = table[:, other] = _FAR
        table[one] = table[:, one] = distances(one)
    return np.unique(clusters, return_inverse=True)[1].astype(np.intp)
