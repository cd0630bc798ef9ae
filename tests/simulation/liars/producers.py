"""Lies of a producer about its stream: frames that do not follow on those before."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Final

from tests.simulation.liars.end import LyingEnd
from tests.simulation.liars.lies import FALSE, Falsehood
from tests.simulation.wires import Wire

from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import Reason, Resume
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch, Entry, place_batch
from pubsubd_protocol.frames import (
    Attached,
    CursorExpired,
    Fetched,
    Heartbeat,
    Receipt,
    Skip,
    Subscribed,
    Welcome,
)
from pubsubd_protocol.positions import Epoch, StreamView

TOO_FAR: Final = 2**60

TOO_LONG: Final = b"\xff\xff\xff\xf0"
"""The prefix of a frame of 4 GiB."""

UNKNOWN: Final = b"\x00\x00\x00\x02\x91\x63"


def false_entry(node: str, epoch: Epoch, first: int, span: int = 1, to: str | None = None) -> Entry:
    """An entry that is right in itself."""
    lengths = pack_numbers("I", [len(FALSE)] * span)
    batch = Batch(1, False, to, "a", b"", lengths, FALSE * span)
    return place_batch(batch, node, epoch, first, 0, bytes(16))


class Producing(LyingEnd):
    """A link over which a stream goes, from its producer's view: all before `next` has been sent."""

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire.back)

    @property
    def possible(self) -> bool:
        """Whether a lie can be told: the consumer has attached, and all frames of the producer are on their way."""
        end, receiver = self.liar.connection.end, self.receiver.connection
        return (
            isinstance(end, ProducerEnd)
            and end._cursor is not None
            and isinstance(receiver.end, ConsumerEnd)
            and self.believed
        )

    def begin(self) -> None:
        end, consumer = self.liar.connection.end, self.receiver.connection.end
        assert isinstance(end, ProducerEnd)
        assert isinstance(consumer, ConsumerEnd)
        assert end._cursor is not None
        self.view: StreamView = end._stream.view
        self.epoch = self.view.epoch
        self.next = end._cursor.position.offset
        self.replica: Replica | None = consumer.replica

    def entry(self, first: int, span: int = 1) -> Entry:
        return false_entry(self.node, self.epoch, first, span)


def _overlap(at: Producing) -> Falsehood | None:
    # If a reader resumes inside an entry, its replica is empty, and the first entry may begin before that place.
    if (
        at.replica is None
        or at.replica._empty
        or at.replica.log.newest.next != at.next
        or not at.next
    ):
        return None
    return Falsehood("offset", (at.entry(at.next - 1, 2),))


def _earlier_epoch(at: Producing) -> Falsehood | None:
    for epoch, end in at.view.lineage:
        if end <= at.next:
            return Falsehood("epoch", (false_entry(at.node, epoch, at.next),))
    return None


def _expired(at: Producing, reason: Reason, oldest: int, following: int) -> CursorExpired:
    view = StreamView(at.epoch, at.view.lineage, oldest, following)
    return CursorExpired(at.node, reason, max(0, following - at.next), view)


def _back(at: Producing, *said: CursorExpired | Heartbeat | Entry) -> Falsehood | None:
    return Falsehood("offset", said) if at.next else None


_OTHER: Final = Epoch(b"another history.")

_LIES: Final[Mapping[str, Callable[[Producing], Falsehood | None]]] = {
    "a hole": lambda at: Falsehood("offset", (at.entry(at.next + 1),)),
    "a place again": lambda at: _back(at, at.entry(max(0, at.next - 1))),
    "an overlap": _overlap,
    "another epoch": lambda at: Falsehood("epoch", (false_entry(at.node, _OTHER, at.next),)),
    "an earlier epoch beyond its end": _earlier_epoch,
    "another stream": lambda at: Falsehood(
        "stream", (false_entry("elsewhere", at.epoch, at.next),)
    ),
    "the reader's own stream": lambda at: Falsehood(
        "stream", (false_entry(at.other, at.epoch, at.next),)
    ),
    "a message for somebody else": lambda at: Falsehood(
        "stream", (false_entry(at.node, at.epoch, at.next, to="elsewhere"),)
    ),
    "a message beyond all offsets": lambda at: Falsehood("offset", (at.entry(TOO_FAR),)),
    "a skip over nothing": lambda at: Falsehood(
        "malformed", (Skip(at.node, at.epoch, at.next, at.next),)
    ),
    "a skip backwards": lambda at: Falsehood(
        "malformed", (Skip(at.node, at.epoch, at.next + 2, at.next),)
    ),
    "a skip behind a hole": lambda at: Falsehood(
        "offset", (Skip(at.node, at.epoch, at.next + 3, at.next + 5),)
    ),
    "a skip beyond all offsets": lambda at: Falsehood(
        "offset", (Skip(at.node, at.epoch, at.next, TOO_FAR),)
    ),
    "a skip of another epoch": lambda at: Falsehood(
        "epoch", (Skip(at.node, _OTHER, at.next, at.next + 1),)
    ),
    "a skip of another stream": lambda at: Falsehood(
        "stream", (Skip("elsewhere", at.epoch, at.next, at.next + 1),)
    ),
    "an expiry that goes back": lambda at: _back(
        at, _expired(at, Reason.OVERWRITTEN, 0, max(0, at.next - 1))
    ),
    "an expiry of another stream": lambda at: Falsehood(
        "offset", (CursorExpired("elsewhere", Reason.OVERWRITTEN, 1, at.view),)
    ),
    "an expiry of another epoch": lambda at: Falsehood(
        "offset",
        (CursorExpired(at.node, Reason.STATE_LOST, None, StreamView(_OTHER, (), 0, at.next)),),
    ),
    "an expiry beyond all offsets": lambda at: Falsehood(
        "offset", (_expired(at, Reason.OVERWRITTEN, at.next + 1, TOO_FAR),)
    ),
    "an expiry of what is held": lambda at: Falsehood(
        "attach", (_expired(at, Reason.OVERWRITTEN, at.next, at.next + 1),)
    ),
    "an expiry for another reason": lambda at: Falsehood(
        "attach", (_expired(at, Reason.AHEAD, at.next + 1, at.next + 2),)
    ),
    "a heartbeat below what was sent": lambda at: _back(at, Heartbeat(max(0, at.next - 1))),
    "a heartbeat that goes back": lambda at: Falsehood(
        "offset", (Heartbeat(at.view.next + 10), Heartbeat(at.view.next + 9))
    ),
    "an answer to no fetch": lambda at: Falsehood(
        "fetch", (Fetched(TOO_FAR, at.view, Resume(at.view.next), 0),)
    ),
    "a second answer to the attach": lambda at: Falsehood(
        "unexpected_frame", (Attached(at.view, Resume(at.view.next), None),)
    ),
    "a second welcome": lambda at: Falsehood(
        "unexpected_frame", (Welcome(1, at.node, at.epoch, 2**20, 2**20, 1),)
    ),
    "what a client is told": lambda at: Falsehood(
        "unexpected_frame", (Subscribed({}, bytes(16), False),)
    ),
    "what a publisher is told": lambda at: Falsehood(
        "unexpected_frame", (Receipt(1, at.epoch, at.next),)
    ),
    "a frame that is too long": lambda at: Falsehood("frame_length", (TOO_LONG,)),
    "a frame of no kind": lambda at: Falsehood("unknown_frame", (UNKNOWN,)),
}

PRODUCERS: Final = {f"producer: {name}": lie for name, lie in _LIES.items()}


def lie_of_producer(
    wires: list[Wire], name: str, chance: random.Random
) -> tuple[Producing, Falsehood] | None:
    """Tell the lie over one of these links, if it can be told now."""
    links = [link for link in map(Producing, wires) if link.possible]
    chance.shuffle(links)
    for link in links:
        link.begin()
        false = PRODUCERS[name](link)
        if false is not None:
            return link, false
    return None
