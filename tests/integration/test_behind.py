"""Sessions that are further behind than their broker's replica: they read from the producer itself."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal

from tests.asynchronous import async_test
from tests.integration.steps import (
    StartCluster,
    attached,
    cut,
    events_to,
    from_a_to_b,
    heal,
    in_thread,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
)

import pubsubd
from pubsubd import CursorExpired

SMALL_REPLICA = {"replica_messages": 100, "replica_bytes": "64KiB"}


@async_test
async def test_many_sessions_catch_up_while_the_stream_flows(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, **SMALL_REPLICA)
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        async with subscribed(cluster["b"]) as on_b:
            stored = json.dumps(on_b.position)
        await publish(at_a, range(5000))
        async with contextlib.AsyncExitStack() as stack:
            # More sessions than are served at once; half of them want one message in seven only.
            readers = [
                await stack.enter_async_context(
                    subscribed(cluster["b"], *patterns, position=json.loads(stored))
                )
                for patterns in [("numbers", "end"), ("sevens", "end")] * 5
            ]
            readings = [asyncio.create_task(payloads_to(reader, "end")) for reader in readers]
            for number in range(5000, 15_000, 7):
                await asyncio.gather(
                    at_a.publish("sevens", number),
                    at_a.publish("directed", number, to="a"),
                    at_a.publish_many("numbers", range(number, number + 7)),
                )
            await at_a.publish("end", "end")
            for i, came in enumerate(await asyncio.gather(*readings)):
                if i % 2 == 0:
                    assert came == [*range(number + 7), "end"]
                else:
                    assert came == [*range(5000, number + 7, 7), "end"]


@async_test
async def test_a_session_behind_waits_while_its_producer_is_away(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, **SMALL_REPLICA)
    async with from_a_to_b(cluster) as (at_a, witness):
        stored = json.dumps(witness.position)
        await publish(at_a, range(1000))
        assert await payloads_to(witness, 999) == [*range(1000)]
        await cut(cluster, "b", "a")
        async with subscribed(cluster["b"], position=json.loads(stored)) as behind:
            reading = asyncio.create_task(payloads_to(behind, 1009))
            async with pubsubd.connect(cluster["b"].socket) as at_b:
                # Its broker serves the session: the session itself does not hang.
                await at_b.publish("numbers", "from b")
                assert await payloads_to(witness, "from b") == ["from b"]
            await publish(at_a, range(1000, 1010))
            assert not reading.done()
            await heal(cluster, "b", "a")
            came = await reading
            came.remove("from b")
            assert came == [*range(1010)]


@async_test
async def test_a_session_behind_is_told_once_of_a_lost_state(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, **SMALL_REPLICA)
    async with subscribed(cluster["b"]) as witness:
        stored = json.dumps(witness.position)
        async with pubsubd.connect(cluster["a"].socket) as at_a:
            await publish(at_a, range(1000))
        assert await payloads_to(witness, 999) == [*range(1000)]
        await in_thread(cluster["a"].restart, signal.SIGKILL)
        async with subscribed(cluster["b"], position=json.loads(stored)) as behind:
            assert told([await next_event(witness)]) == [("a", "state_lost", None)]
            await attached(cluster, "b", "a")
            assert told([await next_event(behind)]) == [("a", "state_lost", None)]
            async with pubsubd.connect(cluster["a"].socket) as at_a:
                await publish(at_a, range(1000))
            assert await payloads_to(behind, 999) == [*range(1000)]
            assert await payloads_to(witness, 999) == [*range(1000)]


@async_test
async def test_only_the_session_behind_the_ring_is_told(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2, ring_messages=500, **SMALL_REPLICA)
    async with from_a_to_b(cluster) as (at_a, witness):
        stored = json.dumps(witness.position)
        for first in range(0, 1000, 100):
            await publish(at_a, range(first, first + 100))
            assert await payloads_to(witness, first + 99) == [*range(first, first + 100)]
        async with subscribed(cluster["b"], position=json.loads(stored)) as behind:
            event = await next_event(behind)
            assert told([event]) == [("a", "overwritten", 1000)]
            assert isinstance(event, CursorExpired)
            assert event.next == 1000
            await publish(at_a, range(1000, 1010))
            assert await payloads_to(behind, 1009) == [*range(1000, 1010)]
            assert await payloads_to(witness, 1009) == [*range(1000, 1010)]


@async_test
async def test_a_position_ahead_or_of_another_stream_is_told(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2)
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        epoch = (await at_a.publish("numbers", 0)).epoch
        for node in "ab":
            for position, reason in (
                ({"a": [epoch, 1_000_000]}, "ahead"),
                ({"a": ["0" * 31 + "1", 0]}, "state_lost"),
            ):
                async with subscribed(cluster[node], position=position) as reader:
                    assert told([await next_event(reader)]) == [("a", reason, None)]
                    await at_a.publish("numbers", f"{reason} {node}")
                    events = await events_to(reader, f"{reason} {node}")
                    assert told(events) == [f"{reason} {node}"]


@async_test
async def test_a_session_opened_while_the_link_is_down_begins_at_next(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (at_a, witness):
        await publish(at_a, range(10))
        assert await payloads_to(witness, 9) == [*range(10)]
        await cut(cluster, "b", "a")
        await publish(at_a, range(10, 20))
        async with subscribed(cluster["b"]) as opened:
            await publish(at_a, range(20, 30))
            await heal(cluster, "b", "a")
            assert await payloads_to(opened, 29) == [*range(10, 30)]
