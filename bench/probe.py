"""Runs a module with a clock at its sockets: `python -m bench.probe FOLDER -m MODULE ARGUMENTS…`.

It stands between uvloop and the program's protocols, so it sees a compiled program as well as an interpreted one, and
the program needs no code for it. It keeps what every socket receives and writes, with the time: the moment before the
protocol is told of received bytes, and the moment before the transport gives written ones to the kernel. (The receiver
may run before that call returns, so the moment after it is too late.) SIGUSR1 makes it write all of that to a file in
FOLDER, named after its process id.
"""

from __future__ import annotations

import asyncio
import os
import runpy
import signal
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final, cast

import msgpack
import uvloop

OPENINGS: Final = (
    *("create_connection", "create_unix_connection", "connect_accepted_socket"),
    *("create_server", "create_unix_server"),
)
"""The calls of a loop that take a protocol's factory first."""


class Row:
    """Bytes in the order in which they passed, and the time of each piece."""

    __slots__ = ("pieces", "times_ns")

    def __init__(self, times_ns: list[int], pieces: list[bytes]) -> None:
        # Two lists, not one of pairs: a pair a message would set off garbage collections.
        self.times_ns = times_ns
        self.pieces = pieces

    def add(self, time_ns: int, piece: bytes) -> None:
        self.times_ns.append(time_ns)
        self.pieces.append(piece)


class Record:
    """All bytes that a process received, and all that it wrote."""

    def __init__(self, received: Row, written: Row) -> None:
        self.received = received
        self.written = written

    @classmethod
    def empty(cls) -> Record:
        return cls(Row([], []), Row([], []))

    def write(self, path: Path) -> None:
        rows = [[row.times_ns, row.pieces] for row in (self.received, self.written)]
        unfinished = path.with_suffix(".part")
        unfinished.write_bytes(msgpack.packb(rows))
        unfinished.rename(path)

    @classmethod
    def read(cls, path: Path) -> Record:
        received, written = msgpack.unpackb(path.read_bytes())
        return cls(Row(*received), Row(*written))


class WatchedTransport:
    """A transport that notes what is written. All else is the transport's own."""

    def __init__(self, transport: asyncio.Transport, written: Row) -> None:
        self._transport = transport
        self._written = written

    def write(self, data: bytes) -> None:
        self.writelines([data])

    def writelines(self, buffers: Iterable[bytes]) -> None:
        kept = list(buffers)
        self._written.add(time.monotonic_ns(), b"".join(kept))
        self._transport.writelines(kept)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _Watched:
    """The part of a protocol that is the same whichever way it takes its bytes."""

    def __init__(self, inner: Any, record: Record) -> None:
        self._inner = inner
        self._record = record

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        plain = cast(asyncio.Transport, transport)
        self._inner.connection_made(WatchedTransport(plain, self._record.written))

    def connection_lost(self, error: Exception | None) -> None:
        self._inner.connection_lost(error)

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()

    def eof_received(self) -> bool | None:
        return cast(bool | None, self._inner.eof_received())


class WatchedBuffered(_Watched, asyncio.BufferedProtocol):
    _buffer: bytearray | memoryview

    def get_buffer(self, sizehint: int) -> Any:
        self._buffer = self._inner.get_buffer(sizehint)
        return self._buffer

    def buffer_updated(self, count: int) -> None:
        now = time.monotonic_ns()
        self._record.received.add(now, bytes(memoryview(self._buffer)[:count]))
        self._inner.buffer_updated(count)


class WatchedPlain(_Watched, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self._record.received.add(time.monotonic_ns(), data)
        self._inner.data_received(data)


def watched(protocol: Any, record: Record) -> asyncio.BaseProtocol:
    buffered = isinstance(protocol, asyncio.BufferedProtocol)
    return (WatchedBuffered if buffered else WatchedPlain)(protocol, record)


def watch(loop: type, record: Record) -> None:
    """From now on, loops of this class give their sockets to watched protocols."""
    for name in OPENINGS:
        setattr(loop, name, _watching(getattr(loop, name), record))


def _watching(opening: Callable[..., Any], record: Record) -> Callable[..., Any]:
    def opened(self: Any, factory: Callable[[], Any], *rest: Any, **options: Any) -> Any:
        return opening(self, lambda: watched(factory(), record), *rest, **options)

    return opened


def main(folder: str, flag: str, module: str, *arguments: str) -> None:
    assert flag == "-m"
    record = Record.empty()
    path = Path(folder) / str(os.getpid())
    signal.signal(signal.SIGUSR1, lambda *_: record.write(path))
    watch(uvloop.Loop, record)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
