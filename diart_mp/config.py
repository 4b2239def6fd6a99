"""Hyper-parameters of a stream: typed, validated, in samples.

Settings come from flags or a TOML file, travel with every chunk of their stream (so stages keep none) and
are validated again wherever they arrive from outside. Knows nothing of processes; every process uses it.
"""

import difflib
import functools
import math
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Self

from diart_mp.errors import UsageError

RATE = 16_000  # Hz, what the built-in models were trained on
STARTS = ("early", "exact")
CLUSTERINGS = ("exact", "adaptive")
EVERYBODY = ("*",)
"""``known_speakers``: all who are enrolled."""

# Bounds of the tunable numbers: (lowest, highest).
_BOUNDS: dict[str, tuple[float, float]] = {
    "tau_active": (0.0, 1.0),
    "rho_update": (0.0, 1.0),
    "delta_new": (0.0, 2.0),
    "gamma": (0.0, 100.0),
    "beta": (0.0, 1000.0),
}
_MAX_SPEAKERS = 1000
_MAX_KNOWN, _MAX_NAME = 100, 256  # names, characters of one: they travel with every chunk
_RATES = (4_000, 384_000)  # Hz
_MAX_DURATION_S = 300
_MAX_INT = 1 << 53  # beyond all that makes sense, and exact as a float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one stream is diarized; durations in samples at ``rate``.

    The names are diart's (blocks/diarization.py); the defaults are those of the built-in pair of models.
    ``start`` is "exact" (first window once ``duration`` has passed, as diart) or "early" (speaks from the
    first step on, the missing past is silence). ``clustering`` is "exact" (diart's) or "adaptive" (``blocks.adaptive``).
    ``known_speakers``: who of those enrolled may be called by his name; the others stay ``speakerN``.
    """

    rate: int = RATE
    duration: int = 5 * RATE
    step: int = RATE // 2
    latency: int = RATE // 2
    tau_active: float = 0.5
    rho_update: float = 0.3
    delta_new: float = 0.35
    gamma: float = 3.0
    beta: float = 10.0
    max_speakers: int = 20
    normalize_embedding_weights: bool = False
    start: str = "exact"
    clustering: str = "exact"
    known_speakers: tuple[str, ...] = EVERYBODY

    def __post_init__(self) -> None:
        _check_lengths(self)
        for name, (low, high) in _BOUNDS.items():
            value = getattr(self, name)
            if not math.isfinite(value) or not low <= value <= high:
                msg = f"{name} must be a number from {low:g} to {high:g}, not {value}"
                raise UsageError(msg)
        if not 1 <= self.max_speakers <= _MAX_SPEAKERS:
            msg = f"max_speakers must be from 1 to {_MAX_SPEAKERS}, not {self.max_speakers}"
            raise UsageError(msg)
        if self.clustering not in CLUSTERINGS:
            msg = f"clustering must be one of {', '.join(CLUSTERINGS)}, not '{self.clustering}'"
            raise UsageError(msg)
        if self.start not in STARTS:
            msg = f"start must be one of {', '.join(STARTS)}, not '{self.start}'"
            raise UsageError(msg)
        fine = all(len(name) <= _MAX_NAME and name.isprintable() for name in self.known_speakers)
        if len(self.known_speakers) > _MAX_KNOWN or not fine:
            msg = f"known_speakers must be at most {_MAX_KNOWN} names of at most {_MAX_NAME} printable characters"
            raise UsageError(msg)

    def may_name(self, name: str) -> bool:
        """Whether an enrolled speaker may be called by his name."""
        return self.known_speakers == EVERYBODY or name in self.known_speakers

    def to_map(self) -> dict[str, Any]:
        """The settings as a plain map, for the wire and for TOML; ``known_speakers`` only where it says something."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        if self.known_speakers == EVERYBODY:
            del values["known_speakers"]
        return values

    @staticmethod
    def from_map(values: Mapping[str, Any]) -> "Settings":
        """Settings from a map that came from outside; raises UsageError for unknown names, wrong types and ranges."""
        if not isinstance(values, Mapping):
            msg = f"settings must be a map, not {type(values).__name__}"
            raise UsageError(msg)
        items = tuple((name, tuple(value) if isinstance(value, list) else value) for name, value in values.items())
        try:
            # Every chunk of a stream brings the same map. The types belong to the key, since 1, 1.0 and True are equal.
            return _parsed(items, tuple(type(value) for _, value in items))
        except TypeError:  # a value that cannot be a key, such as a map: no setting is one
            return _parsed.__wrapped__(items, ())

    @classmethod
    def from_seconds(
        cls,
        *,
        duration: float = 5.0,
        step: float = 0.5,
        latency: float | str | None = None,
        rate: int = RATE,
        **others: Any,
    ) -> Self:
        """Settings with durations in seconds; latency None or "min" means step, "max" means duration."""
        named = {None: step, "min": step, "max": duration}
        seconds = {"duration": duration, "step": step, "latency": named.get(latency, latency)}  # type: ignore[arg-type]
        samples: dict[str, Any] = {name: _to_samples(name, value, rate) for name, value in seconds.items()}
        return cls(rate=rate, **samples, **others)

    def with_rate(self, rate: int) -> Self:
        """The same durations in seconds on another sample clock."""
        lengths = ("duration", "step", "latency")
        scaled: dict[str, Any] = {name: round(getattr(self, name) * rate / self.rate) for name in lengths}
        return replace(self, rate=rate, **scaled)


@functools.lru_cache(maxsize=256)
def _parsed(items: tuple[tuple[str, Any], ...], types: tuple[type, ...]) -> Settings:
    """Settings from a map's items; ``types``, those of the values, only tell apart what counts as equal."""
    del types
    known = {field.name: field.type for field in fields(Settings)}
    check_names(dict(items), known, "setting")
    return Settings(**{name: _typed(name, value, known[name]) for name, value in items})


def check_names(values: Mapping[str, Any], known: Mapping[str, Any], what: str) -> None:
    """Raise UsageError for the first name that is not known, with the nearest known one."""
    for name in values:
        if name not in known:
            near = difflib.get_close_matches(str(name), list(known), n=1)
            hint = f"; did you mean '{near[0]}'?" if near else f"; known: {', '.join(known)}"
            msg = f"unknown {what} {name!r:.80}{hint}"
            raise UsageError(msg)


def _to_samples(name: str, seconds: Any, rate: int) -> int:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not math.isfinite(seconds) or seconds <= 0:
        msg = f"{name} must be a positive number of seconds, not {seconds}"
        raise UsageError(msg)
    if seconds > _MAX_DURATION_S:
        msg = f"{name} is {seconds:g} s, more than the {_MAX_DURATION_S} s that a window may have"
        raise UsageError(msg)
    return round(seconds * rate)


def _typed(name: str, value: Any, kind: Any) -> Any:
    """``value`` as the field's type; an int is a fine float, a bool is no number."""
    number = isinstance(value, int) and not isinstance(value, bool)
    if number and abs(value) > _MAX_INT:
        msg = f"{name} is too large a number"
        raise UsageError(msg)
    if kind is float and number:
        return float(value)
    if kind == tuple[str, ...]:
        if not isinstance(value, tuple) or not all(isinstance(each, str) for each in value):
            msg = f"{name} must be a list of texts, not {reprlib.repr(value)}"
            raise UsageError(msg)
        return value
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        msg = f"{name} must be {kind.__name__}, not {reprlib.repr(value)}"
        raise UsageError(msg)
    return value


def _check_lengths(settings: Settings) -> None:
    low, high = _RATES
    if not low <= settings.rate <= high:
        msg = f"rate must be from {low} to {high} Hz, not {settings.rate}"
        raise UsageError(msg)
    duration, step, latency = (value / settings.rate for value in (settings.duration, settings.step, settings.latency))
    if not 0 < duration <= _MAX_DURATION_S:
        msg = f"duration must be above 0 and at most {_MAX_DURATION_S} s, not {duration:g} s"
        raise UsageError(msg)
    if settings.step < 1 or settings.step > settings.duration:
        msg = f"step must be above 0 and at most the duration of {duration:g} s, not {step:g} s"
        raise UsageError(msg)
    if not settings.step <= settings.latency <= settings.duration:
        msg = f"latency must be from the step ({step:g} s) to the duration ({duration:g} s), not {latency:g} s"
        raise UsageError(msg)
