"""Settings: what is refused, and how seconds become samples."""

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.config import Settings, check_names
from diart_mp.errors import UsageError

DIART = {  # defaults of diart's SpeakerDiarizationConfig, but delta_new, which suits the built-in models
    "rate": 16_000,
    "duration": 80_000,
    "step": 8_000,
    "latency": 8_000,
    "rho_update": 0.3,
    "gamma": 3.0,
    "beta": 10.0,
    "max_speakers": 20,
    "normalize_embedding_weights": False,
    "clustering": "exact",
}


def test_defaults_are_those_of_diart() -> None:
    values = Settings().to_map()
    assert {name: values[name] for name in DIART} == DIART
    assert Settings.from_map({}) == Settings()


def test_map_round_trip_keeps_everything() -> None:
    settings = Settings(rate=8000, duration=8000, step=801, latency=1602, tau_active=0.6, max_speakers=2, start="early")
    assert Settings.from_map(settings.to_map()) == settings
    assert Settings.from_map(replace(settings, known_speakers=("Ann",)).to_map()).known_speakers == ("Ann",)
    assert "known_speakers" not in settings.to_map()  # every chunk would carry it
    assert Settings.from_map({"delta_new": 1}).delta_new == 1.0
    assert type(Settings.from_map({"delta_new": 1}).delta_new) is float


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate": 3999}, "rate must be from 4000"),
        ({"rate": 384_001}, "rate must be"),
        ({"rate": 16_000.0}, "rate must be int"),
        ({"rate": True}, "rate must be int"),
        ({"rate": 1 << 64}, "rate is too large"),
        ({"duration": 10**400}, "duration is too large"),
        ({"delta_new": 10**400}, "delta_new is too large"),
        ({"duration": 0}, "duration must be above 0"),
        ({"duration": 300 * 16_000 + 1, "latency": 300 * 16_000}, "at most 300 s"),
        ({"step": 0}, "step must be above 0"),
        ({"step": 80_001, "latency": 80_001}, "at most the duration of 5 s"),
        ({"latency": 7_999}, "latency must be from the step"),
        ({"latency": 80_001}, "to the duration"),
        ({"tau_active": math.nan}, "tau_active must be a number from 0 to 1"),
        ({"rho_update": -0.01}, "rho_update must be"),
        ({"delta_new": 2.1}, "delta_new must be a number from 0 to 2"),
        ({"gamma": math.inf}, "gamma must be"),
        ({"tau_active": "0.5"}, "tau_active must be float"),
        ({"tau_active": True}, "tau_active must be float"),
        ({"max_speakers": 0}, "max_speakers must be from 1 to 1000"),
        ({"max_speakers": 1001}, "max_speakers must be"),
        ({"normalize_embedding_weights": 1}, "normalize_embedding_weights must be bool"),
        ({"start": "late"}, "start must be one of early, exact"),
        ({"start": None}, "start must be str"),
        ({"known_speakers": "Ann"}, "known_speakers must be a list of texts"),
        ({"known_speakers": ["Ann", 3]}, "known_speakers must be a list of texts"),
        ({"known_speakers": ["Ann"] * 101}, "at most 100 names"),
        ({"known_speakers": ["A" * 257]}, "at most 100 names"),
        ({"known_speakers": ["A\ud800"]}, "printable"),  # cannot travel
        ({"tau_activ": 0.5}, "unknown setting 'tau_activ'; did you mean 'tau_active'"),
        ({"two\nlines": 0.5}, "unknown setting"),
        ({"zzz": 0.5}, "known: rate"),
        ([1, 2], "settings must be a map"),
        (3, "settings must be a map"),
    ],
)
def test_settings_from_outside_are_refused_in_one_line(values: Any, said: str) -> None:
    with pytest.raises(UsageError, match=said) as caught:
        Settings.from_map(values)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (80_000, 8_000, 8_000)),
        ({"latency": "max"}, (80_000, 8_000, 80_000)),
        ({"latency": "min", "step": 0.3}, (80_000, 4_800, 4_800)),
        ({"duration": 2, "step": 1, "latency": 1.5}, (32_000, 16_000, 24_000)),
        ({"duration": 5.00003, "rate": 16_000}, (80_000, 8_000, 8_000)),
        ({"duration": 1.0, "step": 0.1, "rate": 44_100}, (44_100, 4_410, 4_410)),
    ],
)
def test_seconds_become_samples(options: dict[str, Any], expected: tuple[int, int, int]) -> None:
    settings = Settings.from_seconds(**options)
    assert (settings.duration, settings.step, settings.latency) == expected


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"duration": -1.0}, "duration must be a positive number"),
        ({"duration": True}, "duration must be a positive number"),
        ({"step": math.nan}, "step must be a positive number"),
        ({"latency": "soon"}, "latency must be a positive number of seconds, not soon"),
        ({"duration": 301}, "more than the 300 s"),
        ({"step": 1e-9}, "step must be above 0"),
        ({"rate": 0}, "rate must be"),
    ],
)
def test_seconds_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Settings.from_seconds(**options)


@given(st.integers(1, 80_000), st.integers(0, 80_000), st.integers(8_000, 96_000))
def test_another_clock_keeps_the_order_of_lengths(step: int, more: int, rate: int) -> None:
    settings = Settings(step=step, latency=min(step + more, 80_000))
    if step * rate <= 8_000:
        with pytest.raises(UsageError, match="step must be above 0"):
            settings.with_rate(rate)
        return
    other = settings.with_rate(rate)
    assert other.rate == rate
    assert abs(other.duration / rate - 5.0) <= 0.5 / rate
    assert abs(other.step * 16_000 - step * rate) <= 8_000
    assert other.step <= other.latency <= other.duration


def test_nearest_name_is_shown() -> None:
    with pytest.raises(UsageError, match=r"unknown stage 'segmentaton'; did you mean 'segmentation'\?"):
        check_names({"segmentaton": None}, {"segmentation": None, "clustering": None}, "stage")
