"""Hyper-parameters by name: those that the paper of diart (Coria et al. 2021) and its repository publish for data sets.

They were tuned for ``pyannote/segmentation`` with ``pyannote/embedding``; distances of other embeddings have another
scale. Pure data; every command uses it.
"""

from collections.abc import Mapping
from types import MappingProxyType

from diart_mp.config import check_names

PRESETS: Mapping[str, Mapping[str, float]] = MappingProxyType(
    {
        "dihard3": {"tau_active": 0.555, "rho_update": 0.422, "delta_new": 1.517},
        "ami": {"tau_active": 0.507, "rho_update": 0.006, "delta_new": 1.057},
        "voxconverse": {"tau_active": 0.576, "rho_update": 0.915, "delta_new": 0.648},
        "dihard2-1s": {"tau_active": 0.619, "rho_update": 0.326, "delta_new": 0.997, "latency": 1.0},
        "dihard2-5s": {"tau_active": 0.555, "rho_update": 0.422, "delta_new": 1.517, "latency": 5.0},
    }
)
"""Latency in seconds, where the published values belong to one."""


def preset(name: str) -> Mapping[str, float]:
    """The hyper-parameters of that name; UsageError with the nearest one if there are none."""
    check_names({name: None}, PRESETS, "preset")
    return PRESETS[name]
