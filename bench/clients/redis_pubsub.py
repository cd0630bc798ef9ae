"""Redis PUBLISH and PSUBSCRIBE with redis-py and hiredis: fire and forget."""

from __future__ import annotations

import asyncio
from itertools import islice
from typing import Any

import redis
import redis.asyncio

from bench.clients.roles import Messages, Mode, Take, as_json
from bench.feed import Value
from bench.workloads import Workload

PIPELINE = 500


class Publisher:
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None:
        self._blocking = redis.Redis.from_url(at)
        self._client: Any = redis.asyncio.Redis.from_url(at)
        self._encode, _ = as_json(workload)

    async def open(self) -> None:
        self._blocking.ping()
        await self._client.ping()

    async def stream(self, messages: Messages) -> None:
        """Blocks the loop, which has no other work."""
        encode, left = self._encode, iter(messages)
        while some := list(islice(left, PIPELINE)):
            with self._blocking.pipeline(transaction=False) as pipeline:
                for topic, value in some:
                    pipeline.publish(topic, encode(value))
                pipeline.execute()

    async def one(self, topic: str, value: Value) -> None:
        raise NotImplementedError("PUBLISH gives no receipt of a message")

    async def soon(self, topic: str, value: bytes) -> None:
        await self._client.publish(topic, value)


class Reader:
    """Each session is a connection of its own."""

    def __init__(self, at: str, workload: Workload) -> None:
        self._at = at
        _, self._decode = as_json(workload)
        self._sessions: list[Any] = []

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        client = redis.asyncio.Redis.from_url(self._at, max_connections=sessions + 1)
        for _ in range(sessions):
            session = client.pubsub(ignore_subscribe_messages=True)
            await session.psubscribe(f"{pattern}.*")
            self._sessions.append(session)

    async def read(self, take: Take) -> None:
        async with asyncio.TaskGroup() as group:
            for session in self._sessions:
                group.create_task(self._read_one(session, take))

    async def _read_one(self, session: Any, take: Take) -> None:
        decode = self._decode
        async for message in session.listen():
            take([decode(message["data"])])
