"""Lies of applications: batches of publishers, acknowledgements of sessions."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from tests.simulation.broker_socket import BrokerSocket
from tests.simulation.liars.lies import FALSE, Falsehood
from tests.simulation.liars.producers import TOO_LONG, UNKNOWN
from tests.simulation.publisher import Publisher
from tests.simulation.subscriber import Subscriber

from pubsubd_broker.core.links.publisher_end import PublisherEnd
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.sessions.session import Session
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import MAGIC, VERSION, Ack, Hello, Subscribe
from pubsubd_protocol.positions import UNREPORTED_LOSS, Position

if TYPE_CHECKING:
    from tests.simulation.world import World

_FRESH: Final = 10**6
"""A sequence that an honest publisher does not reach in a run."""


def _batch(
    sequence: int = _FRESH,
    *,
    retry: bool = False,
    topics: str = "a",
    index: bytes = b"",
    lengths: bytes | None = None,
) -> Batch:
    lengths = pack_numbers("I", [len(FALSE)]) if lengths is None else lengths
    return Batch(sequence, retry, None, topics, index, lengths, FALSE)


def _malformed(batch: Batch) -> Callable[[PublisherEnd], Falsehood | None]:
    return lambda end: Falsehood("malformed", (batch,))


def _last(end: PublisherEnd, back: int, *, retry: bool) -> Falsehood | None:
    """A batch with the number of the last one on this connection, or of one before it."""
    sequence = end.sequence - back
    return Falsehood("sequence", (_batch(sequence, retry=retry),)) if sequence >= 0 else None


_PUBLISHER: Final[Mapping[str, Callable[[PublisherEnd], Falsehood | None]]] = {
    "a sequence again": lambda end: _last(end, 0, retry=False),
    "a sequence again as a retry": lambda end: _last(end, 0, retry=True),
    "a sequence that goes back": lambda end: _last(end, 1, retry=False),
    "lengths that are too short": _malformed(_batch(lengths=pack_numbers("I", [1]))),
    "lengths that are too long": _malformed(_batch(lengths=pack_numbers("I", [2**32 - 1]))),
    "more lengths than payloads": _malformed(_batch(lengths=pack_numbers("I", [len(FALSE), 1]))),
    "half a length": _malformed(_batch(lengths=bytes(3))),
    "no message": _malformed(_batch(lengths=b"")),
    "an index beyond its topics": _malformed(_batch(topics="a\nb", index=pack_numbers("H", [2]))),
    "an index of another length": _malformed(
        _batch(topics="a\nb", index=pack_numbers("H", [0, 1]))
    ),
    "topics without an index": _malformed(_batch(topics="a\nb")),
    "what a session says": lambda end: Falsehood(
        "unexpected_frame", (Ack("elsewhere", UNREPORTED_LOSS),)
    ),
    "a second greeting": lambda end: Falsehood(
        "unexpected_frame", (Hello(MAGIC, VERSION, VERSION, "publisher", "", bytes(16)),)
    ),
    "a frame that is too long": lambda end: Falsehood("frame_length", (TOO_LONG,)),
    "a frame of no kind": lambda end: Falsehood("unknown_frame", (UNKNOWN,)),
}


class Reads:
    """A session as its broker knows it: its place in its node's own stream, whose epoch lasts as long as the broker."""

    def __init__(self, session: Session, node: str) -> None:
        self.node = node
        own = session.readings[node]
        epoch, lineage = own.source.log.view.epoch, own.source.log.view.lineage
        stands = own.position
        # Under a lineage a reader may still stand in an earlier epoch.
        whole = stands is not None and stands.epoch == epoch and not lineage
        self.stands = stands if whole else None
        acknowledged = session._acknowledged.get(node)
        same = acknowledged is not None and acknowledged.epoch == epoch
        self.acknowledged = acknowledged if same else None


def _has_more(reads: Reads) -> Falsehood | None:
    at = reads.stands
    if at is None:
        return None
    return Falsehood("ack", (Ack(reads.node, Position(at.epoch, at.offset + 10**9)),))


def _has_less(reads: Reads) -> Falsehood | None:
    at = reads.acknowledged
    if at is None or not at.offset:
        return None
    return Falsehood("ack", (Ack(reads.node, Position(at.epoch, at.offset - 1)),))


_SESSION: Final[Mapping[str, Callable[[Reads], Falsehood | None]]] = {
    "has what was not sent": _has_more,
    "has less than before": _has_less,
    "stands in the stream of an unknown node": lambda reads: Falsehood(
        "ack", (Ack("elsewhere", UNREPORTED_LOSS),)
    ),
    "subscribes twice": lambda reads: Falsehood(
        "unexpected_frame", (Subscribe((">",), "latest", None, None, None, True),)
    ),
    "publishes": lambda reads: Falsehood("unexpected_frame", (_batch(),)),
    "a frame that is too long": lambda reads: Falsehood("frame_length", (TOO_LONG,)),
    "a frame of no kind": lambda reads: Falsehood("unknown_frame", (UNKNOWN,)),
}

PUBLISHERS: Final = {f"publisher: {name}": lie for name, lie in _PUBLISHER.items()}
SESSIONS: Final = {f"session: {name}": lie for name, lie in _SESSION.items()}


def publisher_lies(world: World, name: str, chance: random.Random) -> bool:
    """A publisher tells the lie, if one can, and goes on over another connection."""
    publishers = list(world.publishers)
    chance.shuffle(publishers)
    for publisher in publishers:
        receiver = _broker_of(publisher)
        end = receiver.connection.end if receiver is not None else None
        if receiver is None or not isinstance(end, PublisherEnd):
            continue
        false = PUBLISHERS[name](end)
        if false is not None:
            _tell(world, name, false, publisher, receiver)
            return True
    return False


def session_lies(world: World, name: str, chance: random.Random) -> bool:
    """A subscriber tells the lie, if one can, and goes on over another connection."""
    subscribers = [s for s in world.subscribers if s.undisturbed]
    chance.shuffle(subscribers)
    for subscriber in subscribers:
        receiver = _broker_of(subscriber)
        end = receiver.connection.end if receiver is not None else None
        if receiver is None or not isinstance(end, SessionEnd) or end.session is None:
            continue
        false = SESSIONS[name](Reads(end.session, subscriber.broker.name))
        if false is not None:
            _tell(world, name, false, subscriber, receiver)
            return True
    return False


def _broker_of(client: Publisher | Subscriber) -> BrokerSocket | None:
    """The broker's end of the client's connection, if the client can send now."""
    socket = client.socket
    if socket is None or not socket.alive or socket.wire.broken:
        return None
    receiver = socket.wire.out.receiver
    assert isinstance(receiver, BrokerSocket)
    return None if receiver.connection.closing else receiver


def _tell(
    world: World,
    name: str,
    false: Falsehood,
    client: Publisher | Subscriber,
    receiver: BrokerSocket,
) -> None:
    socket = client.socket
    assert socket is not None
    world.lies.tell(name, false, socket.wire.out, receiver)
    socket.alive = False
    client.lost(socket)
