"""A broker with a journal is killed: readers that had read more are told so, and a retry is placed once."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.integration.relay import Relay
from tests.integration.steps import (
    DEADLINE_S,
    StartBroker,
    StartCluster,
    attached,
    events_to,
    in_thread,
    payloads_to,
    publish,
    subscribed,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import CursorExpired, Message

RETRY_S = 60.0


@pytest.mark.parametrize("fsync", ["off", "interval"])
@async_test
async def test_readers_agree_with_the_journal_of_a_killed_producer(
    start_cluster: StartCluster, tmp_path: Path, fsync: str
) -> None:
    cluster = start_cluster(
        2, per_node={"a": {"journal": tmp_path / "journal", "fsync": fsync}}, peer_timeout="6s"
    )
    a, b = cluster["a"], cluster["b"]
    async with pubsubd.connect(a.socket) as at_a, subscribed(b) as on_b:
        await publish(at_a, range(200))
        await payloads_to(on_b, 199)
        await in_thread(a.restart, signal.SIGKILL)
        kept = a.wait_log("journal.recovered")["next"]
        await attached(cluster, "b", "a")
        await publish(at_a, range(1000, 1020))
        events = await events_to(on_b, 1019)
        gap = [str(event.reason) for event in events if isinstance(event, CursorExpired)]
        assert gap == (["ahead"] if kept < 200 else [])
        async with subscribed(a, start="earliest") as own:
            rows = [await events_to(own, 1019), events]
    held, fresh = ({m.offset: m.payload for m in row if isinstance(m, Message)} for row in rows)
    assert held == dict(enumerate([*range(kept), *range(1000, 1020)]))
    assert fresh.items() <= held.items()


@async_test
async def test_a_batch_unanswered_by_a_killed_broker_is_placed_once(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    broker = start_broker("a", journal=tmp_path / "journal", fsync="always")
    with Relay(broker.socket, listen=f"{broker.socket}-relay") as relay:
        async with pubsubd.connect(relay.endpoint, publish_timeout_s=RETRY_S) as client:
            await client.publish("numbers", 0)
            relay.hold("from_target")
            publishing = asyncio.create_task(client.publish("numbers", 1))
            await wait_until_async(
                lambda: broker.status()["ring"]["next_offset"] == 2, DEADLINE_S, "its place"
            )
            relay.cut()
            await in_thread(broker.restart, signal.SIGKILL)
            relay.heal()
            assert (await within(publishing, "the receipt")).offset == 1
            assert (await client.publish("numbers", 2)).offset == 2
    async with subscribed(broker, start="earliest") as reader:
        assert await payloads_to(reader, 2) == [0, 1, 2]
