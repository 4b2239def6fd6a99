"""The WebSocket protocol ``diart-mp.v1``: what a client may say, checked, and what ends a connection.

Control travels as JSON text, audio as binary frames. Times are seconds on the stream's audio clock, positions are frames of
the client's own audio. Knows nothing of sockets or streams. Used by the gateway and by the client. docs/serving.md has the whole of it.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from diart_mp.audio.resample import check_format
from diart_mp.config import Settings, check_names
from diart_mp.errors import AudioError, DiartMpError, UsageError
from diart_mp.headers import shown

SUBPROTOCOL = "diart-mp.v1"
ENCODINGS = {"pcm_s16le": ("s16le", 2), "pcm_f32le": ("f32le", 4)}
"""Encodings of audio: the name in ``audio.convert``, and bytes per sample."""

NORMAL, GOING_AWAY, PROTOCOL, UNSUPPORTED, POLICY, TOO_BIG, INTERNAL, TRY_LATER = (
    1000, 1001, 1002, 1003, 1008, 1009, 1011, 1013,
)  # fmt: skip
PACES = ("live", "fast")
_MAX_CHANNELS = 32
_MIN_STEP_S = 0.1  # a shorter one only costs: a client must not ask for thousands of windows per second
_MAX_WINDOW_S = 30.0
_SECONDS = ("duration", "step", "latency")
_TUNABLE = (
    "tau_active",
    "rho_update",
    "delta_new",
    "gamma",
    "beta",
    "max_speakers",
    "normalize_embedding_weights",
    "clustering",
    "start",
    "known_speakers",
)
_MAX_LABEL = 200  # characters


class Code(StrEnum):
    """Why a connection was ended, for programs."""

    BAD_AUDIO = "bad_audio"
    BAD_MESSAGE = "bad_message"
    BAD_ORDER = "bad_order"
    BAD_PROTOCOL = "bad_protocol"
    BAD_SETTINGS = "bad_settings"
    CLOSING = "closing"
    FAILED = "failed"
    FIXED = "fixed"
    FULL = "full"
    IDLE = "idle"
    INTERNAL = "internal"
    QUOTA = "quota"
    REPLACED = "replaced"
    SLOW_READER = "slow_reader"
    START_TIMEOUT = "start_timeout"
    TOO_FAST = "too_fast"
    TOO_MANY = "too_many"
    UNAUTHORIZED = "unauthorized"
    UNKNOWN_SESSION = "unknown_session"


class ClientError(DiartMpError):
    """Something a client did or asked for that ends its connection: ``code`` for programs, ``close`` the close code."""

    def __init__(self, code: Code, text: str, *, close: int = PROTOCOL, retryable: bool = False) -> None:
        super().__init__(text)
        self.code, self.close, self.retryable = code, close, retryable

    def to_message(self) -> dict[str, Any]:
        """The ``error`` message that goes before the close."""
        return {"type": "error", "code": str(self.code), "message": str(self), "retryable": self.retryable}


@dataclass(frozen=True, slots=True)
class Start:
    """The wish for a new stream: its audio as it will come, whether it comes at the pace of the clock, its settings."""

    settings: Settings
    encoding: str = "pcm_s16le"
    rate: int = 16_000
    channels: int = 1
    live: bool = True

    @classmethod
    def parse(cls, message: Mapping[str, Any], defaults: Settings) -> Self:
        """A checked ``start`` message; ClientError for anything else. What it does not set is ``defaults``'."""
        _check_keys(message, ("type", "protocol", "audio", "diarization", "pace"))
        if message.get("protocol", SUBPROTOCOL) != SUBPROTOCOL:
            msg = f"the protocol {shown(message.get('protocol'))} is not known here; this gateway speaks {SUBPROTOCOL}"
            raise ClientError(Code.BAD_PROTOCOL, msg)
        audio = _map(message, "audio")
        _check_keys(audio, ("encoding", "rate", "channels"))
        encoding = audio.get("encoding", "pcm_s16le")
        if not isinstance(encoding, str) or encoding not in ENCODINGS:
            msg = f"audio in encoding {shown(encoding)} cannot be read here; send {' or '.join(ENCODINGS)}"
            raise ClientError(Code.BAD_AUDIO, msg, close=UNSUPPORTED)
        rate, channels = _whole(audio, "rate", 16_000), _whole(audio, "channels", 1)
        try:
            check_format(rate, defaults.rate, min(channels, _MAX_CHANNELS + 1), None, "audio")
        except AudioError as error:
            raise ClientError(Code.BAD_AUDIO, str(error), close=UNSUPPORTED) from error
        if channels > _MAX_CHANNELS:
            msg = f"{channels} channels are more than the {_MAX_CHANNELS} that are taken; mix them down first"
            raise ClientError(Code.BAD_AUDIO, msg, close=UNSUPPORTED)
        pace = message.get("pace", "live")
        if pace not in PACES:
            msg = f"pace must be live or fast, not {shown(pace)}"
            raise ClientError(Code.BAD_MESSAGE, msg)
        return cls(client_settings(_map(message, "diarization"), defaults), encoding, rate, channels, pace == "live")

    def to_map(self) -> dict[str, Any]:
        """As plain values, for a file."""
        values = {"encoding": self.encoding, "rate": self.rate, "channels": self.channels, "live": self.live}
        return {"settings": self.settings.to_map(), **values}

    @classmethod
    def from_map(cls, values: Mapping[str, Any]) -> Self:
        """What ``to_map`` gave."""
        return cls(**{**values, "settings": Settings.from_map(values["settings"])})


@dataclass(frozen=True, slots=True)
class Resume:
    """The wish to go on with a stream: its token, and how many final segments the client has."""

    token: str
    finals: int = 0

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> Self:
        """A checked ``start`` message with a ``resume_token``."""
        _check_keys(message, ("type", "protocol", "resume_token", "finals"))
        token = message["resume_token"]
        if not isinstance(token, str) or len(token) > 200:
            msg = f"resume_token must be the text that 'started' gave, not {shown(token)}"
            raise ClientError(Code.BAD_MESSAGE, msg)
        return cls(token, _whole(message, "finals", 0, low=0))


@dataclass(frozen=True, slots=True)
class Change:
    """What a client may change while it streams; None stays as it is."""

    idle_s: float | None = None
    label: str | None = None

    @classmethod
    def parse(cls, message: Mapping[str, Any], most_idle_s: float) -> Self:
        """A checked ``update`` message; ClientError for one that is none, or asks for what a stream keeps to its end."""
        fixed = [name for name in message if name in ("audio", "diarization", "pace")]
        if fixed:
            msg = f"'{fixed[0]}' is fixed from a stream's start to its end; stop, and start another one for it"
            raise ClientError(Code.FIXED, msg, close=POLICY, retryable=True)
        _check_keys(message, ("type", "idle_s", "label"))
        idle_s, label = message.get("idle_s"), message.get("label")
        number = isinstance(idle_s, int | float) and not isinstance(idle_s, bool)
        if idle_s is not None and not (number and 0 < idle_s <= most_idle_s):
            msg = f"'idle_s' must be above 0 and at most {most_idle_s:g}, not {shown(idle_s)}"
            raise ClientError(Code.BAD_MESSAGE, msg)
        if label is not None and not (isinstance(label, str) and len(label) <= _MAX_LABEL and label.isprintable()):
            msg = f"'label' must be up to {_MAX_LABEL} printable characters, not {shown(label)}"
            raise ClientError(Code.BAD_MESSAGE, msg)
        return cls(idle_s, label)


def client_settings(values: Mapping[str, Any], defaults: Settings) -> Settings:
    """Settings of one client: durations in seconds, the other hyper-parameters by their names; ClientError."""
    _check_keys(values, (*_SECONDS, *_TUNABLE))
    rate = defaults.rate
    given: dict[str, Any] = {name: getattr(defaults, name) / rate for name in _SECONDS}
    given |= {name: getattr(defaults, name) for name in _TUNABLE}
    given |= values
    try:
        checked = Settings.from_map(Settings.from_seconds(rate=rate, **given).to_map())
    except (UsageError, TypeError, AttributeError) as error:
        msg = str(error) if isinstance(error, UsageError) else "a setting is of the wrong type"
        raise ClientError(Code.BAD_SETTINGS, msg) from error
    if checked.step < _MIN_STEP_S * rate or checked.duration > _MAX_WINDOW_S * rate:
        msg = f"step must be at least {_MIN_STEP_S} s and duration at most {_MAX_WINDOW_S:g} s here"
        raise ClientError(Code.BAD_SETTINGS, msg)
    return checked


def parse_message(text: str) -> dict[str, Any]:
    """A control message: a JSON object with a ``type``; ClientError for anything else."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError) as error:
        msg = f"a text message must be a JSON object, not {shown(text)}"
        raise ClientError(Code.BAD_MESSAGE, msg) from error
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        msg = f"a message must be a JSON object with a 'type', not {shown(message)}"
        raise ClientError(Code.BAD_MESSAGE, msg)
    return message


def _check_keys(values: Mapping[str, Any], known: tuple[str, ...]) -> None:
    try:
        check_names(values, dict.fromkeys(known), "key")
    except UsageError as error:
        raise ClientError(Code.BAD_MESSAGE, str(error)) from error


def _map(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = values.get(name, {})
    if not isinstance(value, dict):
        msg = f"'{name}' must be an object, not {shown(value)}"
        raise ClientError(Code.BAD_MESSAGE, msg)
    return value


def _whole(values: Mapping[str, Any], name: str, default: int, low: int = 1) -> int:
    value = values.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value < 1 << 53:
        msg = f"'{name}' must be a whole number from {low}, not {shown(value)}"
        raise ClientError(Code.BAD_MESSAGE, msg)
    return value
