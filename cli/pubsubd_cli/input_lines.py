"""Standard input as an async stream of lines, in bounded memory."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator
from typing import Final

from pubsubd_cli.exit_codes import CommandError

READ_BYTES: Final = 256 * 1024
READ_AHEAD: Final = 2
"""Chunks that may wait for the event loop. At this number the reading thread waits."""

MAX_LINE_BYTES: Final = 64 << 20


async def read_lines(descriptor: int, read_bytes: int = READ_BYTES) -> AsyncIterator[list[bytes]]:
    """The input's lines without line feeds. Each list holds the lines that have arrived since the one before.

    Raises `CommandError` at a line longer than `MAX_LINE_BYTES`.
    """
    parts: list[bytes] = []
    held = 0
    async for chunk in _chunks(descriptor, read_bytes):
        head, feed, tail = chunk.rpartition(b"\n")
        if feed:
            parts.append(head)
            yield b"".join(parts).split(b"\n")
            parts, held = [], 0
        parts.append(tail)
        held += len(tail)
        if held > MAX_LINE_BYTES:
            raise CommandError(f"a line of standard input is longer than {MAX_LINE_BYTES} bytes")
    if held:
        yield [b"".join(parts)]


async def _chunks(descriptor: int, read_bytes: int) -> AsyncIterator[bytes]:
    loop = asyncio.get_running_loop()
    arrived: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(READ_AHEAD)
    wanted = True

    def read() -> None:
        chunk: bytes | OSError = b"-"
        while chunk and not isinstance(chunk, OSError):
            room.acquire()
            if not wanted:
                return
            try:
                chunk = os.read(descriptor, read_bytes)
            except OSError as error:
                chunk = error
            try:
                loop.call_soon_threadsafe(arrived.put_nowait, chunk)
            except RuntimeError:
                return  # The loop has ended before the input.

    # A daemon thread, because a read from a terminal cannot be interrupted, and Ctrl-C must not wait for it.
    # A pipe transport of asyncio cannot read a regular file.
    threading.Thread(target=read, name="stdin", daemon=True).start()
    try:
        while True:
            chunk = await arrived.get()
            if isinstance(chunk, OSError):
                raise CommandError(f"cannot read standard input: {chunk.strerror}") from chunk
            if not chunk:
                return
            yield chunk
            room.release()
    finally:
        wanted = False
        room.release()
