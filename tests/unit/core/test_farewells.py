"""The position of a session is sent last: to an application that closes, and by a node that stops."""

from __future__ import annotations

import itertools

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber

from pubsubd_broker.core.limits import FRAMES_AT_ONCE, SETTLE_NS
from pubsubd_protocol.codec import encode
from pubsubd_protocol.frames import Ack, Skip
from pubsubd_protocol.positions import Position

BUSY = 5
"""Messages that are for no session here."""


def beside_a_busy_stream(session: str | None = None) -> tuple[Net, Subscriber]:
    net = Net()
    net.start("a")
    subscriber = Subscriber(net, "a", "rare.>", session=session)
    Publisher(net, "a").fill(BUSY)
    return net, subscriber


# An application that closes.


def test_a_closing_session_is_told_its_place_and_ends() -> None:
    net, subscriber = beside_a_busy_stream()
    assert subscriber.positions["a"].offset == 0
    assert subscriber.connection.finished()
    net.run()
    assert isinstance(subscriber.last, Skip)
    assert subscriber.positions["a"].offset == BUSY
    assert subscriber.lost
    assert net.nodes["a"].sessions.list() == []


def test_frames_before_a_clients_last_word_are_taken_first() -> None:
    net = Net()
    node = net.start("a")
    subscriber = Subscriber(net, "a", session="n")
    Publisher(net, "a").fill(2 * FRAMES_AT_ONCE)
    acks = [Ack("a", Position(node.epoch, offset)) for offset in range(2 * FRAMES_AT_ONCE)]
    # Not run in between: the last word is there before its turn to be heard comes.
    subscriber.pipe.carry(subscriber, b"".join(map(encode, acks)))
    assert subscriber.connection.behind
    assert subscriber.connection.finished()
    assert not subscriber.connection.closing
    net.run()
    assert subscriber.lost
    assert node.sessions.named("n").kept["a"].offset == 2 * FRAMES_AT_ONCE - 1  # type: ignore[union-attr]


def test_the_last_word_of_a_session_that_is_ending_changes_nothing() -> None:
    net, subscriber = beside_a_busy_stream()
    subscriber.connection.close()
    assert not subscriber.connection.finished()
    net.run()
    assert subscriber.lost
    assert not subscriber.of(Skip)


@pytest.mark.parametrize("role", ["publisher", "control"])
def test_only_a_session_has_something_to_hear_after_its_last_word(role: str) -> None:
    net = Net()
    net.start("a")
    client = RawClient(net, "a", role)
    assert not client.connection.finished()


# A node that stops.


def kept_at_producer(net: Net) -> Position:
    """The place that the producer keeps for the named session of its consumer `b`."""
    registered = net.nodes["a"].registry.get("b")
    assert registered is not None
    return registered.named["n"]


def test_a_parting_node_tells_sessions_and_producers_its_positions() -> None:
    net = Net()
    net.start("a")
    net.start("b", peers=["a"])
    net.run()
    named, other = Subscriber(net, "b", "rare.>", session="n"), Subscriber(net, "b", "rare.>")
    net.advance(1)
    Publisher(net, "a").fill(BUSY)
    assert (named.positions["a"].offset, kept_at_producer(net).offset) == (0, 0)
    net.nodes["b"].part(net.now)
    net.run()
    assert (named.positions["a"].offset, other.positions["a"].offset) == (BUSY, BUSY)
    assert kept_at_producer(net).offset == BUSY


def test_a_node_that_parts_says_nothing_on_a_connection_that_is_ending() -> None:
    net, subscriber = beside_a_busy_stream()
    subscriber.connection.close()
    net.nodes["a"].part(net.now)
    net.run()
    assert not subscriber.of(Skip)


# In between.


def test_beside_a_busy_stream_a_session_is_told_its_place_each_second() -> None:
    net, subscriber = beside_a_busy_stream()
    publisher, tick_ms = Publisher(net, "a"), 50
    told_ms = [0]
    for elapsed_ms in range(tick_ms, 20_000, tick_ms):
        publisher.fill(1)
        net.advance(tick_ms / 1000)
        if len(subscriber.of(Skip)) > len(told_ms) - 1:
            told_ms.append(elapsed_ms)
    pauses_ms = [after - before for before, after in itertools.pairwise(told_ms)]
    assert max(pauses_ms) <= 1000
    assert min(pauses_ms) >= SETTLE_NS // 1_000_000
    assert len(subscriber.of(Skip)) == len(pauses_ms), "one at a time"
