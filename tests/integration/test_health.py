"""A deaf connection does not count as healthy, and a name without a living holder is free again.

Real processes, stopped with SIGSTOP: their sockets stay open, and do not answer.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.steps import (
    DEADLINE_S,
    StartBroker,
    StartCluster,
    in_thread,
    payloads_to,
    publish,
    subscribed,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd_broker.core.limits import CLIENT_PATIENCE


@async_test
async def test_an_application_is_told_that_its_broker_hangs(start_broker: StartBroker) -> None:
    a = await in_thread(start_broker, "a")
    told: list[Any] = []
    async with (
        pubsubd.connect(
            a.socket,
            on_lost=lambda error: told.append(error),
            on_restored=lambda: told.append("back"),
        ) as client,
        client.subscribe(">", on_lost=told.append, on_restored=told.append) as subscription,
    ):
        a.pause()
        try:
            await wait_until_async(lambda: len(told) == 2, DEADLINE_S, "both losses")
            assert client.state is pubsubd.State.LOST
            assert subscription.state is pubsubd.State.LOST
            assert subscription.unreachable.keys() == {"a"}
            assert {type(event) for event in told} == {
                pubsubd.BrokerUnavailable,
                pubsubd.NodeLost,
            }
            assert "sent nothing for 1 s" in str(told)
        finally:
            a.resume()
        await wait_until_async(lambda: len(told) == 4, DEADLINE_S, "both returns")
        assert {"back", pubsubd.NodeBack("a")} == set(told[2:])
        assert {client.state, subscription.state} == {pubsubd.State.CONNECTED}
        assert subscription.unreachable == {}
        await publish(client, range(3))
        assert await payloads_to(subscription, 2) == [0, 1, 2]


@async_test
async def test_an_application_is_told_that_a_peer_hangs(start_cluster: StartCluster) -> None:
    cluster = await in_thread(start_cluster, 2)
    async with (
        subscribed(cluster["b"]) as subscription,
        subscribed(cluster["b"]) as late,
        pubsubd.connect(cluster["a"].socket) as client,
    ):
        changes = subscription.events(status=True)
        cluster["a"].pause()
        try:
            lost = await within(anext(changes), "the loss")
            assert isinstance(lost, pubsubd.NodeLost)
            assert subscription.unreachable == {"a": lost.since}
            async with subscribed(cluster["b"]) as newcomer:
                assert newcomer.unreachable.keys() == {"a"}
                assert newcomer.state is pubsubd.State.CONNECTED
        finally:
            cluster["a"].resume()
        assert await within(anext(changes), "the return") == pubsubd.NodeBack("a")
        assert subscription.unreachable == {}
        await publish(client, range(3))
        # A session that does not ask for health gets messages alone.
        assert await payloads_to(late, 2) == [0, 1, 2]


@async_test
async def test_a_client_that_idles_for_many_timeouts_is_never_cut(
    start_broker: StartBroker,
) -> None:
    a = await in_thread(lambda: start_broker("a", heartbeat="50ms", peer_timeout="200ms", pace=0))
    async with subscribed(a) as subscription, pubsubd.connect(a.socket) as client:
        began_s = asyncio.get_running_loop().time()
        idle_s = 3 * CLIENT_PATIENCE * 0.2
        await wait_until_async(lambda: asyncio.get_running_loop().time() > began_s + idle_s)
        assert subscription.state is client.state is pubsubd.State.CONNECTED
        assert not a.logged("peer.silent")


HOLDER = """
import asyncio, os, sys, time
import pubsubd

async def main():
    client = await pubsubd.connect(sys.argv[1])
    await client.subscribe(">", name="projector")
    # Beats at least once, as any application that has lived for a moment.
    await asyncio.sleep(0.5)
    helper = os.fork()
    if helper == 0:
        os.close(1)
        time.sleep(600)
    print(helper, flush=True)
    os.kill(os.getpid(), 9)

asyncio.run(main())
"""


@async_test
async def test_a_child_process_does_not_keep_its_dead_parents_name(
    start_broker: StartBroker,
) -> None:
    a = await in_thread(lambda: start_broker("a", heartbeat="100ms", peer_timeout="400ms"))
    holder = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", HOLDER, a.socket), stdout=asyncio.subprocess.PIPE
    )
    assert holder.stdout is not None
    helper = int(await within(holder.stdout.readline(), "the helper"))
    try:
        await within(holder.wait(), "the end of the holder")
        async with pubsubd.connect(a.socket) as client:
            standby = client.subscribe(">", name="projector", wait=True)
            async with asyncio.timeout(DEADLINE_S), standby:
                assert standby.state is pubsubd.State.CONNECTED
    finally:
        os.kill(helper, signal.SIGKILL)


@async_test
async def test_a_name_in_use_is_logged_once_with_its_remedy(start_broker: StartBroker) -> None:
    a = await in_thread(start_broker, "a")
    async with subscribed(a, name="projector"), pubsubd.connect(a.socket) as other:
        with pytest.raises(pubsubd.NameInUse) as caught:
            await other.subscribe(">", name="projector")
        assert str(caught.value).count("projector") == 1
        assert "wait=True" in str(caught.value)


@async_test
async def test_a_standby_takes_over_a_name_at_its_holders_place(start_broker: StartBroker) -> None:
    a = await in_thread(start_broker, "a")
    async with pubsubd.connect(a.socket) as client, pubsubd.connect(a.socket) as other:
        active = await client.subscribe(">", name="projector")
        standby = other.subscribe(">", name="projector", wait=True)
        waits = asyncio.ensure_future(_opened(standby))
        await publish(client, range(10))
        assert await payloads_to(active, 9) == list(range(10))
        await wait_until_async(
            lambda: a.metric("connections_refused_total", reason="name_in_use") > 0
        )
        assert not waits.done()
        await active.close()
        await within(waits, "the takeover")
        await publish(client, [10])
        # The last message was handed out and not acknowledged, as no further one was asked for.
        assert await payloads_to(standby, 10) == [9, 10]
        await standby.close()


TAKER = """
import asyncio, sys
import pubsubd

async def main():
    async with pubsubd.connect(sys.argv[1]) as client:
        async with client.subscribe(">", name="projector", wait=True, ack="manual") as subscription:
            print("open", flush=True)
            try:
                async for message in subscription:
                    await subscription.ack(message)
                    print(message.payload, flush=True)
            except pubsubd.NameInUse as error:
                print("lost", flush=True)

asyncio.run(main())
"""


@async_test
async def test_a_thawed_holder_is_told_that_its_name_was_taken(start_broker: StartBroker) -> None:
    a = await in_thread(lambda: start_broker("a", heartbeat="100ms", peer_timeout="400ms"))
    frozen = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", TAKER, a.socket), stdout=asyncio.subprocess.PIPE
    )
    assert frozen.stdout is not None
    try:
        assert await within(frozen.stdout.readline(), "the holder") == b"open\n"
        frozen.send_signal(signal.SIGSTOP)
        async with pubsubd.connect(a.socket) as client:
            taker = client.subscribe(">", name="projector", wait=True)
            await within(_opened(taker), "the takeover")
            await publish(client, range(5))
            assert await payloads_to(taker, 4) == list(range(5))
            await taker.close()
            frozen.send_signal(signal.SIGCONT)
            assert await within(frozen.stdout.readline(), "the end of the holder") == b"lost\n"
            async with client.subscribe(">", name="projector") as following:
                await publish(client, [5])
                # It was handed out, and no further one was asked for.
                assert await payloads_to(following, 5) == [4, 5]
    finally:
        if frozen.returncode is None:
            frozen.kill()
        await frozen.wait()


async def _opened(subscription: pubsubd.Subscription) -> pubsubd.Subscription:
    return await subscription
