"""Sessions that catch up over the link, and fetches."""

from __future__ import annotations

from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.core.nets import Consumer, attached_consumer, pair, producer

from pubsubd_broker.core.limits import FETCH_BYTES, MAX_FETCHES
from pubsubd_protocol.attach import At, FromStart, Reason, Resume
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import (
    Fetch,
    Fetched,
)
from pubsubd_protocol.positions import Position


def test_a_slow_session_reads_on_from_the_producer() -> None:
    net = pair(ring=1000, replica_messages=5)
    slow, fast, publisher = Subscriber(net, "b"), Subscriber(net, "b"), Publisher(net, "a")
    slow.stop_reading()
    publisher.fill(100)
    assert fast.of_node("a") == list(range(100))
    slow.read_on()
    assert slow.of_node("a") == list(range(100))


def test_many_slow_sessions_catch_up_in_turns_beside_the_stream() -> None:
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


def test_a_session_behind_its_replica_is_logged_once_per_catch_up() -> None:
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


def test_an_entry_larger_than_the_replica_is_fetched_on_demand() -> None:
    net = pair(ring=100, replica_messages=5)
    subscriber = Subscriber(net, "b")
    Publisher(net, "a").publish(*[b"x"] * 20)
    assert subscriber.of_node("a") == list(range(20))


def test_a_session_that_left_is_not_fetched_for() -> None:
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
    consumer.send(Fetch(7, At(Position(consumer.welcome.epoch, 3)), 10_000))
    fetched = consumer.of(Fetched)[0]
    assert (fetched.id, fetched.answer, fetched.count) == (7, Resume(3), 2)
    assert consumer.offsets == [3, 4]
    consumer.forget()
    consumer.send(Fetch(8, At(Position(consumer.welcome.epoch, 9)), 10_000))
    assert [type(frame) for frame in consumer.frames[1:]] == [Fetched]
    assert consumer.of(Fetched)[0].answer == Reason.AHEAD


def test_endless_fetches_and_the_live_stream_share_the_link() -> None:
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
