"""Brokers are stopped cleanly and started again, without any notice to readers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    consumer,
    in_thread,
    level,
    payloads_to,
    publish,
    subscribed,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import Client, CursorExpired, Subscription

NODES = ("a", "b", "c")
MORE = 50
"""Messages that each node accepts before the next one is stopped."""

PAUSE_S = 0.003
"""Seconds between two messages of a publisher: brokers restart under load, and are not measured."""


@pytest.mark.parametrize("journal", ["by default", "snapshot"])
@async_test
async def test_a_rolling_restart_under_load_loses_nothing(
    journal: str, start_cluster: StartCluster, tmp_path: Path
) -> None:
    folders = {
        node: {"journal": tmp_path / f"journal-{node}", "fsync": "snapshot"} for node in NODES
    }
    cluster = start_cluster(3, per_node=folders if journal == "snapshot" else None)
    accepted: dict[str, list[int]] = {node: [] for node in NODES}
    read: dict[str, list[tuple[str, int]]] = {}
    ended = asyncio.Event()

    async def publish_on(node: str, client: Client) -> None:
        for number in itertools.count():
            if ended.is_set():
                return
            await client.publish("x", number)
            accepted[node].append(number)
            await asyncio.sleep(PAUSE_S)

    async def read_all(reader: str, subscription: Subscription) -> None:
        rows = read[reader] = []
        async for event in subscription.events():
            assert not isinstance(event, CursorExpired), f"{reader} was told: {event}"
            rows.append((event.node, event.payload))

    async with contextlib.AsyncExitStack() as stack, asyncio.TaskGroup() as tasks:
        reading = []
        for broker in cluster:
            for name in (None, "projector"):
                reader = await stack.enter_async_context(subscribed(broker, name=name))
                what = f"{name} at {broker.node}"
                reading.append(tasks.create_task(read_all(what, reader)))
        publishing = []
        for broker in cluster:
            client = pubsubd.connect(broker.socket, publish_timeout_s=DEADLINE_S)
            await stack.enter_async_context(client)
            publishing.append(tasks.create_task(publish_on(broker.node, client)))

        async def each_node_accepts_more() -> None:
            aims = {node: len(numbers) + MORE for node, numbers in accepted.items()}
            await wait_until_async(
                lambda: all(len(accepted[node]) >= aim for node, aim in aims.items()),
                DEADLINE_S,
                f"further receipts on each node: {aims}",
            )

        for broker in cluster:
            await each_node_accepts_more()
            assert await in_thread(broker.stop) == 0
            stopped = broker.wait_log("broker.stopped")
            assert stopped["drained"]
            await in_thread(broker.start)
            assert broker.wait_log("journal.recovered")["next"] == stopped["next_offset"]
            for other in NODES:
                if other != broker.node:
                    await attached(cluster, broker.node, other)
                    await attached(cluster, other, broker.node)
        await each_node_accepts_more()
        ended.set()
        await within(asyncio.gather(*publishing), "the end of publishing")
        total = sum(map(len, accepted.values()))
        await wait_until_async(
            lambda: all(len(rows) >= total for rows in read.values()), DEADLINE_S, "all messages"
        )
        for task in reading:
            task.cancel()
    assert len(read) == 6
    for rows in read.values():
        for node in NODES:
            assert [number for came_from, number in rows if came_from == node] == accepted[node]


@pytest.mark.parametrize("fsync", ["off", "snapshot", "interval", "always"])
@async_test
async def test_a_clean_stop_loses_nothing_in_any_mode(
    fsync: str, start_cluster: StartCluster, tmp_path: Path
) -> None:
    journal = {"journal": tmp_path / "journal", "fsync": fsync}
    cluster = start_cluster(2, per_node={"a": journal})
    a, b = cluster["a"], cluster["b"]
    async with (
        pubsubd.connect(a.socket) as client,
        subscribed(a) as on_a,
        subscribed(b) as on_b,
    ):
        async with subscribed(a, name="projector") as projector:
            await publish(client, range(100))
            assert await payloads_to(projector, 49) == [*range(50)]
        await level(cluster, "b", "a")
        await wait_until_async(lambda: consumer(a, "b")["cursor"] == 100, DEADLINE_S, "the ack")
        assert await in_thread(a.stop) == 0
        await in_thread(a.start)
        recovered = a.wait_log("journal.recovered")
        assert (recovered["oldest"], recovered["next"]) == (0, 100)
        assert (recovered["messages"], recovered["sessions"]) == (100, 1)
        assert consumer(a, "b")["cursor"] == 100
        assert not a.logged("journal.damaged")
        await publish(client, range(100, 110))
        async with (
            subscribed(a, name="projector") as projector,
            subscribed(a, start="earliest") as late,
        ):
            assert projector.resumed
            # Only the request for the next message acknowledges this one.
            assert await payloads_to(projector, 109) == [*range(49, 110)]
            assert await payloads_to(late, 109) == [*range(110)]
        for reader in (on_a, on_b):
            assert await payloads_to(reader, 109) == [*range(110)]
