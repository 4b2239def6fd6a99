"""Whether a batch changes the numbers of a network, tried when it is loaded, and remembered for the next time.

What is here: the trial (0.2 s), and its outcomes as small files in the cache folder. What runs the network is unknown here. The
segmentation and embedding stages run it.
"""

import hashlib
import json
import os
import platform
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from diart_mp import __version__
from diart_mp.models.base import FloatArray
from diart_mp.models.openvino import openvino_version

_KERNELS = ("ONEDNN_", "DNNL_", "OV_", "OPENVINO_")  # variables of the environment that choose kernels begin so


def batch_invariant(run: Callable[[FloatArray], FloatArray], item: Sequence[int], sizes: Sequence[int]) -> bool:
    """Whether `run` gives an item the same bits in batches of all `sizes`, whatever its place in the batch.

    Matrix kernels are chosen by shape, and on some processors a batch of 2 is summed in another order than one of 5.
    """
    noise = np.random.default_rng(0).standard_normal((max(sizes), *item), dtype=np.float32)
    whole = run(noise)
    return all(np.array_equal(run(noise[-size:]), whole[-size:]) for size in sizes if size < len(noise))


def remembered_trial(name: str, trial: Callable[[], bool], *shapes: int) -> bool:
    """What ``trial`` finds of an OpenVINO network on this processor; it does not run where that is known.

    ``name`` has all that its numbers depend on, beside the processor and the version of OpenVINO: weights, threads,
    precision. An outcome that cannot be read counts as unknown; one that cannot be written is found anew the next time.
    """
    known = {"network": name, "shapes": list(shapes), **_machine()}
    path = _path(known)
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads(path.read_bytes())
        if found.get("of") == known and isinstance(found.get("steady"), bool):
            return bool(found["steady"])
    steady = trial()
    with suppress(OSError):
        _write(path, json.dumps({"of": known, "steady": steady}))
    return steady


def _path(known: object) -> Path:
    from diart_mp.models.builtin import cache_folder

    return cache_folder() / "trials" / f"{hashlib.sha256(json.dumps(known).encode()).hexdigest()[:32]}.json"


def _machine() -> dict[str, str]:
    """What chooses the kernels of a network, beside the network."""
    processor = platform.processor()
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(errors="replace").partition("\n\n")[0].splitlines()
        kept = ("model name", "cpu family", "model\t", "stepping", "flags", "Features", "cache size")
        processor = "\n".join(line for line in lines if line.startswith(kept)) or processor
    chosen = sorted(f"{name}={value}" for name, value in os.environ.items() if name.startswith(_KERNELS))
    return {
        "processor": hashlib.sha256(f"{platform.machine()} {processor}".encode()).hexdigest(),
        "openvino": openvino_version(),
        "graphs": __version__,
        "environment": " ".join(chosen),
    }


def _write(path: Path, text: str) -> None:
    """By renaming a finished file: several stages may write at once, and any of them may be killed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}")
    draft.write_text(text)
    draft.replace(path)
