"""Subscribing through the asyncio shell, against a scripted broker."""

from __future__ import annotations

from pathlib import Path

from tests.unit.client.fake_broker import FakeBroker, async_test, entry

import pubsubd


@async_test
async def test_messages_arrive_in_order(tmp_path: Path) -> None:
    async with (
        FakeBroker(tmp_path) as broker,
        pubsubd.connect(broker.path) as client,
        client.subscribe("t") as subscription,
    ):
        broker.sessions[0].send(entry(0, "x", "y"), entry(2, "z"))
        got = [await anext(subscription) for _ in range(3)]
    assert [(m.offset, m.payload) for m in got] == [(0, "x"), (1, "y"), (2, "z")]
