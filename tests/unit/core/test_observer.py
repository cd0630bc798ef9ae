"""An observer hears what a node does, in the order in which it does it."""

from __future__ import annotations

from collections.abc import Collection

from tests.unit.core.net import Net, Publisher

from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_broker.core.links.peer_recovery import RecoveryEnd
from pubsubd_broker.core.observer import Observer
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import At, Claim, Expired, Reason, Remembered, Resume, Verdict
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Position, StreamView


class Listener(Observer):
    """Writes down all that it hears."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ...]] = []

    def take(self) -> list[tuple[object, ...]]:
        heard, self.heard = self.heard, []
        return heard

    def peers_answered(self, recovered: Recovered | None, ends: Collection[RecoveryEnd]) -> None:
        found = None if recovered is None else recovered.next
        self.heard.append(("peers answered", found, len(ends)))

    def stream_began(self, stream: Stream, recovered: Recovered | None) -> None:
        self.heard.append(("stream began", stream.next, recovered is not None))

    def published(self, entry: Entry) -> None:
        self.heard.append(("published", entry.first))

    def consumer_attached(self, claim: Claim, registered: Position | None, answer: Verdict) -> None:
        cursor = None if registered is None else registered.offset
        self.heard.append(("consumer attached", type(claim), cursor, answer))

    def consumer_overrun(self, expired: Expired) -> None:
        self.heard.append(("consumer overrun", expired.reason, expired.missed))

    def registration_expired(self, producer: str, view: StreamView) -> None:
        self.heard.append(("registration expired", producer, view.next))

    def producer_met(self, producer: str) -> None:
        self.heard.append(("producer met", producer))


def watched(*names: str) -> tuple[Net, list[Listener]]:
    net, listeners = Net(), [Listener() for _ in names]
    net.observers.update(zip(names, listeners, strict=True))
    return net, listeners


def test_a_producer_tells_of_its_stream_consumers_and_publishes() -> None:
    net, (listener,) = watched("a")
    net.start("a", ring_messages=3)
    net.start("b", peers=["a"])
    net.run()
    Publisher(net, "a").fill(2)
    assert listener.take() == [
        ("stream began", 0, False),
        ("consumer attached", Remembered, None, Resume(0)),
        ("published", 0),
        ("published", 1),
    ]
    net.advance(1)
    net.part("a", "b")
    Publisher(net, "a").fill(4)
    net.heal("a", "b")
    net.advance(2)
    overrun = Expired(Reason.OVERWRITTEN, 6, 4)
    assert listener.take()[4:] == [("consumer attached", At, 2, overrun)]
    producer = net.link("b", "a").ends[1]
    producer.writable = False
    Publisher(net, "a").fill(4)
    producer.writable = True
    producer.wake()
    net.run()
    assert listener.take()[4:] == [("consumer overrun", Reason.OVERWRITTEN, 4)]


def test_a_consumer_tells_of_met_producers_and_expired_registrations() -> None:
    net, (listener,) = watched("b")
    net.start("a", ring_messages=3)
    net.start("b", peers=["a"])
    net.run()
    assert listener.take() == [("stream began", 0, False), ("producer met", "a")]
    net.part("a", "b")
    Publisher(net, "a").fill(4)
    net.heal("a", "b")
    net.advance(2)
    assert listener.take() == [("registration expired", "a", 4)]


def test_a_stream_that_peers_give_begins_when_they_have_answered() -> None:
    net, (listener,) = watched("a")
    net.start("a", peers=["b"], recover_from_peers=True)
    net.start("b", peers=["a"])
    net.advance(5)
    Publisher(net, "a").fill(2)
    net.advance(1)
    listener.take()
    net.restart("a")
    assert listener.take() == []
    net.advance(5)
    assert listener.take()[:2] == [("peers answered", 2, 1), ("stream began", 2, True)]
