"""Each bound of a node: a user exactly at the bound is served, one beyond is refused with its code and counted."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber
from tests.unit.core.nets import bounded, refused
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.access.admission import Admittance, Standing, TurnedAway
from pubsubd_broker.core.access.remote import network_of
from pubsubd_broker.core.limits import (
    FETCH_BYTES,
    MAX_TURNED_AWAY,
    PUBLISH_WINDOW,
    SECOND_NS,
    Limits,
)
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.connections import Accepted
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.observe.notices import MAX_CAUSES, MAX_NOTICES, Level, Notice, Notices
from pubsubd_broker.core.status import SHOWN_PATTERNS, node_status
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Attached,
    FilterSet,
    Receipt,
    Rejected,
)
from pubsubd_protocol.framing import BUFFER_BYTES
from pubsubd_protocol.positions import Position

KIB = 1024


def rejected(node: Node, code: str) -> int:
    return node.events.counters.publishes_rejected[code]


def come(net: Net, node: Node, label: str = "stranger", **known: Any) -> Connection:
    """Opens a connection that says nothing yet."""
    remote = dataclasses.replace(net.remote(label), **known)
    return node.accept(remote, net.now, peers="host" in known)


def admittance(connection: Connection) -> Admittance:
    side = connection._side
    assert isinstance(side, Accepted)
    return side.admittance


def turned_away(connection: Connection) -> TurnedAway:
    refusal = admittance(connection)
    assert isinstance(refusal, TurnedAway)
    return refusal


# Connections.


def test_connections_in_all_are_bounded_and_an_operator_still_gets_in() -> None:
    net, node = bounded(connections=2)
    first, second = Publisher(net, "a"), Subscriber(net, "a")
    assert (first.refusal, second.refusal) == (None, None)
    assert RawClient(net, "a", "session").refusal == "too_many_connections"
    assert refused(node, "too_many_connections") == 1
    assert RawClient(net, "a", "control").refusal is None
    first.cut()
    assert Publisher(net, "a").refusal is None


@pytest.mark.parametrize(
    ("limits", "known"),
    [
        ({"connections_per_uid": 2}, {"host": None, "uid": 1001, "gid": 1001}),
        ({"connections_per_address": 2}, {"host": "10.0.0.1"}),
    ],
)
def test_connections_are_bounded_per_origin(limits: dict[str, int], known: dict[str, Any]) -> None:
    net, node = bounded(**limits)
    held = [come(net, node, **known) for _ in range(2)]
    assert {admittance(each) for each in held} == {Standing.ADMITTED}
    beyond = come(net, node, **known)
    assert getattr(admittance(beyond), "code", None) == "too_many_of_one"
    other = {name: "10.0.0.2" if name == "host" else value for name, value in known.items()}
    if known["host"] is None:
        other["uid"] = 1002
    assert admittance(come(net, node, **other)) is Standing.ADMITTED
    held[0].lost(net.now, 0.5)
    assert admittance(come(net, node, **known)) is Standing.ADMITTED


def test_peers_never_take_the_connections_of_local_applications() -> None:
    net, node = bounded(connections=4)
    for number in range(2):
        assert admittance(come(net, node, host=f"10.0.0.{number}")) is Standing.ADMITTED
    beyond = turned_away(come(net, node, host="10.0.0.9"))
    assert beyond.code == "too_many_connections"
    assert beyond.detail == "2 connections of peers are open, half of what there may be"
    for _ in range(2):
        assert admittance(come(net, node)) is Standing.ADMITTED
    full = turned_away(come(net, node, host="10.0.0.9"))
    assert full.detail == "4 connections are open, that is the limit"


def test_all_addresses_of_one_network_of_ipv6_are_one_origin() -> None:
    net, node = bounded(connections_per_address=2)
    for number in range(2):
        assert admittance(come(net, node, host=f"2001:db8::{number}")) is Standing.ADMITTED
    beyond = turned_away(come(net, node, host="2001:db8::ffff:ffff:ffff:ffff"))
    assert "address 2001:db8::/64 are open" in beyond.detail
    assert admittance(come(net, node, host="2001:db8:0:1::")) is Standing.ADMITTED
    assert network_of("::ffff:10.0.0.1") == network_of("10.0.0.1") == "10.0.0.1"
    assert network_of("fe80::1%eth0") == "fe80::/64"
    assert network_of("a.example") == "a.example"


def test_one_connection_too_many_of_a_user_is_told_and_counted() -> None:
    net, node = bounded(connections_per_uid=1)
    user: dict[str, Any] = {"host": None, "uid": 1001, "gid": 1001}

    def client(role: str) -> RawClient:
        return RawClient(net, "a", role, remote=dataclasses.replace(net.remote(role), **user))

    assert client("session").refusal is None
    assert client("session").refusal == "too_many_of_one"
    assert client("control").refusal is None, "a command of that user can still ask why"
    assert refused(node, "too_many_of_one") == 1


def test_refusals_are_told_up_to_a_bound_and_then_closed_unheard() -> None:
    net, node = bounded(connections=MAX_TURNED_AWAY)
    for _ in range(MAX_TURNED_AWAY):
        come(net, node)
    turned_away = [come(net, node) for _ in range(MAX_TURNED_AWAY - 1)]
    last = RawClient(net, "a", "session", greets=False)
    assert refused(node, "too_many_unheard") == 0
    unheard = RawClient(net, "a", "session")
    assert (unheard.frames, unheard.lost) == ([], True)
    assert refused(node, "too_many_unheard") == 1
    last.cut()
    assert RawClient(net, "a", "session").refusal == "too_many_connections"
    assert len(node.connections) == MAX_TURNED_AWAY + len(turned_away), (
        "a refused connection is gone"
    )


def test_no_more_are_heard_to_be_turned_away_than_there_may_be() -> None:
    net, node = bounded(connections=1)
    come(net, node)
    come(net, node)
    assert RawClient(net, "a", "session").lost
    assert refused(node, "too_many_unheard") == 1


def test_a_connection_has_so_long_to_greet_and_to_say_what_it_wants() -> None:
    net, node = bounded(handshake_ns=SECOND_NS)
    silent = RawClient(net, "a", "session", greets=False)
    vague = RawClient(net, "a", "session")
    peer = RawClient(net, "a", "peer", peer="b")
    settled = Subscriber(net, "a")
    net.advance(1.0)
    assert [each.refusal for each in (silent, vague, peer)] == [None] * 3
    net.advance(1.0)
    assert [each.refusal for each in (silent, vague, peer)] == ["handshake_timeout"] * 3
    assert refused(node, "handshake_timeout") == 3
    assert not settled.lost


# Requests of a client.


def test_connected_sessions_are_bounded() -> None:
    net, node = bounded(sessions=2)
    first, second = Subscriber(net, "a"), Subscriber(net, "a", session="named")
    assert (first.refusal, second.refusal) == (None, None)
    assert Subscriber(net, "a").refusal == "too_many_sessions"
    assert refused(node, "too_many_sessions") == 1
    second.cut()
    assert Subscriber(net, "a").refusal is None, "one that is away is not connected"
    assert Subscriber(net, "a", session="named").refusal == "too_many_sessions"


def test_names_of_sessions_are_bounded_connected_or_not() -> None:
    net, node = bounded(named_sessions=2)
    for name in ("one", "two"):
        Subscriber(net, "a", session=name).cut()
    assert Subscriber(net, "a", session="three").refusal == "too_many_sessions"
    assert refused(node, "too_many_sessions") == 1
    assert Subscriber(net, "a").refusal is None
    assert Subscriber(net, "a", session="two").refusal is None


def test_ever_new_names_find_room_after_the_ttl_in_a_quiet_stream() -> None:
    net = Net()
    net.start("a", limits=Limits(named_sessions=3), cursor_ttl_ns=10 * SECOND_NS)
    here = Subscriber(net, "a", session="here")
    Subscriber(net, "a", session="first").cut()
    net.advance(2)
    Subscriber(net, "a", session="second").cut()
    assert Subscriber(net, "a", session="third").refusal == "too_many_sessions"
    net.advance(9)
    assert net.said("a", "session.forgotten") == [{"session": "first"}]
    assert Subscriber(net, "a", session="third").refusal is None
    assert Subscriber(net, "a", session="second").resumed
    net.advance(30)
    assert net.said("a", "session.forgotten") == [{"session": "first"}], "the others are connected"
    assert not here.lost


def test_below_the_bound_a_name_that_lost_nothing_stays_for_good() -> None:
    net = Net()
    net.start("a", limits=Limits(named_sessions=3), cursor_ttl_ns=10 * SECOND_NS)
    for name in ("one", "two"):
        Subscriber(net, "a", session=name).cut()
    net.advance(30)
    assert net.said("a", "session.forgotten") == []


def test_remembered_names_are_revived_up_to_the_same_bound() -> None:
    net = Net()
    net.start("a")
    net.start("b", peers=["a"])
    net.run()
    for name in ("one", "two", "three"):
        Subscriber(net, "b", session=name).cut()
    net.advance(1)
    node = net.restart("b", limits=Limits(named_sessions=2))
    net.run()
    net.advance(1)
    assert len(node.sessions.list()) == 2


def test_patterns_of_a_session_are_bounded_as_it_opens_and_as_it_changes() -> None:
    net, node = bounded(patterns=2)
    reader = Subscriber(net, "a", "x", "y")
    assert reader.refusal is None
    assert Subscriber(net, "a", "x", "y", "z").refusal == "too_many_patterns"
    reader.change("u", "v")
    assert reader.of(FilterSet)
    reader.change("u", "v", "w")
    assert reader.refusal == "too_many_patterns"
    assert refused(node, "too_many_patterns") == 2


def test_bytes_of_topics_and_patterns_are_bounded() -> None:
    net, node = bounded(topic_bytes=4)
    publisher = Publisher(net, "a")
    assert isinstance(publisher.publish(topic="ab\N{GREEK SMALL LETTER PHI}"), Receipt)
    beyond = publisher.publish(topic="abc\N{GREEK SMALL LETTER PHI}")
    assert isinstance(beyond, Rejected)
    assert (beyond.code, beyond.size, beyond.limit) == ("topic_too_long", 5, 4)
    assert rejected(node, "topic_too_long") == 1
    reader = Subscriber(net, "a", "ab.*")
    assert reader.refusal is None
    assert Subscriber(net, "a", "abc.*").refusal == "topic_too_long"
    reader.change("abc.*")
    assert reader.refusal == "topic_too_long"
    assert refused(node, "topic_too_long") == 2


def batch(*topics: str, sequence: int = 1, payload: bytes = b"x") -> Batch:
    """A message of each topic."""
    return batch_of([(topic, payload) for topic in topics], sequence=sequence)


@pytest.mark.parametrize(
    ("limit", "code", "at", "beyond"),
    [
        ("batch_messages", "too_many_messages", ("t", "t", "t"), ("t", "t", "t", "t")),
        ("batch_topics", "too_many_topics", ("t", "u", "v", "t"), ("t", "u", "v", "w")),
    ],
)
def test_messages_and_topics_of_a_batch_are_bounded(
    limit: str, code: str, at: tuple[str, ...], beyond: tuple[str, ...]
) -> None:
    net, node = bounded(**{limit: 3})
    publisher = RawClient(net, "a", "publisher")
    publisher.send(batch(*at, sequence=1))
    assert isinstance(publisher.last, Receipt)
    publisher.send(batch(*beyond, sequence=2))
    no = publisher.last
    assert isinstance(no, Rejected)
    assert (no.code, no.size, no.limit) == (code, 4, 3)
    assert rejected(node, code) == 1
    publisher.send(batch("t", sequence=3))
    assert isinstance(publisher.last, Receipt), "the next one is judged for itself"


@pytest.mark.parametrize(("ring", "told"), [(2, 2), (100, 3)])
def test_a_client_is_told_how_many_messages_a_batch_may_have(ring: int, told: int) -> None:
    net = Net()
    net.start("a", ring_messages=ring, limits=Limits(batch_messages=3))
    assert RawClient(net, "a", "publisher").welcome.max_batch == told


# Memory of other nodes.


def test_away_publishers_are_bounded_and_forgotten_retries_unknown() -> None:
    net, node = bounded(publishers=2)
    lives = [net.new_epoch() for _ in range(3)]
    first = [Publisher(net, "a", life=life).publish() for life in lives[:1]]
    net.pipes[-1].cut()
    for life in lives[1:2]:
        Publisher(net, "a", life=life).publish()
        net.pipes[-1].cut()
    assert node.publishers.forgotten == 0
    again = Publisher(net, "a", life=lives[0], spoke_to=node.epoch)
    assert again.batch(1, retry=True) == first[0], "at the bound each is remembered"
    again.cut()
    Publisher(net, "a", life=lives[2]).publish()
    net.pipes[-1].cut()
    assert (node.publishers.forgotten, len(node.publishers)) == (1, 2)
    forgotten = Publisher(net, "a", life=lives[1], spoke_to=node.epoch).batch(1, retry=True)
    assert isinstance(forgotten, Rejected)
    assert forgotten.code == "unknown"
    assert rejected(node, "unknown") == 1


def test_a_publishers_answers_are_remembered_for_its_window() -> None:
    net, node = bounded()
    publisher = Publisher(net, "a")
    assert publisher.welcome.window == PUBLISH_WINDOW
    publisher.fill(PUBLISH_WINDOW + 1)
    again = Publisher(net, "a", life=publisher.life, spoke_to=node.epoch)
    oldest = again.batch(1, retry=True)
    assert isinstance(again.batch(2, retry=True), Receipt)
    assert isinstance(oldest, Rejected)
    assert oldest.code == "unknown"
    assert rejected(node, "unknown") == 1


def consumer_of(
    net: Net, node: Node, name: str, named: dict[str, Position | None] | None = None
) -> RawClient:
    consumer = RawClient(net, "a", "peer", peer=name)
    consumer.send(Attach(Remembered(waiting=False)))
    assert consumer.of(Attached)
    consumer.send(Ack("a", Position(node.epoch, 0), named or {}))
    return consumer


def test_connected_and_named_consumers_are_bounded_and_come_back() -> None:
    net, node = bounded(consumers=2)
    consumer_of(net, node, "b", {"projector": Position(node.epoch, 0)}).cut()
    consumer = consumer_of(net, node, "c")
    assert RawClient(net, "a", "peer", peer="d").refusal == "too_many_consumers"
    assert refused(node, "too_many_consumers") == 1
    consumer.cut()
    for name in ("b", "c"):
        assert RawClient(net, "a", "peer", peer=name).refusal is None
    assert node.registry.given_up == 0


def test_ever_new_consumers_are_served_and_given_up_ones_logged() -> None:
    net, node = bounded(consumers=3)
    for number in range(6):
        consumer_of(net, node, f"container-{number}").cut()
    assert [name for name, _ in node.registry.items()] == [f"container-{n}" for n in (3, 4, 5)]
    said = net.said("a", "cursor.given_up")
    assert [each["consumer"] for each in said] == [f"container-{n}" for n in (0, 1, 2)]
    assert node.registry.given_up == 3


def test_a_greeting_alone_gives_nobody_up() -> None:
    net, node = bounded(consumers=1)
    consumer_of(net, node, "b").cut()
    assert RawClient(net, "a", "peer", peer="c").refusal is None
    assert "b" in node.registry


def test_commands_are_bounded() -> None:
    net, node = bounded(commands=2)
    first, second = RawClient(net, "a"), RawClient(net, "a")
    assert (first.refusal, second.refusal) == (None, None)
    assert RawClient(net, "a").refusal == "too_many_commands"
    assert refused(node, "too_many_commands") == 1
    first.cut()
    assert RawClient(net, "a").refusal is None


def test_the_status_of_one_session_is_bounded() -> None:
    net, node = bounded()
    elsewhere = {f"n{i}": Position(net.new_epoch(), i) for i in range(100)}
    Subscriber(net, "a", *(f"t{i}" for i in range(100)), positions=elsewhere, born=node.epoch)
    (shown,) = node_status(node, net.now)["sessions"]
    assert (len(shown["patterns"]), shown["pattern_count"]) == (SHOWN_PATTERNS, 100)
    assert list(shown["positions"]) == ["a"]


def test_producers_are_bounded_and_those_that_are_known_are_read_on() -> None:
    net = Net()
    for name in ("b", "c"):
        net.start(name)
    node = net.start("a", peers=["b", "c"], limits=Limits(producers=1))
    net.run()
    net.advance(1)
    assert list(node.peers.replicas) == ["b"]
    assert refused(node, "too_many_producers") > 0
    assert "1 streams are known already" in str(node.targets[1].error)
    net.link("a", "b").cut()
    net.advance(1)
    assert list(node.peers.producers) == ["b"]


# Large frames on their way in.


def large(size: int, sequence: int = 1) -> bytes:
    return encode(batch("t", sequence=sequence, payload=bytes(size)))


def test_large_frames_that_are_coming_in_are_bounded_all_together() -> None:
    frame = large(BUFFER_BYTES + 100 * KIB)
    over = len(frame) - BUFFER_BYTES
    net, node = bounded(receive_bytes=2 * over)
    half = [RawClient(net, "a", "publisher") for _ in range(2)]
    for each in half:
        each.send_bytes(frame[:-1])
    assert [each.refusal for each in half] == [None, None]
    assert node.connections.receiving.used == 2 * over
    third = RawClient(net, "a", "publisher")
    third.send_bytes(frame[:BUFFER_BYTES])
    assert third.refusal == "too_much_unfinished"
    assert refused(node, "too_much_unfinished") == 1
    half[0].send_bytes(frame[-1:])
    assert isinstance(half[0].last, Receipt)
    assert node.connections.receiving.used == over, (
        "what is whole has been taken, and its memory given back"
    )
    half[1].cut()
    assert node.connections.receiving.used == 0
    fourth = RawClient(net, "a", "publisher")
    fourth.send_bytes(frame)
    assert isinstance(fourth.last, Receipt)


def test_a_frame_that_fits_the_usual_buffer_always_finds_room() -> None:
    net, node = bounded(receive_bytes=0)
    publisher = RawClient(net, "a", "publisher")
    size = BUFFER_BYTES - len(large(0))
    publisher.send_bytes(large(size))
    assert isinstance(publisher.last, Receipt)
    publisher.send_bytes(large(size + 1, sequence=2))
    assert publisher.refusal == "too_much_unfinished"
    assert node.connections.receiving.used == 0


def test_an_announced_large_frame_takes_no_room_of_others() -> None:
    net, node = bounded(receive_bytes=16 << 20)
    for _ in range(20):
        RawClient(net, "a", "publisher").send_bytes(large(1 << 20)[:100])
    assert node.connections.receiving.used == 0


def test_further_bytes_of_a_refused_connection_take_no_memory() -> None:
    net, node = bounded(receive_bytes=0)
    publisher = RawClient(net, "a", "publisher")
    connection = publisher.connection
    connection.reader.limit = node.config.max_frame
    rest = memoryview(large(1 << 20))
    while rest:
        # As one turn of the loop reads many times, before anything is written.
        space = connection.space()
        count = min(len(space), len(rest))
        space[:count] = rest[:count]
        connection.received(count, net.now)
        rest = rest[count:]
        assert connection.reader.size <= BUFFER_BYTES
    assert connection.closing


def test_a_waiting_large_frame_counts_until_it_is_taken() -> None:
    net = Net()
    frame = large(BUFFER_BYTES + KIB)
    node = net.start("a", ring_bytes=400 * KIB, pace_ns=SECOND_NS)
    Subscriber(net, "a").stop_reading()
    publishers = [RawClient(net, "a", "publisher") for _ in range(2)]
    for each in publishers:
        each.send_bytes(frame)
    assert isinstance(publishers[0].last, Receipt)
    assert not isinstance(publishers[1].last, Receipt), "it would overrun the session"
    assert node.connections.receiving.used == len(frame) - BUFFER_BYTES
    assert publishers[1].connection.reader.size == BUFFER_BYTES
    net.advance(2)
    assert isinstance(publishers[1].last, Receipt)
    assert node.connections.receiving.used == 0


def test_a_dialled_producer_takes_no_room_of_strangers() -> None:
    net = Net()
    net.start("a")
    node = net.start("b", peers=["a"], limits=Limits(receive_bytes=0))
    net.run()
    reader = Subscriber(net, "b")
    RawClient(net, "a", "publisher").send_bytes(large(1 << 20))
    net.run()
    assert reader.of_node("a")[-1] == 0
    assert node.connections.receiving.used == 0


# Large entries on their way out.


class SlowReader(Subscriber):
    """A session whose socket is full as soon as it has got an entry of one stream."""

    def took(self, data: bytes) -> None:
        before = len(self.of(Entry))
        super().took(data)
        self.connection.writable = len(self.of(Entry)) == before


def slow_readers(net: Net, count: int, size: int) -> list[SlowReader]:
    """Each of them has been given another large entry, and takes no more."""
    readers = [SlowReader(net, "a", f"t{number}") for number in range(count)]
    publisher = RawClient(net, "a", "publisher")
    for number in range(count):
        entry = batch(f"t{number}", sequence=number, payload=bytes(size))
        publisher.send_bytes(encode(entry))
    return readers


def test_untaken_large_entries_are_bounded_and_slow_readers_end() -> None:
    size = BUFFER_BYTES + KIB
    net, node = bounded(unsent_bytes=3 * size - 1)
    readers = slow_readers(net, 2, size)
    assert [each.refusal for each in readers] == [None, None]
    assert node.connections.send_budget.bytes == 2 * size
    readers[0].read_on()
    assert node.connections.send_budget.bytes == size, "what was taken is not kept"
    further = slow_readers(net, 2, size)
    assert refused(node, "too_much_unsent") == 1
    assert readers[1].lost
    assert not any(each.lost for each in (readers[0], *further))
    net.run()
    assert readers[1].again().refusal is None


def test_an_entry_with_many_readers_is_kept_once() -> None:
    size = BUFFER_BYTES + KIB
    net, node = bounded(unsent_bytes=2 * size)
    readers = [SlowReader(net, "a") for _ in range(10)]
    RawClient(net, "a", "publisher").send_bytes(large(size))
    assert not any(each.connection.writable for each in readers)
    assert node.connections.send_budget.bytes == size
    assert refused(node, "too_much_unsent") == 0


def test_a_reader_that_takes_what_it_is_given_keeps_nothing() -> None:
    net, node = bounded(unsent_bytes=0)
    reader = Subscriber(net, "a")
    RawClient(net, "a", "publisher").send_bytes(large(1 << 20))
    net.run()
    assert reader.of_node("a")[-1] == 0
    assert node.connections.send_budget.bytes == 0
    assert refused(node, "too_much_unsent") == 0


# Messages fetched for sessions that are behind their replica.


def behind_the_replica(fetched_bytes: int) -> tuple[Net, Node, list[SlowOnce]]:
    """Four sessions of `b` that are far behind, and have been fetched more than their sockets take."""
    net = Net()
    net.start("a", ring_messages=1000)
    limits = Limits(fetched_bytes=fetched_bytes)
    node = net.start("b", peers=["a"], replica_messages=1, limits=limits)
    net.run()
    readers = [SlowOnce(net, "b") for _ in range(4)]
    for each in readers:
        each.stop_reading()
    Publisher(net, "a").fill(200, bytes(KIB))
    for each in readers:
        each.read_on()
    return net, node, readers


class SlowOnce(Subscriber):
    """A session whose socket is full as soon as its broker has fetched for it, before it has got an entry."""

    def read_on(self) -> None:
        self.connection.writable = True
        self.took(b"".join(self.connection.pull(FETCH_BYTES, self.net.now)))
        self.connection.writable = False
        self.net.run()


@pytest.mark.parametrize("limit", [0, 1 << 20])
def test_unread_fetches_are_bounded_and_dropped_without_a_loss(limit: int) -> None:
    net, node, readers = behind_the_replica(limit)
    if limit:
        assert node.links.fetch_budget.dropped == 0
    else:
        assert node.links.fetch_budget.dropped == len(readers) - 1, "the newest is kept"
    for each in readers:
        Subscriber.read_on(each)
    net.run()
    for each in readers:
        assert each.of_node("a") == list(range(200)), "in order, none missing, none twice"


# The log.


def say(notices: Notices, origin: str) -> None:
    notices.repeatable(Notice("connection.refused", Level.WARNING), "because", origin)


def test_causes_are_bounded_and_further_ones_count_as_one() -> None:
    notices = Notices(repeat_ns=SECOND_NS)
    notices.tick(0)
    for number in range(MAX_CAUSES):
        say(notices, f"address {number}")
        say(notices, f"address {number}")
    assert len(notices.take()) == MAX_CAUSES
    for number in range(100):
        say(notices, f"further {number}")
    assert len(notices.take()) == 1
    notices.tick(2 * SECOND_NS)
    repeated = {str(n.fields["origin"]): n.fields["times"] for n in notices.take()[:MAX_NOTICES]}
    assert repeated["address 0"] == 1
    assert repeated["any"] == 99


def test_uncollected_notices_are_bounded_and_further_ones_counted() -> None:
    notices = Notices()
    for _ in range(MAX_NOTICES):
        say(notices, "stranger")
    assert [n.event for n in notices.take()] == ["connection.refused"] * MAX_NOTICES
    for _ in range(MAX_NOTICES + 3):
        say(notices, "stranger")
    *_, last = notices.take()
    assert (last.event, last.fields) == ("notices.dropped", {"count": 3})
