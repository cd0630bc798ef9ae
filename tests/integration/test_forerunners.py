"""The test cases of the two forerunners, `phoenix_pubsub_buffered` and `echo_pubsub`, on real brokers.

The numbers are those of the list in which these cases were collected, 1 to 14.
"""

from __future__ import annotations

import asyncio
import signal

from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.hostile import RawConnection
from tests.integration.relay import Relay
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    attached,
    consumer,
    cut,
    events_to,
    from_a_to_all,
    from_a_to_b,
    heal,
    in_thread,
    next_event,
    payloads_to,
    peer,
    publish,
    subscribed,
    told,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd_protocol.attach import Remembered
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry, open_entry
from pubsubd_protocol.frames import Attach, Attached, Welcome

ROUNDS = 5


@async_test
async def test_01_a_broadcast_reaches_all_connected_nodes(start_cluster: StartCluster) -> None:
    """Case 1, phoenix_pubsub_buffered."""
    cluster = start_cluster(3)
    async with from_a_to_all(cluster) as (client, readers):
        receipt = await client.publish("numbers", "to all")
        for subscription in readers.values():
            (message,) = await events_to(subscription, "to all")
            assert isinstance(message, pubsubd.Message)
            assert (message.node, message.offset) == (receipt.node, receipt.offset)
            assert (message.epoch, message.topic) == (receipt.epoch, "numbers")


@async_test
async def test_02_a_direct_broadcast_reaches_one_node_only(start_cluster: StartCluster) -> None:
    """Case 2, phoenix_pubsub_buffered."""
    cluster = start_cluster(3)
    async with from_a_to_all(cluster) as (client, readers):
        for number in range(3):
            await client.publish("numbers", number, to="b")
        await client.publish("numbers", "last")
        assert await payloads_to(readers["b"], "last") == [0, 1, 2, "last"]
        assert await payloads_to(readers["a"], "last") == ["last"]
        assert await payloads_to(readers["c"], "last") == ["last"]


@async_test
async def test_03_a_disconnected_consumer_catches_up(start_cluster: StartCluster) -> None:
    """Case 3, phoenix_pubsub_buffered."""
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (client, subscription):
        await publish(client, range(3))
        assert await payloads_to(subscription, 2) == [0, 1, 2]
        await cut(cluster, "b", "a")
        await publish(client, range(3, 100))
        await heal(cluster, "b", "a")
        await publish(client, [100])
        assert await payloads_to(subscription, 100) == list(range(3, 101))


@async_test
async def test_04_a_new_consumer_reads_only_new_messages(start_broker: StartBroker) -> None:
    """Case 4, phoenix_pubsub_buffered."""
    a = start_broker("a")
    async with pubsubd.connect(a.socket) as client:
        await publish(client, range(10))
        b = await in_thread(lambda: start_broker("b", peers=[a.listen]))
        await wait_until_async(b.ready)
        async with subscribed(b) as subscription:
            await publish(client, [10, 11])
            assert await payloads_to(subscription, 11) == [10, 11]


@async_test
async def test_05_eleven_messages_expire_the_cursor_on_a_ring_of_ten(
    start_cluster: StartCluster,
) -> None:
    """Case 5, phoenix_pubsub_buffered: the read cursor is too old."""
    cluster = start_cluster(2, ring_messages=10, pace=None)
    async with from_a_to_b(cluster) as (client, subscription):
        await publish(client, [0])
        assert await payloads_to(subscription, 0) == [0]
        await cut(cluster, "b", "a")
        for number in range(1, 12):
            await client.publish("numbers", number)
        await heal(cluster, "b", "a")
        await client.publish("numbers", "after")
        events = await events_to(subscription, "after")
        assert told(events) == [("a", "overwritten", 11), "after"]
        # A number that just fits the ring expires no reader.
        await cut(cluster, "b", "a")
        for number in range(10):
            await client.publish("numbers", number)
        await heal(cluster, "b", "a")
        assert await payloads_to(subscription, 9) == list(range(10))


@async_test
async def test_06_a_producer_that_lost_its_state_expires_the_cursor(
    start_cluster: StartCluster,
) -> None:
    """Case 6, phoenix_pubsub_buffered: the producer lost its state while the consumer was away."""
    cluster = start_cluster(2)
    async with subscribed(cluster["b"]) as subscription:
        async with pubsubd.connect(cluster["a"].socket) as client:
            await publish(client, range(3))
            assert await payloads_to(subscription, 2) == [0, 1, 2]
        await cut(cluster, "b", "a")
        await in_thread(cluster["a"].restart, signal.SIGKILL)
        async with pubsubd.connect(cluster["a"].socket) as client:
            # As many as before: the offsets fit, and mean nothing.
            await publish(client, range(3))
            await heal(cluster, "b", "a")
            await client.publish("numbers", "after")
        assert told(await events_to(subscription, "after")) == [("a", "state_lost", None), "after"]


@async_test
async def test_07_messages_within_one_loop_turn_travel_as_one_batch(
    start_broker: StartBroker,
) -> None:
    """Case 7, echo_pubsub: its batch window is our loop turn. Read on the wire, as a peer."""
    a = start_broker("a")
    host, _, port = a.listen.rpartition(":")
    with RawConnection((host, int(port))) as raw:
        assert isinstance(raw.greet("peer", name="wire"), Welcome)
        raw.send(encode(Attach(Remembered(waiting=False))))
        while not isinstance(raw.frame(), Attached):
            pass
        async with pubsubd.connect(a.socket) as client:
            async with asyncio.TaskGroup() as turn:
                for number in range(20):
                    turn.create_task(client.publish(f"topic.{number % 3}", number))
            await client.publish("topic.0", "next turn")
        entries: list[Entry] = []
        while len(entries) < 2:
            frame = await in_thread(raw.frame)
            assert frame is not None
            if isinstance(frame, Entry):
                entries.append(frame)
    assert [(entry.first, entry.count) for entry in entries] == [(0, 20), (20, 1)]
    batch = open_entry(entries[0])
    assert [batch.topics[i] for i in batch.index] == [f"topic.{n % 3}" for n in range(20)]


@async_test
async def test_08_subscribers_of_the_own_node_get_each_message_once(
    start_cluster: StartCluster,
) -> None:
    """Case 8, echo_pubsub."""
    cluster = start_cluster(2)
    async with (
        subscribed(cluster["a"]) as first,
        subscribed(cluster["a"], "numbers", "*", ">") as second,
        pubsubd.connect(cluster["a"].socket) as client,
        client.subscribe(">") as own,
        client.subscribe(">", echo=False) as silent,
    ):
        await publish(client, range(50))
        for subscription in (first, second, own):
            assert await payloads_to(subscription, 49) == list(range(50))
        async with pubsubd.connect(cluster["a"].socket) as other:
            await other.publish("numbers", "another's")
        assert await payloads_to(silent, "another's") == ["another's"]


@async_test
async def test_09_a_nodes_own_session_does_not_hold_the_fill_level_up(
    start_broker: StartBroker,
) -> None:
    """Case 9, echo_pubsub: there a node's own cursor counted as the slowest one."""
    a = start_broker("a", ring_messages=100)
    b = start_broker("b", peers=[a.listen])
    await wait_until_async(b.ready)
    async with (
        subscribed(a) as unread,
        pubsubd.connect(a.socket) as client,
    ):
        for first in range(0, 90, 30):  # A real consumer may take a moment for each.
            await publish(client, range(first, first + 30))
            await caught_up(a)
        # Node a's own session has not been handed a message, and is not a consumer: no lag, no warning.
        assert [row["consumer"] for row in a.status()["consumers"]] == ["b"]
        assert a.metric("consumer_lag_messages") == 0
        assert a.metric("cursors") == 1
        assert not warnings(a)
        assert await payloads_to(unread, 89) == list(range(90))


@async_test
async def test_10_a_failed_delivery_is_sent_again(start_cluster: StartCluster) -> None:
    """Case 10, echo_pubsub: the delivery that fails here is cut in the middle of its bytes."""
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (client, subscription):
        await attached(cluster, "b", "a")
        reconnects = peer(cluster["b"], "a")["reconnects"]
        cluster.link("b", "a").cut_after("from_target", 500)
        await client.publish_many("numbers", ["x" * 100] * 20)
        await client.publish("numbers", "last")
        assert await payloads_to(subscription, "last") == [*["x" * 100] * 20, "last"]
        assert peer(cluster["b"], "a")["reconnects"] == reconnects + 1


@async_test
async def test_11_messages_of_a_failure_are_delivered_after_it(start_cluster: StartCluster) -> None:
    """Case 11, echo_pubsub: the link stands, and nothing gets through."""
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (client, subscription):
        await publish(client, [0])
        assert await payloads_to(subscription, 0) == [0]
        await caught_up(cluster["a"])
        link: Relay = cluster.link("b", "a")
        lost = cluster["b"].mark()
        link.hold()
        await publish(client, range(1, 50))
        await wait_until_async(lambda: consumer(cluster["a"], "b")["lag_messages"] == 49)
        await in_thread(lambda: cluster["b"].wait_log("peer.lost", since=lost, peer="a"))
        link.heal()
        assert await payloads_to(subscription, 49) == list(range(1, 50))
        await caught_up(cluster["a"])


@async_test
async def test_12_several_failing_rounds_lose_and_double_nothing(
    start_cluster: StartCluster,
) -> None:
    """Case 12, echo_pubsub: messages before, during and after each failure; ended in several ways."""
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (client, subscription):
        link: Relay = cluster.link("b", "a")
        for number in range(ROUNDS):
            await publish(client, range(10 * number, 10 * number + 5))
            accepted = link.accepted
            match number % 3:
                case 0:
                    link.reset()
                case 1:
                    link.cut_after("from_target", 100)
                case 2:
                    link.cut_after("to_target", 0)
            await publish(client, range(10 * number + 5, 10 * number + 10))
            await redialled(link, accepted)
        await client.publish("numbers", "last")
        assert await payloads_to(subscription, "last") == [*range(10 * ROUNDS), "last"]


@async_test
async def test_13_a_lag_of_two_fifths_of_the_ring_warns_once_a_minute(
    start_cluster: StartCluster,
) -> None:
    """Case 13, echo_pubsub."""
    cluster = start_cluster(2, ring_messages=100)
    a = cluster["a"]
    async with from_a_to_b(cluster) as (client, subscription):
        await publish(client, [0])
        await next_event(subscription)
        await caught_up(a)
        await cut(cluster, "b", "a")
        await publish(client, range(40))
        warning = await in_thread(a.wait_log, "ring.capacity_warning")
        assert warning["level"] == "warning"
        assert warning["consumer"] == "b"
        assert warning["lag_messages"] == 40
        assert warning["threshold"] == 0.4
        assert warning["capacity_messages"] == 100
        # More lag, and again after the consumer caught up: within the minute no second warning comes.
        await publish(client, range(40))
        await heal(cluster, "b", "a")
        await caught_up(a)
        await cut(cluster, "b", "a")
        await publish(client, range(60))
        await passed_ticks(a)
        assert len(warnings(a)) == 1


@async_test
async def test_14_a_smaller_lag_warns_of_nothing(start_cluster: StartCluster) -> None:
    """Case 14, echo_pubsub."""
    cluster = start_cluster(2, ring_messages=100)
    a = cluster["a"]
    async with pubsubd.connect(a.socket) as client:
        await publish(client, [0])
        await caught_up(a)
        await cut(cluster, "b", "a")
        await publish(client, range(39))
        assert consumer(a, "b")["lag_messages"] == 39
        await passed_ticks(a)
        assert not warnings(a)


async def caught_up(a: Broker) -> None:
    """Wait until b has acknowledged all that was published on a."""
    await wait_until_async(lambda: [row["lag_messages"] for row in a.status()["consumers"]] == [0])


async def redialled(link: Relay, accepted: int) -> None:
    """Wait until a connection beyond the first `accepted` ones comes."""
    await wait_until_async(lambda: link.accepted > accepted)


def warnings(broker: Broker) -> list[dict[str, object]]:
    return broker.logged("ring.capacity_warning")


async def passed_ticks(broker: Broker) -> None:
    """Return when the broker has gone through several of its periodic looks at the ring."""
    host, _, port = broker.listen.rpartition(":")
    with RawConnection((host, int(port))) as raw:
        raw.greet("peer", name="ticks")
        # Heartbeats come from the same tick that looks at the ring, and less often.
        await in_thread(lambda: raw.beats(2))
