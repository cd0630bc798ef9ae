"""Closing a client while its broker is stopped: the first close gives up, the next one finishes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from tests.asynchronous import async_test
from tests.integration.broker import Broker

import pubsubd

StartBroker = Callable[..., Broker]


def sockets() -> int:
    """Open sockets of this process."""
    count = 0
    for number in os.listdir("/proc/self/fd"):
        try:
            count += os.readlink(f"/proc/self/fd/{number}").startswith("socket:")
        except FileNotFoundError:
            continue  # The descriptor of the listing itself.
    return count


def tasks() -> set[str]:
    return {t.get_name() for t in asyncio.all_tasks() if t is not asyncio.current_task()}


@async_test
async def test_a_close_that_timed_out_is_finished_by_the_next(start_broker: StartBroker) -> None:
    broker = await asyncio.to_thread(start_broker, "a")
    before = sockets(), tasks()
    client = await pubsubd.connect(broker.socket, close_timeout_s=0.5)
    subscription = await client.subscribe("t")
    reader = asyncio.ensure_future(subscription.__anext__())
    broker.pause()
    try:
        await client.send("t", 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.close(), 0.2)
        with pytest.raises(pubsubd.PublishUnknown, match="client was closed"):
            await client.close()
        with pytest.raises(pubsubd.ClientClosed):
            await reader
        assert (sockets(), tasks()) == before
        await client.close()
    finally:
        broker.resume()
