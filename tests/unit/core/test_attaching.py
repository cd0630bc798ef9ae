"""Rows of the attach table, at a node; and a message's way to other nodes."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import Consumer, pair, producer, registered

from pubsubd_protocol.attach import At, FromStart, Reason, Remembered, Resume
from pubsubd_protocol.frames import (
    Receipt,
)
from pubsubd_protocol.positions import Position


@pytest.mark.parametrize(
    ("offset", "answer", "following"),
    [
        (5, Reason.OVERWRITTEN, []),  # oldest - 1
        (6, Resume(6), [6, 7, 8, 9]),  # oldest
        (8, Resume(8), [8, 9]),
        (10, Resume(10), []),  # next: idle
        (11, Reason.AHEAD, []),
    ],
)
def test_a_position_of_this_epoch(
    offset: int, answer: Resume | Reason, following: list[int]
) -> None:
    net, life = producer()
    consumer = Consumer(net)
    assert consumer.attach(At(Position(life, offset))).answer == answer
    assert consumer.offsets == following


@pytest.mark.parametrize("offset", [0, 7, 10, 99])
def test_a_position_of_an_unknown_epoch_is_told_state_lost(offset: int) -> None:
    net, _ = producer()
    attached = Consumer(net).attach(At(Position(net.new_epoch(), offset)))
    assert (attached.answer, attached.view.next) == (Reason.STATE_LOST, 10)


def test_an_unknown_epoch_is_state_lost_at_an_empty_producer_too() -> None:
    net, _ = producer(published=0)
    attached = Consumer(net).attach(At(Position(net.new_epoch(), 0)))
    assert attached.answer == Reason.STATE_LOST


@pytest.mark.parametrize(
    ("acknowledged", "waiting", "answer"),
    [
        (None, False, Resume(10)),  # a new consumer
        (None, True, Reason.UNSEEN),
        (7, False, Resume(7)),
        (7, True, Resume(7)),
        (3, False, Reason.OVERWRITTEN),
        (3, True, Reason.OVERWRITTEN),
    ],
)
def test_a_node_without_memory_goes_on_at_its_registered_cursor(
    acknowledged: int | None, waiting: bool, answer: Resume | Reason
) -> None:
    net, _ = producer(published=0)
    publisher = Publisher(net, "a")
    if acknowledged is not None:
        publisher.fill(acknowledged)
        before = Consumer(net)
        before.attach(Remembered(waiting=False))
        before.acknowledge(acknowledged)
        before.cut()
    publisher.fill(10 - (acknowledged or 0))
    attached = Consumer(net).attach(Remembered(waiting=waiting))
    assert attached.answer == answer
    expected = None if acknowledged is None else Position(net.nodes["a"].epoch, acknowledged)
    assert attached.registered == expected


def test_a_consumer_open_before_gets_all_from_the_first_message() -> None:
    net, _ = producer(published=3)
    consumer = Consumer(net)
    assert consumer.attach(FromStart()).answer == Resume(0)
    assert consumer.offsets == [0, 1, 2]


def test_a_message_reaches_the_sessions_of_every_node_once() -> None:
    net = Net()
    names = ["a", "b", "c"]
    for name in names:
        net.start(name, peers=[peer for peer in names if peer != name])
    net.run()
    subscribers = [Subscriber(net, name) for name in names]
    Publisher(net, "a").publish("x", "y")
    for subscriber in subscribers:
        assert subscriber.of_node("a") == [0, 1]
        assert subscriber.payloads == [b"x", b"y"]


def test_a_directed_message_leaves_offsets_contiguous_elsewhere() -> None:
    net = Net()
    net.start("a")
    for name in ("b", "c"):
        net.start(name, peers=["a"])
    net.run()
    subscribers = {name: Subscriber(net, name) for name in ("a", "b", "c")}
    publisher = Publisher(net, "a")
    publisher.publish("all")
    assert publisher.publish("x", "y", to="c") == Receipt(2, net.nodes["a"].epoch, 1)
    publisher.publish("all")
    assert subscribers["a"].of_node("a") == [0, 3]
    assert subscribers["b"].of_node("a") == [0, 3]
    assert subscribers["c"].of_node("a") == [0, 1, 2, 3]
    assert net.nodes["b"].peers.replicas["a"].registration.offset == 4
    link = net.link("b", "a")
    link.cut()
    publisher.publish("x", to="c")
    publisher.publish("x", to="c")
    net.advance(1)
    assert net.nodes["b"].peers.replicas["a"].registration.offset == 6
    assert registered(net) == 6


def test_a_message_to_the_own_node_stays_there() -> None:
    net = pair()
    here, there = Subscriber(net, "a"), Subscriber(net, "b")
    Publisher(net, "a").publish(to="a")
    assert (here.of_node("a"), there.of_node("a")) == ([0], [])


def test_a_new_consumer_reads_only_new_messages() -> None:
    net = Net()
    net.start("a")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.start("b", peers=["a"])
    net.run()
    subscriber = Subscriber(net, "b")
    publisher.publish()
    assert subscriber.of_node("a") == [3]
