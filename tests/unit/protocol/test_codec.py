"""Frames to bytes and back. Any other bytes are a `ProtocolError` and take little memory."""

from __future__ import annotations

import contextlib
import dataclasses
import struct
import tracemalloc
from typing import Any, Final, get_args

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.feeding import feed
from tests.unit.examples import examples
from tests.unit.protocol import strategies
from tests.unit.protocol.samples import AT_300, EPOCH, KINDS, SAMPLES
from tests.unit.protocol.strategies import same

from pubsubd_protocol import frames
from pubsubd_protocol.codec import MAX_CONTROL_BYTES, decode, encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.framing import FrameReader
from pubsubd_protocol.positions import MAX_LINEAGE, MAX_OFFSET, Epoch, Position, StreamView

LIMIT = 16 * 1024 * 1024
PLAIN = sorted(set(SAMPLES) - {"Batch", "Entry"})
"""The frames whose fields stand in the outer array."""


def framed(body: bytes) -> memoryview:
    return memoryview(struct.pack(">I", len(body)) + body)


def fields_of(wire: bytes) -> list[Any]:
    fields: list[Any] = msgpack.unpackb(wire[4:])
    return fields


def decode_fields(fields: list[Any]) -> frames.Frame:
    return decode(framed(msgpack.packb(fields)))


def test_every_frame_has_a_kind_a_sample_and_a_strategy() -> None:
    names = {cls.__name__ for cls in get_args(frames.Frame)}
    assert names == set(SAMPLES) == set(strategies.by_kind)
    assert len(set(KINDS.values())) == len(KINDS)
    assert all(0 < kind < 128 for kind in KINDS.values())


@pytest.mark.parametrize("name", sorted(strategies.by_kind))
def test_every_frame_comes_back_as_it_was(name: str) -> None:
    @settings(max_examples=examples(60), deadline=None)
    @given(strategies.by_kind[name])
    def round_trip(frame: frames.Frame) -> None:
        wire = encode(frame)
        again = decode(memoryview(wire))
        assert same(frame, again)
        if dataclasses.is_dataclass(frame):
            assert frame == again

    round_trip()


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_a_frame_comes_out_of_the_stream_at_every_split_point(name: str) -> None:
    wire = encode(SAMPLES[name])
    for cut in range(len(wire) + 1):
        reader = FrameReader(LIMIT)
        got = [decode(frame) for part in (wire[:cut], wire[cut:]) for frame in feed(reader, part)]
        assert len(got) == 1
        assert same(got[0], SAMPLES[name])


@given(st.lists(strategies.any_frame, max_size=6), st.integers(1, 300))
def test_frames_one_after_another_come_back_in_order(sent: list[frames.Frame], step: int) -> None:
    stream = b"".join(map(encode, sent))
    reader = FrameReader(LIMIT)
    got: list[bytes] = []
    for start in range(0, len(stream), step):
        got += [encode(decode(f)) for f in feed(reader, stream[start : start + step])]
    assert got == [encode(frame) for frame in sent]


class TestNewerPeers:
    """This version has to accept fields that a later version may add."""

    @pytest.mark.parametrize("name", PLAIN)
    @pytest.mark.parametrize("extra", [None, 7, "new", b"new", [1, [2]], {"a": 1}])
    def test_unknown_trailing_fields_are_ignored(self, name: str, extra: object) -> None:
        fields = fields_of(encode(SAMPLES[name]))
        assert decode_fields([*fields, extra]) == SAMPLES[name]

    @pytest.mark.parametrize("name", ["Batch", "Entry"])
    def test_unknown_trailing_fields_in_the_head_of_a_batch_are_ignored(self, name: str) -> None:
        kind, head, payloads = fields_of(encode(SAMPLES[name]))
        longer = msgpack.packb([*msgpack.unpackb(head), "new", [1]])
        got = decode_fields([kind, longer, payloads])
        if isinstance(got, Entry):
            assert got.topics == "orders.created\nroom:42"
            assert (got.first, got.next, got.count) == (300, 303, 3)
        else:
            assert same(got, SAMPLES[name])

    @pytest.mark.parametrize("name", ["Batch", "Entry"])
    def test_unknown_fields_after_the_payloads_of_a_batch_are_ignored(self, name: str) -> None:
        got = decode_fields([*fields_of(encode(SAMPLES[name])), "new"])
        assert type(got) is type(SAMPLES[name])


OPTIONAL = {
    "Hello": 3,
    "Welcome": 7,
    "Subscribed": 1,
    "Rejected": 2,
    "Subscribe": 2,
    "Ack": 4,
    "Attached": 2,
    "Fetch": 1,
    "Fetched": 1,
    "Heartbeat": 1,
    "Query": 1,
}
"""The number of fields at the end that may be missing."""


@pytest.mark.parametrize("name", PLAIN)
def test_optional_fields_may_be_missing_and_no_others(name: str) -> None:
    fields = fields_of(encode(SAMPLES[name]))
    may_miss = OPTIONAL.get(name, 0)
    for missing in range(1, len(fields)):
        if missing <= may_miss:
            assert type(decode_fields(fields[:-missing])) is type(SAMPLES[name])
        else:
            with pytest.raises(ProtocolError, match="is missing"):
                decode_fields(fields[:-missing])


def test_missing_optional_fields_have_their_defaults() -> None:
    assert decode_fields([34]) == frames.Heartbeat(None)
    assert decode_fields([40, "status"]) == frames.Query("status", None)
    assert decode_fields([28, "a", [EPOCH, 300]]) == frames.Ack("a", AT_300, {}, False, {}, None)
    assert decode_fields([12, 1, "unknown", ""]) == frames.Rejected(1, "unknown", "", None, None)


NEVER_RIGHT: list[Any] = [1.5, -1, 2**63, 2**64 - 1, True, "x" * 3000, b"", b"x" * 15, [], [[]]]
WRONG: list[Any] = [*NEVER_RIGHT, None, "", 0, {}, [1], {"a": 1}, {b"a": [EPOCH, 1]}, [EPOCH, -1]]


@pytest.mark.parametrize("name", PLAIN)
def test_a_wrong_type_in_any_field_is_only_a_protocol_error(name: str) -> None:
    fields = fields_of(encode(SAMPLES[name]))
    for at in range(1, len(fields)):
        for wrong in WRONG:
            try:
                got = decode_fields([*fields[:at], wrong, *fields[at + 1 :]])
            except ProtocolError:
                continue
            # Right by chance: then it means what it says. A nil or nothing at the end may be left out.
            again = fields_of(encode(got))
            assert again[at] == wrong if at < len(again) else wrong in (None, [])


def _spots(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    return [
        spot
        for key, item in inner
        for spot in [
            (*path, key),
            *(_spots(item, (*path, key)) if isinstance(item, (list, dict)) else []),
        ]
    ]


def _with(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], new)
    return copy


@pytest.mark.parametrize("name", PLAIN)
def test_a_fraction_is_refused_at_every_spot_however_deep(name: str) -> None:
    fields = fields_of(encode(SAMPLES[name]))
    for path in _spots(fields):
        with pytest.raises(ProtocolError):
            decode_fields(_with(fields, path, 0.5))


@pytest.mark.parametrize("name", ["Batch", "Entry"])
def test_a_wrong_type_in_the_head_of_a_batch_is_refused(name: str) -> None:
    kind, packed, payloads = fields_of(encode(SAMPLES[name]))
    head = msgpack.unpackb(packed)
    for at in range(len(head)):
        # true does not count as a number; a retry is only true or false.
        wrong = [1.5, [], {}, -1 if isinstance(head[at], int) else 1]
        wrong.append(1 if isinstance(head[at], bool) else True)
        for value in wrong:
            changed = msgpack.packb([*head[:at], value, *head[at + 1 :]])
            with pytest.raises(ProtocolError):
                decode_fields([kind, changed, payloads])
        with pytest.raises(ProtocolError):
            decode_fields([kind, msgpack.packb(head[:at]), payloads])


@pytest.mark.parametrize("node", ["", "a b", "a\n", "x" * 65])
def test_an_entry_names_a_node(node: str) -> None:
    kind, packed, payloads = fields_of(encode(SAMPLES["Entry"]))
    head = msgpack.unpackb(packed)
    for at in (0, 7):
        changed = msgpack.packb([*head[:at], node, *head[at + 1 :]])
        with pytest.raises(ProtocolError):
            decode_fields([kind, changed, payloads])


@pytest.mark.parametrize("first", [2**63 - 3, 2**63 - 1, 2**63, 2**64 - 1])
def test_an_entry_ends_within_the_offsets(first: int) -> None:
    kind, packed, payloads = fields_of(encode(SAMPLES["Entry"]))
    head = msgpack.unpackb(packed)
    head[2] = first
    with pytest.raises(ProtocolError):
        decode_fields([kind, msgpack.packb(head), payloads])


MALFORMED: dict[str, bytes] = {
    "empty array": b"\x90",
    "array16": b"\xdc\x00\x02\x22\xc0",
    "array32": b"\xdd\x00\x00\x00\x02\x22\xc0",
    "a map": b"\x81\x22\xc0",
    "a number": b"\x22\x22",
    "a string": b"\xa2ab",
    "a negative kind": b"\x91\xff",
    "a kind of two bytes": b"\x91\xcc\x22",
    "a kind that is text": b"\x91\xa134",
    "an array that ends early": b"\x93\x22\xc0",
    "bytes after the array": b"\x92\x22\xc0\xc0",
    "the byte that msgpack never uses": b"\x92\x22\xc1",
    "an extension": b"\x92\x22\xd4\x05\x00",
    "a timestamp": b"\x92\x22\xd6\xff\x00\x00\x00\x00",
    "an empty extension": b"\x92\x22\xc7\x00\x05",
    "an empty timestamp": b"\x92\x22\xc7\x00\xff",
    "text that is not UTF-8": b"\x92\x28\xa2\xff\xfe",
    "half a surrogate pair": b"\x92\x28\xa3\xed\xa0\x80",
    "a map with a number for a key": b"\x92\x17\x81\x01\xc0",
    "a map with an array for a key": b"\x92\x17\x81\x90\xc0",
    "a publish without a head": b"\x91\x0a",
    "a publish with an array for a head": b"\x93\x0a\x90\xc4\x00",
    "a publish without payloads": b"\x92\x0a\xc4\x01\x90",
    "a publish whose head is cut": b"\x93\x0a\xc6\x00\x00\x00",
    "a publish whose head ends early": b"\x93\x0a\xc4\x05\x90",
    "a publish whose head is not an array": b"\x93\x0a\xc4\x01\xc0\xc4\x00",
    "a publish whose head is empty": b"\x93\x0a\xc4\x00\xc4\x00",
    "a publish with bytes after its payloads": b"\x93\x0a\xc4\x01\x90\xc4\x00\x00",
    "an entry without a head": b"\x91\x19",
    "an entry whose head is an empty array": b"\x93\x19\xc4\x01\x90\xc4\x00",
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_bytes_are_a_protocol_error(case: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        decode(framed(MALFORMED[case]))
    assert caught.value.kind == "malformed"


@pytest.mark.parametrize("name", ["Batch", "Entry"])
@pytest.mark.parametrize("announced", [0x91, 0x92])
def test_a_batch_that_announces_fewer_fields_than_it_has_is_refused(
    name: str, announced: int
) -> None:
    wire = bytearray(encode(SAMPLES[name]))
    wire[4] = announced
    with pytest.raises(ProtocolError):
        decode(memoryview(wire))


@pytest.mark.parametrize("size", range(6))
def test_a_frame_too_short_to_be_one_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError):
        decode(memoryview(bytes(size)))


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ProtocolError, match="frame kind 99 is unknown") as caught:
        decode_fields([99, "x"])
    assert caught.value.kind == "unknown_frame"


def test_a_skip_goes_forward() -> None:
    for first, following in ((5, 5), (6, 5)):
        with pytest.raises(ProtocolError, match=f"a skip goes from {first} to {following}"):
            decode_fields([26, "a", EPOCH, first, following])


def test_a_view_holds_what_it_says() -> None:
    fields = fields_of(encode(SAMPLES["CursorExpired"]))
    fields[4] = [EPOCH, [], 6, 5]
    with pytest.raises(ProtocolError, match="oldest 6 is beyond next 5"):
        decode_fields(fields)


@settings(max_examples=examples(500))
@given(st.binary(max_size=120))
def test_any_bytes_decode_or_are_a_protocol_error(noise: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        decode(memoryview(noise))


@settings(max_examples=examples(500))
@given(st.sampled_from(sorted(KINDS.values())), st.integers(0x90, 0x9F), st.binary(max_size=60))
def test_bytes_after_a_real_beginning_decode_or_are_refused(
    kind: int, array: int, noise: bytes
) -> None:
    with contextlib.suppress(ProtocolError):
        decode(framed(bytes((array, kind)) + noise))


@settings(max_examples=examples(250))
@given(strategies.any_frame, st.data())
def test_a_mutated_frame_decodes_or_is_a_protocol_error(
    frame: frames.Frame, data: st.DataObject
) -> None:
    wire = bytearray(encode(frame))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(4, max(4, len(wire) - 1)))
        match data.draw(st.sampled_from(["flip", "cut", "insert", "double"])):
            case "flip":
                if at < len(wire):
                    wire[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del wire[at : at + data.draw(st.integers(1, 8))]
            case "insert":
                wire[at:at] = data.draw(st.binary(min_size=1, max_size=8))
            case _:
                wire[at:at] = wire[at : at + 20]
    try:
        again = decode(memoryview(bytes(wire)))
    except ProtocolError:
        return
    # An accepted frame can be encoded again.
    assert same(again, decode(memoryview(encode(again))))


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=20)
    | st.binary(max_size=20)
    | strategies.epochs,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=3) | st.binary(max_size=3), inner, max_size=3)
    ),
    max_leaves=12,
)


@settings(max_examples=examples(150))
@given(st.sampled_from(sorted(KINDS.values())), st.lists(_anything, max_size=9))
def test_any_msgpack_in_the_fields_decodes_or_is_a_protocol_error(
    kind: int, fields: list[Any]
) -> None:
    with contextlib.suppress(ProtocolError):
        decode_fields([kind, *fields])


def _tree(depth: int, width: bytes, children: int) -> bytes:
    return b"\x90" if depth == 0 else width + _tree(depth - 1, width, children) * children


def _maps(depth: int, pairs: int) -> bytes:
    """Maps within maps, each full before the next one begins."""
    size = struct.pack(">BH", 0xDE, pairs)
    keys: list[bytes] = [msgpack.packb(f"{i:03}") for i in range(pairs)]
    level = size + b"".join(key + b"\xc0" for key in keys[:-1]) + keys[-1]
    return level * depth + b"\xc0"


LONGEST: Final = StreamView(
    Epoch(b"\xff" * 16),
    tuple((Epoch(number.to_bytes(16)), MAX_OFFSET - number) for number in range(MAX_LINEAGE)),
    MAX_OFFSET - 1,
    MAX_OFFSET,
)


@pytest.mark.parametrize(
    "name", [name for name, sample in SAMPLES.items() if hasattr(sample, "view")]
)
def test_a_view_with_the_longest_lineage_comes_over_the_wire(name: str) -> None:
    frame = dataclasses.replace(SAMPLES[name], view=LONGEST)  # type: ignore[type-var]
    assert decode(memoryview(encode(frame))) == frame


BOMBS: dict[str, bytes] = {
    "deep nesting": b"\x91" * 1_000_000,
    "deep nesting of pairs": b"\x92" * 1_000_000,
    "an array of four billion": b"\xdd\xff\xff\xff\xff",
    "an array of 65,535": b"\xdc\xff\xff" + b"\xc0" * 65_535,
    "a map of four billion": b"\xdf\xff\xff\xff\xff",
    "a text of four billion": b"\xdb\xff\xff\xff\xff",
    "bytes of four billion": b"\xc6\xff\xff\xff\xff",
    "an extension of four billion": b"\xc9\xff\xff\xff\xff\x05",
    "a million arrays as wide as a lineage": _tree(2, b"\xdc\x03\xff", 1023),
    "a million empty arrays": _tree(4, b"\xdc\x00\x20", 32),
    "thirty thousand empty arrays": _tree(3, b"\xdc\x00\x20", 32),
    "a million empty maps": _tree(4, b"\xdc\x00\x20", 32).replace(b"\x90", b"\x80"),
    "wide maps within wide maps": _maps(1000, 1024),
    "narrow maps within narrow maps": _maps(1000, 32),
}

TWO_MIB = 2 * 1024 * 1024


def _peak_of_refusing(frame: memoryview) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(ProtocolError):
            decode(frame)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_a_control_frame_takes_little_memory(bomb: str) -> None:
    assert _peak_of_refusing(framed(b"\x92\x22" + BOMBS[bomb])) < TWO_MIB


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_in_a_report_takes_little_memory(bomb: str) -> None:
    assert _peak_of_refusing(framed(b"\x92\x29" + BOMBS[bomb])) < 2 * TWO_MIB


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("kind", [KINDS["Batch"], KINDS["Entry"]])
def test_a_bomb_in_the_head_of_a_batch_takes_little_memory(bomb: str, kind: int) -> None:
    head = struct.pack(">BI", 0xC6, len(BOMBS[bomb])) + BOMBS[bomb]
    frame = framed(bytes((0x93, kind)) + head + b"\xc4\x00")
    # An entry is copied once, bomb and all, before it is looked into.
    assert _peak_of_refusing(frame) < len(frame) + 2 * TWO_MIB


def test_a_list_of_millions_of_topics_is_refused_before_it_is_split() -> None:
    joined = "ab\n" * 3_000_000 + "ab"
    lengths = struct.pack("<I", 0)
    head = msgpack.packb(["a", EPOCH, 0, 1, 0, EPOCH, 1, None, joined, b"", b"", lengths])
    frame = framed(b"\x93" + bytes((KINDS["Entry"],)) + msgpack.packb(head) + b"\xc4\x00")
    # The frame is copied once and its text once.
    assert _peak_of_refusing(frame) < 2 * len(frame) + TWO_MIB


@pytest.mark.parametrize("name", ["Subscribe", "Subscribed", "FilterSet"])
def test_a_reader_of_as_many_streams_as_allowed_passes(name: str) -> None:
    positions = {f"{'n' * 59}{i:05}": AT_300 for i in range(MAX_STREAMS)}
    topics = tuple(f"{'t' * 250}{i:05}" for i in range(1024))
    by_name: dict[str, frames.Frame] = {
        "Subscribe": frames.Subscribe(
            topics, "latest", positions, EPOCH, "x" * 128, True, positions, EPOCH
        ),
        "Subscribed": frames.Subscribed(positions, EPOCH, True),
        "FilterSet": frames.FilterSet(positions),
    }
    frame = by_name[name]
    wire = encode(frame)
    assert len(wire) < MAX_CONTROL_BYTES
    assert decode(memoryview(wire)) == frame


def test_the_longest_acknowledgement_passes() -> None:
    names = [f"{'ä' * 120}{i:05}" for i in range(256)]
    far = Position(EPOCH, 2**53)
    elsewhere = {name: {f"{'n' * 60}{i:04}": far} for i, name in enumerate(names)}
    ack = frames.Ack("a", AT_300, dict.fromkeys(names, far), elsewhere=elsewhere)
    assert decode(memoryview(encode(ack))) == ack


def test_a_report_may_be_long() -> None:
    report = frames.Report("[" + "1," * 1_000_000 + "1]")
    assert decode(memoryview(encode(report))) == report


def test_a_control_frame_over_its_limit_is_refused() -> None:
    wire = encode(frames.Refused("protocol", "x" * MAX_CONTROL_BYTES))
    with pytest.raises(ProtocolError) as caught:
        decode(memoryview(wire))
    assert caught.value.kind == "frame_length"
