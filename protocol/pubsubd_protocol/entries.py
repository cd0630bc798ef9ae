"""The unit of transport: a batch of messages that one publish put into a stream.

On the wire a batch keeps its numbers apart from its payloads: see `columns`.

An `Entry` is that batch with its place: node, epoch, first offset. The node on which the batch was
published encodes the frame once. The same bytes go to the ring, to peers, replicas and sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

import msgpack

from pubsubd_protocol.columns import (
    MAX_BATCH_MESSAGES,
    check_columns,
    check_places,
    cut,
    pack_numbers,
    unpack_numbers,
)
from pubsubd_protocol.errors import InvalidTopic, ProtocolError
from pubsubd_protocol.layout import FRONT_BYTES, split, wire_of
from pubsubd_protocol.positions import Epoch, is_node_name

MAX_ENTRY_OVERHEAD = 512 * 1024
"""Extra bytes of an entry's frame over the longest publish frame: the head, and the `places` of a part."""

PUBLISH_KIND: Final = 10
ENTRY_KIND: Final = 25


class Batch:
    """Messages on their way into a stream: the content of one frame of a publisher.

    `payloads` is any buffer; brokers never decode it.
    """

    __slots__ = ("count", "index", "lengths", "payloads", "retry", "sequence", "to", "topics")

    def __init__(
        self,
        sequence: int,
        retry: bool,
        to: str | None,
        topics: str,
        index: bytes,
        lengths: bytes,
        payloads: bytes | memoryview,
    ) -> None:
        self.sequence = sequence
        """The publisher's own number for this batch: higher for each new batch, the same for a retry."""
        self.retry = retry
        """Whether the publisher may have sent this batch before."""
        self.to = to
        self.topics = topics
        self.index = index
        self.lengths = lengths
        self.payloads = payloads
        self.count = len(lengths) // 4

    def check(self, max_message: int) -> None:
        """Check that topics, index, lengths and payloads agree. Cost: C loops only.

        Raises `ProtocolError`, `InvalidTopic` or `MessageTooLarge`.
        """
        check_columns(self.topics, self.index, self.lengths, len(self.payloads), max_message)


class Entry:
    """A batch with its place in a stream. Immutable. `wire` is its frame, ready to send.

    An entry takes `span` offsets from `first` on; `next` is the first offset after it. A part of an
    entry, cut out for a session that wants only some topics, spans the same offsets with fewer messages.
    """

    __slots__ = (
        "count",
        "epoch",
        "first",
        "next",
        "node",
        "publisher",
        "size",
        "to",
        "topics",
        "wire",
    )

    def __init__(
        self,
        node: str,
        epoch: Epoch,
        first: int,
        span: int,
        count: int,
        publisher: bytes,
        to: str | None,
        topics: str,
        wire: tuple[bytes, ...],
    ) -> None:
        self.node = node
        self.epoch = epoch
        self.first = first
        self.next = first + span
        self.count = count
        self.publisher = publisher
        self.to = to
        self.topics = topics
        self.wire = wire
        self.size = sum(map(len, wire))


class Messages:
    """The messages of an entry, column by column, without decoding any payload.

    Message `i` has the offset `offsets[i]`, the topic `topics[index[i]]` and a payload of `lengths[i]` bytes. The
    payloads stand one after the other in `frame`, from byte `begin` on.
    """

    __slots__ = (
        "begin",
        "frame",
        "index",
        "lengths",
        "offsets",
        "publisher",
        "sequence",
        "time_us",
        "topics",
    )

    def __init__(self, entry: Entry, head: Head, frame: bytes, begin: int) -> None:
        """`begin`: the byte of `frame` at which the payloads begin."""
        _, _, _, _, time_us, publisher, sequence, _, _, index, places, lengths = head
        self.time_us = time_us
        self.publisher = publisher
        self.sequence = sequence
        self.topics = entry.topics.split("\n")
        self.index: Sequence[int] = unpack_numbers("H", index) if index else bytes(entry.count)
        first = entry.first
        self.offsets: Sequence[int] = (
            [first + place for place in unpack_numbers("I", places)]
            if places
            else range(first, first + entry.count)
        )
        self.lengths: Sequence[int] = unpack_numbers("I", lengths)
        self.frame = frame
        self.begin = begin

    def raws(self) -> list[bytes]:
        """The payloads, each with bytes of its own."""
        return cut(self.frame, self.begin, self.lengths)


def place_batch(
    batch: Batch, node: str, epoch: Epoch, first: int, time_us: int, publisher: bytes
) -> Entry:
    """The entry of a checked `batch` at offset `first`. Cost: one copy of the payloads if they are a view.

    `time_us`: wall time in microseconds since 1970, for people only.
    """
    wire = wire_of(
        ENTRY_KIND,
        (
            *(node, epoch, first, batch.count, time_us, publisher, batch.sequence, batch.to),
            *(batch.topics, batch.index, b"", batch.lengths),
        ),
        bytes(batch.payloads),
    )
    return Entry(
        node, epoch, first, batch.count, batch.count, publisher, batch.to, batch.topics, wire
    )


def entry_size(
    batch: Batch, node: str, epoch: Epoch, first: int, time_us: int, publisher: bytes
) -> int:
    """`size` of the entry that `place` makes of the same arguments. Cost: independent of the number of messages."""
    small = (node, epoch, first, batch.count, time_us, publisher, batch.sequence, batch.to)
    # msgpack packs an empty column as 2 bytes, 1 of them its length. A longer column's length takes 2 or 4 bytes.
    head = len(msgpack.packb((*small, batch.topics, b"", b"", b"")))
    index, lengths = len(batch.index), len(batch.lengths)
    head += index + (index > 0xFF) + 2 * (index > 0xFFFF)
    head += lengths + (lengths > 0xFF) + 2 * (lengths > 0xFFFF)
    return FRONT_BYTES + head + len(batch.payloads)


def is_of(entry: Entry, batch: Batch) -> bool:
    """Whether a whole `entry` has the sequence and the content of `batch`. Cost: compares all bytes of both."""
    frame = entry.wire[0] if len(entry.wire) == 1 else b"".join(entry.wire)
    head, payloads, _ = _open(frame)
    sequence, to, topics, index, _, lengths = head[6:]
    return (
        (sequence, to, topics) == (batch.sequence, batch.to, batch.topics)
        and (bytes(index), bytes(lengths)) == (bytes(batch.index), bytes(batch.lengths))
        and bytes(payloads) == bytes(batch.payloads)
    )


def read_entry(frame: memoryview) -> Entry:
    """The entry in a received frame, prefix included. Raises `ProtocolError`. Cost: one copy of the frame."""
    wire = bytes(frame)
    head, payloads, _ = _open(wire)
    node, epoch, first, span, time_us, publisher, sequence, to = head[:8]
    topics, index, places, lengths = head[8:]
    if not is_node_name(node) or not (to is None or is_node_name(to)):
        raise ProtocolError(
            "malformed",
            f"an entry has an invalid node name: of node {node[:80]!r}, to {to and to[:80]!r}",
        )
    if not 0 <= time_us < 2**63 or not 0 <= sequence < 2**63:
        raise ProtocolError(
            "malformed",
            f"an entry has sequence {sequence} and time {time_us}, allowed are 0..2^63-1",
        )
    if not 0 < span <= MAX_BATCH_MESSAGES or not 0 <= first < 2**63 - span:
        raise ProtocolError(
            "malformed",
            f"an entry spans {span} offsets from {first}, allowed are 1..{MAX_BATCH_MESSAGES}",
        )
    count = len(lengths) // 4
    try:
        check_columns(topics, index, lengths, len(payloads), len(payloads))
    except InvalidTopic as error:
        raise ProtocolError("malformed", str(error)) from None
    # A whole entry has no places; one that lacks messages without saying which does not fit.
    if places or count != span:
        check_places(places, count, span)
    return Entry(node, epoch, first, span, count, publisher, to, topics, (wire,))


def open_entry(entry: Entry) -> Messages:
    """The messages of an entry, as columns."""
    frame = entry.wire[0] if len(entry.wire) == 1 else b"".join(entry.wire)
    head, _, begin = _open(frame)
    return Messages(entry, head, frame, begin)


def part_of(entry: Entry, wants: Callable[[str], bool]) -> Entry | None:
    """The part of `entry` whose topics a reader wants: the same object if all, None if none.

    Cost: one call of `wants` per distinct topic. Only a real part costs work per message.
    """
    topics = entry.topics.split("\n")
    wanted = list(map(wants, topics))
    if all(wanted):
        return entry
    if not any(wanted):
        return None
    wire = entry.wire[0] if len(entry.wire) == 1 else b"".join(entry.wire)
    old, _, begin = _open(wire)
    messages = Messages(entry, old, wire, begin)
    kept = [i for i, topic in enumerate(messages.index) if wanted[topic]]
    if not kept:  # a publisher may name a topic that none of its messages has
        return None
    # The places of all payloads, and a copy of the kept ones only.
    starts = list(accumulate(messages.lengths, initial=begin))
    offsets = messages.offsets
    renumbered = list(accumulate(wanted, initial=0))
    left = "\n".join(topic for topic, want in zip(topics, wanted, strict=True) if want)
    index = [renumbered[messages.index[i]] for i in kept] if sum(wanted) > 1 else []
    places = [offsets[i] - entry.first for i in kept]
    lengths = [messages.lengths[i] for i in kept]
    head = (
        *old[:8],
        left,
        pack_numbers("H", index),
        pack_numbers("I", places),
        pack_numbers("I", lengths),
    )
    part = wire_of(ENTRY_KIND, head, b"".join([wire[starts[i] : starts[i + 1]] for i in kept]))
    return Entry(
        entry.node,
        entry.epoch,
        entry.first,
        entry.next - entry.first,
        len(kept),
        entry.publisher,
        entry.to,
        left,
        part,
    )


def encode_batch(batch: Batch) -> tuple[bytes, ...]:
    """The frame in which a publisher sends `batch`."""
    head = [batch.sequence, batch.retry, batch.to, batch.topics, batch.index, batch.lengths]
    return wire_of(PUBLISH_KIND, head, bytes(batch.payloads))


def read_batch(frame: memoryview) -> Batch:
    """The batch in a received PUBLISH frame; its payloads are a view into the frame. Raises `ProtocolError`."""
    head, payloads, _ = split(frame)
    match head:
        case [
            int() as sequence,
            bool() as retry,
            to,
            str() as topics,
            bytes() as index,
            bytes() as lengths,
            *_,
        ] if (
            (to is None or isinstance(to, str))
            and type(head[0]) is int  # a bool is an int, too
            and 0 <= sequence < 2**63
        ):
            return Batch(sequence, retry, to, topics, index, lengths, payloads)
    raise ProtocolError(
        "malformed", "a field in the head of a publish is missing or of a wrong type"
    )


Head = tuple[str, Epoch, int, int, int, bytes, int, str | None, str, bytes, bytes, bytes]
"""node, epoch, first, span, time_us, publisher, sequence, to, topics, index, places, lengths"""


def _open(wire: bytes) -> tuple[Head, memoryview, int]:
    """The checked head of an entry's frame, a view of the payloads, and the byte at which they begin."""
    fields, payloads, begin = split(wire)
    match fields:
        case [
            str() as node,
            bytes() as epoch,
            int() as first,
            int() as span,
            int() as time_us,
            bytes() as publisher,
            int() as sequence,
            to,
            str() as topics,
            bytes() as index,
            bytes() as places,
            bytes() as lengths,
            *_,
        ] if (
            (to is None or isinstance(to, str))
            and len(epoch) == len(publisher) == 16
            and bool not in map(type, fields[2:7])  # a bool is an int, too
        ):
            head = (node, Epoch(epoch), first, span, time_us, publisher, sequence, to)
            return (*head, topics, index, places, lengths), payloads, begin
    raise ProtocolError(
        "malformed", "a field in the head of an entry is missing or of a wrong type"
    )
