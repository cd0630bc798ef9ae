"""Producers remember where named sessions stand."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Publisher, Subscriber
from tests.unit.core.nets import LOST, acknowledged_three_of_five, alone, named, pair

from pubsubd_broker.core.limits import (
    SECOND_NS,
)
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS
from pubsubd_protocol.positions import UNREPORTED_LOSS, Position


def test_a_name_outlives_its_broker_by_the_producers_registry() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"])
    net.advance(1)
    subscriber = Subscriber(net, "b", session="s")
    assert subscriber.resumed
    assert subscriber.of_node("a") == [3, 4]
    assert subscriber.of_node("b") == ["state_lost"]


def test_a_name_that_is_back_before_the_link_goes_on_too() -> None:
    net = acknowledged_three_of_five()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b", session="s")
    net.unreachable.clear()
    net.advance(5)
    assert subscriber.of_node("a") == ["told 3", 3, 4]
    assert subscriber.of_node("b") == ["state_lost"]


def test_a_revived_name_is_kept_while_its_producer_holds_its_place() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"], cursor_ttl_ns=5 * SECOND_NS)
    net.advance(20)
    back = Subscriber(net, "b", session="s")
    assert (back.of_node("a"), back.of_node("b")) == ([3, 4], ["state_lost"])


def test_a_producer_hears_of_a_loss_after_the_session_was_told() -> None:
    # c knows nothing of the name that a remembers, and holds its own stream's beginning no more.
    net = acknowledged_three_of_five()
    net.start("c", ring_messages=2)
    Publisher(net, "c").fill(5)
    net.start("b", peers=["a", "c"])
    net.advance(1)
    assert named(net, "c") == {}
    back = Subscriber(net, "b", session="s")
    assert back.of_node("c") == ["unseen"]
    net.advance(1)
    assert named(net, "c") == {"s": LOST}
    back.acknowledge("c")
    net.advance(1)
    assert named(net, "c") == {"s": 5}


def test_a_session_with_a_place_is_told_to_producers_at_once() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"])
    net.advance(1)
    here = {"a": Position(net.nodes["a"].epoch, 4)}
    Subscriber(net, "b", session="s", positions=here, born=net.new_epoch(), acknowledged=here)
    net.advance(1)
    assert named(net, "a") == {"s": 4}


def test_a_session_that_was_dropped_is_dropped_at_the_producer_too() -> None:
    net = alone(ring=4)
    net.start("b", peers=["a"], cursor_ttl_ns=5 * SECOND_NS)
    net.run()
    subscriber = Subscriber(net, "b", session="s")
    publisher = Publisher(net, "a")
    publisher.publish()
    subscriber.acknowledge("a")
    subscriber.cut()
    net.part("a", "b")
    publisher.fill(5)
    net.heal("a", "b")
    net.advance(10)
    assert net.said("b", "session.forgotten") == [{"session": "s"}]
    assert named(net, "a") == {}


@pytest.mark.parametrize("overrun", [False, True])
def test_an_absent_name_is_dropped_only_if_its_place_is_lost(
    overrun: bool,
) -> None:
    net = alone(ring=100)
    net.start("b", peers=["a"], replica_messages=2, cursor_ttl_ns=5 * SECOND_NS)
    net.run()
    Subscriber(net, "b", session="s").cut()
    Publisher(net, "a").fill(101 if overrun else 100)
    net.advance(20)
    back = Subscriber(net, "b", session="s")
    assert back.resumed is not overrun
    assert back.of_node("a") == ([] if overrun else [*range(100)])


def test_a_new_session_of_an_old_name_is_soon_known_to_producers() -> None:
    net = pair()
    Publisher(net, "a").fill(3)
    a = net.nodes["a"]
    a.registry.acknowledge("b", Position(a.epoch, 3), {"s": UNREPORTED_LOSS}, 0)
    Subscriber(net, "b", session="s")
    net.advance(1)
    assert named(net, "a") == {"s": 3}


def test_the_place_of_an_absent_name_is_asked_for_but_not_sent() -> None:
    net = alone(ring=1000)
    net.start("b", peers=["a"], replica_messages=2, cursor_ttl_ns=5 * SECOND_NS)
    net.run()
    Subscriber(net, "b", session="s").cut()
    Publisher(net, "a").fill(200, bytes(1000))
    producer = net.link("b", "a").ends[1]
    before = net.link("b", "a").sent[producer]
    net.advance(60)
    assert net.link("b", "a").sent[producer] - before < 10_000
    assert len(Subscriber(net, "b", session="s").of_node("a")) == 200


def test_a_name_further_than_its_broker_is_remembered_so_far() -> None:
    net = alone(ring=1000)
    net.start("b", peers=["a"], replica_messages=2)
    net.run()
    first = Subscriber(net, "b", session="s")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    first.acknowledge("a")
    net.advance(1)
    replica = net.nodes["b"].peers.replicas["a"]
    # By catch-up it has read on, and its broker's own link hangs.
    end = first.connection.end
    assert isinstance(end, SessionEnd)
    assert end.session is not None
    end.session.readings["a"].go_on(Position(replica.log.newest.epoch, 5))
    first.positions["a"] = Position(replica.log.newest.epoch, 5)
    first.acknowledge("a")
    net.advance(1)
    assert named(net, "a") == {"s": 3}


def test_more_moves_than_a_frame_takes_are_told_in_turns() -> None:
    net = pair()
    a, b = net.nodes["a"], net.nodes["b"]
    names = {f"old-{n}": Position(a.epoch, 0) for n in range(MAX_NAMED_SESSIONS)}
    b.peers.producers["a"]._places.begin(names)
    a.registry.acknowledge("b", Position(a.epoch, 0), names, 0)
    for number in range(MAX_NAMED_SESSIONS):
        Subscriber(net, "b", session=f"new-{number}").cut()
    Publisher(net, "a").publish()
    net.advance(1)
    Publisher(net, "a").publish()
    net.advance(1)
    found = a.registry.get("b")
    assert found is not None
    assert set(found.named) == {f"new-{n}" for n in range(MAX_NAMED_SESSIONS)}
    assert net.linked("b", "a")
