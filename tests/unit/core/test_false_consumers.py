"""A consumer that breaks the rules of the link, played by the test."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Publisher
from tests.unit.core.nets import Consumer, attached_consumer, producer, registered

from pubsubd_protocol.attach import Earliest
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Receipt,
)
from pubsubd_protocol.positions import Epoch, Position


@pytest.mark.parametrize("offset", [2, 6])
def test_an_acknowledgement_out_of_range_cuts_the_link(
    offset: int,
) -> None:
    net, consumer = attached_consumer()
    consumer.acknowledge(offset)
    assert consumer.refusal == "protocol"
    assert consumer.lost
    assert registered(net) == 3
    assert net.nodes["a"].events.counters.protocol_errors == {"ack": 1}


def test_an_acknowledgement_of_another_stream_cuts_the_link() -> None:
    net, consumer = attached_consumer()
    consumer.acknowledge(4, net.new_epoch())
    assert consumer.refusal == "protocol"
    net, consumer = attached_consumer()
    consumer.send(Ack("c", Position(consumer.welcome.epoch, 4)))
    assert consumer.refusal == "protocol"


@pytest.mark.parametrize(("position", "violates"), [(6, True), (5, False), (None, False)])
def test_a_consumers_named_sessions_are_no_further_than_the_stream(
    position: int | None, violates: bool
) -> None:
    net, consumer = attached_consumer()
    life = consumer.welcome.epoch
    named = {"projector": Position(life, position) if position is not None else None}
    consumer.send(Ack("a", Position(life, 4), named))
    assert (consumer.refusal == "protocol") is violates
    assert registered(net) == (3 if violates else 4)


def test_a_named_session_may_be_ahead_of_what_was_sent_for_all() -> None:
    """The session has fetched on its own, while its broker did not read."""
    net, consumer = attached_consumer()
    consumer.stop_reading()
    Publisher(net, "a").publish("x")
    assert net.nodes["a"].stream.next == 6
    life = consumer.welcome.epoch
    consumer.send(Ack("a", Position(life, 4), {"projector": Position(life, 6)}))
    consumer.read_on()
    assert consumer.refusal is None


def test_a_name_in_another_epoch_may_stand_anywhere() -> None:
    net, consumer = attached_consumer()
    named: dict[str, Position | None] = {"projector": Position(net.new_epoch(), 10**9)}
    consumer.send(Ack("a", Position(consumer.welcome.epoch, 4), named))
    assert consumer.refusal is None


def test_a_producer_keeps_the_places_of_names_in_other_streams() -> None:
    net, consumer = attached_consumer()
    own, other = Position(Epoch(consumer.life), 7), Position(net.new_epoch(), 2)
    places = {"n": {"b": own, "c": other}, "m": {"b": own}}
    at = Position(consumer.welcome.epoch, 3)
    consumer.send(Ack("a", at, {"m": at}, elsewhere=places))
    consumer.send(Ack("a", at, {"m": None}))
    assert consumer.refusal is None
    kept = net.nodes["a"].registry.get("b")
    assert kept is not None
    assert kept.places == {"n": {"b": own, "c": other}}
    assert kept.named == {}


def test_a_place_in_the_producers_own_stream_is_not_one_in_another() -> None:
    _, consumer = attached_consumer()
    at = Position(consumer.welcome.epoch, 3)
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
