"""Producers that are gone for good, as recreated containers are: their replicas make room, and no session loses in silence."""

from __future__ import annotations

import pytest
from tests.unit.core.journal.disk import Disk
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.limits import SECOND_NS, Limits
from pubsubd_broker.core.links.departed import Departed, least_needed
from pubsubd_broker.core.node import Node
from pubsubd_protocol.frames import Health
from pubsubd_protocol.positions import Position

TTL_S = 60


def reader_of(net: Net, *addresses: str, producers: int = 2, disk: Disk | None = None) -> Node:
    """A node `a` that dials these addresses and has room for `producers` producers."""
    limits = Limits(producers=producers)
    return net.start(
        "a", peers=addresses, disk=disk, limits=limits, cursor_ttl_ns=TTL_S * SECOND_NS
    )


def recreate(net: Net, address: str, name: str, disk: Disk | None = None) -> None:
    """The container at `address` is replaced by one with another name."""
    if address in net.nodes:
        net.stop(address)
    net.start(address, called=name, disk=disk)
    net.advance(6)


def publish(net: Net, address: str, count: int) -> None:
    """Publishes `count` batches. Their answers wait for the disk, if the node keeps a journal."""
    publisher = Publisher(net, address)
    for sequence in range(1, count + 1):
        publisher.send(batch_of([("t", b"")], sequence=sequence))
    if net.nodes[address].keeper is not None:
        net.write(address)


# The rule.

LONG_AGO, LATELY = -TTL_S - 1, -TTL_S


@pytest.mark.parametrize(
    ("departed", "goes"),
    [
        ([Departed("b", False, LATELY), Departed("c", False, LONG_AGO)], "c"),
        ([Departed("b", True, LONG_AGO - 1), Departed("c", False, LATELY)], "c"),
        ([Departed("b", True, LONG_AGO - 1), Departed("c", True, LONG_AGO - 2)], "c"),
        ([Departed("b", True, LATELY)], None),
        ([], None),
    ],
    ids=["away longest", "needed by no session", "all needed", "needed and away lately", "none"],
)
def test_the_replica_that_means_least_goes(departed: list[Departed], goes: str | None) -> None:
    least = least_needed(departed, ttl_ns=TTL_S, now_ns=0)
    assert (least and least.producer) == goes


# In a node.


def test_a_peer_renamed_at_each_start_is_read_under_every_name() -> None:
    net = Net()
    node = reader_of(net, "x")
    subscriber = Subscriber(net, "a")
    for number in range(6):
        recreate(net, "x", f"container-{number}")
        publish(net, "x", 2)
        assert subscriber.of_node(f"container-{number}")[-2:] == [0, 1]
    assert list(node.peers.replicas) == ["container-4", "container-5"]
    said = net.said("a", "producer.given_up")
    assert [each["producer"] for each in said] == [f"container-{n}" for n in range(4)]
    assert said[0] == {
        "producer": "container-0",
        "for_producer": "container-2",
        "limit": 2,
        "needed": False,
    }
    assert node.events.counters.connections_refused["too_many_producers"] == 0
    assert not node.peers.knows("container-0")


def test_nothing_is_kept_of_a_producer_that_was_given_up_but_places() -> None:
    net = Net()
    node = reader_of(net, "x")
    Subscriber(net, "a")
    for number in range(6):
        recreate(net, "x", f"container-{number}")
        publish(net, "x", 2)
    assert set(node.events.counters.messages_received) == {"container-4", "container-5"}
    assert set(node.events.counters.bytes_received) == {"container-4", "container-5"}
    assert set(node.peers.health.report((), 0)) == {"container-4"}
    (session,) = node.sessions.list()
    assert set(session.readings) == {"a", "container-4", "container-5"}


@pytest.mark.parametrize("named", [False, True])
def test_a_session_goes_on_when_a_given_up_producer_is_back(
    named: bool,
) -> None:
    net, disk = Net(), Disk(Fsync.ALWAYS)
    node = reader_of(net, "x", "y", producers=2)
    subscriber = Subscriber(net, "a", session="n" if named else None)
    recreate(net, "x", "p0", disk)
    publish(net, "x", 3)
    if named:
        subscriber.acknowledge("p0")
    for name in ("p1", "p2"):
        recreate(net, "x", name)
    assert "p0" not in node.peers.replicas
    assert "p0" in subscriber.positions
    late = Subscriber(net, "a")
    assert "p0" not in late.positions
    net.stop("x")
    net.start("y", called="p0", disk=disk)
    net.advance(6)
    assert "p0" in node.peers.replicas
    publish(net, "y", 2)
    assert subscriber.of_node("p0") == ["told 0", 0, 1, 2, 3, 4]
    assert late.of_node("p0")[-2:] == [3, 4]


@pytest.mark.parametrize("needed", [False, True])
def test_a_producer_that_was_given_up_is_not_heard_before_it_is_back(needed: bool) -> None:
    net, disk = Net(), Disk(Fsync.ALWAYS)
    reader_of(net, "x", producers=1)
    # Messages that a name has not acknowledged are needed.
    subscriber = Subscriber(net, "a", session="n" if needed else None)
    recreate(net, "x", "p0", disk)
    publish(net, "x", 3)
    recreate(net, "x", "p1")
    if needed:
        net.advance(TTL_S)
    assert [each["needed"] for each in net.said("a", "producer.given_up")] == [needed]
    told = [health.lost.keys() for health in subscriber.of(Health)]
    lost = next(n for n, nodes in enumerate(told) if "p0" in nodes)
    assert all("p0" in nodes for nodes in told[lost:])
    recreate(net, "x", "p0", disk)
    assert "p0" not in subscriber.of(Health)[-1].lost


def give_up_p0(net: Net, disk: Disk) -> None:
    """Has p0 publish 3 messages at x, and then two other names take its address."""
    recreate(net, "x", "p0", disk)
    publish(net, "x", 3)
    for name in ("p1", "p2"):
        recreate(net, "x", name)


def test_a_session_that_reconnects_meanwhile_goes_on_as_well() -> None:
    net, disk = Net(), Disk(Fsync.ALWAYS)
    reader_of(net, "x", "y", producers=2)
    subscriber = Subscriber(net, "a")
    give_up_p0(net, disk)
    subscriber.cut()
    again = subscriber.again()
    net.stop("x")
    net.start("y", called="p0", disk=disk)
    net.advance(6)
    publish(net, "y", 2)
    assert again.of_node("p0") == [3, 4]


def test_a_session_is_told_losses_of_a_given_up_producer() -> None:
    net, disk = Net(), Disk(Fsync.ALWAYS)
    reader_of(net, "x", "y", producers=2)
    subscriber = Subscriber(net, "a")
    give_up_p0(net, disk)
    net.stop("x")
    net.start("z", called="p0", disk=disk, ring_messages=10)
    publish(net, "z", 30)
    net.stop("z")
    net.start("y", called="p0", disk=disk, ring_messages=10)
    net.advance(6)
    assert subscriber.of_node("p0")[-1] == "overwritten"


def test_unread_messages_are_given_up_only_after_the_ttl_and_told() -> None:
    net = Net()
    node = reader_of(net, "x", producers=1)
    subscriber = Subscriber(net, "a")
    recreate(net, "x", "p0")
    subscriber.stop_reading()
    publish(net, "x", 5)
    recreate(net, "x", "p1")
    assert node.events.counters.connections_refused["too_many_producers"] > 0
    assert list(node.peers.replicas) == ["p0"]
    net.advance(TTL_S + 6)
    assert list(node.peers.replicas) == ["p1"]
    assert net.said("a", "producer.given_up")[0]["needed"]
    subscriber.read_on()
    net.advance(1)
    assert subscriber.of_node("p0") == ["told 0", "overwritten"]
    assert subscriber.positions["p0"].offset == 5
    (session,) = node.sessions.list()
    assert "p0" not in session.readings, "its place is kept, and nothing else"


def test_a_names_unacknowledged_messages_are_needed() -> None:
    net = Net()
    node = reader_of(net, "x", producers=1)
    subscriber = Subscriber(net, "a", session="n")
    recreate(net, "x", "p0")
    publish(net, "x", 5)
    net.advance(1)
    recreate(net, "x", "p1")
    assert list(node.peers.replicas) == ["p0"]
    subscriber.acknowledge("p0")
    net.advance(6)
    assert list(node.peers.replicas) == ["p1"]
    assert not net.said("a", "producer.given_up")[0]["needed"]


def test_a_named_session_that_is_away_is_told_when_it_is_back() -> None:
    net = Net()
    node = reader_of(net, "x", producers=1)
    subscriber = Subscriber(net, "a", session="n")
    recreate(net, "x", "p0")
    subscriber.stop_reading()
    publish(net, "x", 5)
    recreate(net, "x", "p1")
    net.advance(TTL_S / 2)
    subscriber.cut()
    net.advance(TTL_S / 2 + 6)
    assert list(node.peers.replicas) == ["p1"]
    back = Subscriber(net, "a", session="n")
    assert back.resumed
    assert back.of_node("p0") == ["overwritten"]
    assert back.positions["p0"].offset == 5


def test_an_untold_session_gets_all_if_the_producer_is_back_first() -> None:
    net, disk = Net(), Disk(Fsync.ALWAYS)
    reader_of(net, "x", producers=1)
    subscriber = Subscriber(net, "a")
    recreate(net, "x", "p0", disk)
    subscriber.stop_reading()
    publish(net, "x", 5)
    recreate(net, "x", "p1")
    net.advance(TTL_S + 6)
    assert net.said("a", "producer.given_up")
    recreate(net, "x", "p0", disk)
    net.advance(TTL_S)
    assert [each["producer"] for each in net.said("a", "producer.given_up")] == ["p0", "p1"]
    subscriber.read_on()
    publish(net, "x", 1)
    assert subscriber.of_node("p0") == ["told 0", 0, 1, 2, 3, 4, 5]


def test_an_unneeded_replica_goes_after_its_time_even_with_room() -> None:
    net = Net()
    node = reader_of(net, "x", producers=100)
    reader, slow = Subscriber(net, "a"), Subscriber(net, "a", "rare")
    recreate(net, "x", "p0")
    publish(net, "x", 2)
    recreate(net, "x", "p1")
    publish(net, "x", 2)
    slow.stop_reading()
    Publisher(net, "x").publish("unread", topic="rare")
    recreate(net, "x", "p2")
    assert list(node.peers.replicas) == ["p0", "p1", "p2"]
    net.advance(TTL_S + 6)
    assert list(node.peers.replicas) == ["p1", "p2"], "a session needs what is left of p1"
    assert [each["producer"] for each in net.said("a", "producer.removed")] == ["p0"]
    assert reader.of_node("p0") == ["told 0", 0, 1]
    slow.read_on()
    assert slow.payloads == [b"unread"]
    net.advance(6)
    assert list(node.peers.replicas) == ["p2"]


def test_a_producer_is_kept_while_no_other_answers_at_its_address() -> None:
    net = Net()
    node = reader_of(net, "x", "y", producers=1)
    recreate(net, "x", "p0")
    net.stop("x")
    net.start("y", called="p1")
    net.advance(TTL_S + 60)
    assert list(node.peers.replicas) == ["p0"]
    assert node.events.counters.connections_refused["too_many_producers"] > 0
    assert "1 streams are known already" in str(node.targets[1].error)


def test_a_linked_producer_is_kept() -> None:
    net = Net()
    node = reader_of(net, "x", "y", producers=1)
    recreate(net, "x", "p0")
    net.start("y", called="p1")
    net.advance(TTL_S + 60)
    assert list(node.peers.producers) == list(node.peers.replicas) == ["p0"]
    assert not net.said("a", "producer.given_up")


def test_a_name_keeps_its_place_in_a_given_up_stream_over_a_restart() -> None:
    net, disk, own = Net(), Disk(Fsync.ALWAYS), Disk(Fsync.INTERVAL)
    reader_of(net, "x", "y", disk=own)
    subscriber = Subscriber(net, "a", session="n")
    recreate(net, "x", "p0", disk)
    publish(net, "x", 3)
    subscriber.acknowledge("p0")
    for name in ("p1", "p2"):
        recreate(net, "x", name)
    assert "p0" not in net.nodes["a"].peers.replicas
    net.write("a")
    net.restart("a")
    net.stop("x")
    net.start("y", called="p0", disk=disk)
    net.advance(6)
    back = Subscriber(net, "a", session="n")
    assert back.positions["p0"].offset == 3
    assert isinstance(back.positions["p0"], Position)
    publish(net, "y", 1)
    assert back.of_node("p0") == [3]
