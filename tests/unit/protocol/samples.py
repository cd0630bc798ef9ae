"""A full example of every frame, with every optional field set. The test vectors were made of these."""

from __future__ import annotations

from tests.unit.protocol.strategies import batch_of

from pubsubd_protocol import frames
from pubsubd_protocol.attach import At, Reason, Remembered, Resume
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry, part_of, place_batch
from pubsubd_protocol.positions import Epoch, Position, StreamView

EPOCH = Epoch(bytes(range(16)))
EARLIER = Epoch(bytes(range(16, 32)))
LIFE = bytes(range(0xF0, 0x100))
NONCE = bytes(range(0x40, 0x60))
VIEW = StreamView(EPOCH, ((EARLIER, 40),), 12, 345)
AT_300 = Position(EPOCH, 300)

ONE_TOPIC = batch_of([("orders.created", b"one"), ("orders.created", b"two")], sequence=7)
SEVERAL_TOPICS = batch_of(
    [("orders.created", b"one"), ("room:42", b""), ("orders.created", b"three")], sequence=8
)
DIRECTED = batch_of([("cache.drop", b"\x00\xff")], sequence=9, retry=True, to="node-b")


def placed(first: int = 300) -> Entry:
    """Three messages over two topics."""
    return place_batch(SEVERAL_TOPICS, "node-a", EPOCH, first, 1_732_350_000_123_456, LIFE)


def part() -> Entry:
    """The part of `placed()` that a session with the filter "orders.created" gets."""
    cut = part_of(placed(), lambda topic: topic == "orders.created")
    assert cut is not None
    return cut


SAMPLES: dict[str, frames.Frame] = {
    "Hello": frames.Hello("pubsubd", 1, 1, "peer", "node-b", LIFE, EPOCH, "blue", NONCE),
    "Challenge": frames.Challenge("node-a", EPOCH, NONCE),
    "Proof": frames.Proof(bytes(reversed(NONCE))),
    "Welcome": frames.Welcome(
        1,
        "node-a",
        EPOCH,
        1_048_576,
        16_777_216,
        64,
        1000,
        "blue",
        100,
        80,
        ("a.>", "b"),
        2000,
        6000,
    ),
    "Refused": frames.Refused("name_in_use", "a session named 'projector' is connected"),
    "Batch": SEVERAL_TOPICS,
    "Receipt": frames.Receipt(8, EPOCH, 300),
    "Rejected": frames.Rejected(8, "too_large", "a message is 2000 bytes", 2000, 1000),
    "Subscribe": frames.Subscribe(
        ("orders.>", "rooms.*"),
        "latest",
        {"node-a": AT_300},
        EPOCH,
        "projector",
        False,
        {"node-a": Position(EPOCH, 298)},
        EARLIER,
    ),
    "Subscribed": frames.Subscribed({"node-a": AT_300}, EPOCH, True, {"node-b": 1500}),
    "SetFilter": frames.SetFilter(("orders.>",)),
    "FilterSet": frames.FilterSet({"node-a": AT_300}),
    "StreamPosition": frames.StreamPosition("node-b", Position(EARLIER, 0)),
    "Entry": placed(),
    "Skip": frames.Skip("node-a", EPOCH, 303, 310),
    "CursorExpired": frames.CursorExpired("node-a", Reason.OVERWRITTEN, 37, VIEW),
    "Ack": frames.Ack(
        "node-a",
        AT_300,
        {"projector": Position(EPOCH, 290), "gone": None},
        True,
        {"projector": {"node-b": Position(EARLIER, 7)}},
        EPOCH,
    ),
    "Health": frames.Health({"node-b": 1500}),
    "Attach": frames.Attach(At(AT_300)),
    "Attached": frames.Attached(
        VIEW,
        Resume(300),
        Position(EPOCH, 299),
        {"projector": Position(EPOCH, 290)},
        {"projector": {"node-b": Position(EARLIER, 7)}},
    ),
    "Fetch": frames.Fetch(5, Remembered(waiting=True), 65_536),
    "Fetched": frames.Fetched(5, VIEW, Reason.AHEAD, 2, (EARLIER,)),
    "Heartbeat": frames.Heartbeat(345),
    "Query": frames.Query("drop_cursor", "node-c"),
    "Report": frames.Report('{"dropped":true}'),
}

KINDS = {name: encode(frame)[5] for name, frame in SAMPLES.items()}
"""Every frame's kind: the first element of its array, behind the length and the array's own byte."""
