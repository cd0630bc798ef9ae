"""Publishers at a node: retries, refusals, and answers that the publisher does not read."""

from __future__ import annotations

import json

import pytest
from tests.unit.core.net import Publisher, RawClient, Subscriber, query
from tests.unit.core.nets import alone, pair, reconnected
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import (
    FRAMES_AT_ONCE,
    MAX_OUTBOX_BYTES,
    PUBLISH_WINDOW,
    SECOND_NS,
)
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import (
    Ack,
    Heartbeat,
    Query,
    Receipt,
    Refused,
    Rejected,
    Report,
    SetFilter,
)
from pubsubd_protocol.positions import MAX_OFFSET, Position


def test_a_retry_after_a_lost_answer_gets_the_first_receipt() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    publisher.pipe.swallow(publisher.connection)
    publisher.send(batch_of([("t", b"x")], sequence=1))
    publisher.cut()
    again = reconnected(net, publisher)
    assert again.batch(1, "x", retry=True) == Receipt(1, net.nodes["a"].epoch, 0)
    assert net.nodes["a"].stream.next == 1
    assert again.batch(2, "y") == Receipt(2, net.nodes["a"].epoch, 1)


def test_a_retry_at_a_restarted_broker_is_placed_there() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    publisher.publish("x")
    old = net.nodes["a"].epoch
    net.restart("a")
    again = Publisher(net, "a", life=publisher.life, spoke_to=old)
    assert again.batch(1, "x", retry=True) == Receipt(1, net.nodes["a"].epoch, 0)


def test_a_retry_that_the_table_has_forgotten_is_answered_unknown() -> None:
    net = alone(ring=1000)
    publisher = Publisher(net, "a")
    publisher.fill(PUBLISH_WINDOW + 1)
    again = Publisher(net, "a", life=publisher.life)
    answer = again.batch(1, retry=True)
    assert isinstance(answer, Rejected)
    assert answer.code == "unknown"
    assert again.batch(2, retry=True) == Receipt(2, net.nodes["a"].epoch, 1)


@pytest.mark.parametrize("retry", [False, True])
@pytest.mark.parametrize("sequence", [2, 5])
def test_sequences_rise_on_one_connection(sequence: int, retry: bool) -> None:
    net = alone()
    publisher = Publisher(net, "a")
    publisher.batch(2)
    publisher.batch(5)
    publisher.send(batch_of([("t", b"x")], sequence=sequence, retry=retry))
    assert publisher.last == Refused(
        "protocol", f"sequence: batch {sequence} came behind batch 5 on one connection"
    )
    assert net.nodes["a"].stream.next == 2
    assert Publisher(net, "a", life=publisher.life).batch(5, retry=True) == Receipt(
        5, net.nodes["a"].epoch, 1
    )


def test_a_batch_that_was_held_is_not_behind_itself() -> None:
    net = alone(ring=1, pace_ns=SECOND_NS)
    Subscriber(net, "a").stop_reading()
    publisher = Publisher(net, "a")
    for sequence in (1, 2):
        publisher.send(batch_of([("t", b"x")], sequence=sequence))
    assert not publisher.connection.wants_more
    net.advance(1.1)
    assert [receipt.sequence for receipt in publisher.of(Receipt)] == [1, 2]


def test_a_retry_of_a_forgotten_publisher_is_answered_unknown() -> None:
    net = alone()
    publisher = Publisher(net, "a", spoke_to=net.nodes["a"].epoch)
    answer = publisher.batch(1, retry=True)
    assert isinstance(answer, Rejected)
    assert answer.code == "unknown"
    assert publisher.batch(2) == Receipt(2, net.nodes["a"].epoch, 0)


def test_a_message_to_a_node_never_seen_takes_no_place() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    answer = publisher.publish(to="unknown")
    assert isinstance(answer, Rejected)
    assert answer.code == "unknown_node"
    assert isinstance(publisher.publish(to="b"), Receipt)
    assert isinstance(publisher.publish(to="a"), Receipt)
    assert net.nodes["a"].stream.next == 2


def test_a_node_seen_once_can_be_written_to_while_away() -> None:
    net = pair()
    net.stop("b")
    assert isinstance(Publisher(net, "a").publish(to="b"), Receipt)


def test_a_retry_is_accepted_though_its_target_was_forgotten() -> None:
    net = pair()
    publisher = Publisher(net, "a")
    first = publisher.publish(to="b")
    net.stop("b")
    net.run()
    query(net, "a", "drop_cursor", "b")
    again = reconnected(net, publisher)
    assert again.batch(1, to="b", retry=True) == first


def test_near_the_last_offset_only_publishing_is_refused() -> None:
    net = alone()
    node = net.nodes["a"]
    node.stream.begin((), MAX_OFFSET - 2, (), ())
    net.start("b", peers=["a"])
    net.run()
    subscriber, publisher = Subscriber(net, "b"), Publisher(net, "a")
    assert isinstance(publisher.publish("x", "y"), Receipt)
    answer = publisher.publish("z")
    assert isinstance(answer, Rejected)
    assert answer.code == "stream_full"
    net.advance(1)
    assert subscriber.of_node("a") == [MAX_OFFSET - 2, MAX_OFFSET - 1]
    assert json.loads(query(net, "a", "status"))["ring"]["next_offset"] == MAX_OFFSET


def test_a_batch_that_contradicts_itself_ends_its_connection() -> None:
    net = alone()
    good, bad = Publisher(net, "a"), Publisher(net, "a")
    bad.send(Batch(1, False, None, "t", b"", b"\x01\x00\x00\x00", b"two bytes"))
    assert bad.refusal == "protocol"
    assert isinstance(good.publish(), Receipt)


def test_a_publisher_only_publishes() -> None:
    publisher = Publisher(alone(), "a")
    publisher.send(SetFilter(("t",)))
    assert publisher.refusal == "protocol"


def test_a_publisher_that_reads_no_answers_is_not_read_from() -> None:
    net = alone(ring=100_000)
    publisher = Publisher(net, "a")
    publisher.stop_reading()
    bad = batch_of([("not a topic", b"")])
    sequence = 0
    while publisher.connection.wants_more:
        sequence += 1
        bad.sequence = sequence
        publisher.send(bad)
        assert sequence < MAX_OUTBOX_BYTES
    publisher.read_on()
    assert publisher.connection.wants_more
    assert len(publisher.of(Rejected)) == sequence


def test_no_more_questions_are_answered_than_answers_are_taken() -> None:
    net = alone()
    client = RawClient(net, "a", "control")
    client.stop_reading()
    one = encode(Query("status"))
    client.pipe.carry(client, one * 3000)
    net.run()
    assert MAX_OUTBOX_BYTES <= client.connection._outbox_bytes < 2 * MAX_OUTBOX_BYTES
    assert not client.connection.wants_more
    client.read_on()
    assert client.connection.wants_more
    assert len(client.of(Report)) == 3000


@pytest.mark.parametrize("reads", [True, False], ids=["who reads", "who does not read"])
def test_frames_that_a_client_sends_at_once_are_taken_in_turns(reads: bool) -> None:
    """Others come between: one buffer holds thousands of frames, and some of them cost much."""
    net = alone()
    subscriber = Subscriber(net, "a", "t", session="named")
    if not reads:
        subscriber.stop_reading()
    asked: list[tuple[str, ...]] = [(f"t{i}",) for i in range(5)]
    ack = Ack("a", Position(net.nodes["a"].epoch, 0))
    for frames, further_turns in (
        ([SetFilter(patterns) for patterns in asked], len(asked)),
        ([ack] * (2 * FRAMES_AT_ONCE + 1), 2),
    ):
        subscriber.pipe.carry(subscriber, b"".join(map(encode, frames)))
        for left in reversed(range(further_turns + 1)):
            assert subscriber.connection.behind == (left > 0)
            assert subscriber.connection.wants_more == (left == 0)
            for connection in net.nodes["a"].ready.take():
                net._pump(net.nodes["a"], connection)
    session = net.nodes["a"].sessions.list()[0]
    assert session.filter.patterns == asked[-1]


def test_publishes_of_a_whole_window_are_taken_in_one_turn() -> None:
    net = alone()
    publisher = Publisher(net, "a")
    batches = [batch_of([("t", b"")], sequence=i) for i in range(PUBLISH_WINDOW)]
    publisher.pipe.carry(publisher, b"".join(map(encode, batches)))
    assert not publisher.connection.behind
    assert net.nodes["a"].stream.next == PUBLISH_WINDOW


def test_an_error_is_told_behind_the_answers_before_it() -> None:
    net = alone()
    client = RawClient(net, "a", "control")
    client.stop_reading()
    asked = 0
    while client.connection.wants_more:
        client.pipe.carry(client, encode(Query("status")))
        asked += 1
    client.pipe.carry(client, encode(Heartbeat()))
    client.read_on()
    assert len(client.of(Report)) == asked
    assert client.refusal == "protocol"


def test_how_long_answers_took_is_measured() -> None:
    net = alone()
    Publisher(net, "a").fill(3)
    assert net.nodes["a"].events.counters.publish_seconds.count == 3
    assert net.nodes["a"].stream.messages_published == 3
