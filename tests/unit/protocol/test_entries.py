"""Batches and entries against a model that keeps plain lists."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.protocol import strategies
from tests.unit.protocol.samples import DIRECTED, EPOCH, LIFE, ONE_TOPIC, SEVERAL_TOPICS, placed
from tests.unit.protocol.strategies import Message, batch_of

from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.columns import (
    MAX_BATCH_MESSAGES,
    MAX_BATCH_TOPICS,
    pack_numbers,
    unpack_numbers,
)
from pubsubd_protocol.entries import (
    MAX_ENTRY_OVERHEAD,
    Batch,
    Entry,
    encode_batch,
    entry_size,
    open_entry,
    part_of,
    place_batch,
    read_batch,
    read_entry,
)
from pubsubd_protocol.errors import InvalidTopic, MessageTooLarge, ProtocolError
from pubsubd_protocol.positions import Epoch


@dataclass(frozen=True)
class Read:
    """A message as a reader sees it."""

    offset: int
    topic: str
    payload: bytes


def read_all(entry: Entry) -> list[Read]:
    columns = open_entry(entry)
    return [
        Read(columns.offsets[i], columns.topics[columns.index[i]], raw)
        for i, raw in enumerate(columns.raws())
    ]


def over_the_wire(entry: Entry) -> Entry:
    return read_entry(memoryview(b"".join(entry.wire)))


def model(messages: list[Message], first: int) -> list[Read]:
    return [Read(first + i, topic, payload) for i, (topic, payload) in enumerate(messages)]


large = st.integers(0, 3).map(lambda n: bytes(n * 2000))


@given(
    st.lists(st.tuples(strategies.topics, strategies.payloads | large), min_size=1, max_size=8),
    strategies.offsets,
)
def test_a_placed_entry_reads_the_same_before_and_after_the_wire(
    messages: list[Message], first: int
) -> None:
    entry = place_batch(batch_of(messages), "a", EPOCH, first, 5, LIFE)
    for seen in (entry, over_the_wire(entry)):
        assert read_all(seen) == model(messages, first)
        assert (seen.node, seen.epoch, seen.publisher, seen.to) == ("a", EPOCH, LIFE, None)
        assert (seen.first, seen.next, seen.count) == (
            first,
            first + len(messages),
            len(messages),
        )
        assert seen.size == len(b"".join(seen.wire))


@given(strategies.messages, st.data())
def test_a_part_holds_what_is_wanted_and_spans_the_same_offsets(
    messages: list[Message], data: st.DataObject
) -> None:
    topics = sorted({topic for topic, _ in messages})
    wanted = set(data.draw(st.lists(st.sampled_from(topics))))
    entry = place_batch(batch_of(messages), "a", EPOCH, 70, 5, LIFE)
    part = part_of(entry, wanted.__contains__)
    expected = [read for read in model(messages, 70) if read.topic in wanted]
    if not expected:
        assert part is None
        return
    assert part is not None
    if len(expected) == len(messages):
        assert part is entry
    for seen in (part, over_the_wire(part)):
        assert read_all(seen) == expected
        assert (seen.first, seen.next, seen.count) == (70, entry.next, len(expected))


@given(strategies.messages, st.data())
def test_a_part_of_a_part_is_the_part_that_both_want(
    messages: list[Message], data: st.DataObject
) -> None:
    topics = sorted({topic for topic, _ in messages})
    subsets = st.lists(st.sampled_from(topics)).map(set)
    one, two = data.draw(subsets), data.draw(subsets)
    entry = place_batch(batch_of(messages), "a", EPOCH, 70, 5, LIFE)
    first = part_of(entry, one.__contains__)
    second = first and part_of(over_the_wire(first), two.__contains__)
    expected = [read for read in model(messages, 70) if read.topic in one & two]
    assert (read_all(second) if second else []) == expected
    if second:
        assert (second.first, second.next) == (entry.first, entry.next)
        assert read_all(over_the_wire(second)) == expected


def test_a_part_keeps_publisher_sequence_time_and_addressee() -> None:
    batch = batch_of([("x", b"1"), ("y", b"2")], sequence=9, to="node-b")
    part = part_of(place_batch(batch, "a", EPOCH, 0, 77, LIFE), "y".__eq__)
    assert part is not None
    columns = open_entry(part)
    assert (columns.publisher, columns.sequence, columns.time_us) == (LIFE, 9, 77)
    assert (part.publisher, part.to) == (LIFE, "node-b")


def test_a_topic_without_a_message_sends_no_empty_part() -> None:
    odd = Batch(
        1, False, None, "used\nunused", pack_numbers("H", [0]), pack_numbers("I", [1]), b"x"
    )
    odd.check(100)
    entry = place_batch(odd, "a", EPOCH, 0, 0, LIFE)
    assert part_of(entry, "unused".__eq__) is None
    part = part_of(entry, "used".__eq__)
    assert part is not None
    assert read_all(over_the_wire(part)) == [Read(0, "used", b"x")]


def test_a_topic_named_twice_in_a_batch_is_read_all_the_same() -> None:
    odd = Batch(
        1,
        False,
        None,
        "x\nx\ny",
        pack_numbers("H", [0, 2, 1]),
        pack_numbers("I", [1, 1, 1]),
        b"abc",
    )
    entry = place_batch(odd, "a", EPOCH, 0, 0, LIFE)
    part = part_of(entry, "x".__eq__)
    assert part is not None
    assert read_all(over_the_wire(part)) == [Read(0, "x", b"a"), Read(2, "x", b"c")]


def test_a_large_payload_is_not_copied_when_it_is_placed() -> None:
    payload = bytes(100_000)
    batch = Batch(1, False, None, "x", b"", pack_numbers("I", [len(payload)]), payload)
    assert place_batch(batch, "a", EPOCH, 0, 0, LIFE).wire[1] is payload
    assert encode_batch(batch)[1] is payload


def test_a_part_is_longer_than_its_batch_by_at_most_the_overhead() -> None:
    """A small message left out of many: the places of the others take more bytes than it did."""
    messages = [("x", b"1")] * (MAX_BATCH_MESSAGES - 1) + [("y", b"")]
    batch = batch_of(messages, to="n" * 64)
    published = len(encode(batch))
    part = part_of(place_batch(batch, "a" * 64, EPOCH, 2**53 - 2**17, 2**60, LIFE), "x".__eq__)
    assert part is not None
    # Without the index, which went because one topic is left, the places outweigh what is gone.
    assert published < part.size < published + MAX_ENTRY_OVERHEAD
    several = batch_of([("x", b""), ("z", b"")] * 32_767 + [("y", b"")])
    longer = part_of(place_batch(several, "a" * 64, EPOCH, 0, 0, LIFE), lambda topic: topic != "y")
    assert longer is not None
    assert 256 * 1024 < longer.size - len(encode(several)) + 1024 < MAX_ENTRY_OVERHEAD


def test_an_empty_payload_is_a_message() -> None:
    entry = place_batch(batch_of([("x", b"")]), "a", EPOCH, 0, 0, LIFE)
    assert read_all(over_the_wire(entry)) == [Read(0, "x", b"")]


def test_the_largest_batch_passes_and_one_message_more_does_not() -> None:
    lengths = pack_numbers("I", [1] * MAX_BATCH_MESSAGES)
    full = Batch(1, False, None, "x", b"", lengths, bytes(MAX_BATCH_MESSAGES))
    full.check(1)
    entry = over_the_wire(place_batch(full, "a", EPOCH, 0, 0, LIFE))
    assert entry.next == MAX_BATCH_MESSAGES
    over = Batch(1, False, None, "x", b"", lengths + bytes(4), bytes(MAX_BATCH_MESSAGES))
    with pytest.raises(ProtocolError, match=r"a batch has 65536 messages, allowed are 1\.\.65535"):
        over.check(1)


def numbers(code: str, *values: int) -> bytes:
    return pack_numbers(code, values)


REFUSED: dict[str, tuple[Batch, type[Exception], str]] = {
    "no message": (
        Batch(1, False, None, "x", b"", b"", b""),
        ProtocolError,
        "a batch has 0 messages",
    ),
    "lengths that are not whole numbers": (
        Batch(1, False, None, "x", b"", b"\x01\x00\x00", b"a"),
        ProtocolError,
        "packed numbers have 3 bytes: it must be a multiple of 4",
    ),
    "lengths beyond the payloads": (
        Batch(1, False, None, "x", b"", numbers("I", 2), b"a"),
        ProtocolError,
        "lengths add up to 2 bytes, the payloads have 1",
    ),
    "payloads beyond the lengths": (
        Batch(1, False, None, "x", b"", numbers("I", 1), b"ab"),
        ProtocolError,
        "lengths add up to 1 bytes, the payloads have 2",
    ),
    "lengths that would wrap in 32 bits": (
        Batch(1, False, None, "x", b"", numbers("I", 2**32 - 1, 2), b"a"),
        ProtocolError,
        "lengths add up to 4294967297 bytes",
    ),
    "several topics without an index": (
        Batch(1, False, None, "x\ny", b"", numbers("I", 1), b"a"),
        ProtocolError,
        "a batch of 2 topics has an empty index",
    ),
    "an index of half a number": (
        Batch(1, False, None, "x\ny", b"\x00", numbers("I", 1), b"a"),
        ProtocolError,
        "packed numbers have 1 bytes: it must be a multiple of 2",
    ),
    "an index shorter than the lengths": (
        Batch(1, False, None, "x\ny", numbers("H", 0), numbers("I", 1, 1), b"ab"),
        ProtocolError,
        "the index does not fit 2 topics and 2 messages",
    ),
    "an index beyond the topics": (
        Batch(1, False, None, "x\ny", numbers("H", 2), numbers("I", 1), b"a"),
        ProtocolError,
        "the index does not fit 2 topics and 1 messages",
    ),
    "no topic": (
        Batch(1, False, None, "", b"", numbers("I", 1), b"a"),
        InvalidTopic,
        "is empty",
    ),
    "an empty topic among others": (
        Batch(1, False, None, "x\n", numbers("H", 0), numbers("I", 1), b"a"),
        InvalidTopic,
        "is empty",
    ),
    "a topic with a space": (
        Batch(1, False, None, "x y", b"", numbers("I", 1), b"a"),
        InvalidTopic,
        "no white space",
    ),
    "a topic that is too long": (
        Batch(1, False, None, "x" * 256, b"", numbers("I", 1), b"a"),
        InvalidTopic,
        "the limit is 255",
    ),
    "a message over the limit": (
        Batch(1, False, None, "x", b"", numbers("I", 3, 11), bytes(14)),
        MessageTooLarge,
        "a message is 11 bytes, the limit is 10",
    ),
    "more topics than a batch may have": (
        Batch(
            1, False, None, "x\n" * MAX_BATCH_TOPICS + "x", numbers("H", 0), numbers("I", 1), b"a"
        ),
        ProtocolError,
        "4097 topics",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_batch_that_does_not_agree_with_itself_is_refused(case: str) -> None:
    batch, error, text = REFUSED[case]
    with pytest.raises(error, match=text):
        batch.check(10)


def test_too_large_carries_its_figures() -> None:
    with pytest.raises(MessageTooLarge) as caught:
        ONE_TOPIC.check(2)
    assert (caught.value.size, caught.value.limit, caught.value.unit) == (3, 2, "bytes")


@pytest.mark.parametrize("batch", [ONE_TOPIC, SEVERAL_TOPICS, DIRECTED])
def test_a_good_batch_passes_its_check(batch: Batch) -> None:
    batch.check(1000)
    again = read_batch(memoryview(encode(batch)))
    again.check(1000)
    assert encode(again) == encode(batch)


def entry_frame(
    *,
    first: int = 10,
    span: int = 4,
    topics: str = "x",
    index: bytes = b"",
    places: bytes = b"",
    lengths: tuple[int, ...] = (1, 1),
    payloads: bytes = b"ab",
) -> memoryview:
    head = msgpack.packb(
        [
            *("a", EPOCH, first, span, 5, LIFE, 1, None),
            *(topics, index, places, pack_numbers("I", lengths)),
        ]
    )
    body = b"\x93\x19" + msgpack.packb(head) + msgpack.packb(payloads)
    return memoryview(struct.pack(">I", len(body)) + body)


def test_places_say_which_offsets_of_the_span_are_there() -> None:
    entry = read_entry(entry_frame(places=numbers("I", 1, 3)))
    assert (entry.first, entry.next, entry.count) == (10, 14, 2)
    assert [read.offset for read in read_all(entry)] == [11, 13]


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(entry_frame(), id="fewer messages than offsets, no places"),
        pytest.param(entry_frame(places=numbers("I", 1)), id="fewer places than messages"),
        pytest.param(entry_frame(places=numbers("I", 0, 1, 2)), id="more places than messages"),
        pytest.param(entry_frame(places=numbers("I", 0, 4)), id="a place at the end of the span"),
        pytest.param(entry_frame(places=numbers("I", 1, 1)), id="a place twice"),
        pytest.param(entry_frame(places=numbers("I", 2, 1)), id="places that go back"),
        pytest.param(entry_frame(places=b"\x00\x00\x00"), id="places that are not numbers"),
        pytest.param(entry_frame(span=0), id="no span"),
        pytest.param(entry_frame(span=-1), id="a negative span"),
        pytest.param(entry_frame(span=65_536, places=numbers("I", 0, 1)), id="too long a span"),
        pytest.param(entry_frame(span=1), id="more messages than offsets"),
        pytest.param(entry_frame(first=-1, span=2), id="a negative offset"),
        pytest.param(entry_frame(first=2**63 - 1, span=2), id="an end beyond the offsets"),
        pytest.param(entry_frame(span=2, payloads=b"abc"), id="payloads beyond the lengths"),
        pytest.param(entry_frame(span=2, topics="x y"), id="a topic with a space"),
        pytest.param(entry_frame(span=2, topics="x\ny"), id="topics without an index"),
        pytest.param(entry_frame(span=2, lengths=(), payloads=b""), id="no message"),
    ],
)
def test_an_entry_that_does_not_agree_with_itself_is_refused(frame: memoryview) -> None:
    with pytest.raises(ProtocolError):
        decode(frame)
    with pytest.raises(ProtocolError):
        read_entry(frame)


def test_a_received_batch_does_not_copy_its_payloads() -> None:
    frame = memoryview(bytearray(encode(ONE_TOPIC)))
    batch = read_batch(frame)
    assert isinstance(batch.payloads, memoryview)
    assert batch.payloads.obj is frame.obj


def test_a_received_entry_owns_its_bytes() -> None:
    buffer = bytearray(b"".join(placed().wire))
    entry = read_entry(memoryview(buffer))
    before = read_all(entry)
    buffer[:] = bytes(len(buffer))
    assert read_all(entry) == before


def test_an_entry_is_passed_on_as_the_very_bytes_it_came_in() -> None:
    wire = b"".join(placed().wire)
    assert read_entry(memoryview(wire)).wire == (wire,)


@given(st.lists(st.integers(0, 2**32 - 1)))
def test_numbers_survive_packing_and_stand_little_endian(values: list[int]) -> None:
    packed = pack_numbers("I", values)
    assert packed == struct.pack(f"<{len(values)}I", *values)
    assert list(unpack_numbers("I", packed)) == values


@given(strategies.batches, strategies.epochs)
def test_an_entry_keeps_sequence_and_addressee_of_its_batch(batch: Batch, epoch: Epoch) -> None:
    entry = over_the_wire(place_batch(batch, "a", epoch, 0, 0, LIFE))
    assert entry.to == batch.to
    assert open_entry(entry).sequence == batch.sequence


@given(
    st.sampled_from((0, 1, 31, 32, 127, 128, 255, 256, 65_535, 65_536)),
    st.sampled_from((0, 4, 252, 256, 65_532, 65_536)),
    strategies.unsigned,
    strategies.unsigned,
    st.none() | strategies.node_names,
    strategies.node_names,
    strategies.topics,
)
def test_the_size_of_an_entry_is_known_before_it_is_encoded(
    index: int,
    lengths: int,
    first: int,
    time_us: int,
    to: str | None,
    node: str,
    topics: str,
) -> None:
    batch = Batch(first // 3, False, to, topics, bytes(index), bytes(lengths), bytes(index))
    placing = batch, node, EPOCH, first, time_us, LIFE
    assert entry_size(*placing) == place_batch(*placing).size
