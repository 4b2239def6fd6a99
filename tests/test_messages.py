"""The wire: what goes out comes back, and bytes from outside are data or a ProtocolError."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as st_numpy

from diart_mp import messages
from diart_mp.errors import ProtocolError
from diart_mp.messages import AudioRef, FieldValue, Message, Plain, decode, encode

WIRE = Path(__file__).parent / "data" / "wire"
HEADER: dict[str, Any] = {  # what the protocol says, written by hand
    "v": 1,
    "kind": "chunk",
    "stream": "8f3c-0",
    "seq": 41,
    "start": 328_000,
    "origin": -72_000,
    "rate": 16_000,
    "reply_to": "ipc:///run/owner",
    "attempt": 1_000_002,
    "from": ["segmentation", 3],
    "fields": {
        "audio": {"shm": ["diart-mp-8f3c-0-1", 1, 408_000, 80_000]},
        "segmentation": {"frame": 1, "dtype": "<f4", "shape": [2, 3]},
        "mark": {"frame": 2, "dtype": "|u1", "shape": [0]},
        "settings": {"value": {"step": 8000, "start": "early"}},
    },
    "trace": [["capture", 0, 17, 18]],
}
FRAMES = [msgpack.packb(HEADER), np.arange(6, dtype="<f4").tobytes(), b""]

names = st.text(min_size=1, max_size=20)
numbers = st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.booleans() | st.none() | st.text(max_size=20)
values = st.recursive(
    numbers | st.binary(max_size=20) | st.builds(msgpack.ExtType, st.integers(0, 127), st.binary(max_size=4)),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
shapes = st_numpy.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)
arrays = st.sampled_from(messages.DTYPES).flatmap(lambda dtype: st_numpy.arrays(dtype, shapes))
positions = st.integers(0, 1 << 61)
references = st.builds(AudioRef, st.text(max_size=30), positions, positions, st.integers(0, 80_000))
data_messages = st.builds(
    Message,
    kind=st.sampled_from(messages.DATA_KINDS),
    stream=names,
    seq=positions,
    start=st.integers(-80_000, 1 << 61),
    origin=st.integers(-80_000, 0),
    rate=st.integers(1, 384_000),
    reply_to=st.text(max_size=30),
    attempt=positions,
    sender=st.tuples(st.text(max_size=20), positions),
    fields=st.dictionaries(names, arrays | references | st.builds(Plain, values), max_size=5),
    trace=st.lists(st.lists(numbers, max_size=4).map(tuple), max_size=4).map(tuple),
)


def comparable(value: FieldValue) -> Any:
    """A field as something that can be compared, NaN included."""
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    return msgpack.packb(value.value) if isinstance(value, Plain) else value


def on_the_wire(message: Message) -> list[bytes]:
    return [bytes(frame) for frame in encode(message)]


@settings(max_examples=150, suppress_health_check=[HealthCheck.too_slow])
@given(data_messages)
def test_what_is_encoded_is_decoded(message: Message) -> None:
    decoded = decode(on_the_wire(message))
    assert list(decoded.fields) == list(message.fields)
    for name, value in message.fields.items():
        assert comparable(decoded.fields[name]) == comparable(value)
    plain = [replace(each, fields={}, trace=()) for each in (message, decoded)]
    assert plain[0] == plain[1]
    assert msgpack.packb(decoded.trace) == msgpack.packb(message.trace)
    assert on_the_wire(decoded) == on_the_wire(message)


def test_golden_bytes() -> None:
    """The bytes of a message as they were when the protocol was fixed; a difference breaks every foreign stage."""
    golden = (WIRE / "chunk.header").read_bytes()
    assert golden == FRAMES[0]
    message = decode([golden, *FRAMES[1:]])
    assert message.stream == "8f3c-0"
    assert (message.seq, message.start, message.origin, message.rate) == (41, 328_000, -72_000, 16_000)
    assert (message.reply_to, message.attempt, message.sender) == ("ipc:///run/owner", 1_000_002, ("segmentation", 3))
    assert message.fields["audio"] == AudioRef("diart-mp-8f3c-0-1", 1, 408_000, 80_000)
    assert message.array("segmentation").tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]
    assert message.array("mark").shape == (0,)
    assert message.plain("settings") == {"step": 8000, "start": "early"}
    assert message.trace == (("capture", 0, 17, 18),)
    assert on_the_wire(message) == [golden, *FRAMES[1:]]


def test_only_kind_stream_and_seq_are_needed() -> None:
    message = decode([msgpack.packb({"v": 1, "kind": "end", "stream": "s", "seq": 0, "later": [1]})])
    assert message == Message(kind="end", stream="s", seq=0)


def test_arrays_are_read_only_views_of_their_frames() -> None:
    frame = zmq.Frame(FRAMES[1])
    array = decode([zmq.Frame(FRAMES[0]), frame, zmq.Frame(b"")]).array("segmentation")
    assert np.shares_memory(array, np.frombuffer(frame.buffer, np.uint8))
    assert not array.flags.writeable
    with pytest.raises(ValueError, match="read-only"):
        array[0, 0] = 1


def test_encoding_copies_only_what_is_not_as_the_wire_wants_it() -> None:
    array = np.arange(6, dtype="<f4").reshape(2, 3)
    message = Message(
        kind="chunk", stream="s", seq=0, fields={"as": array, "turned": array.T, "big": array.astype(">f4")}
    )
    _, straight, turned, big = encode(message)
    assert np.shares_memory(np.frombuffer(straight, np.uint8), array)
    decoded = decode(on_the_wire(message))
    assert bytes(turned) == np.array([0, 3, 1, 4, 2, 5], "<f4").tobytes()
    assert decoded.array("turned").shape == (3, 2)
    assert bytes(big) == array.tobytes()


@pytest.mark.parametrize("dtype", [np.complex64, np.uint32, object, "U3", "M8[s]"])
def test_arrays_that_the_wire_does_not_carry(dtype: Any) -> None:
    with pytest.raises(ProtocolError, match="field 'x' has dtype"):
        encode(Message(kind="chunk", stream="s", seq=0, fields={"x": np.zeros(2, dtype)}))


def test_fields_are_added_and_asked_for() -> None:
    message = decode(FRAMES).with_fields({"turns": Plain([]), "mark": Plain(3)})
    assert message.plain("mark") == 3
    assert list(message.fields) == ["audio", "segmentation", "mark", "settings", "turns"]
    with pytest.raises(ProtocolError, match="chunk 41 of stream 8f3c-0 has no array 'mark'"):
        message.array("mark")
    with pytest.raises(ProtocolError, match=r"has no value 'audio' \(fields: audio, segmentation"):
        message.plain("audio")
    with pytest.raises(ProtocolError, match="fields: none"):
        Message(kind="chunk", stream="s", seq=0).plain("audio")


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


ARRAY = HEADER["fields"]["segmentation"]
BAD_HEADERS: list[tuple[dict[str, Any], str]] = [
    ({"v": 2}, "protocol version 2; this side speaks version 1"),
    ({"v": True}, "protocol version True"),
    ({"v": 1.0}, "protocol version 1.0"),
    ({"v": None}, "protocol version None"),
    ({"kind": "ping"}, "unknown kind of message 'ping'"),
    ({"kind": "two\nlines"}, "unknown kind"),
    ({"kind": 3}, "'kind' must be text"),
    ({"stream": ""}, "without a stream id"),
    ({"stream": "x" * 257}, "'stream' must be text of at most 256"),
    ({"stream": b"x"}, "'stream' must be text"),
    ({"seq": -1}, "'seq' must be an integer from 0"),
    ({"seq": True}, "'seq' must be an integer"),
    ({"seq": 1.0}, "'seq' must be an integer"),
    ({"seq": math.nan}, "'seq' must be an integer"),
    ({"seq": (1 << 64) - 1}, "'seq' must be an integer"),
    ({"seq": nested(1000)}, "'seq' must be an integer"),
    ({"seq": {"\n" * 9: 1}}, "'seq' must be an integer"),
    ({"start": -(1 << 62)}, "'start'"),
    ({"origin": 1}, "'origin'"),
    ({"rate": 0}, "'rate'"),
    ({"rate": 384_001}, "'rate'"),
    ({"reply_to": 3}, "'reply_to'"),
    ({"attempt": False}, "'attempt'"),
    ({"from": ["a"]}, "'from' must be"),
    ({"from": ["a", True]}, "'from' must be"),
    ({"from": ["a", -1]}, "'from' must be"),
    ({"from": ["x" * 65, 1]}, "'from' must be"),
    ({"from": nested(1000)}, "'from' must be"),
    ({"trace": 3}, "'trace' must be"),
    ({"trace": [3]}, "'trace' must be"),
    ({"trace": [[]] * 257}, "'trace' must be"),
    ({"fields": []}, "must be a map"),
    ({"fields": {str(number): {"value": 0} for number in range(65)}}, "at most 64"),
    ({"fields": {"": {"value": 0}}}, "a field name"),
    ({"fields": {b"x": {"value": 0}}}, "a field name"),
    ({"fields": {"x" * 65: {"value": 0}}}, "a field name"),
    ({"fields": {"x": 3}}, "field 'x' is neither"),
    ({"fields": {"x": nested(1000)}}, "field 'x' is neither"),
    ({"fields": {"x": {"shm": ["r", True, 0, 0]}}}, "is neither"),
    ({"fields": {"x": {"shm": ["r", 0, -1, 0]}}}, "is neither"),
    ({"fields": {"x": {"shm": ["r", 0, 0, 1 << 40]}}}, "is neither"),
    ({"fields": {"x": {"shm": ["r" * 257, 0, 0, 0]}}}, "is neither"),
    ({"fields": {"x": {"shm": ["r", 0, (1 << 64) - 1, 0]}}}, "is neither"),
    ({"fields": {"x": {**ARRAY, "frame": 0}}}, "is in frame 0 of a message of 3"),
    ({"fields": {"x": {**ARRAY, "frame": 3}}}, "is in frame 3"),
    ({"fields": {"x": {**ARRAY, "frame": True}}}, "is neither"),
    ({"fields": {"x": {**ARRAY, "frame": -1}}}, "is neither"),
    ({"fields": {"x": {**ARRAY, "dtype": "|O"}}}, "has dtype"),
    ({"fields": {"x": {**ARRAY, "dtype": ">f4"}}}, "has dtype"),
    ({"fields": {"x": {**ARRAY, "dtype": "<f8"}}}, "needs 48 bytes, its frame has 24"),
    ({"fields": {"x": {**ARRAY, "shape": [7]}}}, "needs 28 bytes"),
    ({"fields": {"x": {**ARRAY, "shape": [-6, -1]}}}, "has shape"),
    ({"fields": {"x": {**ARRAY, "shape": [True, 6]}}}, "has shape"),
    ({"fields": {"x": {**ARRAY, "shape": [1 << 62, 6]}}}, "has shape"),
    ({"fields": {"x": {**ARRAY, "shape": [1 << 32] * 8}}}, "needs"),
    ({"fields": {"x": {**ARRAY, "shape": [1] * 9}}}, "has shape"),
    ({"fields": {"x": {**ARRAY, "shape": nested(1000)}}}, "has shape"),
    ({"fields": {"x": {**ARRAY, "frame": 2, "shape": [0, *[1 << 32] * 7]}}}, "no array can have"),
    ({"fields": {"x": {**ARRAY, "dtype": "|b1", "shape": [24]}}}, "truth values"),
]


@pytest.mark.parametrize(("change", "said"), BAD_HEADERS)
def test_bad_headers_are_refused_in_one_line(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode([msgpack.packb({**HEADER, **change}), *FRAMES[1:]])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    ("frames", "said"),
    [
        ([], "0 frames"),
        ([FRAMES[0]] * 65, "65 frames"),
        ([b""], "not msgpack"),
        ([b"\x81"], "not msgpack"),
        ([FRAMES[0] + b"\x00"], "not msgpack"),
        ([msgpack.packb([1])], "a header that is a list"),
        ([b"\x81\xc0\x01"], "not msgpack"),  # nil, a number and NaN as keys
        ([b"\x81\x07\x01"], "not msgpack"),
        ([b"\x81\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01"], "not msgpack"),
        ([b"\x81\xc4\x01v\x01"], "not a map with text keys"),
        ([b"\x81\xa1\xff\x01"], "not msgpack"),  # no UTF-8
        ([b"\x91" * 100_000 + b"\x00"], "not msgpack"),
        ([b"\xdd\xff\xff\xff\xff"], "not msgpack"),  # a list of 4 billion
        ([b"\xc7\x00\xff"], "not msgpack"),  # a time stamp of no bytes
        ([b"\x00" * ((1 << 20) + 1)], "the limit is 1048576"),
    ],
)
def test_headers_that_are_no_map(frames: list[bytes], said: str) -> None:
    with pytest.raises(ProtocolError, match=said):
        decode(frames)


def decode_or_refuse(frames: list[bytes]) -> None:
    """Anything but a message or a ProtocolError fails the test; what is a message can be passed on."""
    try:
        message = decode(frames)
    except ProtocolError:
        return
    assert on_the_wire(decode(on_the_wire(message))) == on_the_wire(message)


@settings(max_examples=200)
@given(st.lists(st.binary(max_size=200), max_size=4), st.booleans())
def test_random_bytes(frames: list[bytes], headed: bool) -> None:
    decode_or_refuse([FRAMES[0], *frames] if headed else frames)


@settings(max_examples=300)
@given(st.integers(0, len(FRAMES[0]) - 1), st.binary(max_size=6), st.integers(0, 6))
@example(0, b"\xc1", 1)
def test_mutated_messages(position: int, inserted: bytes, removed: int) -> None:
    header = FRAMES[0][:position] + inserted + FRAMES[0][position + removed :]
    decode_or_refuse([header, *FRAMES[1:]])


@settings(max_examples=200)
@given(st.sampled_from(list(HEADER)), values)
def test_mutated_values(name: str, value: Any) -> None:
    decode_or_refuse([msgpack.packb({**HEADER, name: value}), *FRAMES[1:]])


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(["shm", "value", "frame", "dtype", "shape", "x"]), values))
def test_mutated_fields(spec: dict[str, Any]) -> None:
    decode_or_refuse([msgpack.packb({**HEADER, "fields": {"x": spec}}), *FRAMES[1:]])
