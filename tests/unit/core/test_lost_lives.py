"""A node loses its life: sessions older than a meeting, resumed ones, empty restarts."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import pair, registered

from pubsubd_protocol.positions import Position


@pytest.mark.parametrize("published_anew", [0, 1, 50])
def test_an_empty_restart_is_told_before_anything_new(published_anew: int) -> None:
    net = pair()
    subscriber = Subscriber(net, "b")
    Publisher(net, "a").fill(5)
    net.stop("a")
    net.restart("a")
    publisher = Publisher(net, "a")
    publisher.fill(published_anew)
    net.advance(10)
    publisher.publish()
    new = subscriber.of_node("a")[5:]
    assert new == ["state_lost", published_anew]


def test_two_restarts_during_a_cut_are_told_once() -> None:
    net = pair()
    subscriber = Subscriber(net, "b")
    Publisher(net, "a").fill(5)
    net.part("a", "b")
    for _ in range(2):
        net.restart("a")
        Publisher(net, "a").fill(5)
    net.heal("a", "b")
    net.advance(10)
    assert subscriber.of_node("a")[5:] == ["state_lost"]


def open_before_a_meeting() -> tuple[Net, Subscriber]:
    """`b` has a session, and its peer `a` does not run yet."""
    net = Net()
    net.start("b", peers=["a"])
    return net, Subscriber(net, "b")


def test_a_session_open_before_a_meeting_gets_all_from_the_start() -> None:
    net, subscriber = open_before_a_meeting()
    net.start("a")
    Publisher(net, "a").fill(3)
    net.advance(5)
    assert subscriber.of_node("a") == ["told 0", 0, 1, 2]


def test_a_session_open_before_a_meeting_is_told_unseen() -> None:
    net, subscriber = open_before_a_meeting()
    net.start("a", ring_messages=3)
    publisher = Publisher(net, "a")
    publisher.fill(5)
    net.advance(5)
    publisher.publish()
    assert subscriber.of_node("a") == ["unseen", 5]


def test_a_session_opened_during_the_first_attach_misses_nothing() -> None:
    net = Net()
    net.start("a")
    net.start("b", peers=["a"])
    publisher = Publisher(net, "a")  # b has dialled by now, and attached
    link = net.link("b", "a")
    link.cut()
    net.unreachable.add(("b", "a"))
    subscriber = Subscriber(net, "b")
    publisher.fill(3)
    net.unreachable.clear()
    net.advance(5)
    assert subscriber.of_node("a")[-3:] == [0, 1, 2]


def test_a_session_after_contact_begins_at_next_during_a_cut() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.part("a", "b")
    subscriber = Subscriber(net, "b")
    assert subscriber.positions["a"].offset == 3
    publisher.fill(2)
    net.heal("a", "b")
    net.advance(10)
    assert subscriber.of_node("a") == [3, 4]


def test_a_restarted_broker_attaches_where_its_sessions_stand() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    subscriber = Subscriber(net, "b")
    publisher.fill(3)
    subscriber.stop_reading()
    publisher.fill(4)
    net.advance(1)
    assert registered(net) == 7
    net.stop("b")
    publisher.publish()
    net.unreachable.add(("b", "a"))
    net.restart("b")
    resumed = subscriber.again()
    behind = Subscriber(net, "b", positions={"a": Position(net.nodes["a"].epoch, 1)}, born=None)
    net.unreachable.clear()
    net.advance(10)
    assert resumed.of_node("a") == [3, 4, 5, 6, 7]
    assert behind.of_node("a") == [1, 2, 3, 4, 5, 6, 7]


def test_a_session_resumed_without_a_position_gets_all() -> None:
    net, subscriber = open_before_a_meeting()
    subscriber.stop_reading()
    net.start("a")
    Publisher(net, "a").fill(3)
    net.advance(5)  # b meets a, acknowledges, and dies before the session heard of it
    assert registered(net) == 3
    assert "a" not in subscriber.positions
    net.restart("b")
    resumed = subscriber.again()
    net.advance(10)
    assert resumed.of_node("a") == ["told 0", 0, 1, 2]


def test_a_session_resumed_without_a_position_is_told_unseen() -> None:
    net, subscriber = open_before_a_meeting()
    subscriber.stop_reading()
    net.start("a", ring_messages=3)
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.advance(5)
    net.restart("b")
    publisher.fill(2)
    resumed = subscriber.again()
    net.advance(10)
    assert resumed.of_node("a") == ["unseen"]


def test_a_resume_over_a_live_broker_misses_and_repeats_nothing() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    subscriber = Subscriber(net, "b")
    publisher.fill(3)
    subscriber.cut()
    publisher.fill(3)
    assert subscriber.again().of_node("a") == [3, 4, 5]


def test_a_session_that_saw_no_message_has_a_position_all_the_same() -> None:
    net = pair()
    subscriber = Subscriber(net, "b")
    subscriber.cut()
    Publisher(net, "a").fill(2)
    assert subscriber.again().of_node("a") == [0, 1]


def test_a_session_resumed_after_a_first_meeting_gets_all() -> None:
    net, subscriber = open_before_a_meeting()
    subscriber.cut()
    net.start("a")
    Publisher(net, "a").fill(2)
    net.advance(5)
    resumed = subscriber.again()
    assert resumed.of_node("a") == ["told 0", 0, 1]


def test_a_session_moves_to_another_node_with_its_position() -> None:
    net = Net()
    net.start("a")
    for name in ("b", "c"):
        net.start(name, peers=["a"])
    net.run()
    publisher, subscriber = Publisher(net, "a"), Subscriber(net, "b")
    publisher.fill(2)
    subscriber.cut()
    publisher.fill(2)
    assert subscriber.again(name="c").of_node("a") == [2, 3]
