"""A broker without a journal that died goes on with the part of its stream that its peers still hold."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    consumer,
    cut,
    heal,
    in_thread,
    level,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import CursorExpired, Message
from pubsubd_broker.core.limits import ACK_DELAY_NS, PLACES_NS


def has_acknowledged(producer: Broker, node: str, offset: int) -> bool:
    return bool(consumer(producer, node)["cursor"] == offset)


IMPATIENT: dict[str, Any] = {
    "recover_from_peers": True,
    "heartbeat": "100ms",
    "peer_timeout": "500ms",
}
"""The broker waits for an unreachable peer for twice this time-out."""


@async_test
async def test_readers_go_on_silently_within_surviving_replicas(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3, recover_from_peers=True)
    a = cluster["a"]
    async with (
        subscribed(a) as on_a,
        subscribed(cluster["b"]) as on_b,
        subscribed(cluster["b"], name="projector") as named,
        subscribed(cluster["c"]) as on_c,
        subscribed(cluster["c"]) as behind,
    ):
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(100))
        await level(cluster, "b", "a")
        await level(cluster, "c", "a")
        for reader in (on_a, on_b, named, on_c):
            assert await payloads_to(reader, 99) == [*range(100)]
        a.kill()
        await in_thread(a.start)
        recalled = a.wait_log("stream.recalled")
        assert (recalled["oldest"], recalled["next"]) == (0, 100)
        for reading in ("b", "c"):
            await attached(cluster, reading, "a")
        async with pubsubd.connect(a.socket) as client:
            assert (await client.publish("numbers", 100)).offset == 100
        for reader in (on_a, on_b, named, on_c):
            assert await payloads_to(reader, 100) == [100]
        assert await payloads_to(behind, 100) == [*range(101)]
        async with subscribed(a, start="earliest") as new:
            assert await payloads_to(new, 100) == [*range(101)]


@async_test
async def test_an_application_waits_while_its_broker_asks_peers(
    start_cluster: StartCluster,
) -> None:
    # The broker waits for twice this time-out, longer than the application between two attempts.
    cluster = start_cluster(2, recover_from_peers=True, peer_timeout="2s")
    a = cluster["a"]
    async with subscribed(a) as reader:
        cluster.partition("a", "b")
        a.kill()
        await in_thread(a.start)
        await in_thread(lambda: a.wait_log("connection.refused", code="recovering"))
        await in_thread(a.wait_log, "stream.recalled")
        assert told([await next_event(reader)]) == [("a", "state_lost", None)]
        async with pubsubd.connect(a.socket) as client:
            await publish(client, [1])
        assert await payloads_to(reader, 1) == [1]


@async_test
async def test_a_reader_beyond_the_reached_peer_is_told_so(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3, **IMPATIENT)
    a = cluster["a"]
    async with subscribed(cluster["b"]) as on_b, subscribed(cluster["c"]) as on_c:
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(50))
            await level(cluster, "b", "a")
            await cut(cluster, "b", "a")
            await publish(client, range(50, 100))
            await level(cluster, "c", "a")
        assert await payloads_to(on_b, 49) == [*range(50)]
        assert await payloads_to(on_c, 99) == [*range(100)]
        a.kill()
        await cut(cluster, "a", "c")
        await cut(cluster, "c", "a")
        await in_thread(a.start)
        assert a.wait_log("stream.recalled")["next"] == 50
        await heal(cluster, "b", "a")
        await heal(cluster, "c", "a")
        notice = await next_event(on_c)
        assert told([notice]) == [("a", "ahead", None)]
        assert isinstance(notice, CursorExpired)
        assert notice.next == 50
        # The broker's accepted number: the killed process could leave it for the next one.
        assert told([await next_event(on_b)]) == [("a", "state_lost", 50)]
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(200, 210))
        for reader in (on_b, on_c):
            assert await payloads_to(reader, 209) == [*range(200, 210)]


@pytest.mark.parametrize(("cut_off", "other"), [("b", "c"), ("c", "b")])
@async_test
async def test_the_peer_that_reaches_furthest_counts(
    cut_off: str, other: str, start_cluster: StartCluster
) -> None:
    cluster = start_cluster(3, recover_from_peers=True)
    a = cluster["a"]
    async with subscribed(cluster[other]) as reader:
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(50))
            await level(cluster, cut_off, "a")
            await cut(cluster, cut_off, "a")
            await publish(client, range(50, 100))
        assert await payloads_to(reader, 99) == [*range(100)]
        a.kill()
        await in_thread(a.start)
        assert a.wait_log("stream.recalled")["next"] == 100
        await attached(cluster, other, "a")
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(100, 110))
        assert await payloads_to(reader, 109) == [*range(100, 110)]


@async_test
async def test_without_any_peer_all_readers_are_told_of_the_loss(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, **IMPATIENT)
    a = cluster["a"]
    async with subscribed(a) as on_a, subscribed(cluster["b"]) as on_b:
        async with pubsubd.connect(a.socket) as client:
            await publish(client, range(10))
        for reader in (on_a, on_b):
            assert await payloads_to(reader, 9) == [*range(10)]
        a.kill()
        await cut(cluster, "a", "b")
        await in_thread(a.start)
        assert a.wait_log("stream.recalled")["next"] == 0
        for reader in (on_a, on_b):
            assert told([await next_event(reader)]) == [("a", "state_lost", None)]


@async_test
async def test_a_name_goes_on_in_its_recovered_own_stream(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, recover_from_peers=True)
    a = cluster["a"]
    async with (
        pubsubd.connect(a.socket) as client,
        subscribed(a, "numbers", name="projector", ack="manual") as named,
    ):
        await publish(client, range(10))
        await level(cluster, "b", "a")
        for expected in range(10):
            message = await next_event(named)
            assert isinstance(message, Message)
            assert message.offset == expected
            if expected == 5:
                await named.ack(message)
    # The places of its names, a tells b with its acknowledgements of b's stream.
    async with pubsubd.connect(cluster["b"].socket) as client:
        await publish(client, [0], "elsewhere")
    b = cluster["b"]
    await wait_until_async(lambda: consumer(b, "a")["cursor"] == 1, DEADLINE_S, "the ack of a")
    a.kill()
    await in_thread(a.start)
    await attached(cluster, "b", "a")
    await attached(cluster, "a", "b")
    async with subscribed(a, "numbers", name="projector") as again:
        assert again.resumed
        async with pubsubd.connect(a.socket) as client:
            await publish(client, [10, 11])
        assert await payloads_to(again, 11) == [*range(6, 12)]


@async_test
async def test_a_forgotten_name_is_told_of_a_loss_by_a_third_node(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(3)
    a, b, c = (cluster[name] for name in "abc")
    async with (
        pubsubd.connect(a.socket) as client,
        subscribed(c, "numbers", name="projector") as named,
    ):
        await publish(client, range(10))
        assert await payloads_to(named, 9) == [*range(10)]
    # Places in other streams, c tells b with its acknowledgements, each of which takes 50 ms or more.
    async with pubsubd.connect(b.socket) as client:
        for following in range(1, 2 + PLACES_NS // ACK_DELAY_NS):
            await client.publish("elsewhere", following)
            reached = partial(has_acknowledged, b, "c", following)
            await wait_until_async(reached, DEADLINE_S, "the ack of c")
    a.kill()
    c.kill()
    await in_thread(a.start)
    async with pubsubd.connect(a.socket) as client:
        await publish(client, range(20, 23))
    await in_thread(c.start)
    for producer in ("a", "b"):
        await attached(cluster, "c", producer)
    async with subscribed(c, "numbers", name="projector") as again:
        notices = {told([await next_event(again)])[0] for _ in range(2)}
        assert notices == {("a", "state_lost", None), ("c", "state_lost", None)}
        async with pubsubd.connect(a.socket) as client:
            await publish(client, [23])
        assert await payloads_to(again, 23) == [23]
