"""A subscriber that stops reading costs other sessions neither time nor messages."""

from __future__ import annotations

import contextlib

from tests.asynchronous import async_test
from tests.integration.steps import (
    StartCluster,
    next_event,
    payloads_to,
    peak_memory_bytes,
    subscribed,
)

import pubsubd
from pubsubd import Message, Subscription

MIB = 2**20

RING_BYTES = 4 * MIB
SIZE = 16 * 1024
ROUND = 64
ROUNDS = 96
"""96 MiB go through rings and replicas of 4 MiB, 1 MiB at a time."""

SESSION_BYTES = MIB
"""More than the broker holds for one session: one pull that the socket does not take, and an answer or two."""

OVERHEAD_BYTES = 8 * MIB
"""Memory of the allocator, receive buffers, and code loaded later."""


@async_test
async def test_a_subscriber_that_stops_reading_costs_no_memory(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_bytes=RING_BYTES, replica_bytes=RING_BYTES)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        at_a = await enter(pubsubd.connect(cluster["a"].socket, codec=pubsubd.RAW))
        stuck: list[Subscription] = []
        reading: list[Subscription] = []
        for broker in cluster:
            for readers in (stuck, stuck, reading):
                readers.append(await enter(subscribed(broker, codec=pubsubd.RAW)))
        before = [peak_memory_bytes(broker) for broker in cluster]
        for i in range(ROUNDS):
            payloads = [(i * ROUND + k).to_bytes(8, "big") * (SIZE // 8) for k in range(ROUND)]
            await at_a.publish_many("x", payloads)
            for reader in reading:
                assert await payloads_to(reader, payloads[-1]) == payloads
        for broker, at_first in zip(cluster, before, strict=True):
            grown = peak_memory_bytes(broker) - at_first
            # Its own ring or its replica of the other's, and the data on the way to each session.
            assert grown < RING_BYTES + 3 * SESSION_BYTES + OVERHEAD_BYTES
        for reader in stuck:
            offset = 0
            while isinstance(event := await next_event(reader), Message):
                assert event.offset == offset
                offset += 1
            assert (event.node, event.reason) == ("a", "overwritten")
            assert event.missed == event.next - offset
            assert event.next == ROUNDS * ROUND
        await at_a.publish("x", b"end")
        for reader in stuck:
            assert await payloads_to(reader, b"end") == [b"end"]
