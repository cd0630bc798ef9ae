"""Brokers and applications that die and come back: silent continuations, and losses that must be told."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal

import pytest
from tests.asynchronous import async_test
from tests.integration.relay import Relay
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    consumer,
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
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import (
    BrokerUnavailable,
    CursorExpired,
    Message,
    PublishRejected,
    PublishUnknown,
    Subscription,
)

OWN_STREAM_LOST = ("b", "state_lost", None)
"""The notice for every session of an earlier life of broker b about b's own stream, which began anew."""


@async_test
async def test_an_application_outlives_a_crash_of_its_broker(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (at_a, on_b):
        await publish(at_a, range(20))
        # The broker has acknowledged more than the application has seen.
        assert await payloads_to(on_b, 9) == [*range(10)]
        await wait_until_async(
            lambda: consumer(cluster["a"], "b")["cursor"] == 20, DEADLINE_S, "the ack"
        )
        await cut(cluster, "b", "a")
        cluster["b"].kill()
        await publish(at_a, range(20, 1020))
        await in_thread(cluster["b"].start)
        await heal(cluster, "b", "a")
        await publish(at_a, range(1020, 1030))
        events = told(await events_to(on_b, 1029))
        assert events.count(OWN_STREAM_LOST) == 1
        events.remove(OWN_STREAM_LOST)
        assert events == [*range(10, 1030)]


@pytest.mark.parametrize("opened", ["before", "after"])
@async_test
async def test_a_named_session_goes_on_after_both_ends_died(
    start_cluster: StartCluster, opened: str
) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    async with pubsubd.connect(a.socket) as at_a:
        with Relay(b.socket, listen=f"{b.socket}-relay") as relay:
            async with (
                pubsubd.connect(relay.endpoint) as application,
                application.subscribe(">", name="projector") as projector,
            ):
                assert not projector.resumed
                await publish(at_a, range(30))
                assert await payloads_to(projector, 9) == [*range(10)]
                # The request for the next message acknowledges the one before.
                assert told([await next_event(projector)]) == [10]
                # b tells a of it together with its own next acknowledgement.
                await at_a.publish("numbers", 30)
                await wait_until_async(
                    lambda: consumer(a, "b")["cursor"] == 31, DEADLINE_S, "the ack of b"
                )
                # b dies: its last words are not heard.
                relay.cut()
        await cut(cluster, "b", "a")
        b.kill()
        await publish(at_a, range(31, 1031))
        await in_thread(b.start)
        if opened == "after":
            await heal(cluster, "b", "a")
        async with subscribed(b, name="projector") as projector:
            assert projector.resumed == (opened == "after")
            await heal(cluster, "b", "a")
            events = told(await events_to(projector, 1030))
            events.remove(OWN_STREAM_LOST)
            assert events == [*range(10, 1031)]


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL], ids=lambda how: how.name)
@async_test
async def test_broker_and_application_go_on_at_a_stored_position(
    start_cluster: StartCluster, how: signal.Signals
) -> None:
    cluster = start_cluster(2)
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        async with subscribed(cluster["b"]) as on_b:
            await publish(at_a, range(20))
            assert await payloads_to(on_b, 14) == [*range(15)]
            stored = json.dumps(on_b.position)
        await cut(cluster, "b", "a")
        await publish(at_a, range(20, 520))
        await in_thread(cluster["b"].restart, how)
        await publish(at_a, range(520, 1020))
        async with subscribed(cluster["b"], position=json.loads(stored)) as on_b:
            await heal(cluster, "b", "a")
            events = told(await events_to(on_b, 1019))
            if how is signal.SIGKILL:
                events.remove(OWN_STREAM_LOST)
            assert events == [*range(15, 1020)]


@pytest.mark.parametrize("published", [0, 5, 50])
@async_test
async def test_a_lost_state_is_told_before_new_messages(
    start_cluster: StartCluster, published: int
) -> None:
    """Also if it has published no message since, and also if its offsets have passed the consumer's."""
    cluster = start_cluster(3)
    async with subscribed(cluster["b"]) as on_b, subscribed(cluster["c"]) as on_c:
        async with pubsubd.connect(cluster["a"].socket) as at_a:
            await publish(at_a, range(20))
        assert await payloads_to(on_b, 19) == [*range(20)]
        await cut(cluster, "b", "a")
        await in_thread(cluster["a"].restart, signal.SIGKILL)
        async with pubsubd.connect(cluster["a"].socket) as at_a:
            await attached(cluster, "c", "a")
            await publish(at_a, range(100, 100 + published))
            await heal(cluster, "b", "a")
            await publish(at_a, range(200, 210))
            lost = ("a", "state_lost", None)
            events = await events_to(on_b, 209)
            assert told(events) == [lost, *range(200, 210)]
            assert isinstance(events[0], CursorExpired)
            assert events[0].next == published
            news = [*range(100, 100 + published), *range(200, 210)]
            assert told(await events_to(on_c, 209)) == [*range(20), lost, *news]


@async_test
async def test_a_lost_state_is_told_though_the_producer_stays_silent(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    async with subscribed(cluster["b"]) as on_b:
        await in_thread(cluster["a"].restart, signal.SIGKILL)
        assert told([await next_event(on_b)]) == [("a", "state_lost", None)]


@pytest.mark.parametrize("restarts", [1, 2])
@async_test
async def test_a_position_of_a_lost_history_is_told_on_subscribing(
    start_cluster: StartCluster, restarts: int
) -> None:
    cluster = start_cluster(2)
    async with from_a_to_b(cluster) as (at_a, on_b):
        await publish(at_a, range(10))
        await payloads_to(on_b, 9)
        stored = json.dumps(on_b.position)
    for _ in range(restarts):
        await in_thread(cluster["a"].restart, signal.SIGKILL)
        await attached(cluster, "b", "a")
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["b"], position=json.loads(stored)) as on_b,
    ):
        assert told([await next_event(on_b)]) == [("a", "state_lost", None)]
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]


@async_test
async def test_an_older_session_gets_a_new_stream_from_its_start(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, cut=[("b", "a")])
    async with pubsubd.connect(cluster["a"].socket) as at_a:
        await publish(at_a, range(20))
        async with subscribed(cluster["b"]) as on_b:
            assert "a" not in on_b.position
            await heal(cluster, "b", "a")
            assert await payloads_to(on_b, 19) == [*range(20)]
            async with (
                subscribed(cluster["b"], start="latest") as latest,
                subscribed(cluster["b"], start="earliest") as earliest,
            ):
                await publish(at_a, range(20, 30))
                assert await payloads_to(on_b, 29) == [*range(20, 30)]
                assert await payloads_to(latest, 29) == [*range(20, 30)]
                assert await payloads_to(earliest, 29) == [*range(30)]


@async_test
async def test_an_older_session_is_told_of_a_new_streams_lost_start(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, cut=[("b", "a")], ring_messages=100)
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["b"]) as on_b,
        subscribed(cluster["b"], start="earliest") as earliest,
    ):
        await publish(at_a, range(150))
        await heal(cluster, "b", "a")
        for reader, following in ((on_b, 150), (earliest, 50)):
            notice = await next_event(reader)
            assert told([notice]) == [("a", "unseen", None)]
            assert isinstance(notice, pubsubd.CursorExpired)
            assert notice.next == following
        held = await payloads_to(earliest, 149)
        assert held == [*range(50, 150)], "it goes on with all that the ring holds"
        await publish(at_a, range(150, 160))
        assert await payloads_to(on_b, 159) == [*range(150, 160)]


@async_test
async def test_an_untold_position_is_not_taken_from_the_broker(start_cluster: StartCluster) -> None:
    """The broker met the producer, acknowledged, and died before its session heard of that stream."""
    cluster = start_cluster(2, cut=[("b", "a")])
    a, b = cluster["a"], cluster["b"]
    with Relay(b.socket, listen=f"{b.socket}-relay") as relay:
        async with (
            pubsubd.connect(a.socket) as at_a,
            pubsubd.connect(relay.endpoint) as application,
            application.subscribe(">") as on_b,
        ):
            await publish(at_a, range(20))
            relay.hold("from_target")
            await heal(cluster, "b", "a")
            await wait_until_async(lambda: consumer(a, "b")["cursor"] == 20, DEADLINE_S, "the ack")
            b.kill()
            relay.cut()
            assert "a" not in on_b.position
            await in_thread(b.start)
            relay.heal()
            events = told(await events_to(on_b, 19))
            events.remove(OWN_STREAM_LOST)
            assert events == [*range(20)]


@async_test
async def test_a_broker_stopped_under_load_delivers_accepted_messages(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    accepted: set[str] = set()
    refused: set[str] = set()

    async def publish_until_refused(publisher: int) -> None:
        async with pubsubd.connect(cluster["a"].socket, publish_timeout_s=1.0) as client:
            for number in itertools.count():
                payload = f"{publisher}:{number}"
                try:
                    await client.publish("x", payload)
                except PublishUnknown:
                    return
                except (PublishRejected, BrokerUnavailable):
                    refused.add(payload)
                    return
                accepted.add(payload)

    async def next_payload(subscription: Subscription) -> str:
        event = await next_event(subscription)
        assert isinstance(event, Message)
        return str(event.payload)

    async with subscribed(cluster["a"]) as on_a, subscribed(cluster["b"]) as on_b:
        publishing = [asyncio.create_task(publish_until_refused(i)) for i in range(8)]
        came: dict[Subscription, list[str]] = {on_a: [], on_b: []}
        for reader, row in came.items():
            row += [await next_payload(reader) for _ in range(1000)]
        assert await in_thread(cluster["a"].stop) == 0
        await within(asyncio.gather(*publishing), "the end of publishing")
        for reader, row in came.items():
            missing = accepted.difference(row)
            while missing:
                row.append(await next_payload(reader))
                missing.discard(row[-1])
            assert len(row) == len(set(row))
            assert not refused.intersection(row)
            for publisher in range(8):
                numbers = [int(p.partition(":")[2]) for p in row if p[0] == str(publisher)]
                assert numbers == [*range(len(numbers))]
