"""Thousands of consumers and names come and go: what a node keeps of them stays bounded, in memory, on disk and in metrics."""

from __future__ import annotations

import pytest
from tests.unit.core.net import Net, Publisher, RawClient, Subscriber

from pubsubd_broker.core.journal.checkpoint import encode_checkpoint
from pubsubd_broker.core.journal.journal import Fsync
from pubsubd_broker.core.journal.keeper import Keeper, Kept
from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.core.status import node_status
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.frames import Ack, Attach
from pubsubd_protocol.positions import Position

pytestmark = pytest.mark.slow

TTL_S = 60
AT_ONCE = 20
COMERS = 900


def node_with_a_journal() -> tuple[Net, Keeper]:
    net = Net()
    node = net.start("a", ring_messages=10, cursor_ttl_ns=TTL_S * SECOND_NS)
    node.keep(Kept(Fsync.INTERVAL))
    keeper = node.keeper
    assert keeper is not None
    keeper.begin()
    return net, keeper


def test_consumers_that_come_and_go_leave_nothing_behind() -> None:
    net, keeper = node_with_a_journal()
    node = net.nodes["a"]
    publisher = Publisher(net, "a")
    most, largest = 0, 0
    for number in range(COMERS):
        consumer = RawClient(net, "a", "peer", peer=f"consumer-{number}")
        consumer.send(Attach(Remembered(waiting=False)))
        consumer.send(Ack("a", Position(node.epoch, node.stream.next)))
        consumer.cut()
        if number % AT_ONCE == 0:
            # The ring goes past all cursors, and their time is over.
            publisher.fill(11)
            net.advance(TTL_S + 1)
            work = keeper.take(net.now)
            if work is not None:
                keeper.done(net.now)
            assert len(node.registry) == 0
        seen = node_status(node, net.now)
        most = max(most, len(seen["consumers"]))
        largest = max(largest, len(encode_checkpoint(keeper._checkpoint())))
    assert most == AT_ONCE - 1
    assert largest < 10_000
    assert node.registry.removed == COMERS - (COMERS - 1) % AT_ONCE
    assert keeper.journal.segments == 1
    assert len(node.registry.moved or ()) < AT_ONCE


def test_names_that_come_and_go_leave_nothing_behind() -> None:
    net, keeper = node_with_a_journal()
    node = net.nodes["a"]
    publisher = Publisher(net, "a")
    for number in range(COMERS // 3):
        Subscriber(net, "a", session=f"name-{number}").cut()
        if number % AT_ONCE == 0:
            publisher.fill(11)
            net.advance(TTL_S + TTL_S / 4)
            if keeper.take(net.now) is not None:
                keeper.done(net.now)
            assert len(node.sessions.all_named()) == 0
    assert len(encode_checkpoint(keeper._checkpoint())) < 10_000
