"""Bundles: what goes in comes out, in order, and one bad message costs nobody but itself."""

from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
import zmq
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from diart_mp.bundles import MOST, decode_all, encode_all
from diart_mp.errors import ProtocolError
from diart_mp.messages import FieldValue, Message, Plain

from .test_messages import data_messages, on_the_wire

SENDER = ("here", 7)
SAMPLES = np.arange(80_000, dtype=np.float32)


def chunk(seq: int, **fields: FieldValue) -> Message:
    return Message(kind="chunk", stream="s", seq=seq, fields={"score": np.full(3, seq, np.float32), **fields})


def carried(messages: list[Message]) -> list[tuple[int, list[bytes]]]:
    return [(count, [bytes(frame) for frame in frames]) for count, frames in encode_all(messages, SENDER)]


def received(frames: list[Any]) -> list[int | str]:
    """What came of a multipart: the number of each good message, and what is wrong with each bad one."""
    return [str(each) if isinstance(each, ProtocolError) else each.seq for each in decode_all(frames)]


@settings(max_examples=100, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(data_messages, max_size=5))
def test_what_is_bundled_comes_out(messages: list[Message]) -> None:
    came = [each for _, frames in carried(messages) for each in decode_all(frames)]
    good = [each for each in came if isinstance(each, Message)]
    assert len(good) == len(came)
    assert [on_the_wire(each) for each in good] == [on_the_wire(replace(each, sender=SENDER)) for each in messages]


def test_chunks_that_are_there_together_share_a_multipart() -> None:
    (alone,) = carried([chunk(0)])
    assert alone == (1, on_the_wire(replace(chunk(0), sender=SENDER)))  # as ever: no bundle of one
    (together,) = carried([chunk(seq) for seq in range(5)])
    assert (together[0], len(together[1])) == (5, 2)
    assert [count for count, _ in carried([chunk(seq) for seq in range(MOST + 3)])] == [MOST, 3]
    assert carried([]) == []


def test_samples_travel_alone_in_frames_of_their_own() -> None:
    sent = carried([chunk(0), chunk(1), chunk(2, audio=SAMPLES), chunk(3), chunk(4)])
    assert [count for count, _ in sent] == [2, 1, 2]
    assert [seq for _, frames in sent for seq in received(frames)] == [0, 1, 2, 3, 4]


def test_headers_of_any_size_come_through() -> None:
    large = [chunk(seq, text=Plain("x" * 200_000)) for seq in range(20)]
    sent = carried(large)
    assert [seq for _, frames in sent for seq in received(frames)] == list(range(20))
    assert all(len(frames[0]) < 1 << 20 for _, frames in sent)


def test_arrays_are_read_only_and_aligned_views_of_the_frame() -> None:
    odd = [chunk(seq, odd=np.arange(3, dtype=np.uint8)) for seq in range(3)]
    ((_, [header, arrays]),) = carried(odd)
    frame = zmq.Frame(arrays)
    for message in decode_all([zmq.Frame(header), frame]):
        assert isinstance(message, Message)
        score = message.array("score")
        assert np.shares_memory(score, np.frombuffer(frame.buffer, np.uint8))
        assert score.tolist() == [message.seq] * 3
        assert not score.flags.writeable
        assert score.__array_interface__["data"][0] % 4 == 0


def test_a_bad_message_costs_nobody_but_itself() -> None:
    ((_, [header, arrays]),) = carried([chunk(seq) for seq in range(4)])
    bundle = msgpack.unpackb(header)
    bundle["messages"][1] = b"\xc1"
    bundle["messages"][2] = msgpack.packb({**msgpack.unpackb(bundle["messages"][2]), "seq": -1})
    first, *bad, last = received([msgpack.packb(bundle), arrays])
    assert (first, last) == (0, 3)
    assert "not msgpack" in str(bad[0])
    assert "'seq' must be an integer" in str(bad[1])


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"offset": -8}, "needs 12 bytes, its frame has 32 from byte -8 on"),
        ({"offset": 24}, "needs 12 bytes, its frame has 32 from byte 24 on"),
        ({"offset": 33, "shape": [0]}, "from byte 33"),
        ({"offset": True}, "from byte True"),
        ({"offset": 1 << 63}, "from byte 9223372036854775808"),
        ({"offset": None}, "from byte None"),
        ({"offset": 0, "frame": 2}, "in frame 2 of a message of 2"),
    ],
)
def test_arrays_outside_of_their_frame(change: dict[str, Any], said: str) -> None:
    ((_, [header, arrays]),) = carried([chunk(0), chunk(1)])
    bundle = msgpack.unpackb(header)
    message = msgpack.unpackb(bundle["messages"][1])
    message["fields"]["score"] |= change
    bundle["messages"][1] = msgpack.packb(message)
    good, bad = received([msgpack.packb(bundle), arrays])
    assert good == 0
    assert said in str(bad)


@pytest.mark.parametrize("messages", [None, 3, {}, [3], ["x"], [b""] * (MOST + 1)])
def test_what_is_no_bundle(messages: Any) -> None:
    (bad,) = received([msgpack.packb({"v": 1, "kind": "bundle", "messages": messages})])
    assert "'messages' of a bundle must be a list" in str(bad)


def test_a_bundle_in_a_bundle_is_refused() -> None:
    inner = msgpack.packb({"v": 1, "kind": "bundle", "messages": []})
    (bad,) = received([msgpack.packb({"v": 1, "kind": "bundle", "messages": [inner]})])
    assert "unknown kind of message 'bundle'" in str(bad)


@settings(max_examples=200)
@given(st.integers(0, 400), st.binary(max_size=6), st.integers(0, 6), st.integers(0, 40))
@example(0, b"\xc1", 1, 0)
def test_mutated_bundles(position: int, inserted: bytes, removed: int, missing: int) -> None:
    ((_, [header, arrays]),) = carried([chunk(seq, mark=Plain([seq])) for seq in range(3)])
    changed = header[:position] + inserted + header[position + removed :]
    for each in decode_all([changed, arrays[: len(arrays) - missing]]):
        if isinstance(each, Message):
            on_the_wire(each)  # can be passed on


def test_what_chunks_of_a_stream_share_is_said_once_and_read_once() -> None:
    common: dict[str, FieldValue] = {
        "settings": Plain({"rate": 16_000, "names": ["x" * 100] * 5}),
        "bundles": Plain(value=True),
    }
    others = [replace(chunk(seq, **common), stream=stream) for seq in range(3) for stream in ("t", "u")]
    first, second = carried(others), carried(others)
    ((_, [header, _]),) = first
    assert header.count(b"x" * 500) == 0  # none of the names twice in a row, and
    assert header.count(b"x" * 100) == 2 * 5  # each as often as there are streams
    came = [each for _, frames in (*first, *second) for each in decode_all(frames)]
    assert [each.seq for each in came if isinstance(each, Message)] == [0, 0, 1, 1, 2, 2] * 2
    assert len({id(each.fields["settings"]) for each in came if isinstance(each, Message)}) == 2


def test_chunks_of_other_settings_do_not_share_them() -> None:
    sent = [chunk(seq, settings=Plain({"max_speakers": value})) for seq, value in enumerate((1, True, 1.0))]
    ((_, frames),) = carried(sent)
    came = [each.plain("settings")["max_speakers"] for each in decode_all(frames) if isinstance(each, Message)]
    assert [type(each) for each in came] == [int, bool, float]


@pytest.mark.parametrize(
    ("common", "said"),
    [
        ([], "leaves the rest to common header 0 of 0"),
        ([b"\xc1"], "not msgpack"),
        ([msgpack.packb({"v": 2})], "version 2"),
        ([msgpack.packb({"kind": "chunk"})], "version"),
        ([msgpack.packb({"v": 1, "kind": "chunk"})], "'stream' must be text"),
        (
            [msgpack.packb({"v": 1, "kind": "chunk", "stream": "s", "fields": 3})],
            "fields of a common header must be a map",
        ),
        (
            [
                msgpack.packb(
                    {
                        "v": 1,
                        "kind": "chunk",
                        "stream": "s",
                        "fields": {"a": {"frame": 1, "dtype": "<f4", "shape": [1]}},
                    }
                )
            ],
            "is in frame 1 of a message of 0",
        ),
        (3, "'common' of a bundle must be a list"),
        ([3], "'common' of a bundle must be a list"),
    ],
)
def test_bad_common_headers(common: Any, said: str) -> None:
    messages = [msgpack.packb({"of": 0, "seq": 5})]
    (bad,) = received([msgpack.packb({"v": 1, "kind": "bundle", "messages": messages, "common": common}), b""])
    assert said in str(bad)


@pytest.mark.parametrize("place", [-1, 1, True, "0", 1 << 62, [0]])
def test_places_of_common_headers_that_there_are_not(place: Any) -> None:
    common = [msgpack.packb({"v": 1, "kind": "chunk", "stream": "s"})]
    messages = [msgpack.packb({"of": each, "seq": 5}) for each in (0, place)]
    good, bad = received([msgpack.packb({"v": 1, "kind": "bundle", "messages": messages, "common": common})])
    assert good == 5
    assert "leaves the rest to common header" in str(bad)
