"""Key files: who may join the links of a pipeline, as a folder on each host.

    NAME.secret             this host's own key pair, readable by its owner alone (0600)
    NAME.public             its public half, to be copied to the other hosts
    authorized/NAME.public  public keys of other hosts: whom this host lets in, and by which it knows whom it talks to

NAME is the place of a topology. A key is a CURVE key of ZeroMQ (Curve25519) as 40 characters of Z85. Secrets are in these files and in the
memory of stages, never in arguments or the environment. Runs in ``diart-mp keys`` and in every stage with links between hosts.
"""

import os
import re
import stat
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import zmq
from zmq.utils import z85

from diart_mp.config import check_names
from diart_mp.errors import OutputError, UsageError
from diart_mp.topology import read_toml

AUTHORIZED = "authorized"  # folder of public keys
_VERSION = 1
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_Z85 = re.compile(r"[0-9A-Za-z.\-:+=^!/*?&<>()\[\]{}@%$#]{40}")
_OTHERS = 0o077  # mode bits of everybody but the owner


@dataclass(frozen=True, slots=True)
class Key:
    """A key, public or (``secret`` is not empty) a pair; both halves as Z85. The secret is not shown when it is printed."""

    name: str
    public: str
    secret: str = ""

    def __repr__(self) -> str:
        return f"Key({self.name!r}, {self.public!r})"


def default_folder() -> Path:
    """Where ``diart-mp keys`` keeps keys."""
    import platformdirs

    return platformdirs.user_config_path("diart-mp") / "keys"


def new_key(folder: Path, name: str) -> Path:
    """Make a key pair; the path of its public half. OutputError if there is one of that name."""
    if not _NAME.fullmatch(name):
        msg = f"a key is called like the place of its host: letters, digits, '_', '.' and '-', at most 64, not {name!r:.80}"
        raise UsageError(msg)
    public, secret = (half.decode() for half in zmq.curve_keypair())
    values = {"version": _VERSION, "name": name, "public": public}
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        (folder / AUTHORIZED).mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        msg = f"cannot make the folder {folder}: {error.strerror}"
        raise OutputError(msg) from error
    _write(folder / f"{name}.secret", {**values, "secret": secret}, 0o600)
    _write(folder / f"{name}.public", values, 0o644)
    return folder / f"{name}.public"


def own_key(folder: Path, name: str) -> Key:
    """The key pair of this host; OutputError or UsageError where there is none that can be trusted."""
    path = folder / f"{name}.secret"
    if not path.exists():
        msg = f"there is no key {path}; make one on this host with: diart-mp keys new {name} --keys {folder}"
        raise OutputError(msg)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & _OTHERS:
        msg = f"{path} can be read or changed by others (mode {mode:04o}); make a new key, or: chmod 600 {path}"
        raise UsageError(msg)
    key = _read(path, secret=True)
    if key.name != name or zmq.curve_public(key.secret.encode()).decode() != key.public:
        msg = f"{path} is not the key of {name}: its name or its two halves do not belong together"
        raise UsageError(msg)
    return key


def peer_key(folder: Path, name: str) -> Key:
    """The public key of another host (or of this one); OutputError if it has not been authorized."""
    path = folder / AUTHORIZED / f"{name}.public"
    own = folder / f"{name}.public"
    if not path.exists() and own.exists():
        path = own
    if not path.exists():
        msg = f"there is no {path}; copy {name}.public from {name} to this host, then: diart-mp keys authorize {name}.public --keys {folder}"
        raise OutputError(msg)
    return _read(path)


def authorize(folder: Path, file: Path) -> Key:
    """Take a public key file into the folder: whoever has its secret is let in from now on."""
    key = _read(file)
    target = folder / AUTHORIZED / f"{key.name}.public"
    if target.exists() and _read(target) != key:
        msg = f"{target} is another key of that name; remove it first if {key.name} has a new one"
        raise OutputError(msg)
    if not target.exists():
        if not target.parent.is_dir():
            msg = f"{folder} is no folder of keys; make this host's own key first: diart-mp keys new NAME"
            raise OutputError(msg)
        _write(target, {"version": _VERSION, "name": key.name, "public": key.public}, 0o644)
    return key


def unknown_places(folder: Path, places: Iterable[str]) -> list[str]:
    """Those of ``places`` of which there is no public key here, neither as this host's own nor as one that is let in."""
    known = {key.name for key in (*own_keys(folder), *authorized_keys(folder))}
    return [place for place in places if place not in known]


def own_keys(folder: Path) -> list[Key]:
    """The public halves of this host's keys."""
    return [_read(path) for path in sorted(folder.glob("*.public"))]


def authorized_keys(folder: Path) -> list[Key]:
    """Who is let in, besides this host itself."""
    return [_read(path) for path in sorted((folder / AUTHORIZED).glob("*.public"))]


def _read(path: Path, *, secret: bool = False) -> Key:
    values = read_toml(path)
    version = values.pop("version", None)
    known = dict.fromkeys(("name", "public", *(("secret",) if secret else ())))
    try:
        check_names(values, known, "key")
    except UsageError as error:
        msg = f"{path}: {error}"
        raise UsageError(msg) from error
    halves = [values.get(name) for name in known if name != "name"]
    name = values.get("name")
    sound = type(name) is str and _NAME.fullmatch(name) and all(type(each) is str and _is_key(each) for each in halves)
    if version != _VERSION or not sound:
        msg = f"{path} is no {'secret' if secret else 'public'} key file of version {_VERSION}, with name and keys of 40 characters"
        raise UsageError(msg)
    return Key(**values)


def _is_key(text: str) -> bool:
    """Whether ``text`` is 32 bytes as Z85; five characters can say more than four bytes hold."""
    try:
        return bool(_Z85.fullmatch(text)) and len(z85.decode(text.encode())) == 32
    except struct.error:
        return False


def _write(path: Path, values: dict[str, Any], mode: int) -> None:
    try:
        # With its mode from the first moment on; never over another key, nor through a link.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, mode)
    except OSError as error:
        msg = f"cannot make {path}: {error.strerror}; remove it first if that key is to be replaced"
        raise OutputError(msg) from error
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(tomli_w.dumps(values))
