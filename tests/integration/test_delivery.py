"""Deliveries to sessions on all nodes, without faults."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import Counter
from collections.abc import Iterator

import pytest
from tests.asynchronous import async_test
from tests.integration.cluster import Cluster
from tests.integration.steps import (
    DEADLINE_S,
    StartBroker,
    StartCluster,
    events_to,
    from_a_to_all,
    from_a_to_b,
    has_been_read,
    payloads_to,
    publish,
    subscribed,
)
from tests.integration.waiting import wait_until, wait_until_async

import pubsubd
from pubsubd import Message, PublishRejected

pytestmark = pytest.mark.fast


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("calm"), 3) as cluster:
        yield cluster


@pytest.fixture
def calm(shared: Cluster) -> Cluster:
    """Three nodes that run and are linked, without messages of an earlier test on their way."""
    wait_until(lambda: all(has_been_read(broker) for broker in shared), what="calm")
    return shared


@async_test
async def test_a_publish_reaches_the_subscribers_on_all_nodes_once(calm: Cluster) -> None:
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        clients = {b.node: await enter(pubsubd.connect(b.socket)) for b in calm}
        # Two sessions on each node, so that one does not take another's messages.
        readers = [await enter(c.subscribe(">")) for c in clients.values() for _ in range(2)]
        for node, client in clients.items():
            await client.publish_many("first", [f"{node}{i}" for i in range(100)])
        for node, client in clients.items():
            # No message can be left behind the last one of each stream.
            await client.publish("last", f"last of {node}")
        for reader in readers:
            came: dict[str, list[object]] = {}
            async with asyncio.timeout(DEADLINE_S):
                while sum(len(row) for row in came.values()) < 303:
                    message = await anext(reader)
                    came.setdefault(message.node, []).append(message.payload)
            assert came == {
                node: [*(f"{node}{i}" for i in range(100)), f"last of {node}"] for node in "abc"
            }


@pytest.mark.parametrize("to", ["a", "b"], ids=["its own node", "another node"])
@async_test
async def test_a_directed_publish_reaches_one_node_only(calm: Cluster, to: str) -> None:
    async with from_a_to_all(calm) as (at_a, readers):
        await at_a.publish("all", 0)
        first = await at_a.publish("one", "directed", to=to)
        await at_a.publish_many("one", ["more", "still more"], to=to)
        last = await at_a.publish("all", 1)
        assert last.offset == first.offset + 3, "a directed message has a place like any other"
        for node, reader in readers.items():
            mine = ["directed", "more", "still more"] if node == to else []
            assert await payloads_to(reader, 1) == [0, *mine, 1]
            assert reader.position["a"] == [last.epoch, last.offset + 1]


@async_test
async def test_a_publish_to_an_unknown_node_is_refused(calm: Cluster) -> None:
    async with pubsubd.connect(calm["a"].socket) as at_a:
        before = await at_a.publish("x", 0)
        with pytest.raises(PublishRejected) as refused:
            await at_a.publish("x", 1, to="absent")
        assert refused.value.code == "unknown_node"
        assert "absent" in str(refused.value)
        assert (await at_a.publish("x", 2)).offset == before.offset + 1


@async_test
async def test_a_publish_to_a_known_node_that_is_away_waits(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (at_a, on_b):
        cluster.partition("a", "b")
        await at_a.publish("x", "for b", to="b")
        cluster.heal()
        assert await payloads_to(on_b, "for b") == ["for b"]


@async_test
async def test_without_echo_a_session_gets_all_but_its_clients_own(calm: Cluster) -> None:
    async with (
        pubsubd.connect(calm["a"].socket) as mine,
        pubsubd.connect(calm["a"].socket) as neighbour,
        pubsubd.connect(calm["b"].socket) as at_b,
        mine.subscribe(">", echo=False) as quiet,
        mine.subscribe(">") as loud,
    ):
        for i in range(10):
            await mine.publish("x", f"mine {i}")
            await neighbour.publish("x", f"neighbour {i}")
        await neighbour.publish("x", "end")
        theirs = [*(f"neighbour {i}" for i in range(10)), "end"]
        assert await payloads_to(quiet, "end") == theirs
        assert len(await payloads_to(loud, "end")) == 21
        await at_b.publish("x", "from b")
        assert await payloads_to(quiet, "from b") == ["from b"]


@pytest.mark.parametrize(
    ("patterns", "topics"),
    [
        (["orders.created"], ["orders.created"]),
        (["orders.*"], ["orders.created", "orders.paid"]),
        (["*.created"], ["orders.created", "rooms.created"]),
        (["orders.>"], ["orders.created", "orders.paid", "orders.eu.created"]),
        (["orders.*.created"], ["orders.eu.created"]),
        (["orders", "room:42"], ["orders", "room:42"]),
        (
            ["orders.*", "orders.>", "orders.created", "*.created"],
            ["orders.created", "orders.paid", "orders.eu.created", "rooms.created"],
        ),
    ],
    ids=lambda value: " ".join(value),
)
@async_test
async def test_a_session_gets_each_matching_message_once(
    calm: Cluster, patterns: list[str], topics: list[str]
) -> None:
    published = [
        *("orders", "orders.created", "orders.paid", "orders.eu.created"),
        *("rooms.created", "room:42", "orderscreated"),
    ]
    async with (
        pubsubd.connect(calm["a"].socket) as at_a,
        pubsubd.connect(calm["b"].socket) as at_b,
        at_a.subscribe(*patterns, "end") as local,
        at_b.subscribe(*patterns, "end") as remote,
    ):
        # Once all messages in one batch, once each in its own.
        await asyncio.gather(*(at_a.publish(topic, topic) for topic in published))
        for topic in published:
            await at_a.publish(topic, topic)
        await at_a.publish("end", "end")
        for reader in (local, remote):
            came = Counter(await payloads_to(reader, "end"))
            assert came == Counter([*topics, *topics, "end"])


@async_test
async def test_a_changed_filter_takes_effect_at_the_stated_offset(calm: Cluster) -> None:
    async def _messages_beyond(
        offset: object, subscription: pubsubd.Subscription, came: list[Message]
    ) -> None:
        """Two hundred messages, and those that were on their way when the filter changed."""
        assert isinstance(offset, int)
        came += [await anext(subscription) for _ in range(200)]
        while came[-1].offset < offset:
            came.append(await anext(subscription))

    async def _messages_to_the_end(subscription: pubsubd.Subscription, came: list[Message]) -> int:
        async for message in subscription:
            if message.topic == "end":
                return message.offset
            came.append(message)
        raise AssertionError("the subscription ended")

    enough = asyncio.Event()

    async def publish_all_the_time() -> None:
        # The topics "x" and "y" in turns; a batch holds some of both.
        while not enough.is_set():
            await asyncio.gather(*(at_a.publish("xy"[i % 2], 0) for i in range(10)))
        await at_a.publish("end", "end")

    async with (
        pubsubd.connect(calm["a"].socket) as at_a,
        subscribed(calm["b"], "x", "end") as on_b,
        asyncio.timeout(DEADLINE_S),
    ):
        begin = (await at_a.publish("z", 0)).offset + 1
        publishing = asyncio.create_task(publish_all_the_time())
        came = [await anext(on_b) for _ in range(200)]
        _, added = (await on_b.add("y"))["a"]
        await _messages_beyond(added, on_b, came)
        _, removed = (await on_b.remove("x"))["a"]
        await _messages_beyond(removed, on_b, came)
        enough.set()
        await publishing
        end = await _messages_to_the_end(on_b, came)
    offsets = [message.offset for message in came]
    assert isinstance(added, int)
    assert isinstance(removed, int)
    assert begin < added < removed < end
    wanted = [
        *(offset for offset in range(begin, added) if (offset - begin) % 2 == 0),
        *range(added, removed),
        *(offset for offset in range(removed, end) if (offset - begin) % 2 == 1),
    ]
    assert offsets == wanted


@async_test
async def test_the_position_advances_though_nothing_matches(calm: Cluster) -> None:
    async with (
        pubsubd.connect(calm["a"].socket) as at_a,
        subscribed(calm["a"], "wanted") as on_a,
        subscribed(calm["b"], "wanted") as on_b,
    ):
        # The application has asked for a message, as by iterating.
        asking = [asyncio.ensure_future(anext(reader)) for reader in (on_a, on_b)]
        await publish(at_a, range(100), "other")
        receipt = await at_a.publish("other", "last")
        for reader in (on_a, on_b):
            await wait_until_async(
                functools.partial(_stands_at, reader, receipt.epoch, receipt.offset + 1),
                DEADLINE_S,
                "the position behind what does not match",
            )
        await at_a.publish("wanted", 1)
        for message in await asyncio.wait_for(asyncio.gather(*asking), DEADLINE_S):
            assert message.offset == receipt.offset + 1


def _stands_at(subscription: pubsubd.Subscription, epoch: str, offset: int) -> bool:
    return subscription.position["a"] == [epoch, offset]


@async_test
async def test_a_publish_after_subscribe_has_returned_is_seen(calm: Cluster) -> None:
    async with pubsubd.connect(calm["a"].socket) as at_a:
        for i in range(30):
            async with subscribed(calm["b"]) as on_b:
                await at_a.publish("x", i)
                # Messages on their way at the subscription may come too, in their place before.
                payloads = await payloads_to(on_b, i)
                assert payloads == list(range(i + 1))[-len(payloads) :]


@async_test
async def test_earliest_reads_the_rings_and_latest_only_new_messages(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, ring_messages=100)
    async with from_a_to_b(cluster) as (at_a, early):
        for first in range(0, 150, 50):
            await publish(at_a, range(first, first + 50))
            await payloads_to(early, first + 49)
        for node in "ab":
            async with (
                subscribed(cluster[node], start="earliest") as earliest,
                subscribed(cluster[node], start="latest") as latest,
            ):
                await at_a.publish("x", f"new for {node}")
                held = await payloads_to(earliest, f"new for {node}")
                numbers = [payload for payload in held if isinstance(payload, int)]
                assert numbers == list(range(numbers[0], 150))
                # The ring evicts whole batches; the new message has taken the place of one, or is about to.
                assert numbers[0] in (50, 60)
                assert await payloads_to(latest, f"new for {node}") == [f"new for {node}"]
            # Else the message would still be on its way to b, and so be new there when b's turn comes.
            assert await payloads_to(early, f"new for {node}") == [f"new for {node}"]


@async_test
async def test_a_single_broker_serves_its_own_applications(start_broker: StartBroker) -> None:
    broker = start_broker("alone", listen=False)
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await publish(client, range(1000))
        assert [e.payload for e in await events_to(reader, 999) if isinstance(e, Message)] == [
            *range(1000)
        ]
