"""A link is lost: catch-up, gaps at their place, acknowledgements."""

from __future__ import annotations

from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import pair, registered

from pubsubd_broker.core.limits import ACK_MESSAGES
from pubsubd_protocol.frames import (
    CursorExpired,
)


def test_messages_published_during_a_cut_are_caught_up_with() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.fill(3)
    net.part("a", "b")
    publisher.fill(4)
    net.advance(10)
    assert subscriber.of_node("a") == [0, 1, 2]
    net.heal("a", "b")
    net.advance(10)
    assert subscriber.of_node("a") == list(range(7))


def test_a_consumer_away_for_too_long_is_told_once_at_the_gap() -> None:
    net = pair(ring=10)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.fill(2)
    net.part("a", "b")
    publisher.fill(11)
    net.heal("a", "b")
    net.advance(10)
    publisher.publish()
    assert subscriber.of_node("a") == [0, 1, "overwritten", 13]
    assert subscriber.of(CursorExpired)[0].missed == 11


def test_exactly_as_many_messages_as_the_ring_holds_lose_nothing() -> None:
    net = pair(ring=10)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.fill(2)
    net.part("a", "b")
    publisher.fill(10)
    net.heal("a", "b")
    net.advance(10)
    assert subscriber.of_node("a") == list(range(12))


def test_a_lost_acknowledgement_brings_nothing_twice() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    net.advance(1)
    link = net.link("b", "a")
    link.swallow(link.ends[0])  # what the consumer says is lost
    publisher.fill(5)
    net.advance(1)
    assert registered(net) == 0
    link.cut()
    assert net.nodes["a"].registry.get("b") is not None
    net.advance(2)
    assert subscriber.of_node("a") == [0, 1, 2, 3, 4]
    assert registered(net) == 5


def test_messages_that_were_only_sent_move_no_cursor() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    net.advance(1)
    link = net.link("b", "a")
    link.swallow(link.ends[1])  # what the producer sends is lost
    publisher.fill(5)
    assert registered(net) == 0
    link.cut()
    subscriber = Subscriber(net, "b")
    net.advance(2)
    assert subscriber.of_node("a") == [0, 1, 2, 3, 4]


def test_a_gap_that_was_lost_at_the_cut_is_told_again_and_once() -> None:
    net = pair(ring=5)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.publish()
    net.part("a", "b")
    publisher.fill(10)
    net.heal("a", "b")
    for _ in range(3):  # the answer to the attach does not arrive
        net.advance(6)
        if net.linked("b", "a"):
            link = net.link("b", "a")
            link.swallow(link.ends[1])
            link.cut()
    net.advance(10)
    publisher.publish()
    assert subscriber.of_node("a") == [0, "overwritten", 11]


def overrun(net: Net, publisher: Publisher, *, lost: bool = False) -> None:
    """The link takes nothing while `a` publishes more than its ring holds; what is under way may get lost."""
    link = net.link("b", "a")
    producer_end = link.ends[1]
    producer_end.writable = False
    publisher.fill(10)
    if lost:
        link.swallow(producer_end)
    producer_end.writable = True
    producer_end.wake()
    net.run()


def test_an_overrun_on_a_live_link_is_told_until_it_arrives() -> None:
    net = pair(ring=5)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.publish()
    overrun(net, publisher, lost=True)
    assert net.said("a", "cursor.expired")
    net.link("b", "a").cut()
    net.advance(2)
    publisher.publish()
    assert subscriber.of_node("a") == [0, "overwritten", 11]


def test_two_overruns_before_a_session_looked_make_one_notice() -> None:
    net = pair(ring=5)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.publish()
    subscriber.stop_reading()
    for _ in range(2):
        overrun(net, publisher)
    subscriber.read_on()
    publisher.publish()
    assert subscriber.of_node("a") == [0, "overwritten", 21]
    assert subscriber.of(CursorExpired)[0].missed == 20


def test_acknowledgements_go_out_after_a_count_or_a_moment() -> None:
    net = pair(ring=5000)
    net.advance(1)
    publisher = Publisher(net, "a")
    publisher.publish(*[b""] * (ACK_MESSAGES - 1))
    assert registered(net) == 0
    publisher.publish()
    assert registered(net) == ACK_MESSAGES
    publisher.publish()
    assert registered(net) == ACK_MESSAGES
    net.advance(0.5)
    assert registered(net) == ACK_MESSAGES + 1


def test_a_flapping_link_makes_progress_and_leaks_nothing() -> None:
    net = pair()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    for round_ in range(20):
        publisher.publish()
        net.link("b", "a").cut()
        publisher.publish()
        net.advance(1)
        assert subscriber.of_node("a") == list(range(2 * round_ + 2))
    assert len(net.nodes["a"].connections) == 2  # the publisher and the consumer
    assert len(net.nodes["b"].connections) == 2


def test_both_sides_of_a_partition_write_and_nothing_is_merged() -> None:
    net = Net()
    net.start("a", peers=["b"])
    net.start("b", peers=["a"])
    net.run()
    publishers = {name: Publisher(net, name) for name in ("a", "b")}
    subscribers = {name: Subscriber(net, name) for name in ("a", "b")}
    net.part("a", "b")
    for publisher in publishers.values():
        publisher.fill(3)
    net.heal("a", "b")
    net.advance(10)
    for subscriber in subscribers.values():
        assert subscriber.of_node("a") == subscriber.of_node("b") == [0, 1, 2]
