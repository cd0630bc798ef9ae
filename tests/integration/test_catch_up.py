"""Messages published while a link was down, hung, slow or flapping arrive after it, in order and once."""

from __future__ import annotations

import asyncio
import contextlib
import json

import pytest
from tests.asynchronous import async_test
from tests.integration.relay import Direction
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    behind_a_relay,
    consumer,
    cut,
    from_a_to_b,
    heal,
    next_event,
    open_descriptors,
    parted,
    payloads_to,
    peer,
    publish,
    subscribed,
)
from tests.integration.waiting import wait_until_async

import pubsubd


@async_test
async def test_messages_arrive_once_a_cut_off_node_is_back(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["a"]) as on_a,
        subscribed(cluster["b"]) as on_b,
        subscribed(cluster["c"]) as on_c,
    ):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        await cut(cluster, "b", "a")
        await publish(at_a, range(10, 1010))
        # The other nodes are not kept waiting.
        assert await payloads_to(on_a, 1009) == [*range(1010)]
        assert await payloads_to(on_c, 1009) == [*range(1010)]
        await heal(cluster, "b", "a")
        await publish(at_a, range(1010, 1020))
        assert await payloads_to(on_b, 1019) == [*range(10, 1020)]
        # Between the brokers, too, each message travelled only once.
        assert cluster["b"].metric("messages_received_total", peer="a") == 1020


@async_test
async def test_an_application_back_with_its_position_misses_nothing(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        async with subscribed(cluster["b"]) as before:
            await publish(at_a, range(20))
            await payloads_to(before, 12)
            stored = json.dumps(before.position)
        await cut(cluster, "b", "a")
        await publish(at_a, range(20, 1020))
        async with subscribed(cluster["b"], position=json.loads(stored)) as after:
            assert await payloads_to(after, 19) == [*range(13, 20)]
            await heal(cluster, "b", "a")
            assert await payloads_to(after, 1019) == [*range(20, 1020)]


@async_test
async def test_a_position_taken_before_any_message_misses_nothing(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        await publish(at_a, range(10))
        async with subscribed(cluster["b"], start="earliest") as everything:
            await payloads_to(everything, 9)
        async with subscribed(cluster["b"]) as before:
            stored = json.dumps(before.position)
        await publish(at_a, range(10, 30))
        async with subscribed(cluster["b"], position=json.loads(stored)) as after:
            assert await payloads_to(after, 29) == [*range(10, 30)]


@pytest.mark.parametrize("how", ["cut", "reset", "in the middle of a frame"])
@async_test
async def test_a_client_whose_connection_breaks_resumes_by_itself(
    start_cluster: StartCluster, how: str
) -> None:
    cluster = start_cluster(2)
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        behind_a_relay(cluster["b"]) as (relay, at_b),
        at_b.subscribe(">") as on_b,
    ):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 4) == [*range(5)]
        match how:
            case "cut":
                relay.cut()
            case "reset":
                relay.reset()
            case _:
                relay.cut_after("from_target", 1000)
        await publish(at_a, range(10, 1010))
        relay.heal()
        await publish(at_a, range(1010, 1020))
        assert await payloads_to(on_b, 1019) == [*range(5, 1020)]


@pytest.mark.parametrize("where", ["a", "b"])
@async_test
async def test_a_session_slower_than_its_replica_reads_the_ring(
    start_cluster: StartCluster, where: str
) -> None:
    cluster = start_cluster(2, replica_messages=100, replica_bytes="256KiB")
    size, count = 4096, 3000
    """12 MB: more than the sockets and the client's queue take, too."""
    async with (
        pubsubd.connect(cluster["a"].socket, codec=pubsubd.RAW) as at_a,
        subscribed(cluster[where], codec=pubsubd.RAW) as slow,
        subscribed(cluster["b"], codec=pubsubd.RAW) as fast,
    ):
        payloads = [i.to_bytes(4, "big") * (size // 4) for i in range(count)]
        for first in range(0, count, 50):
            await at_a.publish_many("x", payloads[first : first + 50])
        assert await payloads_to(fast, payloads[-1]) == payloads
        replica = peer(cluster["b"], "a")["replica"]
        assert replica["next_offset"] == count
        assert replica["oldest_offset"] >= count - 100
        assert await payloads_to(slow, payloads[-1]) == payloads


@pytest.mark.parametrize("fault", ["held back", "cut at the first byte"])
@async_test
async def test_lost_acknowledgements_cause_no_duplicate(
    start_cluster: StartCluster, fault: str
) -> None:
    cluster = start_cluster(2)
    link = cluster.link("b", "a")
    async with from_a_to_b(cluster) as (at_a, on_b):
        if fault == "held back":
            link.hold("to_target")
        else:
            link.cut_after("to_target", 0)
        await publish(at_a, range(100))
        if fault == "held back":
            assert await payloads_to(on_b, 99) == [*range(100)]
            assert consumer(cluster["a"], "b")["cursor"] == 0, "what was only sent"
            await cut(cluster, "b", "a")
            await publish(at_a, range(100, 200))
            await heal(cluster, "b", "a")
            assert await payloads_to(on_b, 199) == [*range(100, 200)]
        else:
            await publish(at_a, range(100, 200))
            assert await payloads_to(on_b, 199) == [*range(200)]
        await wait_until_async(
            lambda: consumer(cluster["a"], "b")["cursor"] == 200,
            DEADLINE_S,
            "the acknowledgement",
        )
        assert cluster["b"].metric("messages_received_total", peer="a") == 200


@pytest.mark.parametrize("way", [None, "to_target", "from_target"], ids=["both", "acks", "data"])
@async_test
async def test_a_hung_link_is_given_up_and_its_messages_arrive_once(
    start_cluster: StartCluster, way: Direction | None
) -> None:
    cluster = start_cluster(2)
    link = cluster.link("b", "a")
    async with from_a_to_b(cluster) as (at_a, on_b):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        reconnects = peer(cluster["b"], "a")["reconnects"]
        link.hold(way)
        await publish(at_a, range(10, 110))
        # The peer timeout passes, at the end that hears nothing.
        await parted(cluster, "b", "a")
        await publish(at_a, range(110, 210))
        link.release(way)
        assert await payloads_to(on_b, 209) == [*range(10, 210)]
        await attached(cluster, "b", "a")
        assert peer(cluster["b"], "a")["reconnects"] > reconnects
        await publish(at_a, range(210, 220))
        assert await payloads_to(on_b, 219) == [*range(210, 220)]


@async_test
async def test_a_flapping_link_makes_progress_and_leaks_nothing(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    b = cluster["b"]
    enough = asyncio.Event()
    count = 0

    async def publish_all_the_time() -> None:
        nonlocal count
        while not enough.is_set():
            await publish(at_a, range(count, count + 10))
            count += 10
            # Publish all the time, though not at full speed: the reader has to take each message.
            await asyncio.sleep(0.001)
        await at_a.publish("numbers", "end")

    async with from_a_to_b(cluster) as (at_a, on_b):
        before = [open_descriptors(broker) for broker in cluster]
        publishing = asyncio.create_task(publish_all_the_time())
        came: list[object] = []
        for _ in range(10):
            await cut(cluster, "b", "a")
            await heal(cluster, "b", "a")
            # A message published after the link came back. Those up to `count + 9` may be here already: the
            # reader can have a batch before its publisher has the receipt.
            came += await payloads_to(on_b, count + 10)
        enough.set()
        await publishing
        came += await payloads_to(on_b, "end")
        assert came == [*range(count), "end"]
        assert peer(b, "a")["reconnects"] >= 10
        assert b.metric("messages_received_total", peer="a") == count + 1
        await wait_until_async(
            lambda: [open_descriptors(broker) for broker in cluster] == before,
            DEADLINE_S,
            "as many descriptors as before",
        )


@async_test
async def test_both_sides_of_a_partition_catch_up_after_it(start_cluster: StartCluster) -> None:
    cluster = start_cluster(3)
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        clients = {b.node: await enter(pubsubd.connect(b.socket)) for b in cluster}
        readers = {n: await enter(client.subscribe(">")) for n, client in clients.items()}
        cluster.partition("ab", "c")
        await parted(cluster, "a", "c")
        for client in clients.values():
            await client.publish_many("x", range(100))
        assert await _by_node(readers["c"], 100) == {"c": [*range(100)]}
        whole_side = {"a": [*range(100)], "b": [*range(100)]}
        assert await _by_node(readers["a"], 200) == whole_side
        cluster.heal()
        assert await _by_node(readers["a"], 100) == {"c": [*range(100)]}
        assert await _by_node(readers["b"], 300) == whole_side | {"c": [*range(100)]}
        assert await _by_node(readers["c"], 200) == whole_side


async def _by_node(subscription: pubsubd.Subscription, count: int) -> dict[str, list[object]]:
    """The next `count` messages, by the node that they come from."""
    came: dict[str, list[object]] = {}
    for _ in range(count):
        event = await next_event(subscription)
        assert isinstance(event, pubsubd.Message)
        came.setdefault(event.node, []).append(event.payload)
    return came
