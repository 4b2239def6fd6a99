"""Provisional speakers of the first windows keep their names where they are the same people later."""

import numpy as np
import pytest
from numpy.typing import NDArray

from diart_mp.blocks.clustering import UNMAPPED, ClusteringSettings
from diart_mp.blocks.diarization import OnlineDiarization
from diart_mp.blocks.warmup import WarmUp
from diart_mp.config import Settings
from diart_mp.runtime.state import pack_state, unpack_state

THRESHOLDS = ClusteringSettings(tau_active=0.5, rho_update=0.3, delta_new=0.5, max_speakers=4)
ANNA, BERT, CLEO = np.eye(3)
SILENT = np.full(3, np.nan)
RATE = 4000
EARLY = Settings(rate=RATE, duration=5 * RATE, step=RATE, latency=RATE, delta_new=0.5, start="early")


def scores(*active: bool) -> NDArray[np.float64]:
    """Ten frames of steady scores."""
    return np.tile(np.where(active, 0.9, 0.1), (10, 1))


def test_short_speech_is_enough_for_a_provisional_speaker() -> None:
    warm_up = WarmUp(THRESHOLDS)
    short = scores(False, False)
    short[-1] = 0.9, 0.1  # a tenth of the window: less than rho_update
    assert warm_up.label(short, np.array([ANNA, SILENT])).tolist() == [0, UNMAPPED]
    short[-1] = 0.9, 0.9
    assert warm_up.label(short, np.array([BERT, ANNA])).tolist() == [1, 0]


def test_names_are_kept_by_those_who_are_the_same() -> None:
    warm_up = WarmUp(THRESHOLDS)
    warm_up.label(scores(True, True), np.array([ANNA, BERT]))
    # The real clustering founds its speakers in another order: label 0 is Bert, label 1 is Anna.
    both = scores(True, True), np.array([BERT, ANNA])
    assert warm_up.translate(np.array([0, 1]), *both).tolist() == [1, 0]
    assert warm_up.translate(np.array([1, UNMAPPED]), *both).tolist() == [0, UNMAPPED]


def test_somebody_new_gets_a_name_that_nobody_has() -> None:
    warm_up = WarmUp(THRESHOLDS)
    warm_up.label(scores(True, True), np.array([ANNA, BERT]))
    assert warm_up.translate(np.array([0]), scores(True), np.array([BERT])).tolist() == [1]
    assert warm_up.translate(np.array([1, 0]), scores(True, True), np.array([CLEO, BERT])).tolist() == [0, 1]
    assert warm_up.translate(np.array([2]), scores(True), np.array([ANNA])).tolist() == [2]


def test_complete_windows_are_labelled_as_with_an_exact_start_but_for_names() -> None:
    generator = np.random.default_rng(5)
    windows = [(generator.random((10, 3)), generator.normal(size=(3, 8))) for _ in range(30)]
    early, exact = OnlineDiarization(EARLY), OnlineDiarization(Settings.from_map({**EARLY.to_map(), "start": "exact"}))
    renamed: dict[int, int] = {}
    for index, window in enumerate(windows):
        shown, _ = early.aggregate(index * RATE, *window)
        if index < 4:
            continue
        labels, _ = exact.aggregate((index - 4) * RATE, *window)
        for label, name in zip(labels.tolist(), shown.tolist(), strict=True):
            assert renamed.setdefault(label, name) == name
    assert renamed[UNMAPPED] == UNMAPPED if UNMAPPED in renamed else True
    assert len(set(renamed.values())) == len(renamed) > 3


def test_state_can_be_taken_over_at_any_window() -> None:
    generator = np.random.default_rng(6)
    windows = [(generator.random((10, 3)), generator.normal(size=(3, 8))) for _ in range(9)]
    going, moved = OnlineDiarization(EARLY), OnlineDiarization(EARLY)
    for index, window in enumerate(windows):
        state = unpack_state(pack_state(moved.state()))
        moved = OnlineDiarization(EARLY)
        moved.restore(state)
        assert moved(index * RATE, *window) == going(index * RATE, *window)


def test_incomplete_window_after_a_complete_one_is_refused() -> None:
    warm_up = WarmUp(THRESHOLDS)
    warm_up.translate(np.array([0]), scores(True), np.array([ANNA]))
    with pytest.raises(ValueError, match="in order"):
        warm_up.label(scores(True), np.array([ANNA]))
