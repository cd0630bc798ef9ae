"""ReadyQueue: who has many connections, or has said much, gets no more of them than who has one and has said little."""

from __future__ import annotations

import dataclasses
from itertools import chain

from tests.unit.core.net import Net, Publisher, RawClient
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.log.outgoing import LOOKS_AT_ONCE
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Receipt, Skip, Subscribe
from pubsubd_protocol.topics import MAX_SHAPES

TOPICS = 1000


def client(net: Net, uid: int, role: str) -> RawClient:
    remote = dataclasses.replace(net.remote(f"of {uid}"), host=None, uid=uid, gid=uid)
    made = RawClient(net, "a", role, remote=remote)
    if role == "session":
        made.send(Subscribe(("t",), "latest", None, None, None, True))
    return made


def test_busy_users_take_turns_apart_from_readers() -> None:
    net = Net()
    node = net.start("a")
    many = [client(net, 1001, "session") for _ in range(4)]
    publishers = [client(net, 1001, "publisher") for _ in range(2)]
    one = client(net, 1002, "session")
    peer = RawClient(net, "a", "peer", peer="b")
    every = [each.connection for each in (*many, *publishers, one, peer)]
    for connection in every:
        node.ready.wake(connection)
    assert node.ready.take() == every, "there is room for all: in the order in which they woke"

    def turns(served: int) -> list[Connection]:
        """The next connections of a shell that serves `served` at a time."""
        ready = node.ready.take()
        node.ready.put_off(ready[served:])
        return ready[:served]

    for connection in every[1:]:
        node.ready.wake(connection)
    node.ready.put_off(every[:1])
    rounds = list(chain.from_iterable(turns(1) for _ in every))
    firsts = [many[0], publishers[0], one, peer]
    assert rounds[:4] == [each.connection for each in firsts]
    assert rounds[4:6] == [many[1].connection, publishers[1].connection]
    assert rounds[6:] == [each.connection for each in many[2:]]
    assert not node.ready


def test_input_to_a_busy_broker_waits_for_its_turn() -> None:
    net = Net()
    node = net.start("a")
    publisher = Publisher(net, "a")
    data = encode(batch_of([("t", b"x")], sequence=0))
    connection = publisher.connection
    connection.space()[: len(data)] = data
    connection.received(len(data), net.now, at_once=False)
    assert (connection.behind, connection.wants_more) == (True, False)
    assert node.stream.next == 0
    net.run()
    assert (connection.behind, connection.wants_more) == (False, True)
    assert node.stream.next == 1


def test_a_pull_that_judges_many_topics_ends_and_goes_on_in_the_next() -> None:
    """True even for unwanted entries: the reader chooses the number of patterns, the publisher that of topics."""
    net = Net()
    node = net.start("a", ring_messages=100_000)
    publisher = RawClient(net, "a", "publisher")
    batches = 20
    for number in range(batches):
        messages = [(f"t{number}.{i}", b"") for i in range(TOPICS)]
        publisher.send(batch_of(messages, sequence=number))
    assert isinstance(publisher.last, Receipt)
    reader = RawClient(net, "a", "session")
    patterns = tuple("no." + "x." * i + "*" for i in range(MAX_SHAPES))
    reader.stop_reading()
    reader.send(Subscribe(patterns, "earliest", None, None, None, True))
    reader.connection.writable = True
    pulls, at = 0, 0
    reading = node.sessions.list()[0].readings["a"]
    while reading.position != node.stream.log.end_position:
        reader.took(b"".join(reader.connection.pull(FETCH_BYTES, net.now)))
        assert reading.position is not None
        assert reading.position.offset - at <= TOPICS * (1 + LOOKS_AT_ONCE // (TOPICS * MAX_SHAPES))
        at = reading.position.offset
        pulls += 1
    assert pulls >= batches * TOPICS * MAX_SHAPES // LOOKS_AT_ONCE
    reader.read_on()
    net.advance(2)
    assert any(isinstance(frame, Skip) for frame in reader.frames)


def test_a_reader_of_all_topics_gets_all_that_fits_without_lookups() -> None:
    net = Net()
    net.start("a", ring_messages=100_000)
    publisher = RawClient(net, "a", "publisher")
    for number in range(40):
        publisher.send(batch_of([(f"t{i}", b"") for i in range(TOPICS)], sequence=number))
    reader = RawClient(net, "a", "session")
    reader.stop_reading()
    reader.send(Subscribe((">",), "earliest", None, None, None, True))
    reader.connection.writable = True
    given = len(b"".join(reader.connection.pull(FETCH_BYTES, net.now)))
    assert given >= FETCH_BYTES
