"""Redis Streams with redis-py and hiredis: one stream for all topics, as one consumer can follow it in order.

The publisher is blocking redis-py, which fills its pipelines faster than the asyncio client. Many waiting publishers,
and the reader, use the asyncio client.
"""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import redis
import redis.asyncio

from bench.clients.roles import Messages, Mode, Take, as_json
from bench.feed import TOPIC_PREFIX, Value
from bench.workloads import Workload

PIPELINE = 500
READ_COUNT = 1000
BLOCK_MS = 5000


class Publisher:
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None:
        self._blocking = redis.Redis.from_url(at)
        self._client: Any = redis.asyncio.Redis.from_url(at)
        self._encode, _ = as_json(workload)
        self._most = workload.keep_bytes // workload.payload_bytes or None

    async def open(self) -> None:
        self._blocking.ping()
        await self._client.ping()

    async def stream(self, messages: Messages) -> None:
        """Blocks the loop, which has no other work."""
        encode, left = self._encode, iter(messages)
        while some := list(islice(left, PIPELINE)):
            with self._blocking.pipeline(transaction=False) as pipeline:
                for topic, value in some:
                    pipeline.xadd(TOPIC_PREFIX, {"t": topic, "d": encode(value)}, maxlen=self._most)
                pipeline.execute()

    async def one(self, topic: str, value: Value) -> None:
        await self._client.xadd(TOPIC_PREFIX, {"t": topic, "d": self._encode(value)})

    async def soon(self, topic: str, value: bytes) -> None:
        await self.one(topic, value)


class Reader:
    """Each session reads over a connection of its own, which its blocking XREAD occupies."""

    def __init__(self, at: str, workload: Workload) -> None:
        self._at = at
        _, self._decode = as_json(workload)
        self._clients: list[Any] = []
        self._stream = ""
        self._last: bytes | str = "0"

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        self._stream = pattern
        for _ in range(sessions):
            client = redis.asyncio.Redis.from_url(self._at)
            await client.ping()
            self._clients.append(client)
        if not earliest:
            newest = await self._clients[0].xrevrange(pattern, count=1)
            self._last = newest[0][0] if newest else "0"

    async def read(self, take: Take) -> None:
        async with asyncio.TaskGroup() as group:
            for client in self._clients:
                group.create_task(self._read_one(client, take))

    async def _read_one(self, client: Any, take: Take) -> None:
        decode, last = self._decode, self._last
        while True:
            answer = await client.xread({self._stream: last}, count=READ_COUNT, block=BLOCK_MS)
            for _, entries in answer:
                take([decode(fields[b"d"]) for _, fields in entries])
                last = entries[-1][0]
