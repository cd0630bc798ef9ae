"""Two and three nodes end to end: attaching, acknowledging, losing links and lives."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.builders import entry, skip
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber

from pubsubd_broker.core.config import Config
from pubsubd_broker.core.limits import ACK_MESSAGES, FETCH_BYTES, MAX_FETCHES
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.status import not_ready
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import At, Earliest, FromStart, Reason, Remembered, Resume
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Attached,
    CursorExpired,
    Fetch,
    Fetched,
    Heartbeat,
    Receipt,
    Skip,
    Welcome,
)
from pubsubd_protocol.positions import MAX_OFFSET, Epoch, Position, StreamView


def pair(ring: int = 100, **options: Any) -> Net:
    """`b` pulls `a`'s stream."""
    net = Net()
    net.start("a", ring_messages=ring)
    net.start("b", peers=["a"], **options)
    net.run()
    return net


def registered(net: Net, consumer: str = "b", producer: str = "a") -> int | None:
    found = net.nodes[producer].registry.get(consumer)
    return found.cursor.offset if found is not None else None


class Consumer(RawClient):
    """A consumer broker that is played by the test, frame by frame."""

    def __init__(self, net: Net, name: str = "b", *, life: bytes = b"") -> None:
        super().__init__(net, "a", "peer", peer=name, life=life)

    def attach(self, claim: At | FromStart | Earliest | Remembered) -> Attached:
        self.send(Attach(claim))
        return self.of(Attached)[-1]

    def acknowledge(self, offset: int, epoch: Epoch | None = None) -> None:
        self.send(Ack("a", Position(epoch or self.welcome.life, offset)))

    @property
    def offsets(self) -> list[int]:
        return [entry.first for entry in self.of(Entry)]


# The rows of the attach table.


def producer(published: int = 10, ring: int = 4) -> tuple[Net, Epoch]:
    net = Net()
    life = net.start("a", ring_messages=ring).life
    Publisher(net, "a").fill(published)
    return net, life


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
def test_a_position_of_an_unknown_epoch_has_lost_its_state_whatever_its_offset(offset: int) -> None:
    net, _ = producer()
    attached = Consumer(net).attach(At(Position(net.new_epoch(), offset)))
    assert (attached.answer, attached.view.next) == (Reason.STATE_LOST, 10)


def test_an_unknown_epoch_has_lost_its_state_even_at_a_producer_that_published_nothing() -> None:
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
    expected = None if acknowledged is None else Position(net.nodes["a"].life, acknowledged)
    assert attached.registered == expected


def test_a_consumer_that_was_open_before_gets_all_from_the_first_message() -> None:
    net, _ = producer(published=3)
    consumer = Consumer(net)
    assert consumer.attach(FromStart()).answer == Resume(0)
    assert consumer.offsets == [0, 1, 2]


# A broadcast, a directed message, a late joiner.


def test_what_is_published_reaches_the_sessions_of_every_node_once() -> None:
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


def test_a_directed_message_reaches_its_node_and_the_others_offsets_stay_contiguous() -> None:
    net = Net()
    net.start("a")
    for name in ("b", "c"):
        net.start(name, peers=["a"])
    net.run()
    subscribers = {name: Subscriber(net, name) for name in ("a", "b", "c")}
    publisher = Publisher(net, "a")
    publisher.publish("all")
    assert publisher.publish("x", "y", to="c") == Receipt(2, net.nodes["a"].life, 1)
    publisher.publish("all")
    assert subscribers["a"].of_node("a") == [0, 3]
    assert subscribers["b"].of_node("a") == [0, 3]
    assert subscribers["c"].of_node("a") == [0, 1, 2, 3]
    assert net.nodes["b"].replicas["a"].registration.offset == 4
    link = net.link("b", "a")
    link.cut()
    publisher.publish("x", to="c")
    publisher.publish("x", to="c")
    net.advance(1)
    assert net.nodes["b"].replicas["a"].registration.offset == 6
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


# Losing the link.


def test_what_was_published_while_the_link_was_down_is_caught_up_with() -> None:
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


def test_a_consumer_that_was_away_for_too_long_is_told_once_at_the_place_of_the_gap() -> None:
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


def test_with_exactly_as_many_messages_as_the_ring_holds_nothing_is_lost() -> None:
    net = pair(ring=10)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.fill(2)
    net.part("a", "b")
    publisher.fill(10)
    net.heal("a", "b")
    net.advance(10)
    assert subscriber.of_node("a") == list(range(12))


def test_a_lost_acknowledgement_brings_nothing_twice_and_the_cursor_catches_up() -> None:
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


def test_what_was_only_sent_moves_no_cursor() -> None:
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


def test_a_consumer_overrun_on_a_live_link_is_told_and_if_that_is_lost_told_again() -> None:
    net = pair(ring=5)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.publish()
    link = net.link("b", "a")
    link.ends[1].writable = False
    publisher.fill(10)
    link.swallow(link.ends[1])
    link.ends[1].writable = True
    link.ends[1].wake()
    net.run()
    assert net.said("a", "cursor.expired")
    link.cut()
    net.advance(2)
    publisher.publish()
    assert subscriber.of_node("a") == [0, "overwritten", 11]


def test_a_consumer_overrun_twice_before_its_session_looked_gets_one_merged_notice() -> None:
    net = pair(ring=5)
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    publisher.publish()
    subscriber.stop_reading()
    link = net.link("b", "a")
    for _ in range(2):
        link.ends[1].writable = False
        publisher.fill(10)
        link.ends[1].writable = True
        link.ends[1].wake()
        net.run()
    subscriber.read_on()
    publisher.publish()
    assert subscriber.of_node("a") == [0, "overwritten", 21]
    assert subscriber.of(CursorExpired)[0].missed == 20


def test_a_slow_session_with_a_small_replica_reads_on_from_the_producer() -> None:
    net = pair(ring=1000, replica_messages=5)
    slow, fast, publisher = Subscriber(net, "b"), Subscriber(net, "b"), Publisher(net, "a")
    slow.stop_reading()
    publisher.fill(100)
    assert fast.of_node("a") == list(range(100))
    slow.read_on()
    assert slow.of_node("a") == list(range(100))


def test_many_slow_sessions_catch_up_and_take_turns_and_the_live_stream_goes_on() -> None:
    net = pair(ring=2000, replica_messages=5)
    publisher = Publisher(net, "a")
    slow = [Subscriber(net, "b") for _ in range(3 * MAX_FETCHES)]
    for subscriber in slow:
        subscriber.stop_reading()
    payload = b"x" * 20_000
    publisher.fill(200, payload)
    for subscriber in slow:
        subscriber.read_on()
    assert all(subscriber.of_node("a") == list(range(200)) for subscriber in slow)


def test_a_session_that_expires_by_catch_up_disturbs_no_other() -> None:
    net = pair(ring=50, replica_messages=5)
    slow, fast, publisher = Subscriber(net, "b"), Subscriber(net, "b"), Publisher(net, "a")
    slow.stop_reading()
    publisher.fill(100)
    slow.read_on()
    publisher.publish()
    assert fast.of_node("a") == list(range(101))
    assert slow.of_node("a") == ["overwritten", 100]


def test_a_session_that_falls_behind_its_replica_is_logged_once_for_each_catch_up() -> None:
    net = Net()
    net.start("a", ring_messages=2000)
    net.start("b", peers=["a"], replica_messages=5)
    net.run()
    slow = Subscriber(net, "b")
    for _ in range(2):
        slow.stop_reading()
        Publisher(net, "a").fill(900, bytes(1000))
        slow.read_on()
    lagged = net.said("b", "session.lagged")
    assert [said["offset"] for said in lagged] == [0, 900]
    assert lagged[0] == {"node": "a", "offset": 0, "replica_oldest": 895, "replica_next": 900}
    assert len(slow.of_node("a")) == 1800


def test_a_catch_up_cut_in_the_middle_goes_on_after_it() -> None:
    net = pair(ring=1000, replica_messages=5)
    slow, publisher = Subscriber(net, "b"), Publisher(net, "a")
    slow.stop_reading()
    publisher.fill(50, b"x" * 50_000)
    link = net.link("b", "a")
    link.swallow(link.ends[1])
    slow.read_on()
    link.cut()
    net.advance(2)
    assert slow.of_node("a") == list(range(50))


def test_an_entry_larger_than_the_replica_is_fetched_by_who_needs_it() -> None:
    net = pair(ring=100, replica_messages=5)
    subscriber = Subscriber(net, "b")
    Publisher(net, "a").publish(*[b"x"] * 20)
    assert subscriber.of_node("a") == list(range(20))


def test_a_session_that_leaves_while_it_waits_for_its_turn_is_not_fetched_for() -> None:
    net = pair(ring=1000, replica_messages=5)
    publisher = Publisher(net, "a")
    slow = [Subscriber(net, "b") for _ in range(MAX_FETCHES + 2)]
    for subscriber in slow:
        subscriber.stop_reading()
    publisher.fill(20)
    link = net.link("b", "a")
    link.ends[1].writable = False
    for subscriber in slow:
        subscriber.read_on()
    gone = slow.pop()
    gone.cut()
    link.ends[1].writable = True
    link.ends[1].wake()
    net.run()
    assert all(subscriber.of_node("a") == list(range(20)) for subscriber in slow)
    assert gone.of_node("a") == []


def test_so_many_messages_are_acknowledged_at_once_and_fewer_after_a_moment() -> None:
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


def test_a_flapping_link_makes_progress_in_every_round_and_leaks_nothing() -> None:
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


def test_two_sides_of_a_partition_write_and_nothing_has_to_be_merged() -> None:
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


# Losing a life.


@pytest.mark.parametrize("published_anew", [0, 1, 50])
def test_a_producer_that_restarts_empty_is_told_of_before_anything_new(published_anew: int) -> None:
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


def test_a_producer_that_restarts_twice_is_told_of_once_by_who_was_cut_off() -> None:
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


def test_both_restart_and_a_session_open_before_they_meet_is_owed_all_from_the_start() -> None:
    net = Net()
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b")
    net.start("a")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.advance(5)
    assert subscriber.of_node("a") == ["told 0", 0, 1, 2]


def test_and_if_the_start_is_gone_it_is_told_unseen() -> None:
    net = Net()
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b")
    net.start("a", ring_messages=3)
    publisher = Publisher(net, "a")
    publisher.fill(5)
    net.advance(5)
    publisher.publish()
    assert subscriber.of_node("a") == ["unseen", 5]


def test_a_session_opened_while_the_first_attach_is_under_way_misses_nothing() -> None:
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


def test_a_session_subscribed_after_contact_begins_at_next_though_the_link_is_down() -> None:
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


def test_a_restarted_broker_attaches_at_what_its_sessions_need_not_at_what_it_acknowledged() -> (
    None
):
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
    behind = Subscriber(net, "b", positions={"a": Position(net.nodes["a"].life, 1)}, born=None)
    net.unreachable.clear()
    net.advance(10)
    assert resumed.of_node("a") == [3, 4, 5, 6, 7]
    assert behind.of_node("a") == [1, 2, 3, 4, 5, 6, 7]


def test_a_session_resumed_without_a_position_gets_all_though_its_broker_had_acknowledged() -> None:
    net = Net()
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b")
    subscriber.stop_reading()
    net.start("a")
    publisher = Publisher(net, "a")
    publisher.fill(3)
    net.advance(5)  # b meets a, acknowledges, and dies before the session heard of it
    assert registered(net) == 3
    assert "a" not in subscriber.positions
    net.restart("b")
    resumed = subscriber.again()
    net.advance(10)
    assert resumed.of_node("a") == ["told 0", 0, 1, 2]


def test_the_same_if_the_start_is_gone_is_told_unseen() -> None:
    net = Net()
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b")
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


def test_a_session_that_resumes_over_a_live_broker_misses_nothing_and_gets_nothing_twice() -> None:
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


def test_a_session_resumed_in_the_same_life_after_its_broker_met_a_producer_is_owed_it_all() -> (
    None
):
    net = Net()
    net.start("b", peers=["a"])
    subscriber = Subscriber(net, "b")
    subscriber.cut()
    net.start("a")
    publisher = Publisher(net, "a")
    publisher.fill(2)
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


# Violations.


def attached_consumer(published: int = 5) -> tuple[Net, Consumer]:
    net, life = producer(published, ring=100)
    consumer = Consumer(net)
    consumer.attach(At(Position(life, 0)))
    consumer.acknowledge(3)
    return net, consumer


@pytest.mark.parametrize("offset", [2, 6])
def test_an_acknowledgement_that_goes_back_or_beyond_what_was_sent_cuts_the_link(
    offset: int,
) -> None:
    net, consumer = attached_consumer()
    consumer.acknowledge(offset)
    assert consumer.refusal == "protocol"
    assert consumer.lost
    assert registered(net) == 3
    assert net.nodes["a"].counters.protocol_errors == {"ack": 1}


def test_an_acknowledgement_of_another_epoch_or_stream_cuts_the_link() -> None:
    net, consumer = attached_consumer()
    consumer.acknowledge(4, net.new_epoch())
    assert consumer.refusal == "protocol"
    net, consumer = attached_consumer()
    consumer.send(Ack("c", Position(consumer.welcome.life, 4)))
    assert consumer.refusal == "protocol"


@pytest.mark.parametrize(("position", "violates"), [(6, True), (5, False), (None, False)])
def test_a_consumers_named_sessions_are_no_further_than_the_stream(
    position: int | None, violates: bool
) -> None:
    net, consumer = attached_consumer()
    life = consumer.welcome.life
    named = {"projector": Position(life, position) if position is not None else None}
    consumer.send(Ack("a", Position(life, 4), named))
    assert (consumer.refusal == "protocol") is violates
    assert registered(net) == (3 if violates else 4)


def test_a_named_session_may_be_ahead_of_what_was_sent_for_all() -> None:
    """It has fetched on its own, while its broker did not read."""
    net, consumer = attached_consumer()
    consumer.stop_reading()
    Publisher(net, "a").publish("x")
    assert net.nodes["a"].stream.next == 6
    life = consumer.welcome.life
    consumer.send(Ack("a", Position(life, 4), {"projector": Position(life, 6)}))
    consumer.read_on()
    assert consumer.refusal is None


def test_of_another_epoch_a_named_session_may_have_whatever_it_says() -> None:
    net, consumer = attached_consumer()
    named: dict[str, Position | None] = {"projector": Position(net.new_epoch(), 10**9)}
    consumer.send(Ack("a", Position(consumer.welcome.life, 4), named))
    assert consumer.refusal is None


def test_the_producer_keeps_where_the_names_of_a_consumer_stand_in_other_streams() -> None:
    net, consumer = attached_consumer()
    own, other = Position(Epoch(consumer.life), 7), Position(net.new_epoch(), 2)
    places = {"n": {"b": own, "c": other}, "m": {"b": own}}
    at = Position(consumer.welcome.life, 3)
    consumer.send(Ack("a", at, {"m": at}, elsewhere=places))
    consumer.send(Ack("a", at, {"m": None}))
    assert consumer.refusal is None
    kept = net.nodes["a"].registry.get("b")
    assert kept is not None
    assert kept.places == {"n": {"b": own, "c": other}}
    assert kept.named == {}


def test_a_place_in_the_producers_own_stream_is_not_one_in_another() -> None:
    _, consumer = attached_consumer()
    at = Position(consumer.welcome.life, 3)
    consumer.send(Ack("a", at, elsewhere={"n": {"a": at}}))
    assert consumer.refusal == "protocol"


def test_repeating_an_acknowledgement_is_no_violation() -> None:
    net, consumer = attached_consumer()
    consumer.acknowledge(3)
    consumer.acknowledge(5)
    assert consumer.refusal is None
    assert registered(net) == 5


def test_a_consumer_speaks_only_of_what_a_consumer_may() -> None:
    for frame in (Receipt(1, Epoch(bytes(16)), 0), Attach(Earliest())):
        _, consumer = attached_consumer()
        consumer.send(frame)
        assert consumer.refusal == "protocol"
    net, _ = producer()
    consumer = Consumer(net)
    consumer.acknowledge(0)
    assert consumer.refusal == "protocol"


def test_a_few_fetches_at_once_and_no_more() -> None:
    _, consumer = attached_consumer()
    # As one piece, so that none is answered before the last has come.
    fetch = encode(Fetch(1, FromStart(), 1000))
    consumer.send_bytes(fetch * MAX_FETCHES)
    assert consumer.refusal is None
    assert len(consumer.of(Fetched)) == MAX_FETCHES
    consumer.send_bytes(fetch * (MAX_FETCHES + 1))
    assert consumer.refusal == "protocol"


def test_a_fetch_answers_with_what_follows_on_the_claim() -> None:
    _, consumer = attached_consumer()
    consumer.forget()
    consumer.send(Fetch(7, At(Position(consumer.welcome.life, 3)), 10_000))
    fetched = consumer.of(Fetched)[0]
    assert (fetched.id, fetched.answer, fetched.count) == (7, Resume(3), 2)
    assert consumer.offsets == [3, 4]
    consumer.forget()
    consumer.send(Fetch(8, At(Position(consumer.welcome.life, 9)), 10_000))
    assert [type(frame) for frame in consumer.frames[1:]] == [Fetched]
    assert consumer.of(Fetched)[0].answer == Reason.AHEAD


def test_fetches_without_end_do_not_hold_up_the_live_stream_nor_it_them() -> None:
    net, life = producer(0, ring=1000)
    consumer = Consumer(net)
    consumer.attach(At(Position(life, 0)))
    consumer.stop_reading()
    Publisher(net, "a").fill(100, b"x" * 10_000)
    live, fetched = 0, 0
    for number in range(MAX_FETCHES):
        consumer.send(Fetch(number, FromStart(), FETCH_BYTES))
    for number in range(20):
        consumer.forget()
        for buffer in consumer.connection.pull(FETCH_BYTES, net.now):
            consumer.took(buffer)
        of_a_fetch = sum(answer.count for answer in consumer.of(Fetched))
        live += len(consumer.of(Entry)) - of_a_fetch
        fetched += len(consumer.of(Fetched))
        for _ in consumer.of(Fetched):
            consumer.send(Fetch(number, FromStart(), FETCH_BYTES))
    assert live == 100
    assert fetched >= 10


# Late frames and second links.


def test_a_new_link_of_the_same_broker_replaces_the_old_and_late_frames_are_ignored() -> None:
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
    assert list(net.nodes["a"].consumers) == ["b"]
    assert [row for row in net.nodes["a"].registry.items() if row[1].connected]


def test_the_end_of_the_old_link_after_the_new_one_attached_changes_nothing() -> None:
    net, life = producer(5, ring=100)
    old = Consumer(net)
    old.attach(At(Position(life, 0)))
    net.pipes.remove(old.pipe)  # nobody carries its last words, nobody notices its end yet
    new = Consumer(net, life=old.life)
    new.attach(At(Position(life, 3)))
    new.acknowledge(3)
    old.connection.lost(net.now, 0.5)
    found = net.nodes["a"].registry.get("b")
    assert found is not None
    assert found.connected
    assert net.nodes["a"].consumers["b"][0].acknowledged == 3


# Names.


def test_a_second_broker_of_one_name_is_refused_with_a_reason_on_both_sides() -> None:
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


def test_of_two_brokers_of_one_name_that_greeted_both_the_second_to_attach_is_refused() -> None:
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
    assert "a" in net.nodes["b"].replicas


def test_a_broker_with_the_name_of_the_producer_itself_is_refused() -> None:
    net, _ = producer()
    assert Consumer(net, "a").refusal == "name_in_use"


def test_a_broker_that_dials_itself_recognises_it_and_dials_again_once_a_minute() -> None:
    net = Net()
    node = net.start("a", peers=["a"])
    net.advance(150)
    (target,) = node.targets
    assert target.is_self
    assert not target.linked
    assert not_ready(node) == []
    assert len(node.connections) == 0
    assert node.counters.connections_refused["self"] == 3
    assert len(net.said("a", "connection.refused")) == 1


def test_two_addresses_of_one_node_make_one_link_and_the_other_takes_over_when_it_is_lost() -> None:
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


# A producer that breaks the rules, played by the test.


class Producer:
    """Answers `b`'s dial with frames of the test's choice."""

    def __init__(self) -> None:
        self.net = Net()
        self.node = self.net.start("b", peers=["a"], replica_messages=1)
        self.fake = Node(Config(node="a"), self.net.new_epoch(), [], self.net.now)
        self.net.nodes["a"] = self.fake
        self.net.notices["a"] = []
        self.net.run()

    def says(self, *frames: Entry | Skip | CursorExpired | Fetched | Attached | Heartbeat) -> None:
        served = self.net.link("b", "a").ends[1]
        for frame in frames:
            served.send(frame)
        self.net.run()

    @property
    def refused(self) -> list[str]:
        """The kinds of violation that the consumer found."""
        return list(self.node.counters.protocol_errors)


def test_a_message_before_the_attach_is_answered_is_a_violation_and_a_heartbeat_is_none() -> None:
    for frame, refused in (
        (Skip("a", Epoch(bytes(16)), 0, 1), ["unexpected_frame"]),
        (Heartbeat(9), []),
    ):
        producer = Producer()
        link = producer.net.link("b", "a")
        link.cut()
        producer.net.mute.add("a")
        producer.net.advance(1)
        producer.net.mute.clear()
        link = producer.net.link("b", "a")
        link.swallows.clear()
        served = link.ends[1]
        served.send(Welcome(1, "a", producer.fake.life, 2**20, 2**24, 1))
        served.send(frame)
        producer.net.run()
        assert producer.refused == refused


def test_only_so_many_streams_are_known() -> None:
    net = Net()
    net.start("a")
    b = net.start("b", peers=["a"])
    known = Attached(StreamView(net.new_epoch(), (), 0, 0), Resume(0), None)
    for number in range(b.config.limits.producers):
        b.replicas[f"n{number}"] = Replica(f"n{number}", "b", known, Resume(0), 1, 1000, b.pace)
    net.advance(2)
    assert not net.linked("b", "a")
    assert "limit" in str(b.targets[0].error)


def test_a_second_answer_to_the_attach_is_a_violation() -> None:
    producer = Producer()
    view = producer.fake.stream.view
    producer.says(Attached(view, Resume(0), None))
    assert producer.refused == ["unexpected_frame"]


def test_a_hole_in_the_stream_is_a_violation_and_the_link_is_made_anew() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.life, 3, 4))
    assert producer.refused == ["offset"]
    assert not producer.net.linked("b", "a")
    producer.net.advance(5)
    assert producer.net.linked("b", "a")


def test_an_answer_to_a_fetch_that_was_not_asked_is_a_violation() -> None:
    producer = Producer()
    producer.says(Fetched(1, producer.fake.stream.view, Resume(0), 0))
    assert producer.refused == ["fetch"]


def asked_of_a_producer() -> Producer:
    """A session of `b` needs 0; `b` holds 2 only, and has asked for the rest."""
    producer = Producer()
    Publisher(producer.net, "a").fill(3)
    link = producer.net.link("b", "a")
    link.swallow(link.ends[0])
    Subscriber(producer.net, "b", positions={"a": Position(producer.fake.life, 0)})
    return producer


def fetched(producer: Producer, count: int) -> Fetched:
    return Fetched(1, producer.fake.stream.view, Resume(0), count)


def test_what_answers_a_fetch_follows_on_without_a_hole() -> None:
    for items in ([skip(1, 2)], [skip(0, 1), skip(2, 3)], [skip(0, 2), skip(1, 3)]):
        producer = asked_of_a_producer()
        life = producer.fake.life
        producer.says(
            fetched(producer, len(items)),
            *(Skip("a", life, item.first, item.next) for item in items),
        )
        assert producer.refused == ["offset"]


def test_an_answer_to_a_fetch_that_contradicts_its_own_view_is_a_violation() -> None:
    producer = asked_of_a_producer()
    producer.says(Fetched(1, producer.fake.stream.view, Reason.AHEAD, 0))
    assert producer.refused == ["attach"]


def test_an_expired_cursor_gets_no_messages_with_the_answer() -> None:
    producer = asked_of_a_producer()
    life = producer.fake.life
    producer.says(
        Fetched(1, StreamView(life, (), 2, 3), Reason.OVERWRITTEN, 1), Skip("a", life, 2, 3)
    )
    assert producer.refused == ["fetch"]


def test_a_producer_that_answers_a_fetch_with_more_than_was_asked_is_cut_off() -> None:
    producer = asked_of_a_producer()
    life = producer.fake.life
    big = [entry(n, epoch=life, payload=b"x" * (FETCH_BYTES // 2)) for n in range(3)]
    producer.says(fetched(producer, 1000), *big)
    assert producer.refused == ["fetch"]
    producer = asked_of_a_producer()
    life = producer.fake.life
    far = Fetched(1, StreamView(life, (), 0, 10**6), Resume(0), 10**6)
    producer.says(far, *(Skip("a", life, n, n + 1) for n in range(FETCH_BYTES // 28 + 2)))
    assert producer.refused == ["fetch"]


def test_an_answer_may_be_as_long_as_one_entry_and_a_skip_over_what_was_asked() -> None:
    producer = asked_of_a_producer()
    life = producer.fake.life
    items: list[Entry | Skip] = [
        entry(0, epoch=life, payload=b"x" * (FETCH_BYTES // 2)),
        entry(1, epoch=life, payload=b"x" * FETCH_BYTES),
        Skip("a", life, 2, 3),
    ]
    producer.says(fetched(producer, 3), *items)
    assert producer.refused == []


def test_the_producers_heartbeat_tells_the_consumer_its_lag() -> None:
    producer = Producer()
    producer.says(Heartbeat(17))
    assert producer.node.producers["a"].lag == 17


@pytest.mark.parametrize(("first", "second"), [(17, 16), (MAX_OFFSET + 1, None)])
def test_a_heartbeat_never_goes_back_nor_beyond_the_last_offset(
    first: int, second: int | None
) -> None:
    producer = Producer()
    producer.says(Heartbeat(first), Heartbeat(second))
    assert producer.refused == ["offset"]


def test_a_heartbeat_below_what_was_sent_is_a_violation() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.life, 0, 5), Heartbeat(4))
    assert producer.refused == ["offset"]


def test_a_heartbeat_without_a_figure_leaves_what_is_known() -> None:
    producer = Producer()
    producer.says(Heartbeat(17), Heartbeat())
    assert producer.node.producers["a"].lag == 17


def test_nothing_leads_beyond_the_last_offset() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.life, 0, MAX_OFFSET + 1))
    assert producer.refused == ["offset"]


def test_what_answers_a_fetch_is_of_the_history_that_its_view_tells_of() -> None:
    for epoch, following in ((Epoch(bytes(16)), 3), (None, 4)):
        producer = asked_of_a_producer()
        life = producer.fake.life if epoch is None else epoch
        producer.says(fetched(producer, 1), Skip("a", life, 0, following))
        assert producer.refused == ["epoch"]


@pytest.mark.parametrize("kind", ["Heartbeat", "CursorExpired", "Fetched"])
def test_nothing_comes_between_an_answer_and_its_messages(kind: str) -> None:
    producer = asked_of_a_producer()
    between: dict[str, Heartbeat | CursorExpired | Fetched] = {
        "Heartbeat": Heartbeat(3),
        "CursorExpired": CursorExpired(
            "a", Reason.OVERWRITTEN, 1, StreamView(producer.fake.life, (), 4, 4)
        ),
        "Fetched": fetched(producer, 0),
    }
    producer.says(fetched(producer, 2), Skip("a", producer.fake.life, 0, 1), between[kind])
    assert producer.refused == ["unexpected_frame"]


@pytest.mark.parametrize(("payload", "refused"), [(b"", []), (b"other", ["content"])])
def test_one_place_has_one_content_however_it_is_read(payload: bytes, refused: list[str]) -> None:
    """A replica holds offset 2; what is fetched from before leads through that place too."""
    producer = asked_of_a_producer()
    (held,) = [producer.node.replicas["a"].log[2]]
    assert isinstance(held, Entry)
    same = held if not payload else entry(2, epoch=held.epoch, payload=payload)
    producer.says(fetched(producer, 2), Skip("a", held.epoch, 0, 2), same)
    assert producer.refused == refused


def test_what_a_consumer_refuses_it_says_to_the_producer() -> None:
    producer = Producer()
    producer.says(Skip("a", producer.fake.life, 3, 4))
    (said,) = producer.net.said("a", "connection.refused")
    assert said["code"] == "protocol"
