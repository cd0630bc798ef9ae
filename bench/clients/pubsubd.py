"""pubsubd's SDK: `send` and `flush`, or batches with a wait for each receipt; read with `batches()`."""

from __future__ import annotations

import asyncio
from collections import deque
from itertools import chain, islice

import pubsubd
from bench.clients.roles import Messages, Mode, Take
from bench.feed import Value
from bench.workloads import Workload

RECEIPTS_AT_ONCE = 256
BULKS_UNDER_WAY = 16


def codec_of(workload: Workload) -> pubsubd.Codec:
    return pubsubd.MSGPACK if workload.dicts else pubsubd.RAW


class Publisher:
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None:
        self._client = pubsubd.connect(at, codec=codec_of(workload))
        self._one_topic = workload.topics == 1
        self._mode = mode

    async def open(self) -> None:
        await self._client

    async def stream(self, messages: Messages) -> None:
        if self._mode == "receipts":
            await self._stream_with_receipts(messages)
            return
        if self._mode == "bulk" and self._one_topic:
            await self._stream_in_bulk(messages)
            return
        send = self._client.send
        for topic, value in messages:
            await send(topic, value)
        await self._client.flush()

    async def _stream_in_bulk(self, messages: Messages) -> None:
        """Publish 256 by 256, with several batches on their way."""
        left = iter(messages)
        under_way: deque[asyncio.Task[object]] = deque()
        for topic, value in left:
            values = [value, *(value for _, value in islice(left, RECEIPTS_AT_ONCE - 1))]
            under_way.append(asyncio.ensure_future(self._client.publish_many(topic, values)))
            if len(under_way) == BULKS_UNDER_WAY:
                await under_way.popleft()
        for bulk in under_way:
            await bulk

    async def _stream_with_receipts(self, messages: Messages) -> None:
        """Publish 256 by 256, the next batch when the last one is accepted."""
        left = iter(messages)
        for first in left:
            some = chain([first], islice(left, RECEIPTS_AT_ONCE - 1))
            if self._one_topic:
                await self._client.publish_many(first[0], [value for _, value in some])
            else:
                # publish_many is for one topic.
                for topic, value in some:
                    await self._client.send(topic, value)
                await self._client.flush()

    async def one(self, topic: str, value: Value) -> None:
        await self._client.publish(topic, value)

    async def soon(self, topic: str, value: bytes) -> None:
        await self._client.send(topic, value)


class Reader:
    """A gap raises `CursorExpired`, and the round is void."""

    def __init__(self, at: str, workload: Workload) -> None:
        self._client = pubsubd.connect(at, codec=codec_of(workload))
        self._dicts = workload.dicts
        self._subscriptions: list[pubsubd.Subscription] = []

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        await self._client
        self._subscriptions = [
            await self._client.subscribe(f"{pattern}.>", start="earliest" if earliest else "latest")
            for _ in range(sessions)
        ]

    async def read(self, take: Take) -> None:
        async with asyncio.TaskGroup() as group:
            for subscription in self._subscriptions:
                group.create_task(self._read_one(subscription, take))

    async def _read_one(self, subscription: pubsubd.Subscription, take: Take) -> None:
        async for batch in subscription.batches():
            if self._dicts:
                take(batch.payloads())
            else:
                take(batch.raws)
