"""A frame: the codec refuses it, or the frame keeps every rule, can be encoded again, and its batch can be used."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from itertools import pairwise
from typing import Final

from tests.fuzz.targets.rules import keeps_the_rules
from tests.unit.protocol.strategies import same

from pubsubd_protocol.attach import At, Claim, Earliest, FromStart, Remembered, Resume, resolve
from pubsubd_protocol.codec import decode, encode
from pubsubd_protocol.entries import (
    Batch,
    Entry,
    open_entry,
    part_of,
    place_batch,
    read_batch,
    read_entry,
)
from pubsubd_protocol.errors import InvalidTopic, MessageTooLarge, ProtocolError
from pubsubd_protocol.frames import (
    DEFAULT_CLUSTER,
    Attach,
    Attached,
    CursorExpired,
    Fetch,
    Fetched,
    Frame,
    Hello,
    SetFilter,
    Subscribe,
)
from pubsubd_protocol.positions import Epoch, StreamView
from pubsubd_protocol.topics import Filter

MAX_MESSAGE: Final = 2048
"""Small, so that inputs lie on both sides of this limit."""

EPOCH: Final = Epoch(b"E" * 16)
VIEW: Final = StreamView(EPOCH, ((Epoch(bytes(range(16))), 400),), 10, 500)


def check(data: bytes) -> None:
    """Raises only for a fault."""
    try:
        frame = decode(memoryview(data))
    except ProtocolError:
        return
    keeps_the_rules(frame)
    wire = encode(frame)
    again = decode(memoryview(wire))
    assert type(again) is type(frame), "the frame encoded again is another frame"
    assert encode(again) == wire, "the frame encoded again has other bytes"
    if isinstance(frame, Hello) and frame.role != "peer":
        # A client names no cluster of its own; its greeting agrees with any cluster.
        frame = dataclasses.replace(frame, cluster=DEFAULT_CLUSTER, nonce=None)
    if dataclasses.is_dataclass(frame):
        assert again == frame, "the frame encoded again means something else"
    match frame:
        case Batch():
            _batch(read_batch(memoryview(data)))
        case Entry():
            assert wire == data, "an entry travels as it came"
            _entry(read_entry(memoryview(data)))
        case _:
            _used(frame)


def _batch(batch: Batch) -> None:
    try:
        batch.check(MAX_MESSAGE)
    except (ProtocolError, InvalidTopic, MessageTooLarge):
        return
    entry = place_batch(batch, "node-a", EPOCH, 7, 0, bytes(16))
    if batch.to is not None:
        # An unknown publisher is refused before a batch is placed, whichever bytes its name has.
        try:
            decode(memoryview(encode(entry)))
        except ProtocolError:
            entry = place_batch(_undirected(batch), "node-a", EPOCH, 7, 0, bytes(16))
    again = decode(memoryview(encode(entry)))
    assert isinstance(again, Entry)
    assert same(again, entry), "this node places another batch than others read"
    assert (again.first, again.next, again.count) == (7, 7 + batch.count, batch.count)
    keeps_the_rules(again)
    _entry(again)


def _undirected(batch: Batch) -> Batch:
    columns = batch.topics, batch.index, batch.lengths, batch.payloads
    return Batch(batch.sequence, batch.retry, None, *columns)


def _entry(entry: Entry) -> None:
    messages = open_entry(entry)
    count = entry.count
    assert len(messages.index) == len(messages.offsets) == len(messages.lengths) == count
    assert 0 < count <= entry.next - entry.first
    assert entry.first <= messages.offsets[0] <= messages.offsets[-1] < entry.next
    assert all(a < b for a, b in pairwise(messages.offsets)), "offsets go back"
    assert sum(messages.lengths) <= len(messages.frame) - messages.begin, (
        "a payload beyond the frame"
    )
    assert max(messages.index) < len(messages.topics), "a topic that is not there"
    topics = messages.topics
    for wants in (
        topics[-1:].__contains__,
        Filter(["t.>"]).wants,
        lambda topic: topic != topics[0],
    ):
        _part(entry, wants)


def _part(entry: Entry, wants: Callable[[str], bool]) -> None:
    messages = open_entry(entry)
    topics = messages.topics
    kept = [i for i, topic in enumerate(messages.index) if wants(topics[topic])]
    part = part_of(entry, wants)
    if part is None:
        assert not kept, "messages that are wanted are left out"
        return
    if part is entry:
        assert len(kept) == entry.count
        return
    again = decode(memoryview(encode(part)))
    assert isinstance(again, Entry)
    keeps_the_rules(again)
    assert (again.first, again.next) == (entry.first, entry.next), "a part spans other offsets"
    cut = open_entry(again)
    assert list(cut.offsets) == [messages.offsets[i] for i in kept]
    assert [cut.topics[topic] for topic in cut.index] == [topics[messages.index[i]] for i in kept]
    raws = messages.raws()
    assert cut.raws() == [raws[i] for i in kept], "a part has other payloads"


def _used(frame: Frame) -> None:
    """The fields of a frame that a broker uses at once."""
    match frame:
        case Subscribe(patterns) | SetFilter(patterns):
            try:
                wanted = Filter(patterns)
            except InvalidTopic:
                return
            wanted.wants("orders.created")
        case Attach(claim) | Fetch(_, claim):
            _resolved(claim, VIEW)
        case Attached(view) | Fetched(_, view) | CursorExpired(view=view):
            for claim in (FromStart(), Earliest(), Remembered(waiting=True)):
                _resolved(claim, view)


def _resolved(claim: Claim, view: StreamView) -> None:
    answer = resolve(claim, view, view.place(12))
    if isinstance(answer, Resume):
        reach = view.reach(claim.position.epoch) if isinstance(claim, At) else None
        known = 12 if isinstance(claim, Remembered) else 0
        assert view.oldest <= answer.offset <= max(view.next, reach or 0, known), "resumed outside"
    else:
        assert answer.next == view.next
