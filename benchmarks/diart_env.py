"""diart 0.9.2 from the package index, in an environment of its own, to be measured beside ours.

    python benchmarks/diart_env.py

Prints the path of its Python. The environment (1.4 GB) lies in the cache folder of the models, under ``benchmarks/``, and is made at
the first use, which takes two minutes. diart asks for packages that no longer go together: torch is pinned to
the release that ours is tested with, and what depends on torch is installed without its own wishes.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from diart_mp.models.builtin import cache_folder

VERSION = "0.9.2"
_TORCH = ("numpy<2", "torch==2.13.0")
_AS_THEY_ARE = (
    f"diart=={VERSION}",
    "pyannote.audio==3.3.2",
    "speechbrain==1.0.3",
    "torch_audiomentations",
    "torch_pitch_shift",
    "torchaudio==2.8.0",
)
_OTHERS = (
    "asteroid-filterbanks",
    "einops",
    "huggingface_hub<1",
    "hyperpyyaml",
    "julius",
    "librosa",
    "lightning<3",
    "matplotlib==3.9.*",
    "omegaconf",
    "optuna",
    "pandas",
    "primePy",
    "pyannote.core==5.0.0",
    "pyannote.database<6",
    "pyannote.metrics<4",
    "pyannote.pipeline<4",
    "pytorch_metric_learning",
    "rich",
    "rx",
    "safetensors",
    "scipy",
    "semver",
    "sentencepiece",
    "setuptools",
    "soundfile",
    "tensorboardX",
    "torchmetrics",
    "tqdm",
    "websocket-client",
    "websocket-server",
)


def diart_python() -> Path:
    """The Python that can import diart; its environment is made first where there is none. One process makes it, others wait."""
    folder = cache_folder() / "benchmarks" / f"diart-{VERSION}"
    done = folder / ".complete"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            print(f"making {folder} (1.4 GB, once)", file=sys.stderr, flush=True)
            _make(folder)
            done.touch()
    return folder / "bin" / "python"


def _make(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)  # what an earlier try left
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    _install(folder, _TORCH)
    _install(folder, _AS_THEY_ARE, "--no-deps")
    _install(folder, [*_TORCH, *_OTHERS])


def _install(folder: Path, requirements: Sequence[str], *options: str) -> None:
    pip = [str(folder / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, *options, *requirements], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    print(diart_python())
