"""The floor's publisher and reader: packing and unpacking as the SDK does it, and no protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import msgpack

from bench.clients.roles import Messages, Mode, Take
from bench.feed import Value
from bench.floor.batches import Packer, Unpacker
from bench.workloads import Workload


class _Out(asyncio.Protocol):
    """A connection to write to; tells when it takes bytes again."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self.room = asyncio.Event()
        self.room.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def pause_writing(self) -> None:
        self.room.clear()

    def resume_writing(self) -> None:
        self.room.set()


class Publisher:
    def __init__(self, at: str, workload: Workload, mode: Mode) -> None:
        self._at = at
        self._encode = msgpack.Packer().pack if workload.dicts else None
        self._out = _Out()

    async def open(self) -> None:
        await asyncio.get_running_loop().create_unix_connection(lambda: self._out, self._at)

    async def stream(self, messages: Messages) -> None:
        packer, encode = Packer(), self._encode
        for topic, value in messages:
            full = packer.add(topic, value if encode is None else encode(value))
            if full is not None:
                await self._write(full)
        await self._write(packer.take())

    async def one(self, topic: str, value: Value) -> None:
        raise NotImplementedError("the floor confirms no message")

    async def soon(self, topic: str, value: bytes) -> None:
        packer = Packer()
        packer.add(topic, value)
        await self._write(packer.take())

    async def _write(self, buffers: list[bytes]) -> None:
        self._out.transport.writelines(buffers)
        # Give the loop a turn for each batch: else no byte would be written before all is packed.
        await asyncio.sleep(0)
        await self._out.room.wait()


class _In(asyncio.BufferedProtocol):
    def __init__(self, received: Callable[[list[bytes]], None]) -> None:
        self._unpacker = Unpacker()
        self._received = received

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._unpacker.space()

    def buffer_updated(self, count: int) -> None:
        self._unpacker.received(count)
        for _, payloads in self._unpacker.batches():
            self._received(payloads)


class Reader:
    """Reads behind the relays. Every session is a connection of its own."""

    def __init__(self, at: str, workload: Workload) -> None:
        self._at = at
        self._dicts = workload.dicts
        self._take: Take | None = None

    async def open(self, pattern: str, sessions: int, *, earliest: bool) -> None:
        for _ in range(sessions):
            await self._connect()

    async def read(self, take: Take) -> None:
        self._take = take
        await asyncio.Event().wait()

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: _In(self._received), self._at)

    def _received(self, payloads: list[bytes]) -> None:
        assert self._take is not None
        if self._dicts:
            self._take([msgpack.unpackb(each, strict_map_key=False) for each in payloads])
        else:
            self._take(payloads)


class SocketReader(Reader):
    """Reads without relays: the publisher connects to the reader itself."""

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_unix_server(lambda: _In(self._received), self._at)
