"""TLS between brokers: files of certificates change while brokers run."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import re
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from tests.asynchronous import async_test
from tests.certificates import HOUR, Authority, Files, write
from tests.integration.broker import Broker
from tests.integration.steps import (
    StartBroker,
    StartCluster,
    in_thread,
    payloads_to,
    subscribed,
    within,
)
from tests.integration.tls_steps import (
    certificate_in,
    knock,
    lines_of,
    options_of,
    own,
    put,
    shown_by,
)
from tests.integration.waiting import wait_until

import pubsubd
from pubsubd_protocol.frames import Welcome


@contextlib.asynccontextmanager
async def stream_of_numbers(at: Broker, heard_at: Broker) -> AsyncIterator[None]:
    """Publish numbers at the one while the context lasts.

    All of them must have come out at the other, in order, at its end.
    """
    topic = f"numbers.{at.node}"
    async with subscribed(heard_at, topic) as subscription, pubsubd.connect(at.socket) as client:
        ending = asyncio.Event()

        async def publish() -> int:
            for number in itertools.count():
                await client.publish(topic, number)
                if ending.is_set():
                    return number
                await asyncio.sleep(0.002)
            raise AssertionError("numbers have no end")

        publishing = asyncio.create_task(publish())
        try:
            yield
        finally:
            ending.set()
            last = await within(publishing, "the last number")
        assert await payloads_to(subscription, last) == list(range(last + 1))


def renew(node: Files, fresh: Files, broker: Broker, *kinds: str) -> None:
    """Replace files of a running broker, and wait until it has them."""
    mark = broker.mark()
    put(fresh, node, *kinds)
    broker.wait_log("tls.reloaded", since=mark)


@async_test
async def test_a_renewed_certificate_is_shown_without_a_cut(
    start_cluster: StartCluster, authority: Authority
) -> None:
    files = {node: own(authority, node) for node in ("a", "b")}
    cluster = start_cluster(2, per_node=options_of(files))
    a, b = cluster
    fresh = authority.certificate("a", until=3 * HOUR)
    visitor = authority.certificate("visitor")
    accepted = cluster.link("b", "a").accepted
    async with stream_of_numbers(a, b), stream_of_numbers(b, a):
        before = await in_thread(shown_by, a, visitor)
        assert before == certificate_in(files["a"].cert)
        first_expiry = a.metric("tls_certificate_expiry_seconds")
        await in_thread(renew, files["a"], fresh, a, "cert", "key")
        now_shown = await in_thread(shown_by, a, visitor)
        assert now_shown == certificate_in(fresh.cert) != before
        assert isinstance(await in_thread(knock, a, visitor), Welcome)

        # The present file cannot be used: logged once, and the last good one stays in force.
        mark = a.mark()
        write(files["a"].key, b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
        failed = await in_thread(lambda: a.wait_log("tls.reload_failed", since=mark))
        assert files["a"].key in failed["reason"]
        assert failed["level"] == "error"
        assert await in_thread(shown_by, a, visitor) == certificate_in(fresh.cert)
        assert isinstance(await in_thread(knock, a, visitor), Welcome)

        # Nor a good certificate of another node.
        mark = a.mark()
        put(authority.certificate("elsewhere"), files["a"], "cert", "key")
        await in_thread(lambda: wait_until(lambda: reload_failed_over(a, mark, "elsewhere")))
        assert await in_thread(shown_by, a, visitor) == certificate_in(fresh.cert)

        await in_thread(renew, files["a"], fresh, a, "cert", "key")
    assert a.metric("tls_certificate_expiry_seconds") == pytest.approx(
        time.time() + 3 * 3600, abs=300
    )
    assert first_expiry == pytest.approx(time.time() + 24 * 3600, abs=300)
    assert (
        len(
            [
                line
                for line in lines_of(a, "tls.reload_failed")
                if line["reason"] == failed["reason"]
            ]
        )
        == 1
    )
    assert not lines_of(a, "peer.lost", "consumer.lost") + lines_of(b, "peer.lost", "consumer.lost")
    assert cluster.link("b", "a").accepted == accepted
    # And the next time they meet it is with the new one.
    cluster.link("b", "a").drop()
    await in_thread(lambda: b.wait_log("peer.lost"))
    await in_thread(lambda: cluster.wait_connected("b", "a"))


def reload_failed_over(broker: Broker, since: int, word: str) -> bool:
    lines = list(broker.logs)[since:]
    return any(line["event"] == "tls.reload_failed" and word in line["reason"] for line in lines)


def test_without_tls_there_is_no_expiry_to_be_seen(start_broker: StartBroker) -> None:
    a = start_broker("a")
    assert not re.search(r"^pubsubd_tls_certificate_expiry_seconds", a.metrics(), re.MULTILINE)


@async_test
async def test_an_authority_is_replaced_without_losing_a_link(
    start_cluster: StartCluster, authority: Authority, tmp_path: Path
) -> None:
    successor = Authority(tmp_path, "successor")
    both = replace(authority.certificate("both"), ca=str(tmp_path / "both.pem"))
    write(both.ca, authority.pem + successor.pem)
    files = {node: own(authority, node) for node in ("a", "b")}
    cluster = start_cluster(2, per_node=options_of(files))
    a, b = cluster
    old, new = authority.certificate("visitor"), successor.certificate("visitor")

    async def welcomed(visitors: Sequence[Files]) -> None:
        for broker in cluster:
            for visitor in (old, new):
                answer = await in_thread(knock, broker, visitor)
                assert isinstance(answer, Welcome) == (visitor in visitors)

    async def replaced(broker: Broker, fresh: Files, *kinds: str) -> None:
        await in_thread(renew, files[broker.node], fresh, broker, *kinds)

    async with stream_of_numbers(a, b), stream_of_numbers(b, a):
        await welcomed([old])
        for broker in cluster:
            await replaced(broker, both, "ca")
        await welcomed([old, new])
        for broker in cluster:
            await replaced(broker, successor.certificate(broker.node), "cert", "key")
            assert await in_thread(shown_by, broker, old) == certificate_in(files[broker.node].cert)
            await welcomed([old, new])
        for broker in cluster:
            await replaced(broker, new, "ca")
        await welcomed([new])
    for broker in cluster:
        assert not lines_of(broker, "peer.lost", "consumer.lost")
    # And a peer that has to connect again is let in.
    for pair in (("a", "b"), ("b", "a")):
        cluster.link(*pair).drop()
        await in_thread(cluster[pair[0]].wait_log, "peer.lost")
    for pair in (("a", "b"), ("b", "a")):
        await in_thread(cluster.wait_connected, *pair)
