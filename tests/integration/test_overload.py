"""A user takes all that the bounds allow: others are served, and peers do not take the broker for dead."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Iterator

from tests.asynchronous import async_test
from tests.integration.broker import Broker
from tests.integration.cluster import Cluster
from tests.integration.crowding import slowness
from tests.integration.hostile import RawConnection
from tests.integration.steps import StartCluster, in_thread, payloads_to, subscribed
from tests.integration.waiting import wait_until_async

import pubsubd
from pubsubd_protocol.codec import encode
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import FilterSet, Receipt, SetFilter, Skip, Subscribe, Welcome
from pubsubd_protocol.topics import MAX_SHAPES

SESSIONS = 60
TOPICS = 1024
SEGMENTS = 12
BATCHES = 2
REQUESTS = 1000

PLACES = [
    places for count in (3, 4) for places in itertools.combinations(range(SEGMENTS - 1), count)
]


def patterns_of(session: int) -> tuple[str, ...]:
    """With wildcards in as many places as allowed, each session in others. No topic matches."""
    mine = itertools.islice(itertools.cycle(PLACES), session * MAX_SHAPES, None)
    return tuple(
        ".".join("*" if segment in places else "no" for segment in range(SEGMENTS))
        for places in itertools.islice(mine, MAX_SHAPES)
    )


@contextlib.contextmanager
def sessions(broker: Broker) -> Iterator[list[RawConnection]]:
    with contextlib.ExitStack() as stack:
        opened = []
        for number in range(SESSIONS):
            raw = stack.enter_context(RawConnection(broker.socket))
            assert isinstance(raw.greet("session"), Welcome)
            raw.send(encode(Subscribe(patterns_of(number), "latest", None, None, None, True)))
            raw.frame()
            opened.append(raw)
        yield opened


def many_topics(sequence: int) -> bytes:
    """A batch of as many new topics as a message may have by default."""
    topics = "\n".join(
        ".".join(["x"] * (SEGMENTS - 1) + [f"{sequence}-{i}"]) for i in range(TOPICS)
    )
    index, lengths = pack_numbers("H", range(TOPICS)), pack_numbers("I", [1] * TOPICS)
    return encode(Batch(sequence, False, None, topics, index, lengths, b"x" * TOPICS))


def overload(broker: Broker, crowd: list[RawConnection]) -> None:
    """New topics for patterns of all kinds, HTTP requests in a row, changed filters. Returns when all is done."""
    with RawConnection(broker.socket) as publisher:
        assert isinstance(publisher.greet("publisher"), Welcome)
        for sequence in range(BATCHES):
            publisher.send(many_topics(sequence))
            assert isinstance(publisher.frame(), Receipt)
    host, _, port = broker.http.rpartition(":")
    with RawConnection((host, int(port))) as raw:
        raw.send(b"HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * REQUESTS)
    for raw in crowd:
        # The session is told of messages that it has judged and not been given.
        while not (isinstance(told := raw.frame(), Skip) and told.next >= BATCHES * TOPICS):
            pass
    change = encode(SetFilter(tuple(f"no.{i}" for i in range(1000))))
    for raw in crowd:
        raw.send(change)
    for raw in crowd:
        while not isinstance(raw.frame(), FilterSet):
            pass


@async_test
async def test_one_users_load_costs_neither_others_nor_peers(start_cluster: StartCluster) -> None:
    # Processes that wait for a processor are silent, at any speed of the broker.
    slower = slowness()
    cluster: Cluster = start_cluster(2, heartbeat="300ms", peer_timeout=f"{1500 * slower:.0f}ms")
    a, b = cluster["a"], cluster["b"]
    async with (
        pubsubd.connect(a.socket, publish_timeout_s=10 * slower) as client,
        subscribed(b, "honest") as subscription,
    ):
        with sessions(a) as crowd:
            attack = asyncio.create_task(in_thread(overload, a, crowd))
            published = 0
            while not attack.done():
                await client.publish("honest", published)
                published += 1
            await attack
            await client.publish("honest", "last")
            got = await payloads_to(subscription, "last")
            assert got == [*range(published), "last"]
    assert published > 10
    for broker, peer in ((a, "b"), (b, "a")):
        assert not [line for line in broker.logs if line["event"] in ("peer.silent", "peer.lost")]
        assert broker.metric("peer_reconnects_total", peer=peer) == 0
    await wait_until_async(lambda: a.status()["connections"] <= 4, what="the end of all of them")
