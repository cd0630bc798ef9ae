"""Gives bytes to a `FrameReader`, as a receiver does with bytes from a socket."""

from __future__ import annotations

from collections.abc import Iterator

from pubsubd_protocol.framing import FrameReader


def feed(reader: FrameReader, data: bytes | memoryview) -> Iterator[memoryview]:
    """The frames that `data` completes. Each is valid until the next is taken."""
    rest = memoryview(data)
    while rest:
        space = reader.space()
        count = min(len(space), len(rest))
        space[:count] = rest[:count]
        reader.received(count)
        rest = rest[count:]
        yield from reader.frames()
