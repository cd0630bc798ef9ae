"""NATS core with nats-py: fire and forget, flushed at the end; read by callbacks."""

from __future__ import annotations

import asyncio
from typing import Any

import nats

from bench.clients.roles import Messages, Mode, Take, as_json
from bench.feed import Value
from bench.workloads import Workload

FLUSH_TIMEOUT_S = 60


class Publisher:
    """nats-py writes by itself once it has 2 MiB, and then waits until they are written."""

    def __init__(self, at: str, workload: Workload, mode: Mode) -> None:
        self._at = at
        self._encode, _ = as_json(workload)
        self._connection: Any = None

    async def open(self) -> None:
        self._connection = await nats.connect(self._at)

    async def stream(self, messages: Messages) -> None:
        publish, encode = self._connection.publish, self._encode
        for topic, value in messages:
            await publish(topic, encode(value))
        await self._connection.flush(FLUSH_TIMEOUT_S)

    async def one(self, topic: str, value: Value) -> None:
        raise NotImplementedError("NATS core confirms no message")

    async def soon(self, topic: str, value: bytes) -> None:
        await self._connection.publish(topic, value)


class Reader:
    """The limits of nats-py's queue are off: beyond its defaults (524,288 messages, 128 MiB) it drops messages."""

    def __init__(self, at: str, workload: Workload) -> None:
        self._at = at
        _, self._decode = as_json(workload)
        self._take: Take | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        connection = await nats.connect(self._at, error_cb=self._error)
        for _ in range(sessions):
            await connection.subscribe(
                f"{pattern}.>", cb=self._received, pending_msgs_limit=0, pending_bytes_limit=0
            )
        await connection.flush()

    async def read(self, take: Take) -> None:
        self._take = take
        await self._failed

    async def _received(self, message: Any) -> None:
        if self._take is not None:
            self._take([self._decode(message.data)])

    async def _error(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)
