"""Faults of every kind, one after the other, while messages flow: no message is lost, and none comes twice."""

from __future__ import annotations

import asyncio
import random
import signal
from collections.abc import Callable

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.relay import Relay
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    attached,
    cut,
    events_to,
    from_a_to_b,
    heal,
    in_thread,
    next_event,
    parted,
    payloads_to,
    publish,
    subscribed,
    told,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd import CursorExpired, Message, NameInUse

FAULTS = 12


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("replica_messages", [100, 100_000])
def test_a_session_reads_one_stream_through_every_fault(
    start_cluster: StartCluster, seed: int, replica_messages: int
) -> None:
    cluster = start_cluster(2, ring_messages=1_000_000, replica_messages=replica_messages)
    b = cluster["b"]
    link = cluster.link("b", "a")
    chance = random.Random(seed)

    def hang() -> None:
        b.pause()
        b.resume()

    async def scenario(unix: Relay) -> None:
        faults: list[Callable[[], object]] = [
            link.reset,
            link.drop,
            lambda: link.cut_after("from_target", chance.randrange(2000)),
            lambda: link.cut_after("to_target", chance.randrange(100)),
            unix.reset,
            lambda: unix.cut_after("from_target", chance.randrange(2000)),
            hang,
            lambda: b.restart(signal.SIGKILL),
            lambda: b.restart(signal.SIGTERM),
        ]
        count = 0
        enough = asyncio.Event()

        async def publish_all_the_time() -> None:
            nonlocal count
            while not enough.is_set():
                await publish(at_a, range(count, count + 10))
                count += 10
                await asyncio.sleep(0.001)  # The ring must outlast the test.

        async def read() -> list[object]:
            came: list[object] = []
            while True:
                event = await next_event(on_b)
                if isinstance(event, CursorExpired):
                    # The own stream of a broker begins anew when that broker crashes.
                    assert (event.node, event.reason) == ("b", "state_lost")
                elif event.payload == "end":
                    return came
                else:
                    came.append(event.payload)

        async with (
            pubsubd.connect(cluster["a"].socket) as at_a,
            pubsubd.connect(unix.endpoint) as at_b,
            at_b.subscribe(">") as on_b,
        ):
            publishing = asyncio.create_task(publish_all_the_time())
            reading = asyncio.create_task(read())
            for _ in range(FAULTS):
                await in_thread(chance.choice(faults))
                published = count
                await wait_until_async(
                    lambda published=published: count >= published + 50,  # type: ignore[misc]
                    DEADLINE_S,
                    "further messages",
                )
            enough.set()
            await publishing
            await at_a.publish("numbers", "end")
            assert await within(reading, "the end") == [*range(count)]

    with Relay(b.socket, listen=f"{b.socket}-relay") as unix:
        asyncio.run(scenario(unix))


@pytest.mark.parametrize("hung", ["a", "b"])
@async_test
async def test_a_hung_broker_is_given_up_and_goes_on_when_it_wakes(
    start_cluster: StartCluster, hung: str
) -> None:
    cluster = start_cluster(2)
    async with (
        pubsubd.connect(cluster["a"].socket, publish_timeout_s=DEADLINE_S) as at_a,
        subscribed(cluster["b"]) as on_b,
    ):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        await in_thread(cluster[hung].pause)
        publishing = asyncio.create_task(publish(at_a, range(10, 510)))
        awake = cluster["b" if hung == "a" else "a"]
        event = "peer.lost" if hung == "a" else "consumer.lost"
        await in_thread(awake.wait_log, event)
        await in_thread(cluster[hung].resume)
        await within(publishing, "the receipts")
        assert await payloads_to(on_b, 509) == [*range(10, 510)]
        # One batch in flight, and not a copy for each attempt.
        assert cluster["b"].metric("messages_received_total", peer="a") == 510


@async_test
async def test_a_crashed_broker_gets_its_name_back_from_an_old_link(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    async with pubsubd.connect(a.socket) as at_a, subscribed(b) as on_b:
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        # Neither end of the old connection gets through, as after a crash of the whole machine.
        link = cluster.link("b", "a")
        link.hold("to_target")
        await in_thread(b.restart, signal.SIGKILL)
        await parted(cluster, "b", "a")
        link.release()
        await attached(cluster, "b", "a")
        await publish(at_a, range(10, 20))
        events = told(await events_to(on_b, 19))
        events.remove(("b", "state_lost", None))
        assert events == [*range(10, 20)]


def test_a_named_session_resumes_at_its_last_acknowledgement(start_cluster: StartCluster) -> None:
    cluster = start_cluster(2)
    b = cluster["b"]

    async def scenario(unix: Relay) -> None:
        async with pubsubd.connect(cluster["a"].socket) as at_a:
            await publish(at_a, range(10))
            async with (
                pubsubd.connect(unix.endpoint) as application,
                application.subscribe(">", name="projector", start="earliest") as projector,
            ):
                with pytest.raises(NameInUse):
                    async with subscribed(b, name="projector"):
                        pass
                assert await payloads_to(projector, 7) == [*range(8)]
                unix.cut()
            async with subscribed(b, name="projector") as projector:
                assert projector.resumed
                await publish(at_a, range(10, 20))
                came = await payloads_to(projector, 19)
                # The request for 7 acknowledged 6, if the broker still heard it; no message is left out.
                assert came == [*range(20)][-len(came) :]
                assert 0 <= came[0] <= 7

    with Relay(b.socket, listen=f"{b.socket}-relay") as unix:
        asyncio.run(scenario(unix))


@async_test
async def test_a_named_session_lives_through_the_crash_of_its_broker(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    b: Broker = cluster["b"]

    async def probe(
        subscription: pubsubd.Subscription, client: pubsubd.Client
    ) -> Message | CursorExpired:
        await client.publish("numbers", "probe")
        return await next_event(subscription)

    async with from_a_to_b(cluster, name="projector") as (at_a, projector):
        await publish(at_a, range(20))
        assert await payloads_to(projector, 9) == [*range(10)]
        for first in (20, 40):
            await cut(cluster, "b", "a")
            await in_thread(b.restart, signal.SIGKILL)
            await publish(at_a, range(first, first + 20))
            await heal(cluster, "b", "a")
        events = told(await events_to(projector, 59))
        own = [event for event in events if isinstance(event, tuple)]
        assert own[0] == ("b", "state_lost", None)
        assert len(own) <= 2
        assert [event for event in events if isinstance(event, int)] == [*range(10, 60)]
        # No other reader took this session's messages in the meantime.
        assert not isinstance(await probe(projector, at_a), CursorExpired)
