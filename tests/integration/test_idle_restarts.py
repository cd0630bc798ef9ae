"""A node that is restarted again and again, idle or barely used, causes no alarm and keeps its messages."""

from __future__ import annotations

import asyncio
import contextlib
import json
from pathlib import Path

import pytest
from tests.integration.steps import (
    StartCluster,
    attached,
    in_thread,
    payloads_to,
    publish,
    subscribed,
)

import pubsubd

IDLE = 33
USED = 2


@pytest.mark.timeout(420)
def test_connected_readers_read_on_over_many_lives(
    start_cluster: StartCluster, tmp_path: Path
) -> None:
    """About half a second a life on an idle machine, some seconds on a busy one."""
    asyncio.run(asyncio.wait_for(_many_lives(start_cluster, tmp_path), 400))


async def _many_lives(start_cluster: StartCluster, tmp_path: Path) -> None:
    durable = {"journal": str(tmp_path / "journal"), "fsync": "always"}
    cluster = start_cluster(2, per_node={"a": durable})
    a = cluster["a"]

    def live_again() -> None:
        a.kill()
        a.start()

    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(pubsubd.connect(a.socket))
        readers = [await stack.enter_async_context(subscribed(node)) for node in cluster]
        async with subscribed(a) as away:
            await publish(client, range(3))
            for reader in (*readers, away):
                assert await payloads_to(reader, 2) == [0, 1, 2]
            stored = json.dumps(away.position)
        for _ in range(IDLE):
            await in_thread(live_again)
        for number in range(3, 3 + USED):
            await publish(client, [number])
            for reader in readers:
                assert await payloads_to(reader, number) == [number]
            await in_thread(live_again)
        everything = [*range(3 + USED)]
        last = everything[-1]
        for node in cluster:
            if node is not a:
                await attached(cluster, node.node, "a")
            async with subscribed(node, start="earliest") as anew:
                assert await payloads_to(anew, last) == everything
        async with subscribed(a, position=json.loads(stored)) as back:
            assert await payloads_to(back, last) == everything[3:]
