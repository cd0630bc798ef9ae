"""A node's name belongs to one live broker. A broker that meets itself, or one node twice, notices."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.relay import Relay
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    in_thread,
    payloads_to,
    peer,
    publish,
    subscribed,
)
from tests.integration.waiting import wait_until, wait_until_async

import pubsubd


def refusals(broker: Broker) -> list[dict[str, Any]]:
    return [
        line
        for line in broker.logs
        if line["event"] in ("connection.refused", "peer.unreachable")
        and "name" in str(line.get("detail", line.get("error")))
    ]


@async_test
async def test_a_second_broker_of_a_live_name_is_refused_and_logged(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    a = await in_thread(start_broker, "a")
    b = await in_thread(lambda: start_broker("b", peers=[a.listen]))
    await wait_until_async(b.ready)
    newcomer = Broker(tmp_path / "newcomer", "b", [a.listen])
    async with subscribed(b) as subscription, pubsubd.connect(a.socket) as client:
        with newcomer:
            said = await in_thread(
                lambda: a.wait_log("connection.refused", code="name_in_use")["detail"]
            )
            heard = await in_thread(
                lambda: newcomer.wait_log("peer.unreachable", address=a.listen)["error"]
            )
            for sentence in (said, heard):
                assert "another broker called 'b' is connected" in sentence
                assert "--node" in sentence
            assert not newcomer.ready()
            assert "another broker called 'b'" in newcomer.status()["not_ready"][0]
            # The first broker goes on, over its own link.
            await publish(client, range(10))
            assert await payloads_to(subscription, 9) == list(range(10))
            assert peer(b, "a")["reconnects"] == 0
            assert newcomer.metric("messages_received_total") == 0
            # It is refused at every attempt, and logs that once.
            attempts = a.metric("connections_refused_total", reason="name_in_use")
            await wait_until_async(
                lambda: a.metric("connections_refused_total", reason="name_in_use") > attempts
            )
            assert len(refusals(newcomer)) == 1


@async_test
async def test_two_streams_of_one_name_are_never_mixed(
    start_broker: StartBroker, tmp_path: Path
) -> None:
    """The consumer reaches both producers; it turns the second one away."""
    first = await in_thread(start_broker, "a")
    with Broker(tmp_path / "second", "a") as second:
        b = await in_thread(lambda: start_broker("b", peers=[first.listen, second.listen]))
        refused = await in_thread(lambda: b.wait_log("connection.refused", code="name_in_use"))
        assert "another broker called 'a' is connected" in refused["detail"]
        heard = await in_thread(_refusal_heard, first, second)
        assert heard["detail"] == refused["detail"]
        await wait_until_async(lambda: any(linked_rows(b)))
        # It reads the producer that it met first, and not the other.
        own, other = (first, second) if linked_rows(b)[0] else (second, first)
        assert linked_rows(b) == [own is first, own is second]
        assert not b.ready()
        async with (
            subscribed(b) as subscription,
            pubsubd.connect(own.socket) as to_own,
            pubsubd.connect(other.socket) as to_other,
        ):
            for first_number in range(0, 50, 10):
                await publish(to_other, range(1000, 1010))
                await publish(to_own, range(first_number, first_number + 10))
            assert await payloads_to(subscription, 49) == list(range(50))


def linked_rows(broker: Broker) -> list[bool]:
    """For each of its addresses, whether it reads from there."""
    return [row["error"] is None and row["connected"] for row in broker.status()["peers"]]


def _refusal_heard(*brokers: Broker) -> dict[str, Any]:
    """The log line of the broker that was turned away."""

    def look() -> list[dict[str, Any]]:
        lines = [line for broker in brokers for line in broker.logs]
        return [line for line in lines if line["event"] == "connection.refused"]

    return wait_until(look, what="the refusal")[0]


@async_test
async def test_a_dead_brokers_name_is_free_again(start_broker: StartBroker, tmp_path: Path) -> None:
    """Killed, or cut off silently: its name is free after the peer timeout at the latest."""
    a = await in_thread(start_broker, "a")
    host, _, port = a.listen.rpartition(":")
    with Relay((host, int(port))) as link:
        lost = await in_thread(lambda: start_broker("b", peers=[link.endpoint]))
        await wait_until_async(lost.ready)
        link.hold()  # Neither a FIN nor a reset will tell a that the peer has ended.
        await in_thread(lost.kill)
        with Broker(tmp_path / "second", "b", [a.listen]) as second:
            await wait_until_async(second.ready)
            a.wait_log("peer.silent")
            async with subscribed(second) as subscription, pubsubd.connect(a.socket) as client:
                await publish(client, range(5))
                assert await payloads_to(subscription, 4) == list(range(5))
            await in_thread(second.kill)
        with Broker(tmp_path / "third", "b", [a.listen]) as third:
            await wait_until_async(third.ready)


@async_test
async def test_a_broker_that_dials_itself_drops_that_address(start_broker: StartBroker) -> None:
    with Relay() as one_way, Relay() as other_way:
        ways = (one_way, other_way)
        a = await in_thread(lambda: start_broker("a", peers=[way.endpoint for way in ways]))
        assert not a.ready()
        host, _, port = a.listen.rpartition(":")
        for way in ways:
            way.target = (host, int(port))
        for way in ways:
            at = way.endpoint
            line = await in_thread(lambda at=at: a.wait_log("peer.unreachable", address=at))
            assert "itself" in line["error"]
        await wait_until_async(a.ready)
        async with subscribed(a) as subscription, pubsubd.connect(a.socket) as client:
            await publish(client, range(10))
            assert await payloads_to(subscription, 9) == list(range(10))
        assert a.status()["consumers"] == []
        assert a.metric("messages_received_total") == 0
        # It does not dial itself again: after a whole round with another peer, all its links are there.
        accepted = [way.accepted for way in ways]
        b = await in_thread(lambda: start_broker("b", peers=[a.listen]))
        await wait_until_async(b.ready)
        assert [way.accepted for way in ways] == accepted


@async_test
async def test_two_addresses_of_one_node_are_one_peer(start_broker: StartBroker) -> None:
    a = await in_thread(start_broker, "a")
    host, _, port = a.listen.rpartition(":")
    target = (host, int(port))
    with Relay(target) as one_way, Relay(target) as other_way:
        ways = [one_way, other_way]
        b = await in_thread(lambda: start_broker("b", peers=[way.endpoint for way in ways]))
        await wait_until_async(b.ready)
        async with subscribed(b) as subscription, pubsubd.connect(a.socket) as client:
            await publish(client, range(10))
            assert await payloads_to(subscription, 9) == list(range(10))
            used, idle = ways if linked_rows(b)[0] else reversed(ways)
            # It looks at the other address now and then; meanwhile its one link stands.
            looked = idle.accepted
            await wait_until_async(lambda: idle.accepted >= looked + 3)
            await publish(client, range(10, 20))
            assert await payloads_to(subscription, 19) == list(range(10, 20))
            assert [row["consumer"] for row in a.status()["consumers"]] == ["b"]
            assert a.metric("connections_refused_total") == 0
            assert b.metric("peer_reconnects_total", peer="a") == 0
            assert b.metric("messages_received_total", peer="a") == 20
            # When the way in use is gone, the other one takes over.
            used.cut()
            await publish(client, range(20, 30))
            assert await payloads_to(subscription, 29) == list(range(20, 30))


@async_test
async def test_two_brokers_that_dial_each_other_are_linked_both_ways(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2)
    a, b = cluster
    async with (
        subscribed(a) as at_a,
        subscribed(b) as at_b,
        pubsubd.connect(a.socket) as to_a,
        pubsubd.connect(b.socket) as to_b,
    ):
        await to_a.publish("numbers", "from a")
        await to_b.publish("numbers", "from b")
        for subscription in (at_a, at_b):
            got = {(await anext(subscription)).payload for _ in range(2)}
            assert got == {"from a", "from b"}
    for broker, other in ((a, "b"), (b, "a")):
        assert [row["consumer"] for row in broker.status()["consumers"]] == [other]
        assert peer(broker, other)["connected"]
        assert broker.metric("connections_refused_total") == 0
