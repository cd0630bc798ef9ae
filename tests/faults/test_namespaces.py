"""Brokers on networks of their own: with pulled cables and dropped packets, neither end of a connection gets through."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from tests.asynchronous import async_test
from tests.faults.namespaces import Network, missing
from tests.integration.broker import PUBSUBD, Broker
from tests.integration.steps import (
    events_to,
    in_thread,
    next_event,
    payloads_to,
    publish,
    subscribed,
    told,
)

import pubsubd

WHY_NOT = missing()
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no network namespaces: {WHY_NOT}")

NODES: Final = ("a", "b", "c")
PORT: Final = 7420
PEER_TIMEOUT_S: Final = 1.0
RING: Final = 100
SLACK_S: Final = 5.0
"""Seconds that a busy machine may add to a timeout."""

Mesh = dict[str, Broker]


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network(NODES) as network:
        yield network


@pytest.fixture
def mesh(network: Network, tmp_path: Path) -> Iterator[Mesh]:
    """Three brokers that share a secret, all linked. After the test all cables are plugged in again."""
    secret = tmp_path / "secret"
    secret.write_bytes(b"of this network alone")
    secret.chmod(0o600)
    mesh = {
        node: Broker(
            tmp_path,
            node,
            [f"{network.address(peer)}:{PORT}" for peer in NODES if peer != node],
            command=(*network.prefix(node), *PUBSUBD),
            listen=f"{network.address(node)}:{PORT}",
            cluster_secret_file=secret,
            http=False,
            ring_messages=RING,
            peer_timeout=f"{PEER_TIMEOUT_S}s",
        )
        for node in NODES
    }
    with contextlib.ExitStack() as stack:
        for broker in mesh.values():
            stack.enter_context(contextlib.closing(broker))
            broker.start(wait=False)
        for node in NODES:
            stack.callback(network.plug, node)
            stack.callback(network.unmute, node)
        for broker in mesh.values():
            broker.wait_started()
        for consumer in NODES:
            for producer in NODES:
                if consumer != producer:
                    mesh[consumer].wait_log("peer.attached", peer=producer)
        yield mesh


async def parts(mesh: Mesh, consumer: str, producer: str, fault: Callable[[], None]) -> None:
    """Checks that after `fault` both ends give up their link by their timeout."""
    marks = {node: broker.mark() for node, broker in mesh.items()}
    began = time.monotonic()
    await in_thread(fault)
    ends = [
        (consumer, "peer.lost", {"peer": producer}),
        (producer, "consumer.lost", {"consumer": consumer}),
    ]
    for node, event, fields in ends:
        await in_thread(
            lambda node=node, event=event, fields=fields: mesh[node].wait_log(
                event, since=marks[node], timeout_s=PEER_TIMEOUT_S + SLACK_S, **fields
            )
        )
    # A heartbeat arrived up to 200 ms before. Neither end can know earlier than this.
    assert time.monotonic() - began > PEER_TIMEOUT_S / 2


async def joins(mesh: Mesh, consumer: str, producer: str, heal: Callable[[], object]) -> None:
    mark = mesh[consumer].mark()
    await in_thread(heal)
    await in_thread(
        lambda: mesh[consumer].wait_log("peer.attached", since=mark, timeout_s=20.0, peer=producer)
    )


@async_test
async def test_a_pulled_cable_causes_neither_loss_nor_duplicates(
    network: Network, mesh: Mesh
) -> None:
    async with (
        pubsubd.connect(mesh["a"].socket) as at_a,
        pubsubd.connect(mesh["b"].socket) as at_b,
        subscribed(mesh["a"]) as on_a,
        subscribed(mesh["b"]) as on_b,
        subscribed(mesh["c"]) as on_c,
    ):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        assert await payloads_to(on_a, 9) == [*range(10)]
        await parts(mesh, "b", "a", lambda: network.unplug("b"))
        # Both sides go on without the other.
        await publish(at_a, range(10, 40))
        await publish(at_b, range(100, 140))
        assert await payloads_to(on_c, 39) == [*range(40)]
        await joins(mesh, "b", "a", lambda: network.plug("b"))
        assert sorted(await payloads_to_both(on_b, 39, 139)) == [
            *range(10, 40),
            *range(100, 140),
        ]
        assert sorted(await payloads_to_both(on_a, 39, 139)) == [
            *range(10, 40),
            *range(100, 140),
        ]
        assert await payloads_to(on_c, 139) == [*range(100, 140)]


def test_a_muted_node_is_given_up_and_catches_up(network: Network, mesh: Mesh) -> None:
    async def scenario(producer_is_mute: bool) -> None:
        mute, toward = ("a", "b") if producer_is_mute else ("b", "a")
        async with pubsubd.connect(mesh["a"].socket) as at_a, subscribed(mesh["b"]) as on_b:
            await publish(at_a, range(10))
            assert await payloads_to(on_b, 9) == [*range(10)]
            await parts(mesh, "b", "a", lambda: network.mute(mute, toward))
            await publish(at_a, range(10, 40))
            await joins(mesh, "b", "a", lambda: network.unmute(mute))
            assert await payloads_to(on_b, 39) == [*range(10, 40)]

    for producer_is_mute in (True, False):
        asyncio.run(scenario(producer_is_mute))


@async_test
async def test_only_readers_that_lost_messages_are_told(network: Network, mesh: Mesh) -> None:
    a = mesh["a"]
    async with (
        pubsubd.connect(a.socket) as at_a,
        subscribed(mesh["b"]) as on_b,
        subscribed(mesh["c"]) as on_c,
    ):
        await publish(at_a, range(10))
        assert await payloads_to(on_b, 9) == [*range(10)]
        await parts(mesh, "b", "a", lambda: network.unplug("b"))
        # More than the ring holds; a connected reader gets all of it.
        seen: list[object] = []
        for first in range(10, 10 + 2 * RING, 10):
            await publish(at_a, range(first, first + 10))
            seen += await payloads_to(on_c, first + 9)
        assert seen == [*range(10 + 2 * RING)]
        await joins(mesh, "b", "a", lambda: network.plug("b"))
        await at_a.publish("numbers", "again")
        assert told(await events_to(on_b, "again")) == [("a", "overwritten", 2 * RING), "again"]
        # The history of c ends while b is away, and its new offsets reach the place where b stands.
        await parts(mesh, "b", "a", lambda: network.unplug("b"))
        await joins(mesh, "c", "a", lambda: a.restart(signal.SIGKILL))
        await publish(at_a, range(20))
        assert told(await events_to(on_c, 19))[1:] == [("a", "state_lost", None), *range(20)]
        await joins(mesh, "b", "a", lambda: network.plug("b"))
        await at_a.publish("numbers", "new")
        assert told(await events_to(on_b, "new")) == [("a", "state_lost", None), "new"]


async def payloads_to_both(subscription: pubsubd.Subscription, *last: int) -> list[int]:
    """The payloads of all messages up to and with all of `last`, in any order of these."""
    payloads: list[int] = []
    while not {*last} <= {*payloads}:
        event = await next_event(subscription)
        assert isinstance(event, pubsubd.Message), event
        payloads.append(event.payload)
    return payloads
