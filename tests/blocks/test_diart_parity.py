"""The blocks, fed with diart's own segmentations and embeddings, must say what diart 0.9.2 said, step by step."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from diart_mp.blocks.binarize import binarize
from diart_mp.blocks.diarization import OnlineDiarization
from diart_mp.blocks.embeddings import normalize_embeddings
from diart_mp.blocks.weights import overlap_aware_weights
from diart_mp.config import Settings

DATA = Path(__file__).parents[1] / "data"
SAMPLE_RUNS = [
    "sample_lat0.5_tau0.5_rho0.3_delta0.2",
    "sample_lat0.5_tau0.5_rho0.3_delta1.0",
    "sample_lat5.0_tau0.5_rho0.3_delta1.0",
]
MEETING_RUN = "trn05_lat2.0_tau0.5_rho0.1_delta0.2"  # AMI EN2004a, 0 to 30 s: overlap, a third speaker


@dataclass(frozen=True)
class GoldenRun:
    """What diart computed for the windows of one file, in order."""

    settings: Settings
    starts: list[int]
    segmentation: NDArray[np.float32]
    embedding: NDArray[np.float32]
    assignment: NDArray[np.int64]
    num_known: list[int]
    centers: dict[int, NDArray[np.float64]]  # by window; of the first speakers
    frames: list[tuple[float, float, NDArray[np.float64]]]  # start, resolution (s) and scores of the first speakers
    turns: list[list[tuple[float, float, int]]]  # seconds with 6 decimals


def load(chunks: dict[str, NDArray[Any]], aggregated: dict[str, NDArray[Any]], run: dict[str, Any]) -> GoldenRun:
    num_windows = run["chunks"]
    scores = np.split(aggregated["agg_scores"], np.cumsum(aggregated["agg_frames"])[:-1])
    settings = Settings.from_seconds(
        duration=run["duration"],
        step=run["step"],
        latency=run["latency"],
        rate=run["sample_rate"],
        tau_active=run["tau_active"],
        rho_update=run["rho_update"],
        delta_new=float(run["delta_new"]),
        max_speakers=run["max_speakers"],
    )
    every = len(chunks["assignment"]) // len(chunks["centers"])
    centers = {every * (k + 1) - 1: values for k, values in enumerate(chunks["centers"])}
    return GoldenRun(
        settings=settings,
        starts=[round(start * run["sample_rate"]) for start in chunks["start"][:num_windows].tolist()],
        segmentation=chunks["segmentation"],
        embedding=chunks["embedding"],
        assignment=chunks["assignment"],
        num_known=chunks["num_known"].tolist(),
        centers=centers,
        frames=list(zip(aggregated["agg_start"].tolist(), aggregated["agg_step"].tolist(), scores, strict=True)),
        turns=[[tuple(turn) for turn in turns] for turns in run["per_chunk_annotation"]],
    )


def read(path: Path) -> dict[str, NDArray[Any]]:
    with np.load(path) as arrays:
        return dict(arrays)


@pytest.fixture(scope="module", params=[*SAMPLE_RUNS, MEETING_RUN])
def golden(request: pytest.FixtureRequest) -> GoldenRun:
    if request.param == MEETING_RUN:
        folder: Path = request.getfixturevalue("shared") / "golden" / "steps"
        arrays = read(folder / f"{MEETING_RUN}.npz")
        arrays["num_known"] = arrays["num_active"]
        return load(arrays, arrays, json.loads((folder / f"{MEETING_RUN}.json").read_text()))
    run = json.loads((DATA / f"golden_{request.param}.json").read_text())
    return load(read(DATA / "golden_sample_chunks.npz"), read(DATA / f"golden_{request.param}.npz"), run)


def test_every_step_is_that_of_diart(golden: GoldenRun) -> None:
    diarization = OnlineDiarization(golden.settings)
    for k, start in enumerate(golden.starts):
        labels, region = diarization.aggregate(start, golden.segmentation[k], golden.embedding[k], prepend=k == 0)
        assert labels.tolist() == golden.assignment[k].tolist()
        assert len(diarization.clustering.centers) == golden.num_known[k]
        expected_start, expected_resolution, expected_scores = golden.frames[k]
        (frames,) = region.parts
        assert (frames.start, frames.resolution) == (expected_start, expected_resolution)
        scores = np.zeros(expected_scores.shape)
        scores[:, frames.labels] = frames.scores
        np.testing.assert_allclose(scores, expected_scores, rtol=0, atol=1e-12)
        turns = binarize(frames, golden.settings.tau_active)
        assert [(round(begin, 6), round(end, 6), speaker) for begin, end, speaker in turns] == golden.turns[k]


def test_regions_and_turns_in_samples_are_those_of_diart(golden: GoldenRun) -> None:
    diarization = OnlineDiarization(golden.settings)
    rate, latency, step = golden.settings.rate, golden.settings.latency, golden.settings.step
    said = 0
    for k, start in enumerate(golden.starts):
        region = diarization(start, golden.segmentation[k], golden.embedding[k], prepend=k == 0)
        newest = start + 5 * rate - latency + step
        assert (region.start, region.end) == (0 if k == 0 else newest - step, newest)
        assert list(region.turns) == [(round(b * rate), round(e * rate), s) for b, e, s in golden.turns[k]]
        said += len(region.turns)
    assert said > 20


def test_centroids_are_those_of_diart(golden: GoldenRun) -> None:
    clustering = OnlineDiarization(golden.settings).clustering
    compared = 0
    for k in range(len(golden.starts)):
        clustering(golden.segmentation[k], golden.embedding[k])
        if k in golden.centers:
            known = golden.num_known[k]
            np.testing.assert_array_equal(
                clustering.centers, golden.centers[k][:known].reshape(clustering.centers.shape)
            )
            compared += known
    assert compared >= 6


def test_inactive_speakers_need_no_embedding(golden: GoldenRun) -> None:
    embedding = golden.embedding.copy()
    inactive = golden.segmentation.max(axis=1) < golden.settings.tau_active
    assert 0 < np.count_nonzero(inactive) < inactive.size
    embedding[inactive] = np.nan
    clustering = OnlineDiarization(golden.settings).clustering
    for k in range(len(golden.starts)):
        assert clustering(golden.segmentation[k], embedding[k]).tolist() == golden.assignment[k].tolist()


def test_weights_and_normalized_embeddings_are_those_of_diart() -> None:
    chunks = read(DATA / "golden_sample_chunks.npz")
    which = chunks["weights_of"]
    weights = overlap_aware_weights(chunks["segmentation"][which])
    assert weights.dtype == np.float32
    np.testing.assert_allclose(weights, chunks["weights"], rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        normalize_embeddings(chunks["embedding_raw"]), chunks["embedding"][which], rtol=0, atol=1e-7
    )
