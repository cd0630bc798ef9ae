"""Readers whose topics are rare, in a stream that is busy: their position moves with what they have passed."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.integration.cluster import Broker, wait_until_async
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    in_thread,
    next_event,
    publish,
    subscribed,
    told,
    within,
)

import pubsubd
from pubsubd import Client, Subscription

BUSY = range(300)
"""Three times what the ring holds."""


@asynccontextmanager
async def busy_and_rare(broker: Broker) -> AsyncIterator[Client]:
    async with pubsubd.connect(broker.socket) as client:
        yield client


async def next_is(subscription: Subscription, client: Client, expected: object) -> None:
    """The next that comes is what is published now, and no alarm before it."""
    await client.publish("rare.x", expected)
    assert told([await within(next_event(subscription), f"{expected}")]) == [expected]


async def reaches(subscription: Subscription, node: str, offset: int) -> None:
    await wait_until_async(
        lambda: subscription.position[node][1] == offset, DEADLINE_S, f"offset {offset} of {node}"
    )


@pytest.mark.parametrize("ack", ["auto", "manual"])
@pytest.mark.parametrize("on", ["a", "b"])
def test_a_named_session_that_was_closed_goes_on_behind_what_it_passed(
    start_cluster: StartCluster, on: str, ack: str
) -> None:
    cluster = start_cluster(2, ring_messages=100, replica_messages=100)

    async def scenario() -> None:
        async with busy_and_rare(cluster["a"]) as client:
            async with subscribed(cluster[on], "rare.>", name="n", ack=ack):
                await publish(client, BUSY, "busy.x")
                if on == "b":
                    await attached(cluster, "b", "a")
            async with subscribed(cluster[on], "rare.>", name="n", ack=ack) as again:
                assert again.resumed
                await next_is(again, client, "first")

    asyncio.run(scenario())


@pytest.mark.parametrize("read", ["before", "after"])
def test_a_stored_position_stands_behind_what_was_passed(
    start_cluster: StartCluster, read: str
) -> None:
    broker = start_cluster(1, ring_messages=100)["a"]

    async def scenario() -> None:
        async with busy_and_rare(broker) as client:
            async with subscribed(broker, "rare.>") as subscription:
                await publish(client, BUSY, "busy.x")
                if read == "before":
                    await reaches(subscription, "a", len(BUSY))
                position = subscription.position
            if read == "after":
                position = subscription.position
            assert position["a"][1] == len(BUSY)
            async with subscribed(broker, "rare.>", position=position) as again:
                await next_is(again, client, "first")

    asyncio.run(scenario())


def test_what_was_received_and_not_handed_out_is_not_passed_by_a_close(
    start_cluster: StartCluster,
) -> None:
    broker = start_cluster(1)["a"]

    async def scenario() -> None:
        async with busy_and_rare(broker) as client:
            async with subscribed(broker, "rare.>", name="n") as subscription:
                await client.publish("rare.x", "unread")
                await publish(client, range(5), "busy.x")
            assert subscription.position["a"][1] == 0
            async with subscribed(broker, "rare.>", name="n") as again:
                assert told([await next_event(again)]) == ["unread"]

    asyncio.run(scenario())


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
def test_a_subscription_stays_open_over_the_restart_of_a_broker_with_a_journal(
    start_cluster: StartCluster, tmp_path: Path, how: signal.Signals
) -> None:
    broker = start_cluster(1, ring_messages=100, journal=str(tmp_path / "journal"), fsync="always")[
        "a"
    ]

    async def scenario() -> None:
        async with (
            busy_and_rare(broker) as client,
            subscribed(broker, "rare.>") as unnamed,
            subscribed(broker, "rare.>", name="n") as named,
        ):
            await publish(client, BUSY, "busy.x")
            await in_thread(broker.restart, how)
            await next_is(unnamed, client, "first")
            assert told([await next_event(named)]) == ["first"]

    asyncio.run(scenario())


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
def test_an_application_that_is_killed_goes_on_behind_what_its_broker_had_passed(
    start_cluster: StartCluster, does: str
) -> None:
    broker = start_cluster(1, ring_messages=100)["a"]

    async def scenario() -> None:
        command = [sys.executable, "-c", APPLICATION, str(broker.socket), does]
        application = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert application.stdout is not None
            assert await in_thread(application.stdout.readline) == "open\n"
            async with busy_and_rare(broker) as client:
                await publish(client, BUSY, "busy.x")
                application.kill()
                await in_thread(application.wait)
                await wait_until_async(
                    lambda: not broker.status()["sessions"][0]["connected"], DEADLINE_S, "the end"
                )
                async with subscribed(broker, "rare.>", name="n") as again:
                    assert again.resumed
                    await next_is(again, client, "first")
        finally:
            application.kill()
            application.communicate()

    asyncio.run(scenario())


def test_a_name_at_the_producer_has_passed_what_its_broker_had_as_that_was_stopped(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, ring_messages=100, replica_messages=1000)

    async def scenario() -> None:
        async with busy_and_rare(cluster["a"]) as client:
            async with subscribed(cluster["b"], "rare.>", name="n"):
                await client.publish("busy.x", 0)
            async with subscribed(cluster["b"], "rare.>", name="n") as session:
                await publish(client, BUSY, "busy.x")
                await reaches(session, "a", len(BUSY) + 1)
            await in_thread(cluster["b"].restart, signal.SIGTERM)
            await attached(cluster, "b", "a")
            async with subscribed(cluster["b"], "rare.>", name="n") as again:
                await client.publish("rare.x", "first")
                events = [await next_event(again)]
                if told(events)[0] == ("b", "state_lost", None):
                    # Its own node's stream began anew.
                    events = [await next_event(again)]
                assert told(events) == ["first"]

    asyncio.run(scenario())


def test_what_was_directed_to_another_node_is_passed_by_a_peer_and_its_sessions(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, ring_messages=100, replica_messages=100)

    async def scenario() -> None:
        async with (
            busy_and_rare(cluster["a"]) as client,
            subscribed(cluster["b"], ">") as session,
        ):
            for number in BUSY:
                await client.publish("busy.x", number, to="c")
            await reaches(session, "a", len(BUSY))
            position = session.position
            await session.close()
            async with subscribed(cluster["b"], ">", position=position) as again:
                await next_is(again, client, "first")

    asyncio.run(scenario())
