"""Commands ask a node; what a node counts and logs of expiries and lag."""

from __future__ import annotations

import json

import pytest
from tests.unit.core.net import Publisher, RawClient, Subscriber, query
from tests.unit.core.nets import alone, pair

from pubsubd_protocol.attach import Reason
from pubsubd_protocol.frames import (
    Heartbeat,
)


def test_an_unknown_query_is_answered_with_those_there_are() -> None:
    answer = json.loads(query(alone(), "a", "make_coffee"))
    assert "make_coffee" in answer["error"]
    assert "drop_cursor" in answer["error"]


def test_a_command_only_asks() -> None:
    client = RawClient(alone(), "a", "control")
    client.send(Heartbeat())
    assert client.refusal == "protocol"


def test_a_cursor_is_dropped_only_while_its_consumer_is_away() -> None:
    net = pair()
    refusal = json.loads(query(net, "a", "drop_cursor", "b"))
    assert refusal["dropped"] is False
    assert "connected" in refusal["error"]
    net.stop("b")
    assert json.loads(query(net, "a", "drop_cursor", "b")) == {"dropped": True}
    assert json.loads(query(net, "a", "drop_cursor", "b")) == {"dropped": False}
    assert json.loads(query(net, "a", "drop_cursor")) == {"dropped": False}


def test_a_dropped_cursor_changes_nothing_for_a_stored_position() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.fill(2)
    net.part("a", "b")
    query(net, "a", "drop_cursor", "b")
    publisher.fill(2)
    net.heal("a", "b")
    net.advance(5)
    assert subscriber.of_node("a") == [0, 1, 2, 3]


def test_the_status_tells_of_cursors_peers_and_sessions() -> None:
    net = pair()
    Publisher(net, "a").fill(4)
    Subscriber(net, "b", "t", session="s")
    net.advance(1)
    a, b = (json.loads(query(net, name, "status")) for name in ("a", "b"))
    assert a["consumers"] == [
        {"consumer": "b", "connected": True, "cursor": 4, "lag_messages": 0, "away_s": None}
    ]
    assert a["ring"]["next_offset"] == 4
    (peer,) = b["peers"]
    assert (peer["node"], peer["connected"], peer["next_offset"]) == ("a", True, 4)
    assert peer["replica"]["oldest_offset"] == 0
    (session,) = b["sessions"]
    assert (session["name"], session["patterns"], session["connected"]) == ("s", ["t"], True)
    assert session["lag_messages"] == {"a": 0, "b": 0}
    net.stop("b")
    net.advance(2)
    (away,) = json.loads(query(net, "a", "cursors"))["cursors"]
    assert (away["connected"], away["cursor"]) == (False, 4)
    assert away["away_s"] == pytest.approx(2)


def test_an_expiry_is_counted_and_logged_for_its_hop() -> None:
    net = pair(ring=5)
    Subscriber(net, "b", session="s")
    net.part("a", "b")
    Publisher(net, "a").fill(20)
    net.heal("a", "b")
    net.advance(5)
    a, b = net.nodes["a"].events.counters, net.nodes["b"].events.counters
    assert a.expired_at_peers == {Reason.OVERWRITTEN: 1}
    assert b.expired_at_sessions == {Reason.OVERWRITTEN: 1}
    hops = [(said["hop"], said["missed"]) for said in net.said("b", "cursor.expired")]
    assert hops == [("registration", 20), ("session", 20)]


def test_a_lagging_consumer_is_warned_of_once_a_minute() -> None:
    net = pair(ring=10)
    net.part("a", "b")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.advance(5)
    assert net.said("a", "ring.capacity_warning") == []
    publisher.publish()
    net.advance(50)
    assert len(net.said("a", "ring.capacity_warning")) == 1
    net.advance(20)
    assert len(net.said("a", "ring.capacity_warning")) == 2
    assert net.said("a", "ring.capacity_warning")[0]["consumer"] == "b"
