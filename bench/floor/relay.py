"""A relay that copies bytes: `python -m bench.floor.relay SOURCE SINK SINKS`. It has one source, and as many sinks.

An end is an address to listen at, a path or HOST:PORT. With `dial:HOST:PORT` the relay connects instead.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from typing import cast

import uvloop

BUFFER_BYTES = 256 * 1024


class Relay:
    """Copies bytes from the source to every sink, as fast as the slowest sink takes them.

    Bytes that come before the last sink is accepted wait for it: connected is not yet accepted.
    """

    def __init__(self, sinks: int) -> None:
        self._awaited = sinks
        self._source: asyncio.Transport | None = None
        self._sinks: list[asyncio.Transport] = []
        self._choked = 0
        self._early: list[bytes] = []
        self.copy: Callable[[bytes], None] = self._early.append

    def source(self, transport: asyncio.Transport) -> None:
        self._source = transport

    def sink(self, transport: asyncio.Transport) -> None:
        self._sinks.append(transport)
        if len(self._sinks) == self._awaited:
            self.copy = self._copy
            for data in self._early:
                self._copy(data)

    def _copy(self, data: bytes) -> None:
        for sink in self._sinks:
            sink.write(data)

    def choke(self, by: int) -> None:
        """Count a sink more, or one less, that takes no bytes at the moment."""
        before, self._choked = self._choked, self._choked + by
        if self._source is not None and bool(before) != bool(self._choked):
            if self._choked:
                self._source.pause_reading()
            else:
                self._source.resume_reading()


class SourceEnd(asyncio.BufferedProtocol):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._relay.source(cast(asyncio.Transport, transport))

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        self._relay.copy(bytes(self._buffer[:count]))


class SinkEnd(asyncio.Protocol):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._relay.sink(cast(asyncio.Transport, transport))

    def pause_writing(self) -> None:
        self._relay.choke(+1)

    def resume_writing(self) -> None:
        self._relay.choke(-1)


async def stand(end: str, protocol: Callable[[], asyncio.BaseProtocol]) -> None:
    loop = asyncio.get_running_loop()
    if end.startswith("dial:"):
        host, _, port = end.removeprefix("dial:").rpartition(":")
        await loop.create_connection(protocol, host, int(port))
    elif end.startswith("/"):
        await loop.create_unix_server(protocol, end)
    else:
        host, _, port = end.rpartition(":")
        await loop.create_server(protocol, host, int(port))


async def main(source: str, sink: str, sinks: str) -> None:
    relay = Relay(int(sinks))
    await stand(sink, lambda: SinkEnd(relay))
    await stand(source, lambda: SourceEnd(relay))
    print("ready", file=sys.stderr, flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:]))
