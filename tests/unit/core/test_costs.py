"""Calls that a batch costs on its way through two brokers: none for each message, and a bounded number in all.

Counts, not times: they are the same on every machine. A change that needs more calls raises the bound here.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.core.net import Net, Publisher, Subscriber
from tests.unit.counting import calls_of
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import FETCH_BYTES
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.node import Node
from pubsubd_protocol.codec import encode

pytestmark = pytest.mark.slow

RING = 4096
BATCHES = 64

MOST_CALLS = 101
"""Python functions called for one batch: from the publisher's bytes to the bytes for the session, in both brokers."""


class Path:
    """A publisher on `a`, a link, a session on `b`. Bytes are carried by hand, so that only the brokers work."""

    def __init__(self, pattern: str = "t") -> None:
        net = self.net = Net()
        net.start("a", ring_messages=RING, pace_ns=1)
        net.start("b", peers=["a"], replica_messages=RING, pace_ns=1)
        net.run()
        self.session = Subscriber(net, "b", pattern).connection
        self.publisher = Publisher(net, "a").connection
        self.a, self.b = net.nodes["a"], net.nodes["b"]
        self.serving = self.a.peers.consumers["b"].connection
        self.pulling = net.link("b", "a").ends[0]
        self.now = net.now
        self.sequence = 0

    def carry(self, topics: list[str]) -> Callable[[], bytes]:
        """Prepares a batch with a message of each topic. The returned callable sends it, and returns the session's frames."""
        self.sequence += 1
        frame = encode(batch_of([(topic, b"x") for topic in topics], sequence=self.sequence))

        def send() -> bytes:
            self._put(self.publisher, frame)
            on_the_link = self._flush(self.a, self.serving)
            assert isinstance(self.pulling, Connection)
            self._put(self.pulling, on_the_link)
            return self._flush(self.b, self.session)

        return send

    def _put(self, connection: Connection, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            space = connection.space()
            count = min(len(space), len(rest))
            space[:count] = rest[:count]
            connection.received(count, self.now)
            rest = rest[count:]

    def _flush(self, node: Node, wanted: Connection) -> bytes:
        sent = b""
        for connection in node.ready.take():
            buffers = connection.pull(FETCH_BYTES, self.now)
            if connection is wanted:
                sent = b"".join(buffers)
        return sent


def calls_per_batch(path: Path, topics: list[str]) -> float:
    """Over a number of batches, with buffers, rings and memories filled before."""
    messages = len(topics)
    for _ in range(RING // messages + BATCHES):
        path.carry(topics)()
    batches = [path.carry(topics) for _ in range(BATCHES)]
    return sum(calls_of(batch, of="pubsubd_") for batch in batches) / BATCHES


def test_the_calls_for_a_batch_do_not_grow_with_its_messages() -> None:
    path = Path()
    one, many = calls_per_batch(path, ["t"]), calls_per_batch(path, ["t"] * 512)
    # Every other one of these batches the peer acknowledges (1,024 messages), and both logs look after the readers
    # that rest (a quarter of the log).
    assert many == pytest.approx(one, abs=16)


def test_distinct_topics_cost_less_than_a_call_each() -> None:
    path = Path("room.*")
    topics = [f"room.{i}" for i in range(512)]
    assert calls_per_batch(path, topics) < calls_per_batch(Path(), ["t"]) + 32


def test_a_batch_costs_no_more_calls_than_decided() -> None:
    assert calls_per_batch(Path(), ["t"]) <= MOST_CALLS


def test_the_bytes_arrive() -> None:
    """Proves that the counts above are those of a working path."""
    assert b"room.7" in Path("room.*").carry(["room.7"])()
