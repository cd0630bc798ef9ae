"""Operations on a broker and its surroundings: processes that hang, connections without end."""

from __future__ import annotations

import contextlib
import json
import resource

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.hostile import RawConnection, hello, publish, status
from tests.integration.proc import cpu_s, descriptors
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    attached,
    events_to,
    in_thread,
    payloads_to,
    subscribed,
)
from tests.integration.waiting import wait_until, wait_until_async

import pubsubd
from pubsubd_protocol.codec import encode
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, Receipt, Report, Subscribe, Subscribed, Welcome
from pubsubd_protocol.positions import Position

PATIENCE_S = 1.0
"""Seconds that a caller waits for an accept."""

DESCRIPTORS = 64
"""The descriptors of a broker in the test that takes them all."""


@pytest.mark.parametrize("hangs", ["consumer", "producer"])
@async_test
async def test_a_hung_broker_comes_back_without_loss_or_duplicate(
    start_cluster: StartCluster, hangs: str
) -> None:
    cluster = start_cluster(2)
    a, b = cluster["a"], cluster["b"]
    stopped, noticing = (b, a) if hangs == "consumer" else (a, b)
    link = cluster.link("b", "a")
    async with subscribed(b) as subscription, pubsubd.connect(a.socket) as client:
        await client.publish_many("numbers", range(100))
        mark = noticing.mark()
        await in_thread(stopped.pause)
        sent = client.publish_many("numbers", [*range(100, 1000)], timeout=60)
        if hangs == "consumer":
            await sent
            sent = client.publish_many("numbers", [*range(1000, 2000)], timeout=60)
        await in_thread(lambda: noticing.wait_log("peer.silent", since=mark))
        event = "consumer.lost" if hangs == "consumer" else "peer.lost"
        await in_thread(lambda: noticing.wait_log(event, since=mark))
        if hangs == "consumer":
            # It is cut off: no more is sent to a socket without a reader.
            row = a.status()["consumers"][0]
            assert (row["consumer"], row["connected"]) == ("b", False)
        await in_thread(stopped.resume)
        await sent
        await client.publish("numbers", "last")
        count = 2000 if hangs == "consumer" else 1000
        assert await payloads_to(subscription, "last") == [*range(count), "last"]
        await attached(cluster, "b", "a")
    # The batch in flight at the cut may have been sent again, but not once for each attempt.
    assert link.bytes["from_target"] < 3 * a.status()["ring"]["bytes"]
    assert b.metric("messages_received_total", peer="a") == count + 1


@async_test
async def test_a_broker_without_descriptors_serves_old_connections(
    start_broker: StartBroker,
) -> None:
    b = await in_thread(start_broker, "b")
    a = await in_thread(lambda: start_broker("a", peers=[b.listen]))
    await wait_until_async(a.ready)
    # Fewer descriptors than it has provided for since its start.
    resource.prlimit(a.pid, resource.RLIMIT_NOFILE, (DESCRIPTORS, DESCRIPTORS))
    taken: list[RawConnection] = []
    with contextlib.ExitStack() as crowd, RawConnection(a.socket) as control:
        control.greet("control")
        async with subscribed(a) as subscription, pubsubd.connect(a.socket) as client:
            while len(taken) < DESCRIPTORS:
                taken.append(crowd.enter_context(RawConnection(a.socket, PATIENCE_S)))
                if await in_thread(greeted, taken[-1]) is False:
                    break
            assert len(taken) < DESCRIPTORS, "they have run out"
            assert descriptors(a.pid) >= DESCRIPTORS - 2
            # Other callers knock all the time, and its peer dies: the callers take its place, too.
            await in_thread(b.kill)
            used, since = cpu_s(a.pid), uptime_s(control)
            while (now := uptime_s(control)) < since + 1:
                await in_thread(knock, a)
                await client.publish("t", now)
                assert await payloads_to(subscription, now) == [now]
            assert cpu_s(a.pid) - used < 0.8 * (now - since), "it spins"
            await in_thread(b.start)
            for each in taken:
                each.close()
            await wait_until_async(lambda: descriptors(a.pid) < DESCRIPTORS // 2)
            await wait_until_async(lambda: a.metric("peer_connected", peer="b") == 1)
            async with subscribed(a) as another:
                await client.publish("t", "last")
                assert await payloads_to(another, "last") == ["last"]
            lost, _ = await events_to(subscription, "last")
            assert isinstance(lost, pubsubd.CursorExpired)
            assert (lost.node, lost.reason) == ("b", "state_lost")
    assert not [line for line in a.logs if line.get("level") in (None, "error")]


def greeted(raw: RawConnection) -> bool:
    try:
        return isinstance(raw.greet("publisher"), Welcome)
    except OSError:
        return False


def knock(broker: Broker) -> None:
    """Try to connect, in vain: the broker does not accept, and after a while its queue is full."""
    for _ in range(10):
        with contextlib.suppress(BlockingIOError), RawConnection(broker.socket) as raw:
            raw.send(hello("publisher"))


def uptime_s(control: RawConnection) -> float:
    """The age of the broker, as it reports it over a connection that stands."""
    control.send(status())
    report = control.frame()
    assert isinstance(report, Report)
    uptime: float = json.loads(report.json)["uptime_s"]
    return uptime


def test_a_reconnected_session_begins_at_its_ack_after_a_crash(start_broker: StartBroker) -> None:
    """Received messages count for the reconnect, acknowledged ones for the next life."""
    a = start_broker("a")
    with RawConnection(a.socket) as publisher:
        assert isinstance(publisher.greet("publisher"), Welcome)
        for sequence in range(10):
            publisher.send(publish(sequence=sequence))
            assert isinstance(publisher.frame(), Receipt)
    first = Subscribe((">",), "earliest", None, None, "projector", True)
    with RawConnection(a.socket) as life:
        life.greet("session")
        life.send(encode(first))
        stands = life.frame()
        assert isinstance(stands, Subscribed)
        entries = [life.frame() for _ in range(10)]
        last = entries[-1]
        assert isinstance(last, Entry)
        life.send(encode(Ack("a", Position(last.epoch, 3))))
    left(a)
    received = Position(last.epoch, 10)
    with RawConnection(a.socket) as reconnected:
        reconnected.greet("session")
        done = {"a": Position(last.epoch, 3)}
        again = Subscribe((">",), "earliest", {"a": received}, stands.born, "projector", True, done)
        reconnected.send(encode(again))
        stands_again = reconnected.frame()
        assert isinstance(stands_again, Subscribed)
        assert stands_again.positions["a"] == received
    left(a)
    with RawConnection(a.socket) as next_life:
        next_life.greet("session")
        next_life.send(encode(first))
        resumed = next_life.frame()
        assert isinstance(resumed, Subscribed)
        assert resumed.resumed
        assert resumed.positions["a"] == Position(last.epoch, 3)
        entry = next_life.frame()
        assert isinstance(entry, Entry)
        assert entry.first == 3


def left(broker: Broker) -> None:
    """Return when all sessions have left."""
    wait_until(lambda: broker.metric("sessions") == 0)
