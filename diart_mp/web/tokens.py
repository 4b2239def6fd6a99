"""Who may use the gateway: tokens from the command line or a file, when they expire, and what each may use at a time.

A token file has one token per line, behind it ``streams=N`` and ``expires=2027-01-31T12:00:00Z`` where wanted; ``#`` begins a comment.
It is read again when it changes. Knows nothing of sockets. Runs in the gateway; the command checks the file with it.
"""

import datetime
import hashlib
import hmac
import logging
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

from diart_mp.errors import UsageError
from diart_mp.web.protocol import POLICY, TRY_LATER, ClientError, Code

SINGLE_USE_S = 60.0
"""For which a token of ``Tokens.issue`` is good."""
_MOST_SINGLE = 100  # of one token that may wait to be used
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a token allows; ``name`` tells tokens apart without giving them away."""

    name: str = ""
    streams: int | None = None
    expires: datetime.datetime | None = None


@dataclass(frozen=True, slots=True)
class _Known:
    digest: bytes
    grant: Grant


@dataclass(frozen=True, slots=True)
class _Single:
    parent: bytes  # digest of the token whose rights it has
    until: float  # monotonic s


class Tokens:
    """The tokens of ``file`` and ``token``; with neither, everybody is let in. UsageError for a file that is none."""

    def __init__(self, token: str = "", file: Path | None = None) -> None:
        self._file = file
        self._fixed = [_Known(_digest(token), Grant(_name(token)))] if token else []
        self._known = list(self._fixed)
        self._stamp: tuple[int, int] | None = None
        self._single: dict[bytes, _Single] = {}
        self._read()

    @property
    def needed(self) -> bool:
        """Whether a client has to show a token."""
        return bool(self._fixed) or self._file is not None

    def check(self, token: str) -> Grant:
        """What ``token`` allows now; ClientError (close code 1008) where that is nothing."""
        if self.needed and not token:
            msg = "a token is needed: send 'Authorization: Bearer TOKEN', or ?token=TOKEN in the address"
            raise _refuse(msg)
        return self._check(_digest(token))

    def admit(self, token: str) -> Grant:
        """What ``token`` allows a connection; one of ``issue`` is of no more use then."""
        single = self._single.pop(_digest(token), None)
        if single is None:
            return self.check(token)
        if single.until <= time.monotonic():
            msg = f"this token was to be used within {SINGLE_USE_S:g} s; ask for a new one"
            raise _refuse(msg)
        return self._check(single.parent)

    def issue(self, token: str) -> str:
        """A token that lets one connection in, within ``SINGLE_USE_S``, with what ``token`` allows; ClientError."""
        self.check(token)
        parent, now = _digest(token), time.monotonic()
        self._single = {digest: single for digest, single in self._single.items() if single.until > now}
        if sum(single.parent == parent for single in self._single.values()) >= _MOST_SINGLE:
            msg = f"{_MOST_SINGLE} tokens wait to be used already; use them, or ask again in {SINGLE_USE_S:g} s"
            raise ClientError(Code.QUOTA, msg, close=TRY_LATER, retryable=True)
        secret = secrets.token_urlsafe(24)
        self._single[_digest(secret)] = _Single(parent, now + SINGLE_USE_S)
        return secret

    def _check(self, digest: bytes) -> Grant:
        if not self.needed:
            return Grant()
        self._read()
        found = [known.grant for known in self._known if hmac.compare_digest(known.digest, digest)]
        if not found:
            msg = "this token is not known here; is it mistyped, used already, or of another server?"
            raise _refuse(msg)
        expires = found[0].expires
        if expires is not None and expires <= datetime.datetime.now(datetime.UTC):
            msg = f"this token expired at {expires.isoformat(timespec='seconds')}; ask for a new one"
            raise _refuse(msg)
        return found[0]

    def check_host(self, host: str, *, insecure: bool) -> None:
        """UsageError if everybody on the network would be let in, and nobody has said that this is wanted."""
        if not (self.needed or insecure or is_loopback(host)):
            msg = f"at {host} everybody on the network could use this server: give --token or --token-file, or say --insecure"
            msg += " (in a topology: token, token_file or insecure = true in [gateway])"
            raise UsageError(msg)

    def check_metrics(self, *, protect: bool) -> None:
        """UsageError if a token is to be asked for and there is none."""
        if protect and not self.needed:
            msg = "--protect-metrics asks for a token, and there is none: give --token or --token-file, too"
            raise UsageError(msg)

    def _read(self) -> None:
        if self._file is None:
            return
        try:
            status = self._file.stat()
            stamp = (status.st_mtime_ns, status.st_size)
            if stamp == self._stamp:
                return
            text = self._file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read the token file {self._file}: {getattr(error, 'strerror', None) or 'it is not UTF-8'}"
            if self._stamp is None:
                raise UsageError(msg) from error
            return  # it is being replaced: what was known holds on
        try:
            known = [
                _parse(line.split("#")[0].split(), number, self._file)
                for number, line in enumerate(text.split("\n"), 1)
            ]
        except UsageError as error:
            if self._stamp is None:
                raise
            _LOG.warning("%s; the tokens that were known before hold on", error)
        else:
            self._known = [*self._fixed, *(each for each in known if each is not None)]
        self._stamp = stamp


def _parse(words: list[str], number: int, file: Path) -> _Known | None:
    if not words:
        return None
    streams, expires = None, None
    for word in words[1:]:
        key, _, value = word.partition("=")
        try:
            if key == "streams":
                streams = int(value)
            elif key == "expires":
                expires = datetime.datetime.fromisoformat(value)
            else:
                raise ValueError(word)
        except ValueError as error:
            msg = f"{file}, line {number}: '{word}' is neither streams=N nor expires=2027-01-31T12:00:00Z"
            raise UsageError(msg) from error
    if expires is not None and expires.tzinfo is None:
        expires = expires.replace(tzinfo=datetime.UTC)
    return _Known(_digest(words[0]), Grant(_name(words[0]), streams, expires))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen at."""
    return host in ("localhost", "::1") or host.startswith("127.")


def _refuse(text: str) -> ClientError:
    return ClientError(Code.UNAUTHORIZED, text, close=POLICY)


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _name(token: str) -> str:
    return _digest(token).hex()[:12]
