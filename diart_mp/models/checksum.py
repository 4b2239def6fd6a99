"""What tells one model from another: a checksum of whatever decides its numbers.

For caches and for results that must not be mixed. Nothing is loaded. Runs in the command.
"""

import hashlib
import inspect
from pathlib import Path

from diart_mp.models.reference import Form, check


def model_checksum(reference: str, role: str, token: str | None = None) -> str:
    """SHA-256 (16 hexadecimal digits) of the weights that a reference stands for; of a class its module's source.

    ``role``: segmentation or embedding, for the built-in models.

    A hub model is fetched if it is not in the hub's cache. Raises ModelError as loading does.
    """
    parsed = check(reference)
    if parsed.form is Form.BUILTIN:
        from diart_mp.models.builtin import BUILTIN

        return BUILTIN[role].tensors_sha256[:16]
    if parsed.form is Form.CLASS:
        from diart_mp.models.custom import import_class

        source = inspect.getsourcefile(import_class(parsed.name))
        return _shorten(parsed.name.encode() + (Path(source).read_bytes() if source else b""))
    if parsed.form is Form.HUB:
        from diart_mp.models.hub import fetch_checkpoint

        return file_checksum(fetch_checkpoint(parsed, token))
    return file_checksum(parsed.path)


def file_checksum(path: Path) -> str:
    """SHA-256 of a file, 16 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _shorten(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
