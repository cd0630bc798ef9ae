"""A loss is told: once, to each reader that has it, at the place where messages are missing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

import pytest
from tests.asynchronous import async_test
from tests.integration.cluster import Cluster
from tests.integration.steps import (
    StartCluster,
    cut,
    events_to,
    from_a_to_b,
    heal,
    level,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
)

import pubsubd
from pubsubd import Client, CursorExpired

pytestmark = pytest.mark.fast

RING = 100


async def overrun(
    cluster: Cluster, at_a: Client, numbers: Sequence[int], topic: str = "numbers"
) -> None:
    """Publish more on a than the ring holds, while b is cut off.

    Returns when b has met its gap, and lacks no other message.
    """
    assert len(numbers) > RING
    await level(cluster, "b", "a")
    await cut(cluster, "b", "a")
    await publish(at_a, numbers, topic)
    await heal(cluster, "b", "a")


@async_test
async def test_an_overrun_is_told_once_in_place_with_its_size(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3, ring_messages=RING)
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["b"]) as on_b,
        subscribed(cluster["b"]) as lagging,
        subscribed(cluster["c"]) as on_c,
    ):
        await publish(at_a, range(50))
        assert await payloads_to(on_b, 49) == [*range(50)]
        assert await payloads_to(on_c, 49) == [*range(50)]
        await cut(cluster, "b", "a")
        for first in range(50, 250, 50):
            await publish(at_a, range(first, first + 50))
            assert await payloads_to(on_c, first + 49) == [*range(first, first + 50)]
        await heal(cluster, "b", "a")
        await publish(at_a, range(250, 270))
        gap = ("a", "overwritten", 200)
        assert told(await events_to(on_b, 269)) == [gap, *range(250, 270)]
        assert told(await events_to(lagging, 269)) == [*range(50), gap, *range(250, 270)]
        assert await payloads_to(on_c, 269) == [*range(250, 270)]


@async_test
async def test_a_ring_that_just_holds_all_expires_no_reader(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with from_a_to_b(cluster) as (at_a, on_b):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        await cut(cluster, "b", "a")
        await publish(at_a, range(10, 10 + RING))
        await heal(cluster, "b", "a")
        assert await payloads_to(on_b, 9 + RING) == [*range(10, 10 + RING)]


@async_test
async def test_a_session_resumed_at_a_gap_is_told_in_one_life(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        async with subscribed(cluster["b"]) as on_b:
            await publish(at_a, range(50))
            await payloads_to(on_b, 39)
            before = json.dumps(on_b.position)
            await payloads_to(on_b, 49)
            at_the_gap = json.dumps(on_b.position)
        await overrun(cluster, at_a, range(50, 250))
        await publish(at_a, range(250, 260))
        gap = ("a", "overwritten", 200)
        for position, rest in ((before, [*range(40, 50)]), (at_the_gap, [])):
            async with subscribed(cluster["b"], position=json.loads(position)) as on_b:
                for payload in rest:
                    assert told([await next_event(on_b)]) == [payload]
                assert told([await next_event(on_b)]) == [gap]
                behind = json.dumps(on_b.position)
            async with subscribed(cluster["b"], position=json.loads(behind)) as on_b:
                assert await payloads_to(on_b, 259) == [*range(250, 260)]


@async_test
async def test_a_gap_in_other_topics_is_told_all_the_same(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with from_a_to_b(cluster, "wanted") as (at_a, on_b):
        await at_a.publish("wanted", "before")
        assert await payloads_to(on_b, "before") == ["before"]
        await overrun(cluster, at_a, range(200), "other")
        await at_a.publish("wanted", "after")
        gap = ("a", "overwritten", 200)
        assert told(await events_to(on_b, "after")) == [gap, "after"]


@async_test
async def test_iterating_raises_at_a_gap_and_goes_on_behind_it(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with from_a_to_b(cluster) as (at_a, on_b):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 8) == [*range(9)]
        await overrun(cluster, at_a, range(10, 210))
        await at_a.publish("numbers", 210)
        assert (await anext(on_b)).payload == 9
        with pytest.raises(CursorExpired) as expired:
            await anext(on_b)
        assert (expired.value.node, expired.value.reason) == ("a", "overwritten")
        assert (expired.value.missed, expired.value.next) == (200, 210)
        assert on_b.position["a"] == [expired.value.epoch, 210]
        async for message in on_b:
            assert (message.payload, message.offset) == (210, 210)
            break


@async_test
async def test_on_expired_is_awaited_and_called_again_if_it_fails(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    came: list[object] = []
    database_is_down = True

    async def reload(expired: CursorExpired) -> None:
        came.append(("reload", expired.missed))
        if database_is_down:
            raise ConnectionError("the database is down")
        for _ in range(10):
            await asyncio.sleep(0)
        came.append("reloaded")

    async with from_a_to_b(cluster, on_expired=reload) as (at_a, on_b):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        before = on_b.position
        await overrun(cluster, at_a, range(10, 210))
        await at_a.publish("numbers", "after")
        with pytest.raises(ConnectionError):
            await anext(on_b)
        assert on_b.position == before, "an unhandled gap is not passed"
        database_is_down = False
        came.append((await anext(on_b)).payload)
        assert came == [("reload", 200), ("reload", 200), "reloaded", "after"]


@async_test
async def test_batches_call_on_expired_between_the_batches(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    came: list[object] = []
    async with from_a_to_b(cluster, on_expired=came.append) as (at_a, on_b):
        await publish(at_a, range(20))
        assert await payloads_to(on_b, 9) == [*range(10)]
        await overrun(cluster, at_a, range(20, 220))
        await publish(at_a, range(220, 230))
        async for batch in on_b.batches():
            came += [message.payload for message in batch]
            if came[-1] == 229:
                break
    (expired,) = [one for one in came if isinstance(one, CursorExpired)]
    assert came == [*range(10, 20), expired, *range(220, 230)]


@async_test
async def test_two_gaps_before_the_application_looks_are_one_notice(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["b"]) as on_b,
        subscribed(cluster["b"]) as attentive,
    ):
        await overrun(cluster, at_a, range(150))
        assert told([await next_event(attentive)]) == [("a", "overwritten", 150)]
        await overrun(cluster, at_a, range(150, 400))
        assert told([await next_event(attentive)]) == [("a", "overwritten", 250)]
        await at_a.publish("numbers", "after")
        assert told(await events_to(attentive, "after")) == ["after"]
        events = await events_to(on_b, "after")
        assert told(events) == [("a", "overwritten", 400), "after"]
        assert isinstance(events[0], CursorExpired)
        assert events[0].next == 400


@async_test
async def test_gaps_with_messages_between_them_are_told_apart(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with from_a_to_b(cluster) as (at_a, on_b):
        await overrun(cluster, at_a, range(150))
        await at_a.publish("numbers", "between")
        await overrun(cluster, at_a, range(151, 401))
        await at_a.publish("numbers", "after")
        assert told(await events_to(on_b, "after")) == [
            ("a", "overwritten", 150),
            "between",
            ("a", "overwritten", 250),
            "after",
        ]


@async_test
async def test_a_subscriber_after_the_gap_is_not_told(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=RING)
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["b"]) as one,
        subscribed(cluster["b"]) as two,
    ):
        await overrun(cluster, at_a, range(200))
        async with subscribed(cluster["b"]) as late:
            await at_a.publish("numbers", "after")
            assert await payloads_to(late, "after") == ["after"]
        for reader in (one, two):
            gap = ("a", "overwritten", 200)
            assert told(await events_to(reader, "after")) == [gap, "after"]
