"""pyannote.audio can be imported beside this torch, whatever torchaudio and torchcodec make of it."""

import sys
from typing import Any

import pytest
import torch

from diart_mp.models.compat import _without_extension


def test_telemetry_is_off(pyannote: Any) -> None:
    from pyannote.audio.telemetry.metrics import is_metrics_enabled

    assert not is_metrics_enabled()


def test_what_pyannote_audio_needs_of_torchaudio_works(pyannote: Any) -> None:
    from torchaudio.compliance.kaldi import fbank  # type: ignore[import-untyped]

    assert fbank(torch.zeros(1, 16000), num_mel_bins=80).shape == (98, 80)


def test_compiled_parts_fail_when_they_are_called(pyannote: Any) -> None:
    if sys.modules["torchaudio._extension"]._IS_TORCHAUDIO_EXT_AVAILABLE:
        pytest.skip("torchaudio's compiled extension loads beside this torch")
    from torchaudio.functional import forced_align  # type: ignore[import-untyped]

    with pytest.raises(RuntimeError, match="needs its compiled extension"):
        forced_align(torch.zeros(1, 2, 3), torch.ones(1, 1, dtype=torch.int32))


def test_the_stand_in_claims_nothing() -> None:
    module: Any = _without_extension()
    assert not module._IS_TORCHAUDIO_EXT_AVAILABLE
    assert not module._load_lib("libtorchaudio")
    with pytest.raises(RuntimeError, match="needs its compiled extension"):
        module.fail_if_no_align(len)([])
