"""NATS JetStream with nats-py: asynchronous or awaited publishing; read by an ordered consumer."""

from __future__ import annotations

import asyncio
from typing import Any

import nats
from nats.js.api import ConsumerConfig, DeliverPolicy, DiscardPolicy, StorageType, StreamConfig

from bench.clients.roles import Messages, Mode, Take, as_json
from bench.feed import TOPIC_PREFIX, Value
from bench.workloads import Workload

UNCONFIRMED = 4000
"""Messages without a receipt before `publish_async` waits: nats-py's default."""

TIMEOUT_S = 60


def stream_of(prefix: str, workload: Workload) -> StreamConfig:
    return StreamConfig(
        name=prefix,
        subjects=[f"{prefix}.>"],
        storage=StorageType.FILE if workload.group == "durability" else StorageType.MEMORY,
        max_bytes=workload.keep_bytes or -1,
        discard=DiscardPolicy.OLD,
    )


class Publisher:
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None:
        self._at = at
        self._workload = workload
        self._mode = mode
        self._encode, _ = as_json(workload)
        self._stream: Any = None

    async def open(self) -> None:
        connection = await nats.connect(self._at)
        self._stream = connection.jetstream(
            timeout=TIMEOUT_S, publish_async_max_pending=UNCONFIRMED
        )
        await self._stream.add_stream(stream_of(TOPIC_PREFIX, self._workload))

    async def stream(self, messages: Messages) -> None:
        encode = self._encode
        if self._mode == "receipts":
            for topic, value in messages:
                await self._stream.publish(topic, encode(value))
            return
        publish = self._stream.publish_async
        for topic, value in messages:
            await publish(topic, encode(value))
        await self._stream.publish_async_completed()

    async def one(self, topic: str, value: Value) -> None:
        await self._stream.publish(topic, self._encode(value))

    async def soon(self, topic: str, value: bytes) -> None:
        await self._stream.publish_async(topic, value)


class Reader:
    """An ordered consumer: it sees a gap and begins again behind it. It acknowledges no single message."""

    def __init__(self, at: str, workload: Workload) -> None:
        self._at = at
        self._workload = workload
        _, self._decode = as_json(workload)
        self._take: Take | None = None
        self._failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        connection = await nats.connect(self._at, error_cb=self._error)
        stream = connection.jetstream(timeout=TIMEOUT_S)
        await stream.add_stream(stream_of(pattern, self._workload))
        for _ in range(sessions):
            await stream.subscribe(
                f"{pattern}.>",
                cb=self._received,
                stream=pattern,
                ordered_consumer=True,
                config=ConsumerConfig(
                    deliver_policy=DeliverPolicy.ALL if earliest else DeliverPolicy.NEW
                ),
                pending_msgs_limit=0,
                pending_bytes_limit=0,
            )

    async def read(self, take: Take) -> None:
        self._take = take
        await self._failed

    async def _received(self, message: Any) -> None:
        if self._take is not None:
            self._take([self._decode(message.data)])

    async def _error(self, error: Exception) -> None:
        if not self._failed.done():
            self._failed.set_exception(error)
