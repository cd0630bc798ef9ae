"""Losses of the session's own node, and of a producer, told to named sessions."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber
from tests.unit.core.nets import LOST, acknowledged_three_of_five, named, pair

from pubsubd_protocol.frames import (
    Subscribe,
)
from pubsubd_protocol.positions import Position


def test_a_resumed_session_is_told_of_its_nodes_loss_once() -> None:
    net = acknowledged_three_of_five()
    old = net.new_epoch()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b", session="s", positions={"b": Position(old, 4)}, born=old)
    assert subscriber.of_node("b") == ["state_lost"]
    net.unreachable.clear()
    net.advance(5)
    assert subscriber.of_node("b") == ["state_lost"]
    assert subscriber.of_node("a")[-2:] == [3, 4]


def restarted_apart() -> Net:
    """The same, and b has been restarted and cannot reach a yet."""
    net = acknowledged_three_of_five()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    return net


def meet(net: Net) -> None:
    net.unreachable.clear()
    net.advance(5)


def test_an_own_loss_is_told_after_a_broken_connection() -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    first.cut()
    second = Subscriber(
        net, "b", session="s", positions=first.positions, born=first.born, life=first.life
    )
    meet(net)
    assert second.of_node("b") == ["state_lost"]
    assert second.of_node("a") == ["told 3", 3, 4]


def test_an_own_loss_is_told_after_a_restart_of_the_application() -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "b").fill(2)
    first.acknowledge("b")
    first.cut()
    second = Subscriber(net, "b", session="s")
    meet(net)
    assert second.of_node("b") == ["state_lost"]


def back_with(first: Subscriber, held: dict[str, Position]) -> Subscriber:
    """The same application on a new connection, with the positions that it held before the loss was told."""
    return Subscriber(
        *(first.net, "b"),
        positions=held,
        acknowledged=held,
        session="s",
        born=first.born,
        life=first.life,
    )


def test_an_own_loss_found_between_two_connections_is_told() -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    held = dict(first.positions)
    first.cut()
    meet(net)
    second = back_with(first, held)
    assert second.of_node("b") == ["state_lost"]
    second.acknowledge("b", noticed=True)
    second.cut()
    assert Subscriber(net, "b", session="s").of_node("b") == []


@pytest.mark.parametrize("noticed", [False, True])
def test_an_acknowledgement_under_way_covers_no_loss_at_its_place(
    noticed: bool,
) -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "b").fill(2)
    meet(net)
    assert first.of_node("b")[-1] == "state_lost"
    first.acknowledge("b", noticed=noticed)
    first.cut()
    second = Subscriber(net, "b", session="s")
    assert second.of_node("b") == ([] if noticed else ["state_lost"])
    # That has a place of its own: it went on from nowhere.
    second.acknowledge("b", noticed=True)
    second.cut()
    assert Subscriber(net, "b", session="s").of_node("b") == []


def test_a_loss_that_did_not_arrive_is_told_again() -> None:
    net = restarted_apart()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "b").fill(2)
    held, log = dict(first.positions), list(first.log["b"])
    first.pipe.swallow(first.connection)
    meet(net)
    assert first.log["b"] == log
    first.cut()
    second = back_with(first, held)
    assert second.of_node("b") == ["state_lost"]
    second.cut()
    # It was received, and its application died before it had read it.
    assert Subscriber(net, "b", session="s").of_node("b") == ["state_lost"]


def test_received_and_not_acknowledged_comes_again_after_crashes() -> None:
    net = acknowledged_three_of_five()
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    life = net.nodes["a"].epoch
    received, done = {"a": Position(life, 5)}, {"a": Position(life, 4)}
    old = net.new_epoch()
    Subscriber(net, "b", session="s", positions=received, acknowledged=done, born=old).cut()
    meet(net)
    assert Subscriber(net, "b", session="s").of_node("a") == [4]


def test_the_next_life_is_told_of_a_stream_with_no_acknowledgement() -> None:
    net = acknowledged_three_of_five()
    received = {"a": Position(net.nodes["a"].epoch, 5)}
    net.start("b", peers=["a"])
    net.advance(1)
    old = net.new_epoch()
    Subscriber(net, "b", session="s", positions=received, acknowledged={}, born=old).cut()
    assert Subscriber(net, "b", session="s").of_node("a") == ["state_lost"]


def left_after_five() -> Net:
    """`b` had a named session that acknowledged all 5 messages of `a`, and is closed."""
    net = pair()
    first = Subscriber(net, "b", session="s")
    Publisher(net, "a").fill(5)
    first.acknowledge("a")
    net.advance(1)
    first.cut()
    return net


def test_a_loss_at_a_producer_is_told_after_both_restart() -> None:
    net = left_after_five()
    net.restart("a")
    net.advance(10)
    Publisher(net, "a").fill(2)
    net.advance(1)
    assert named(net, "a") == {"s": LOST}
    net.restart("b")
    net.advance(10)
    second = Subscriber(net, "b", session="s")
    assert second.of_node("a") == ["state_lost"]
    second.acknowledge("a")
    net.advance(1)
    assert named(net, "a") == {"s": 2}


def test_a_name_beyond_the_recovered_end_is_told_after_both_restart() -> None:
    net = left_after_five()
    before = net.nodes["a"]
    net.stop("a")
    a = net.start("a")
    kept = [before.stream.log[index] for index in range(3)]
    a.stream.begin(((before.epoch, 3),), 0, (), kept)  # type: ignore[arg-type]
    net.advance(10)
    Publisher(net, "a").fill(2)
    net.advance(1)
    net.restart("b")
    net.advance(10)
    # The messages at 3 and 4 are others than those that it had: it must not go on at 5 of that as if nothing were.
    assert Subscriber(net, "b", session="s").of_node("a") == ["ahead"]


def test_a_loss_of_its_own_node_that_did_not_arrive_is_told_again() -> None:
    net = acknowledged_three_of_five()
    net.start("b", peers=["a"])
    net.advance(1)
    net.link("b", "a")  # revived
    lost = RawClient(net, "b", "session")
    lost.pipe.swallow(lost.connection)
    lost.send(Subscribe((">",), "latest", None, None, "s", True))
    lost.cut()
    assert Subscriber(net, "b", session="s").of_node("b") == ["state_lost"]
