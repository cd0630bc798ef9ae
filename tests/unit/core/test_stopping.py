"""A node that stops, and one connection that fails."""

from __future__ import annotations

import json

from tests.unit.core.net import Net, Publisher, RawClient, Subscriber, query
from tests.unit.core.nets import alone, pair
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.links.connection import Connection
from pubsubd_protocol.frames import (
    Receipt,
)


def test_an_exception_in_one_connection_ends_that_one_and_no_other() -> None:
    net = pair()
    broken, fine = Subscriber(net, "a"), Subscriber(net, "a")
    publisher = Publisher(net, "a")

    def crashes(connection: Connection) -> bool:
        return connection is broken.connection

    net.crash_on = crashes
    broken.change("x")
    assert broken.lost
    publisher.publish()
    assert fine.of_node("a") == [0]
    assert net.linked("b", "a")
    (failed,) = net.said("a", "connection.failed")
    assert "a bug" in str(failed["error"])
    assert net.nodes["a"].events.counters.protocol_errors == {"internal": 1}


def test_a_draining_node_takes_nothing_more_and_says_so() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    accepted = publisher.publish()
    node = net.nodes["a"]
    node.drain()
    publisher.send(batch_of([("t", b"")], sequence=2))
    assert publisher.refusal == "draining"
    assert node.stream.next == 1
    assert isinstance(accepted, Receipt)
    for role in ("publisher", "session"):
        assert RawClient(net, "a", role).refusal == "draining"
    assert RawClient(net, "a", "peer", peer="c").refusal == "draining"
    assert json.loads(query(net, "a", "status"))["not_ready"][0] == "draining"


def test_a_draining_node_dials_nobody() -> None:
    net = Net()
    node = net.start("b", peers=["a"])
    node.drain()
    assert node.due(net.now) == []


def test_a_node_is_drained_when_connected_readers_have_everything() -> None:
    net = pair()
    near, far, publisher = Subscriber(net, "a"), Subscriber(net, "b"), Publisher(net, "a")
    near.stop_reading()
    publisher.fill(3)
    node = net.nodes["a"]
    node.drain()
    assert not node.drained
    near.read_on()
    assert not node.drained  # b has not acknowledged yet
    net.advance(1)
    assert node.drained
    assert near.of_node("a") == far.of_node("a") == [0, 1, 2]


def test_absent_named_sessions_do_not_hold_up_a_node_that_stops() -> None:
    net = alone()
    Subscriber(net, "a", session="s").cut()
    Publisher(net, "a").publish()
    net.nodes["a"].drain()
    assert net.nodes["a"].drained
