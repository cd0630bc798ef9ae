"""Publishers wait for readers of their node's ring, and a peer's stream for readers of its replica. Through whole nodes."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.core.net import Net, RawClient, Subscriber
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.core.streams import stream
from pubsubd_protocol.entries import Batch, Entry, place_batch
from pubsubd_protocol.frames import CursorExpired, Receipt, Rejected

PACE_S = 0.25


class Burst:
    """A publisher that writes many batches at once, and does not wait for answers."""

    def __init__(self, net: Net, node: str, batches: int, size: int = 0) -> None:
        self.client = RawClient(net, node, "publisher")
        for sequence in range(batches):
            self.client.send(batch_of([("t", b"x" * size)], sequence=sequence))

    @property
    def placed(self) -> int:
        assert not self.client.of(Rejected)
        return len(self.client.of(Receipt))


def paced(net: Net, node: str) -> dict[str, float]:
    """Seconds, by reader."""
    return {
        reader: waited_ns / SECOND_NS
        for reader, waited_ns in net.nodes[node].pace.waited_ns.items()
        if waited_ns
    }


def single() -> Net:
    net = Net()
    net.start("a", ring_messages=10, pace_ns=SECOND_NS // 4)
    return net


def pair(*, ring: int = 10, replica: int = 1000) -> Net:
    """`b` reads from `a`."""
    net = Net()
    net.start("a", ring_messages=ring, pace_ns=SECOND_NS // 4)
    net.start("b", peers=["a"], replica_messages=replica, pace_ns=SECOND_NS // 4)
    net.run()
    return net


def catching_up(net: Net) -> Subscriber:
    """A session on `b` that its replica has let down: it reads from `a`, and has taken some of that."""
    reader = Subscriber(net, "b")
    reader.stop_reading()
    Burst(net, "a", 100, size=20_000)
    net.advance(PACE_S)
    net.nodes["b"].ready.wake(reader.connection)
    reader.connection.writable = True
    reader.connection.pull(1, net.now)
    reader.connection.writable = False
    net.run()
    return reader


def waited_for(net: Net) -> int:
    """The number of `b`'s sessions that read `a`'s ring, without the link itself."""
    end = net.nodes["a"].peers.consumers["b"]
    readers = net.nodes["a"].stream.pacing._readers
    return sum(reader.label == "b" and reader is not end for reader in readers)


def test_a_burst_waits_for_a_session_that_is_a_moment_behind() -> None:
    net = single()
    reader = Subscriber(net, "a")
    reader.stop_reading()
    burst = Burst(net, "a", 25)
    assert burst.placed == 10
    net.advance(PACE_S / 2)
    assert burst.placed == 10
    reader.read_on()
    assert burst.placed == 25
    assert reader.of_node("a") == [*range(25)]
    assert 0 < paced(net, "a")["session"] < PACE_S


def test_a_stopped_session_holds_a_publisher_once_for_one_pace() -> None:
    net = single()
    reader = Subscriber(net, "a")
    reader.stop_reading()
    burst = Burst(net, "a", 25)
    net.advance(PACE_S)
    assert burst.placed == 25
    assert paced(net, "a") == {"session": PACE_S}
    assert Burst(net, "a", 100).placed == 100
    assert paced(net, "a") == {"session": PACE_S}
    reader.read_on()
    (told,) = reader.of(CursorExpired)
    assert told.view.next == 125


def test_publishers_that_wait_cost_one_encoding_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often each of them asks, a batch is encoded when it is placed."""
    encoded: list[int] = []

    def counted(batch: Batch, *more: Any) -> Entry:
        encoded.append(batch.sequence)
        return place_batch(batch, *more)

    net = single()
    reader = Subscriber(net, "a")
    Burst(net, "a", 10)
    reader.stop_reading()
    Burst(net, "a", 10)
    monkeypatch.setattr(stream, "place_batch", counted)
    waiting = [Burst(net, "a", 1) for _ in range(20)]
    assert (sum(burst.placed for burst in waiting), len(encoded)) == (0, 0)
    net.advance(2 * PACE_S)
    assert sum(burst.placed for burst in waiting) == 20
    assert len(encoded) == 20


def test_held_batches_are_answered_in_order_and_placed_once() -> None:
    net = single()
    Subscriber(net, "a").stop_reading()
    burst = Burst(net, "a", 12)
    again = RawClient(net, "a", "publisher", life=burst.client.life)
    assert burst.client.refusal == "replaced"
    for sequence in (10, 11):
        again.send(batch_of([("t", b"")], sequence=sequence, retry=True))
    net.advance(PACE_S)
    for client, sequences in ((burst.client, [*range(10)]), (again, [10, 11])):
        receipts = client.of(Receipt)
        assert [r.sequence for r in receipts] == sequences
        assert [r.first for r in receipts] == sequences


def test_a_held_publisher_that_is_cut_off_does_not_stop_the_next() -> None:
    net = single()
    reader = Subscriber(net, "a")
    reader.stop_reading()
    first, second = Burst(net, "a", 11), Burst(net, "a", 1)
    assert (first.placed, second.placed) == (10, 0)
    first.client.cut()
    reader.read_on()
    assert second.placed == 1
    assert reader.of_node("a") == [*range(11)]


def test_an_unread_publisher_does_not_stop_the_next() -> None:
    net = single()
    reader = Subscriber(net, "a")
    reader.stop_reading()
    first, second = Burst(net, "a", 11), Burst(net, "a", 1)
    first.client.stop_reading()
    reader.read_on()
    assert second.placed == 1


def test_a_stopping_broker_refuses_who_waits() -> None:
    net = single()
    Subscriber(net, "a").stop_reading()
    burst = Burst(net, "a", 11)
    net.nodes["a"].drain()
    net.advance(PACE_S)
    assert burst.client.refusal == "draining"
    assert burst.placed == 10


def test_a_producer_waits_for_a_peer_whose_link_is_full() -> None:
    net = pair()
    end = net.nodes["a"].peers.consumers["b"]
    connection = end.connection
    connection.writable = False
    burst = Burst(net, "a", 15)
    assert burst.placed == 10
    connection.writable = True
    connection.wake()
    net.run()
    assert burst.placed == 15
    assert net.nodes["b"].peers.replicas["a"].log.view.next == 15
    assert end.label == "b"


def test_a_slow_session_of_a_replica_holds_the_peers_publisher() -> None:
    net = pair(ring=10, replica=10)
    reader = Subscriber(net, "b")
    reader.stop_reading()
    burst = Burst(net, "a", 25)
    # The replica is full. The pipes of this test have no limit, so all has been sent.
    assert net.nodes["b"].peers.replicas["a"].log.view.next == 10
    net.advance(PACE_S / 2)
    reader.read_on()
    assert burst.placed == 25
    assert reader.of_node("a") == [*range(25)]
    assert 0 < paced(net, "b")["session"] < PACE_S


def test_a_session_that_reads_nothing_holds_its_brokers_link_once() -> None:
    net = pair(ring=1000, replica=10)
    reader = Subscriber(net, "b")
    reader.stop_reading()
    Burst(net, "a", 25)
    net.advance(PACE_S)
    assert net.nodes["b"].peers.replicas["a"].log.view.next == 25
    Burst(net, "a", 100)
    assert net.nodes["b"].peers.replicas["a"].log.view.next == 125
    assert paced(net, "b") == {"session": PACE_S}
    # The producer still has the messages that the replica lost.
    reader.read_on()
    assert reader.of_node("a") == [*range(125)]


def test_a_stopped_session_does_not_hold_the_link_of_a_reading_one() -> None:
    net = pair(ring=1000, replica=10)
    stuck, other = Subscriber(net, "b"), Subscriber(net, "b")
    stuck.stop_reading()
    Burst(net, "a", 25)
    assert other.of_node("a") == [*range(25)]
    assert paced(net, "b") == {}
    stuck.read_on()
    assert stuck.of_node("a") == [*range(25)]


def test_indifferent_sessions_do_not_let_a_burst_overrun_a_reader() -> None:
    net = pair(ring=10, replica=10)
    reader, idle, later = Subscriber(net, "b", ">"), Subscriber(net, "b", "other"), None
    Burst(net, "a", 2)
    assert (reader.of_node("a"), idle.of_node("a")) == ([0, 1], [])
    reader.stop_reading()
    burst = Burst(net, "a", 25)
    net.advance(PACE_S / 4)
    later = Subscriber(net, "b", "other")
    net.advance(PACE_S / 4)
    reader.read_on()
    assert burst.placed == 25
    assert reader.of_node("a") == [*range(27)]
    assert 0 < paced(net, "b")["session"] < PACE_S
    assert later.of_node("a") == []


def test_a_held_link_is_not_taken_for_a_silent_one() -> None:
    net = Net()
    net.start("a", pace_ns=0)
    net.start(
        "b", peers=["a"], replica_messages=10, pace_ns=5 * SECOND_NS, peer_timeout_ns=SECOND_NS
    )
    net.run()
    link = net.link("b", "a")
    Subscriber(net, "b").stop_reading()
    Burst(net, "a", 11)
    # The other end does not read: all words of `a` stay in the socket.
    link.swallow(net.nodes["a"].peers.consumers["b"].connection)
    net.advance(4)
    assert net.link("b", "a") is link
    net.advance(2)
    assert net.nodes["b"].peers.replicas["a"].log.view.next == 11


def test_a_producer_waits_for_a_session_that_catches_up_from_it() -> None:
    net = pair(ring=100, replica=5)
    reader = catching_up(net)
    assert waited_for(net) == 1
    burst = Burst(net, "a", 50, size=20_000)
    assert burst.placed < 50
    reader.read_on()
    assert burst.placed == 50
    assert reader.of_node("a")[-1] == 149
    assert not reader.of(CursorExpired)


def test_a_caught_up_reader_is_not_waited_for_any_more() -> None:
    net = pair(ring=100, replica=5)
    reader = Subscriber(net, "b")
    reader.stop_reading()
    Burst(net, "a", 50)
    net.advance(PACE_S)
    reader.read_on()
    assert reader.of_node("a") == [*range(50)]
    waited = paced(net, "a")
    assert Burst(net, "a", 500).placed == 500
    assert paced(net, "a") == waited


def test_a_session_that_leaves_its_catch_up_is_not_waited_for() -> None:
    net = pair(ring=100, replica=5)
    reader = catching_up(net)
    assert waited_for(net) == 1
    reader.cut()
    assert waited_for(net) == 0


def test_the_last_words_to_one_that_waited_arrive() -> None:
    net = single()
    reader = Subscriber(net, "a")
    reader.stop_reading()
    burst = Burst(net, "a", 11)
    net.nodes["a"].drain()
    reader.read_on()
    assert burst.client.refusal == "draining"
