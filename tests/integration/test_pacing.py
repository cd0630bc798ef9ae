"""Publishers wait a moment for readers, and only a moment. With real brokers and sockets."""

from __future__ import annotations

import asyncio
import contextlib
import sys

from tests.asynchronous import async_test
from tests.integration.crowding import slowness
from tests.integration.steps import (
    DEADLINE_S,
    StartCluster,
    in_thread,
    next_event,
    subscribed,
    within,
)
from tests.integration.waiting import wait_until_async

import pubsubd

BURST = 300_000
"""Three times the ring."""
PAYLOAD = b"x" * 100
BATCH = 256

RING = 500
SIZE = 16 * 1024


def test_a_burst_at_full_speed_expires_no_reader(start_cluster: StartCluster) -> None:
    """The default settings, but for ports. On another node, a subscriber that only counts, beside one that idles.

    A reader that gets no processor within the pace is overrun, as it should be: this test does not ask for that.
    """
    slower = slowness()
    cluster = start_cluster(
        2,
        heartbeat="2s",
        peer_timeout=f"{6 * slower:.1f}s",
        pace=f"{250 * slower:.0f}ms",
    )

    async def scenario() -> str:
        reader = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.integration.counting_reader"),
            *(cluster["b"].socket, str(BURST)),
            stdout=asyncio.subprocess.PIPE,
        )
        assert reader.stdout is not None
        try:
            assert await within(reader.stdout.readline(), "the reader's opening") == b"open\n"
            async with (
                subscribed(cluster["b"], "something.else"),
                pubsubd.connect(cluster["a"].socket, codec=pubsubd.RAW) as client,
            ):
                for _ in range(BURST):
                    await client.send("burst", PAYLOAD)
                await client.flush()
            return (await within(reader.stdout.readline(), "the reader's end")).decode().strip()
        finally:
            with contextlib.suppress(ProcessLookupError):
                reader.kill()
            await reader.wait()

    assert asyncio.run(scenario()) == f"counted {BURST}"
    assert cluster["b"].metric("cursor_expired_total") == 0


@async_test
async def test_a_subscriber_that_stops_reading_holds_publishers_once(
    start_cluster: StartCluster,
) -> None:
    cluster = start_cluster(2, ring_messages=RING, replica_messages=RING)
    a, b = cluster

    async def burst(client: pubsubd.Client) -> float:
        """Go around all rings several times. Returns how long b has waited for its sessions by then."""
        for _ in range(4 * RING):
            await client.send("x", b"x" * SIZE)
        await client.flush()
        following = (await in_thread(a.status))["ring"]["next_offset"]

        def arrived() -> bool:
            (peer,) = b.status()["peers"]
            return peer["replica"] is not None and peer["replica"]["next_offset"] == following

        await wait_until_async(arrived, DEADLINE_S)
        return await in_thread(b.metric, "paced_seconds_total")

    async with (
        pubsubd.connect(a.socket, codec=pubsubd.RAW) as at_a,
        subscribed(b, codec=pubsubd.RAW) as stuck,
    ):
        held = await burst(at_a)
        assert held > 0
        assert await burst(at_a) == held
        assert await in_thread(b.metric, "cursor_expired_total") == 0
        event = await next_event(stuck)
        while isinstance(event, pubsubd.Message):
            event = await next_event(stuck)
        assert event.reason == "overwritten"
