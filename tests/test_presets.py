"""Published hyper-parameters by name."""

from typing import Any

import pytest

from diart_mp.config import Settings
from diart_mp.errors import UsageError
from diart_mp.presets import PRESETS, preset


def test_the_published_values() -> None:
    names = ("tau_active", "rho_update", "delta_new", "latency")
    assert {name: tuple(map(preset(name).get, names)) for name in PRESETS} == {
        "dihard3": (0.555, 0.422, 1.517, None),
        "ami": (0.507, 0.006, 1.057, None),
        "voxconverse": (0.576, 0.915, 0.648, None),
        "dihard2-1s": (0.619, 0.326, 0.997, 1.0),
        "dihard2-5s": (0.555, 0.422, 1.517, 5.0),
    }
    each: Any
    for each in PRESETS.values():
        Settings.from_seconds(**each)


def test_an_unknown_name() -> None:
    with pytest.raises(UsageError, match="did you mean 'voxconverse'"):
        preset("voxconvers")
