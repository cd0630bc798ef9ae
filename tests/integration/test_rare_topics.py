"""Readers of rare topics in a busy stream: their position moves with the offsets that they have passed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    in_thread,
    level,
    next_event,
    publish,
    subscribed,
    told,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import Client, Subscription

BUSY = range(300)
"""Three times the ring."""


async def next_is(subscription: Subscription, client: Client, expected: object) -> None:
    """The next event is the message published now, without an alarm before it."""
    await client.publish("rare.x", expected)
    assert told([await within(next_event(subscription), f"{expected}")]) == [expected]


async def goes_on(broker: Broker, client: Client, *patterns: str, **where: Any) -> None:
    """The next life of a subscription is told of no loss."""
    async with subscribed(broker, *patterns, **where) as again:
        assert again.resumed == ("name" in where)
        await next_is(again, client, "first")


@pytest.mark.parametrize(("on", "ack"), [("a", "manual"), ("b", "auto")])
@async_test
async def test_a_closed_named_session_goes_on_behind_passed_offsets(
    start_cluster: StartCluster, on: str, ack: str
) -> None:
    cluster = start_cluster(2, ring_messages=100, replica_messages=100)
    async with pubsubd.connect(cluster["a"].socket) as client:
        await attached(cluster, "b", "a")
        async with subscribed(cluster[on], "rare.>", name="n", ack=ack):
            await publish(client, BUSY, "busy.x")
        await goes_on(cluster[on], client, "rare.>", name="n", ack=ack)


@async_test
async def test_a_stored_position_stands_behind_passed_offsets(start_cluster: StartCluster) -> None:
    broker = start_cluster(1, ring_messages=100)["a"]
    async with pubsubd.connect(broker.socket) as client:
        async with subscribed(broker, "rare.>") as subscription:
            await publish(client, BUSY, "busy.x")
        assert subscription.position["a"][1] == len(BUSY)
        await goes_on(broker, client, "rare.>", position=subscription.position)


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
@async_test
async def test_a_subscription_outlives_a_restart_with_a_journal(
    start_cluster: StartCluster, tmp_path: Path, how: signal.Signals
) -> None:
    broker = start_cluster(1, ring_messages=100, journal=str(tmp_path / "journal"), fsync="always")[
        "a"
    ]
    async with (
        pubsubd.connect(broker.socket) as client,
        subscribed(broker, "rare.>") as unnamed,
        subscribed(broker, "rare.>", name="n") as named,
    ):
        await publish(client, BUSY, "busy.x")
        await in_thread(broker.restart, how)
        await next_is(unnamed, client, "first")
        assert told([await next_event(named)]) == ["first"]


APPLICATION = """
import asyncio, sys, time, pubsubd

async def main():
    async with pubsubd.connect(sys.argv[1]) as client:
        async with client.subscribe("rare.>", name="n") as subscription:
            print("open", flush=True)
            if sys.argv[2] == "works":
                time.sleep(3600)
            async for message in subscription:
                print(message.value, flush=True)

asyncio.run(main())
"""


@pytest.mark.parametrize("does", ["waits", "works"])
@async_test
async def test_a_killed_application_goes_on_behind_passed_offsets(
    start_cluster: StartCluster, does: str
) -> None:
    broker = start_cluster(1, ring_messages=100)["a"]
    command = [sys.executable, "-c", APPLICATION, str(broker.socket), does]
    application = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert application.stdout is not None
        assert await in_thread(application.stdout.readline) == "open\n"
        async with pubsubd.connect(broker.socket) as client:
            await publish(client, BUSY, "busy.x")
            application.kill()
            await in_thread(application.wait)
            await wait_until_async(
                lambda: not broker.status()["sessions"][0]["connected"], DEADLINE_S, "the end"
            )
            await goes_on(broker, client, "rare.>", name="n")
    finally:
        application.kill()
        application.communicate()


@async_test
async def test_a_stopped_broker_tells_producers_its_names_places(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, ring_messages=100, replica_messages=1000)
    async with pubsubd.connect(cluster["a"].socket) as client:
        async with subscribed(cluster["b"], "rare.>", name="n"):
            await client.publish("busy.x", 0)
        async with subscribed(cluster["b"], "rare.>", name="n") as session:
            await publish(client, BUSY, "busy.x")
            await wait_until_async(
                lambda: session.position["a"][1] == len(BUSY) + 1, DEADLINE_S, "the end"
            )
        await in_thread(cluster["b"].restart, signal.SIGTERM)
        await attached(cluster, "b", "a")
        await goes_on(cluster["b"], client, "rare.>", name="n")


@async_test
async def test_peers_and_sessions_pass_messages_to_another_node(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, ring_messages=100, replica_messages=100)
    async with pubsubd.connect(cluster["a"].socket) as client:
        await attached(cluster, "b", "a")
        async with subscribed(cluster["b"], ">") as session:
            await asyncio.gather(*(client.publish("busy.x", n, to="c") for n in BUSY))
            await level(cluster, "b", "a")
        assert session.position["a"][1] == len(BUSY)
        await goes_on(cluster["b"], client, ">", position=session.position)
