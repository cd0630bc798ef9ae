"""`start="earliest"` asks for what was before, and gives up nothing of what comes after. Through whole nodes."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import pair

RING = 5


def parted(before: int) -> tuple[Net, Publisher]:
    """`b` has not reached `a` yet, which has published this number of messages on a small ring."""
    net = Net()
    net.start("a", ring_messages=RING)
    publisher = Publisher(net, "a")
    publisher.fill(before)
    net.unreachable.add(("b", "a"))
    net.start("b", peers=["a"])
    return net, publisher


def meet(net: Net) -> None:
    net.unreachable.clear()
    net.advance(10)


def test_a_loss_since_the_subscription_is_told_and_the_rest_given() -> None:
    net, publisher = parted(0)
    reader = Subscriber(net, "b", start="earliest")
    publisher.fill(10)
    meet(net)
    assert reader.of_node("a") == ["unseen", 5, 6, 7, 8, 9]
    publisher.fill(1)
    assert reader.of_node("a")[-1] == 10


@pytest.mark.parametrize("before", [0, 3])
def test_while_the_ring_begins_at_the_first_message_nothing_is_lost(before: int) -> None:
    net, publisher = parted(before)
    reader = Subscriber(net, "b", start="earliest")
    publisher.fill(RING - before)
    meet(net)
    assert reader.of_node("a") == ["told 0", *range(RING)]


@pytest.mark.parametrize(
    ("meanwhile", "given"),
    [(RING, ["told 8", *range(8, 13)]), (RING + 1, ["unseen", *range(9, 14)])],
)
def test_a_new_session_begins_at_its_nodes_acknowledged_cursor(
    meanwhile: int, given: list[object]
) -> None:
    net = pair(RING)
    publisher = Publisher(net, "a")
    publisher.fill(8)
    net.advance(1)
    net.unreachable.add(("b", "a"))
    net.restart("b")
    reader = Subscriber(net, "b", start="earliest")
    publisher.fill(meanwhile)
    meet(net)
    assert reader.of_node("a") == given


@pytest.mark.parametrize(
    ("meanwhile", "given"),
    [(RING, ["told 3", *range(3, 8)]), (RING + 1, ["unseen", *range(4, 9)])],
)
def test_a_session_subscribed_offline_gets_all_its_broker_missed(
    meanwhile: int, given: list[object]
) -> None:
    net = pair(RING)
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.part("a", "b")
    reader = Subscriber(net, "b", start="earliest")
    publisher.fill(meanwhile)
    net.heal("a", "b")
    net.advance(10)
    assert reader.of_node("a") == given


def test_a_restart_meanwhile_is_told_and_the_new_history_given_whole() -> None:
    net = pair(RING)
    Publisher(net, "a").fill(3)
    net.part("a", "b")
    reader = Subscriber(net, "b", start="earliest")
    net.restart("a")
    Publisher(net, "a").fill(2)
    net.heal("a", "b")
    net.advance(10)
    assert reader.of_node("a") == ["unseen", 0, 1]


@pytest.mark.parametrize("name", [None, "projector"])
def test_a_restart_of_its_broker_before_contact_takes_nothing_back(name: str | None) -> None:
    net, publisher = parted(0)
    first = Subscriber(net, "b", start="earliest", session=name)
    publisher.fill(3)
    net.restart("b")
    reader = Subscriber(
        *(net, "b"),
        start="earliest",
        positions=first.positions,
        born=first.born,
        session=name,
    )
    publisher.fill(RING)
    meet(net)
    assert reader.of_node("a") == ["unseen", *range(3, 3 + RING)]


def test_a_name_away_at_first_contact_gets_what_it_asked_for_later() -> None:
    net, publisher = parted(0)
    Subscriber(net, "b", start="earliest", session="projector").cut()
    publisher.fill(10)
    meet(net)
    reader = Subscriber(net, "b", start="earliest", session="projector")
    assert reader.resumed
    assert reader.of_node("a") == ["unseen", *range(5, 10)]


def test_each_session_of_a_broker_is_told_what_it_is_owed() -> None:
    net, publisher = parted(0)
    latest = Subscriber(net, "b")
    earliest = Subscriber(net, "b", start="earliest")
    positioned = Subscriber(net, "b", positions={"a": net.nodes["a"].stream.log.end_position})
    publisher.fill(10)
    meet(net)
    publisher.fill(1)
    assert latest.of_node("a") == ["unseen", 10]
    assert earliest.of_node("a") == ["unseen", *range(5, 11)]
    assert positioned.of_node("a") == ["overwritten", 10]


def test_on_its_own_node_it_begins_with_what_is_left() -> None:
    net = Net()
    net.start("a", ring_messages=RING)
    publisher = Publisher(net, "a")
    publisher.fill(7)
    reader = Subscriber(net, "a", start="earliest")
    publisher.fill(1)
    assert reader.of_node("a") == ["told 2", *range(2, 8)]
