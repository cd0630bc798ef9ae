"""A publish has one place in the stream, with or without its answer; a refused one has none."""

from __future__ import annotations

import asyncio
import itertools
import signal
from typing import Any

import pytest
from tests.asynchronous import async_test
from tests.integration.steps import (
    DEADLINE_S,
    StartBroker,
    StartCluster,
    behind_a_relay,
    in_thread,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import BrokerUnavailable, Client, Message, MessageTooLarge, PublishUnknown


@pytest.mark.parametrize("answered_bytes", [0, 3])
@async_test
async def test_a_publish_with_a_lost_answer_stands_once(
    start_broker: StartBroker, answered_bytes: int
) -> None:
    broker = start_broker("a")
    async with behind_a_relay(broker) as (relay, client), subscribed(broker) as reader:
        await client.publish("x", "before")
        connections = relay.accepted
        relay.cut_after("from_target", answered_bytes)
        receipt = await within(client.publish("x", "answer lost"), "the receipt")
        assert relay.accepted > connections, "the answer was lost, and it tried again"
        assert receipt.offset == 1
        assert (await client.publish("x", "after")).offset == 2
        assert await payloads_to(reader, "after") == ["before", "answer lost", "after"]


@async_test
async def test_a_publish_that_was_lost_on_its_way_is_sent_again(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    async with behind_a_relay(broker) as (relay, client), subscribed(broker) as reader:
        relay.cut_after("to_target", 10)
        assert (await within(client.publish("x", 1), "the receipt")).offset == 0
        assert (await client.publish("x", 2)).offset == 1
        assert await payloads_to(reader, 2) == [1, 2]


@async_test
async def test_pipelined_messages_stand_once_in_order_over_breaks(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    async with (
        behind_a_relay(cluster["a"]) as (relay, client),
        subscribed(cluster["a"]) as on_a,
        subscribed(cluster["b"]) as on_b,
    ):
        for first in range(0, 5000, 1000):
            # Break now in a request, now in an answer.
            relay.cut_after(*(("to_target", 2000) if first % 2000 else ("from_target", 30)))
            for number in range(first, first + 1000):
                await client.send("x", number)
                if number % 20 == 0:
                    await asyncio.sleep(0)
            await within(client.flush(), "all receipts")
        assert relay.accepted == 6
        for reader in (on_a, on_b):
            assert await payloads_to(reader, 4999) == [*range(5000)]


@async_test
async def test_a_retry_at_a_restarted_broker_may_be_placed_twice(start_broker: StartBroker) -> None:
    """At least once, on this side: the restarted broker cannot know what its last life accepted."""
    broker = start_broker("a")
    async with behind_a_relay(broker) as (relay, client), subscribed(broker) as reader:
        before = await client.publish("x", "before")
        relay.hold("from_target")
        publishing = asyncio.create_task(client.publish("x", "answer lost"))
        assert await payloads_to(reader, "answer lost") == ["before", "answer lost"]
        relay.cut()  # Healing alone would let the answer through after all.
        await in_thread(broker.restart, signal.SIGKILL)
        relay.heal()
        receipt = await within(publishing, "the receipt")
        assert receipt.epoch != before.epoch
        assert receipt.offset == 0
        async with subscribed(broker, start="earliest") as late:
            assert await payloads_to(late, "answer lost") == ["answer lost"]


@async_test
async def test_a_sent_publish_without_an_answer_is_unknown(start_broker: StartBroker) -> None:
    broker = start_broker("a")
    async with behind_a_relay(broker) as (relay, client), subscribed(broker) as reader:
        relay.hold("from_target")
        with pytest.raises(PublishUnknown):
            await client.publish("x", "unknown", timeout=0.2)
        relay.cut()
        await wait_until_async(lambda: client.state is pubsubd.State.LOST, DEADLINE_S, "loss")
        with pytest.raises(BrokerUnavailable):
            await client.publish("x", "never sent", timeout=0.2)
        relay.heal()
        await within(client.publish("x", "after"), "the receipt")
        assert await payloads_to(reader, "after") == ["unknown", "after"]


@async_test
async def test_a_refused_message_never_arrives_and_takes_no_place(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("a", max_message="10KiB", ring_messages=100)
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await client.publish("x", "first")
        with pytest.raises(MessageTooLarge) as refused:
            await client.publish("x", bytes(20_000))
        assert (refused.value.size, refused.value.limit) == (20_003, 10_240)
        with pytest.raises(pubsubd.InvalidTopic):
            await client.publish("not a topic", 1)
        assert (await client.publish("x", "second")).offset == 1
        assert await payloads_to(reader, "second") == ["first", "second"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_frame": "64KiB", "max_message": "16KiB"},
        {"ring_messages": 10},
        {"ring_bytes": "8KiB"},
    ],
    ids=" ".join,
)
def test_a_large_publish_goes_out_in_several_batches(
    limits: dict[str, Any], start_broker: StartBroker
) -> None:
    broker = start_broker("a", **limits)

    async def scenario() -> None:
        async with pubsubd.connect(broker.socket, publish_timeout_s=DEADLINE_S) as client:
            many = await client.publish_many("x", [bytes(1000)] * 200)
            assert [receipt.offset for receipt in many] == [*range(200)]
            singles = await asyncio.gather(*(client.publish("x", i) for i in range(11)))
            assert [receipt.offset for receipt in singles] == [*range(200, 211)]
            for number in range(1000):
                await client.send("x", number)
            await client.flush()
            assert (await client.publish("x", "last")).offset == 1211
            assert client.state is pubsubd.State.CONNECTED

    asyncio.run(scenario())
    assert broker.status()["counters"]["messages_published"] == 1212


@async_test
async def test_a_message_larger_than_the_ring_is_refused_at_once(start_broker: StartBroker) -> None:
    broker = start_broker("a", ring_bytes="8KiB")
    async with pubsubd.connect(broker.socket, codec=pubsubd.RAW) as client:
        with pytest.raises(MessageTooLarge) as refused:
            await client.publish("x", bytes(9000))
        assert refused.value.size == 9000
        receipt = await client.publish("x" * 255, bytes(refused.value.limit))
        assert receipt.offset == 0


@async_test
async def test_an_undecodable_payload_is_an_error_of_its_message_only(
    start_broker: StartBroker,
) -> None:
    broker = start_broker("a")
    async with pubsubd.connect(broker.socket) as client, subscribed(broker) as reader:
        await client.publish("x", b"\xc1 is not msgpack", codec=pubsubd.RAW)
        await client.publish("x", "fine")
        broken = await next_event(reader)
        assert isinstance(broken, Message)
        with pytest.raises(pubsubd.DecodeError):
            _ = broken.payload
        assert broken.raw == b"\xc1 is not msgpack"
        assert told([await next_event(reader)]) == ["fine"]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
@async_test
async def test_a_publisher_goes_on_when_its_broker_is_restarted(
    start_broker: StartBroker, how: signal.Signals
) -> None:
    broker = start_broker("a")
    news: list[str] = []
    async with pubsubd.connect(
        broker.socket,
        on_lost=lambda why: news.append("lost"),
        on_restored=lambda: news.append("restored"),
    ) as client:
        await publish(client, range(10))
        await in_thread(broker.restart, how)
        receipt = await client.publish("x", "new life")
        assert receipt.offset == (10 if how is signal.SIGTERM else 0)
        await wait_until_async(lambda: len(news) == 2, DEADLINE_S, "the callbacks")
        assert news == ["lost", "restored"]


@async_test
async def test_a_publish_refused_by_a_stopping_broker_is_not_published(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    accepted: list[int] = []

    async def publish_for_ever(client: Client) -> None:
        for number in itertools.count():
            await client.publish("x", number, timeout=0.3)
            accepted.append(number)

    async with pubsubd.connect(a.socket) as client, subscribed(b) as on_b:
        # As long as b lacks accepted messages, a does not end: it turns publishers away.
        await in_thread(b.pause)
        await client.publish("x", "first")
        stopping = asyncio.create_task(in_thread(a.stop))
        with pytest.raises(BrokerUnavailable):
            await within(publish_for_ever(client), "the refusal")
        await in_thread(b.resume)
        assert await stopping == 0
        async with pubsubd.connect(b.socket) as at_b:
            await at_b.publish("x", "end")
        came = await payloads_to(on_b, "end")
        assert came == ["first", *accepted, "end"]


@pytest.mark.interpreted
def test_the_broker_refuses_a_topic_with_a_wildcard_segment(
    start_broker: StartBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that does not check what it sends."""
    broker = start_broker("a")
    monkeypatch.setattr("pubsubd.batching.check_publishable", lambda topic: topic)

    async def publish() -> None:
        async with pubsubd.connect(broker.socket) as client:
            for topic in ("a.>", "*", "a.*.b"):
                with pytest.raises(pubsubd.PublishRejected) as caught:
                    await client.publish(topic, 1)
                assert caught.value.code == "invalid_topic"
            assert (await client.publish("a*.b", 1)).offset == 0

    asyncio.run(publish())
