"""What overlapping windows share is computed once, and nothing else is taken for it."""

import numpy as np
import pytest
import torch

from diart_mp.models.base import FloatArray
from diart_mp.models.ge2e import BuiltinEmbedding, MelFrontEnd, RememberingEncoder, grid_starts, partial_starts
from diart_mp.models.ge2e_openvino import OpenVinoEncoder
from diart_mp.models.overlap import PIECE, Memory, fingerprints
from diart_mp.models.pyannet_openvino import SincLayer
from diart_mp.models.pyannet_torch import SincNet

from .test_ge2e import CountingEncoder

STEP, WINDOW = 8000, 80000


@pytest.fixture(scope="module")
def windows() -> FloatArray:
    """Five windows of one stream, each 0.5 s after the one before."""
    audio = (np.random.default_rng(3).standard_normal(WINDOW + 4 * STEP) * 0.1).astype(np.float32)
    return np.stack([audio[i * STEP : i * STEP + WINDOW] for i in range(5)])


@pytest.fixture(scope="module")
def counting(embedding_weights: dict[str, FloatArray]) -> CountingEncoder:
    return CountingEncoder(OpenVinoEncoder(embedding_weights))


def test_memory_forgets_what_no_window_needed_for_long() -> None:
    memory = Memory[int](2)
    memory.put("a", 1)
    memory.put("b", 2)
    memory.next_window()
    assert memory.get("a") == 1
    memory.next_window()
    memory.next_window()
    assert [memory.get(key) for key in "ab"] == [1, None]
    assert len(memory) == 1
    for _ in range(4):
        memory.next_window()
    assert len(memory) == 0


@pytest.mark.parametrize("samples", [80000, 52345, 48000, 76030, 71990])
def test_filters_of_a_window_are_its_own_whatever_was_there_before(
    segmentation_weights: dict[str, FloatArray], windows: FloatArray, samples: int
) -> None:
    remembering = SincLayer(segmentation_weights)
    for window in (windows[0], windows[2], windows[1], windows[0] * np.float32(0.5), windows[3]):
        cut = window[:samples]
        np.testing.assert_array_equal(remembering(cut), SincLayer(segmentation_weights)(cut))


@pytest.mark.parametrize("samples", [1261, 16000, 52345, 80000])
def test_first_layer_is_that_of_torch(
    segmentation_weights: dict[str, FloatArray], windows: FloatArray, samples: int
) -> None:
    layer, waveform = SincNet(), torch.from_numpy(windows[:1, None, :samples] + 0.01)
    names = {name.removeprefix("sincnet."): array for name, array in segmentation_weights.items()}
    layer.load_state_dict({name: torch.from_numpy(names[name]) for name in layer.state_dict()})
    with torch.inference_mode():
        filtered = layer.conv1d[0](layer.wav_norm1d(waveform)).abs()
        expected = torch.nn.functional.max_pool1d(filtered, 3)[0].T.numpy()
    found = SincLayer(segmentation_weights)(waveform[0, 0].numpy())
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * expected.max())


def test_prints_are_of_the_audio_and_of_whole_pieces(windows: FloatArray) -> None:
    first, second = (fingerprints(window, range(-1, 21)) for window in windows[:2])
    assert first[3:21] == second[1:19]
    assert first[0] is first[21] is None
    assert len(set(first[1:21])) == 20
    changed = windows[0].copy()
    changed[PIECE] = np.nextafter(changed[PIECE], 1)
    assert fingerprints(changed, range(3)) == [first[1], fingerprints(changed, [1])[0], first[3]]
    assert fingerprints(changed, [1]) != [first[2]]


def test_what_is_remembered_is_what_would_be_computed(windows: FloatArray) -> None:
    remembering = MelFrontEnd()
    for window in windows:
        for starts in (partial_starts(WINDOW), [3], [231, 0]):
            np.testing.assert_array_equal(remembering(window, starts), MelFrontEnd()(window, starts))


def test_the_ends_of_a_window_are_its_own(windows: FloatArray) -> None:
    """Before its first sample there is silence, though the stream had sound there, and was remembered with it."""
    front_end = MelFrontEnd()
    front_end(windows[0], [0, 77, 154])
    begin = front_end(windows[1], [0])[0, 0]
    silence = windows[1].copy()
    silence[200:] = 0
    np.testing.assert_array_equal(begin, MelFrontEnd()(silence, [0])[0, 0])
    inside = front_end(windows[0], [50])[0, 0]
    assert not np.allclose(begin, inside)


@pytest.mark.parametrize(
    ("samples", "starts"),
    [(80000, list(range(35, 336, 50))), (160000, list(range(35, 836, 50))), (25600, [0]), (16000, [0])],
)
def test_grid_of_a_window(samples: int, starts: list[int]) -> None:
    assert grid_starts(samples) == starts


def test_each_partial_of_the_grid_is_encoded_once(counting: CountingEncoder, windows: FloatArray) -> None:
    model = BuiltinEmbedding(counting, grid=True)
    weights, active = np.ones((5, 293, 1), np.float32), np.ones((5, 1), bool)
    counting.rows.clear()
    together = model(windows[:3], weights[:3], active[:3])
    assert counting.rows == [7 + 1 + 1]
    last = model(windows[2:], weights[2:], active[2:])
    assert counting.rows == [9, 2]
    fresh = BuiltinEmbedding(counting, grid=True)
    alone = np.concatenate([fresh(windows[i : i + 1], weights[:1], active[:1]) for i in (4, 2, 0, 1, 3)])
    np.testing.assert_array_equal(np.concatenate([together, last])[[5, 2, 0, 1, 4]], alone)


def test_partials_that_reach_beyond_the_end_are_not_remembered(counting: CountingEncoder, windows: FloatArray) -> None:
    encoder = RememberingEncoder(counting)
    counting.rows.clear()
    for _ in range(2):
        rows = encoder([windows[0], windows[0][:16000]], [[0, 20], [0]])
    assert counting.rows == [3, 1]
    np.testing.assert_array_equal(rows, counting([windows[0], windows[0][:16000]], [[0, 20], [0]]))


def test_work_ahead_changes_no_number(counting: CountingEncoder, windows: FloatArray) -> None:
    weights, active = np.random.default_rng(2).random((5, 293, 2)).astype(np.float32), np.ones((5, 2), bool)
    plain = BuiltinEmbedding(counting)(windows, weights, active)
    model = BuiltinEmbedding(counting)
    counting.rows.clear()
    assert model.prepare(windows[0, :72000], WINDOW) == 76000
    assert counting.rows == [4]
    assert model.prepare(windows[0, :75999], WINDOW) == 76000
    assert counting.rows == [4]
    assert model.prepare(windows[0, :76100], WINDOW) == 0
    assert counting.rows == [4, 1]
    np.testing.assert_array_equal(model(windows[:1], weights[:1], active[:1]), plain[:1])
    assert counting.rows == [4, 1]
    np.testing.assert_array_equal(model(windows, weights, active), plain)
    assert counting.rows == [4, 1, 20]


def test_nothing_is_prepared_where_a_batch_changes_the_numbers(counting: CountingEncoder, windows: FloatArray) -> None:
    counting.rows.clear()
    assert BuiltinEmbedding(counting, reproducible=True).prepare(windows[0, :72000], WINDOW) == 0
    assert BuiltinEmbedding(counting).prepare(windows[0, :100], WINDOW) == 28000
    assert counting.rows == []
