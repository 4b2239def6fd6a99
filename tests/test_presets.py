"""Published hyper-parameters by name."""

from typing import Any

import pytest

from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.presets import PRESETS, preset


def test_the_published_values() -> None:
    assert preset("ami") == {"tau_active": 0.507, "rho_update": 0.006, "delta_new": 1.057}
    assert preset("dihard2-1s")["latency"] == 1.0
    assert list(PRESETS) == ["dihard3", "ami", "voxconverse", "dihard2-1s", "dihard2-5s"]
    each: Any
    for each in PRESETS.values():
        Settings.from_seconds(**each)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'voxconverse'"):
        preset("voxconvers")
