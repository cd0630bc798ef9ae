"""Late frames, second links, and names of brokers."""

from __future__ import annotations

from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import Consumer, pair, producer, registered

from pubsubd_broker.core.status import not_ready
from pubsubd_protocol.attach import At
from pubsubd_protocol.frames import (
    Attach,
)
from pubsubd_protocol.positions import Position


def test_a_new_link_replaces_the_old_and_ignores_its_late_frames() -> None:
    net, life = producer(5, ring=100)
    old = Consumer(net)
    old.attach(At(Position(life, 0)))
    new = Consumer(net, life=old.life)
    new.attach(At(Position(life, 3)))
    assert (old.refusal, new.refusal) == ("replaced", None)
    new.acknowledge(4)
    old.pipe.open = True
    old.acknowledge(5)
    assert registered(net) == 4
    assert list(net.nodes["a"].peers.consumers) == ["b"]
    assert [row for row in net.nodes["a"].registry.items() if row[1].connected]


def test_the_late_end_of_an_old_link_changes_nothing() -> None:
    net, life = producer(5, ring=100)
    old = Consumer(net)
    old.attach(At(Position(life, 0)))
    net.pipes.remove(old.pipe)  # its last words are lost, and no end notices yet
    new = Consumer(net, life=old.life)
    new.attach(At(Position(life, 3)))
    new.acknowledge(3)
    old.connection.lost(net.now, 0.5)
    found = net.nodes["a"].registry.get("b")
    assert found is not None
    assert found.connected
    assert net.nodes["a"].peers.consumers["b"].acknowledged == 3


def test_a_second_broker_of_one_name_is_refused_on_both_sides() -> None:
    net = pair()
    net.start("twin", peers=["a"], called="b")
    subscriber = Subscriber(net, "a")
    net.run()
    refused = net.said("a", "connection.refused")[0]
    assert refused["code"] == "name_in_use"
    unreachable = net.said("twin", "peer.unreachable")[0]
    assert "name_in_use" in str(unreachable["error"])
    assert "--node" in str(unreachable["error"])
    net.advance(5)
    assert len(net.said("twin", "peer.unreachable")) == 1
    assert net.linked("b", "a")
    assert subscriber.frames


def test_the_second_of_one_name_to_attach_is_refused() -> None:
    net, life = producer(5, ring=100)
    first, second = Consumer(net), Consumer(net)
    assert (first.refusal, second.refusal) == (None, None)
    first.attach(At(Position(life, 0)))
    second.send(Attach(At(Position(life, 0))))
    assert (first.refusal, second.refusal) == (None, "name_in_use")
    assert second.offsets == []


def test_a_name_is_free_again_when_its_holder_is_dead() -> None:
    net = pair()
    net.stop("b", silently=True)
    net.start("b", peers=["a"])
    net.run()
    assert net.said("a", "connection.refused")[-1]["code"] == "name_in_use"
    net.advance(20)
    assert net.linked("b", "a")
    assert "a" in net.nodes["b"].peers.replicas


def test_a_broker_with_the_name_of_the_producer_itself_is_refused() -> None:
    net, _ = producer()
    assert Consumer(net, "a").refusal == "name_in_use"


def test_a_broker_that_dials_itself_tries_again_once_a_minute() -> None:
    net = Net()
    node = net.start("a", peers=["a"])
    net.advance(150)
    (target,) = node.targets
    assert target.is_self
    assert not target.linked
    assert not_ready(node) == []
    assert len(node.connections) == 0
    assert node.events.counters.connections_refused["self"] == 3
    assert len(net.said("a", "connection.refused")) == 1


def test_two_addresses_of_one_node_make_one_link_and_a_spare() -> None:
    net = Net()
    node = net.start("a")
    net.nodes["alias"] = node
    net.notices["alias"] = []
    b = net.start("b", peers=["a", "alias"])
    net.advance(5)
    assert sum(target.linked for target in b.targets) == 1
    assert not_ready(b) == []
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.publish()
    net.unreachable.add(("b", "a"))
    net.link("b", "a").cut()
    net.advance(10)
    publisher.publish()
    assert subscriber.of_node("a") == [0, 1]


def test_both_dial_each_other_and_that_is_two_one_way_links() -> None:
    net = Net()
    net.start("a", peers=["b"])
    net.start("b", peers=["a"])
    net.run()
    assert net.linked("a", "b")
    assert net.linked("b", "a")
    assert len(net.pipes) == 2


def test_a_peer_name_that_is_none_is_a_violation() -> None:
    net, _ = producer()
    assert Consumer(net, "no name!").refusal == "protocol"
