"""Small clusters that tests of clients and links begin with."""

from __future__ import annotations

from typing import Any

from tests.unit.core.net import Net, Publisher, RawClient, Subscriber

from pubsubd_broker.core.limits import Limits
from pubsubd_broker.core.node import Node
from pubsubd_protocol.attach import At, Earliest, FromStart, Remembered, Resume, resolve
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Attached,
)
from pubsubd_protocol.positions import Epoch, Position


def alone(ring: int = 100, **options: Any) -> Net:
    net = Net()
    net.start("a", ring_messages=ring, **options)
    return net


def bounded(**limits: int) -> tuple[Net, Node]:
    """A node `a` with these limits."""
    net = Net()
    return net, net.start("a", limits=Limits(**limits))


def refused(node: Node, code: str) -> int:
    return node.events.counters.connections_refused[code]


def pair(ring: int = 100, **options: Any) -> Net:
    """`b`, which has the options, pulls `a`'s stream."""
    net = alone(ring)
    net.start("b", peers=["a"], **options)
    net.run()
    return net


def acknowledged_three_of_five() -> Net:
    """`b` has a named session that acknowledged up to 3, told to `a`; then `b` is gone."""
    net = pair()
    subscriber = Subscriber(net, "b", session="s")
    publisher = Publisher(net, "a")
    publisher.fill(5)
    subscriber.acknowledge("a", Position(net.nodes["a"].epoch, 3))
    net.advance(1)
    assert named(net, "a") == {"s": 3}
    net.stop("b")
    return net


LOST = "lost"


def named(net: Net, producer: str) -> dict[str, int | str]:
    """Places of `b`'s named sessions at the producer: an offset in its present history, or `LOST`."""
    node = net.nodes[producer]
    found = node.registry.get("b")
    assert found is not None
    view = node.stream.view
    return {
        name: place.offset if isinstance(resolve(At(place), view), Resume) else LOST
        for name, place in found.named.items()
    }


def registered(net: Net, consumer: str = "b", producer: str = "a") -> int | None:
    found = net.nodes[producer].registry.get(consumer)
    return found.cursor.offset if found is not None else None


def reconnected(net: Net, publisher: Publisher) -> Publisher:
    """The same life of a publisher over another connection, to the life of `a` that it spoke to before."""
    return Publisher(net, "a", life=publisher.life, spoke_to=net.nodes["a"].epoch)


class Consumer(RawClient):
    """A consumer broker that is played by the test, frame by frame."""

    def __init__(self, net: Net, name: str = "b", *, life: bytes = b"") -> None:
        super().__init__(net, "a", "peer", peer=name, life=life)

    def attach(self, claim: At | FromStart | Earliest | Remembered) -> Attached:
        self.send(Attach(claim))
        return self.of(Attached)[-1]

    def acknowledge(self, offset: int, epoch: Epoch | None = None) -> None:
        self.send(Ack("a", Position(epoch or self.welcome.epoch, offset)))

    @property
    def offsets(self) -> list[int]:
        return [entry.first for entry in self.of(Entry)]


def producer(published: int = 10, ring: int = 4) -> tuple[Net, Epoch]:
    net = Net()
    life = net.start("a", ring_messages=ring).epoch
    Publisher(net, "a").fill(published)
    return net, life


def attached_consumer(published: int = 5) -> tuple[Net, Consumer]:
    net, life = producer(published, ring=100)
    consumer = Consumer(net)
    consumer.attach(At(Position(life, 0)))
    consumer.acknowledge(3)
    return net, consumer
