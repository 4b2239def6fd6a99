"""The trial whether a batch changes the numbers, and that its outcome is remembered."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from diart_mp.models.batches import batch_invariant, remembered_trial


class Trial:
    """Counts how often it is tried."""

    def __init__(self, *, steady: bool) -> None:
        self.steady, self.times = steady, 0

    def __call__(self) -> bool:
        self.times += 1
        return self.steady


@pytest.fixture
def trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a new cache in which outcomes are kept."""
    monkeypatch.setenv("DIART_MP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "trials"


def test_numbers_that_depend_on_the_batch_are_noticed() -> None:
    assert batch_invariant(lambda batch: batch * 2, (4,), (1, 2, 3))
    assert not batch_invariant(lambda batch: batch / np.float32(len(batch)), (4,), (1, 2, 3))
    assert not batch_invariant(lambda batch: batch + batch[:1], (4,), (1, 2, 3))


@pytest.mark.parametrize("steady", [True, False])
@pytest.mark.usefixtures("trials")
def test_an_outcome_is_remembered(steady: bool) -> None:
    first, second = Trial(steady=steady), Trial(steady=not steady)
    assert remembered_trial("net", first, 8) is steady
    assert remembered_trial("net", second, 8) is steady
    assert (first.times, second.times) == (1, 0)


@pytest.mark.usefixtures("trials")
def test_another_network_shape_or_setting_is_tried_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    remembered_trial("net", Trial(steady=True), 8)
    others = [Trial(steady=False) for _ in range(4)]
    assert not remembered_trial("other net", others[0], 8)
    assert not remembered_trial("net", others[1], 9)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert not remembered_trial("net", others[2], 8)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    monkeypatch.setattr("diart_mp.models.batches.openvino_version", lambda: "0.0")
    assert not remembered_trial("net", others[3], 8)
    assert [each.times for each in others] == [1, 1, 1, 1]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"steady": true}', b'{"of": {}, "steady": true}'])
def test_a_damaged_outcome_is_found_anew(trials: Path, content: bytes) -> None:
    remembered_trial("net", Trial(steady=True), 8)
    (file,) = trials.iterdir()
    file.write_bytes(content)
    again = Trial(steady=False)
    assert (remembered_trial("net", again, 8), again.times) == (False, 1)
    assert (remembered_trial("net", again, 8), again.times) == (False, 1)  # and is written anew
    assert list(trials.iterdir()) == [file]


def test_a_cache_that_cannot_be_written_does_no_harm(trials: Path) -> None:
    trials.parent.write_text("not a folder")
    trial = Trial(steady=True)
    assert remembered_trial("net", trial, 8)
    assert remembered_trial("net", trial, 8)
    assert trial.times == 2


def test_a_second_start_tries_nothing(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from diart_mp.models import builtin, ge2e_openvino, pyannet_openvino as p\n"
        "weights = [builtin.load_weights(role) for role in ('segmentation', 'embedding')]\n"
        f"os.environ['DIART_MP_CACHE'] = {str(tmp_path)!r}\n"
        "for round in range(2):\n"
        "    print(p.OpenVinoPyanNet(weights[0]).chunks_per_pass(80000))\n"
        "    print(ge2e_openvino.OpenVinoEncoder(weights[1]).batch_invariant)\n"
        "    p.batch_invariant = ge2e_openvino.batch_invariant = None\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    said = done.stdout.split()
    assert said[:2] == said[2:]
    assert len(list((tmp_path / "trials").iterdir())) == 2
