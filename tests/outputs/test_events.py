"""Updates to JSON objects and back."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from diart_mp.errors import ProtocolError
from diart_mp.outputs.events import update_from_dict, update_to_dict, update_to_line
from diart_mp.turns import Revision, Turn, Update

UPDATE = Update("talk", 41, 328_000, 336_000, 16_000, (Turn(328_000, 331_841, "speaker0"),), 84.23456)
OBJECT = {
    "stream": "talk",
    "seq": 41,
    "start": 20.5,
    "end": 21.0,
    "latency_ms": 84.235,
    "turns": [{"speaker": "speaker0", "start": 20.5, "end": 20.740063}],
}


def test_object_has_seconds() -> None:
    assert update_to_dict(UPDATE) == OBJECT
    assert list(update_to_dict(UPDATE)) == list(OBJECT)
    assert update_to_dict(UPDATE, latency=False) == {**OBJECT, "latency_ms": None}


def test_object_of_a_revision() -> None:
    revision = Revision(160_000, 336_000, (Turn(328_000, 336_000, "speaker1"),), (("speaker2", "speaker0"),))
    assert update_to_dict(replace(UPDATE, revision=revision)) == {
        **OBJECT,
        "revision": {
            "start": 10.0,
            "end": 21.0,
            "renamed": {"speaker2": "speaker0"},
            "turns": [{"speaker": "speaker1", "start": 20.5, "end": 21.0}],
        },
    }


def test_line_is_one_line_of_readable_json() -> None:
    line = update_to_line(Update("réunion\n1", 0, 0, 1, 8000, ()))
    assert line.endswith("}\n")
    assert line.count("\n") == 1
    assert "réunion" in line
    assert json.loads(line)["stream"] == "réunion\n1"


positions = st.integers(-(10**7), 10**11)


@given(
    st.builds(
        Update,
        stream=st.text(),
        seq=st.integers(0, 2**53),
        start=positions,
        end=positions,
        rate=st.sampled_from([8000, 11025, 16000, 44100, 48000, 192_000]),
        turns=st.lists(st.builds(Turn, positions, positions, st.text())).map(tuple),
        latency_ms=st.none() | st.integers(0, 10**6).map(lambda value: value / 1000),
        revision=st.none()
        | st.builds(
            Revision,
            start=positions,
            end=positions,
            turns=st.lists(st.builds(Turn, positions, positions, st.text())).map(tuple),
            renamed=st.dictionaries(st.text(), st.text()).map(lambda names: tuple(names.items())),
        ),
    )
)
def test_sample_positions_survive_the_way_through_json(update: Update) -> None:
    assert update_from_dict(json.loads(update_to_line(update)), rate=update.rate) == update


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"stream": 3}, "'stream'"),
        ({"seq": "41"}, "'seq'"),
        ({"seq": True}, "'seq'"),
        ({"start": None}, "'start'"),
        ({"end": float("nan")}, "'end'"),
        ({"end": 10**400}, "'end'"),
        ({"latency_ms": "fast"}, "'latency_ms'"),
        ({"turns": {}}, "'turns'"),
        ({"turns": [[20.5, 21.0]]}, "turn"),
        ({"turns": [{"start": 1.0, "end": 2.0}]}, "'speaker'"),
        ({"revision": []}, "list"),
        ({"revision": {"start": 0, "end": 1, "turns": []}}, "'renamed'"),
        ({"revision": {"start": 0, "end": 1, "turns": [3], "renamed": {}}}, "turn"),
        ({"revision": {"start": 0, "end": 1, "turns": [], "renamed": {"a": 3}}}, "'a'"),
        ({"revision": {"end": 1, "turns": [], "renamed": {}}}, "'start'"),
    ],
)
def test_objects_of_another_form_are_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError, match=said) as caught:
        update_from_dict({**OBJECT, **change}, rate=16_000)
    assert len(str(caught.value)) < 150


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(ProtocolError, match="list"):
        update_from_dict([1, 2], rate=16_000)


def test_unknown_fields_are_ignored() -> None:
    assert update_from_dict({**OBJECT, "room": "B12"}, rate=16_000).turns == UPDATE.turns
