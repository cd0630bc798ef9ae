"""Publishing through the asyncio shell, against a scripted broker."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests.unit.client.fake_broker import EPOCH, FakeBroker, async_test

import pubsubd


@async_test
async def test_publish_returns_where_the_message_stands(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        first = await client.publish("orders", {"id": 1})
        second = await client.publish("orders", {"id": 2})
    assert first == pubsubd.Receipt("a", EPOCH.hex(), 0)
    assert second.offset == 1


@async_test
async def test_what_one_turn_publishes_travels_as_one_batch(tmp_path: Path) -> None:
    async with FakeBroker(tmp_path) as broker, pubsubd.connect(broker.path) as client:
        receipts = await asyncio.gather(*(client.publish(f"t{i % 3}", i) for i in range(10)))
    assert [r.offset for r in receipts] == list(range(10))
    assert [b.count for b in broker.batches] == [10]
    assert broker.batches[0].topics == "t0\nt1\nt2"
