"""The steps of tests with real brokers. Each has a deadline and names the condition that it waited for."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import urllib.error
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest
from tests.integration.broker import Broker
from tests.integration.cluster import Cluster
from tests.integration.relay import Relay
from tests.integration.waiting import NotReached, wait_until_async

import pubsubd
from pubsubd import Client, CursorExpired, Message, Subscription

T = TypeVar("T")

DEADLINE_S: Final = 60.0
BATCH: Final = 10
"""Messages in each batch where a test publishes a row of numbers."""

StartCluster = Callable[..., Cluster]
StartBroker = Callable[..., Broker]


async def within(awaitable: Awaitable[T], what: str) -> T:
    """The result of `awaitable`. Raises `NotReached`."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            return await awaitable
    except TimeoutError:
        raise NotReached(f"{what} was not reached in {DEADLINE_S} s") from None


@contextlib.asynccontextmanager
async def subscribed(broker: Broker, *patterns: str, **options: Any) -> AsyncIterator[Subscription]:
    """A subscription through a client of its own; to everything, if no pattern is given."""
    async with (
        pubsubd.connect(broker.socket) as client,
        client.subscribe(*patterns or (">",), **options) as subscription,
    ):
        yield subscription


@contextlib.asynccontextmanager
async def from_a_to_b(
    cluster: Cluster, *patterns: str, **options: Any
) -> AsyncIterator[tuple[Client, Subscription]]:
    """A client of broker a, and a subscription at broker b through another client."""
    async with (
        pubsubd.connect(cluster["a"].socket) as at_a,
        subscribed(cluster["b"], *patterns, **options) as on_b,
    ):
        yield at_a, on_b


@contextlib.asynccontextmanager
async def from_a_to_all(
    cluster: Cluster, *patterns: str, **options: Any
) -> AsyncIterator[tuple[Client, dict[str, Subscription]]]:
    """A client of broker a, and a subscription at each broker, by node."""
    async with contextlib.AsyncExitStack() as stack:
        at_a = await stack.enter_async_context(pubsubd.connect(cluster["a"].socket))
        readers = {
            broker.node: await stack.enter_async_context(subscribed(broker, *patterns, **options))
            for broker in cluster
        }
        yield at_a, readers


@contextlib.asynccontextmanager
async def behind_a_relay(broker: Broker) -> AsyncIterator[tuple[Relay, Client]]:
    """A client whose connections to its broker lead through a relay."""
    with Relay(broker.socket, listen=f"{broker.socket}-relay") as relay:
        async with pubsubd.connect(relay.endpoint) as client:
            yield relay, client


async def publish(client: Client, numbers: Sequence[int], topic: str = "numbers") -> None:
    """Publish the numbers in order, each batch after the last one is accepted."""
    for first in range(0, len(numbers), BATCH):
        await client.publish_many(topic, numbers[first : first + BATCH])


async def events_to(subscription: Subscription, last: object) -> list[Message | CursorExpired]:
    """All events, up to and with the message whose payload is `last`."""
    events: list[Message | CursorExpired] = []
    try:
        async with (
            asyncio.timeout(DEADLINE_S),
            contextlib.aclosing(_closable(subscription)) as coming,
        ):
            async for event in coming:
                events.append(event)
                if isinstance(event, Message) and event.payload == last:
                    return events
    except TimeoutError:
        pass
    raise NotReached(f"{last!r} did not come; {len(events)} did, the last ones: {events[-3:]}")


async def payloads_to(subscription: Subscription, last: object) -> list[Any]:
    """The payloads of all messages, up to and with `last`. Raises at a gap."""
    payloads = []
    for event in await events_to(subscription, last):
        if isinstance(event, CursorExpired):
            raise event
        payloads.append(event.payload)
    return payloads


async def next_event(subscription: Subscription) -> Message | CursorExpired:
    async with contextlib.aclosing(_closable(subscription)) as coming:
        return await within(anext(coming), "the next event")


def told(events: Iterable[Message | CursorExpired]) -> list[object]:
    """Events as values to compare: payloads, and `(node, reason, missed)` for a gap."""
    return [
        event.payload
        if isinstance(event, Message)
        else (event.node, str(event.reason), event.missed)
        for event in events
    ]


async def cut(cluster: Cluster, consumer: str, producer: str) -> None:
    """Cuts the link through which `consumer` pulls, and waits until both ends have noticed."""
    cluster.link(consumer, producer).cut()
    await parted(cluster, consumer, producer)


async def parted(cluster: Cluster, consumer: str, producer: str) -> None:
    """Wait until both ends, as far as they run, know that they are not linked."""

    def noticed() -> bool:
        ends = [
            (consumer, "peer_connected", {"peer": producer}),
            (producer, "consumer_connected", {"consumer": consumer}),
        ]
        return all(
            cluster[node].metric(name, **labels) == 0
            for node, name, labels in ends
            if cluster[node].alive
        )

    await wait_until_async(
        noticed, DEADLINE_S, f"the end of the link from {consumer} to {producer}"
    )


async def heal(cluster: Cluster, consumer: str, producer: str) -> None:
    """Heals the link and waits until `consumer` is attached again."""
    cluster.link(consumer, producer).heal()
    await attached(cluster, consumer, producer)


async def attached(cluster: Cluster, consumer: str, producer: str) -> None:
    await wait_until_async(
        lambda: cluster[consumer].metric("peer_connected", peer=producer) == 1,
        DEADLINE_S,
        f"the link from {consumer} to {producer}",
    )


async def level(cluster: Cluster, consumer: str, producer: str) -> None:
    """Waits until `consumer` has all that `producer` has accepted."""
    end = cluster[producer].status()["ring"]["next_offset"]

    def has_all() -> bool:
        replica = peer(cluster[consumer], producer)["replica"]
        return bool((0 if replica is None else replica["next_offset"]) == end)

    await wait_until_async(has_all, DEADLINE_S, f"offset {end} of {producer} at {consumer}")


async def in_thread(function: Callable[..., T], *arguments: object) -> T:
    """Run a slow step with a process, while the application under test goes on."""
    return await asyncio.to_thread(function, *arguments)


def peer(broker: Broker, node: str) -> dict[str, Any]:
    """The peer `node` in the status of `broker`."""
    found: list[dict[str, Any]] = [p for p in broker.status()["peers"] if p["node"] == node]
    (only,) = found
    return only


def consumer(broker: Broker, node: str) -> dict[str, Any]:
    """The consumer `node` in the status of `broker`."""
    found: list[dict[str, Any]] = [c for c in broker.status()["consumers"] if c["consumer"] == node]
    (only,) = found
    return only


def has_been_read(broker: Broker) -> bool:
    """Whether every consumer has acknowledged all that was published on `broker`."""
    return all(c["lag_messages"] == 0 for c in broker.status()["consumers"])


def open_descriptors(broker: Broker) -> int:
    return len(os.listdir(f"/proc/{broker.pid}/fd"))


def peak_memory_bytes(broker: Broker) -> int:
    """The peak of resident memory."""
    for line in Path(f"/proc/{broker.pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("/proc says nothing of resident memory")


def _closable(subscription: Subscription) -> Any:
    # An async generator; its annotation says less.
    return subscription.events()


def address_of(broker: Broker) -> tuple[str, int]:
    host, _, port = broker.listen.rpartition(":")
    return host, int(port)


async def say(at: Broker, heard_at: Broker, what: str) -> None:
    """Messages of the one broker come out at the other."""
    async with (
        subscribed(heard_at, start="earliest") as subscription,
        pubsubd.connect(at.socket) as client,
    ):
        await client.publish("t", what)
        assert (await payloads_to(subscription, what))[-1] == what


def why_not_ready(broker: Broker) -> list[str]:
    """The causes in a 503 answer of `/readyz`."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        broker.get("/readyz")
    with caught.value:
        assert caught.value.code == 503
        body: dict[str, list[str]] = json.load(caught.value)
    (causes,) = (value for value in body.values() if isinstance(value, list))
    return causes
