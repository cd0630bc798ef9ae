"""Cuts frames out of a byte stream: a 4-byte big-endian length, then that many bytes of body.

Each connection has one preallocated buffer, and the receiver writes straight into it. `FrameReader`
checks the length against the limit before it takes any memory. The memory for a large frame grows
only as its bytes arrive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pubsubd_protocol.errors import ProtocolError

PREFIX = struct.Struct(">I")
PREFIX_BYTES = PREFIX.size

MAX_FRAME_BYTES = 2**32 - 1
"""Largest length that the prefix can say."""

BUFFER_BYTES = 256 * 1024
SMALL_BUFFER_BYTES = 4 * 1024
"""Buffer of an idle connection. It grows to `BUFFER_BYTES` with traffic."""

_FOREIGN = {
    b"\x15\x03": "TLS",
    b"\x16\x03": "TLS",
    b"GET ": "HTTP",
    b"HEAD": "HTTP",
    b"HTTP": "HTTP",
    b"POST": "HTTP",
    b"PUT ": "HTTP",
}
"""First bytes of clients that connected to the wrong port. Read as a length, each is over the limit of a greeting."""


class FrameReader:
    """`space()` → write there → `received(n)` → `frames()`."""

    __slots__ = ("_buffer", "_end", "_filled", "_start", "_view", "awaited", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """The longest body that is accepted, in bytes."""
        self.awaited = 0
        """Announced bytes of the frame that has begun and not ended, prefix included; 0 without such a frame."""
        self._replace(bytearray(SMALL_BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._filled = False

    def space(self) -> memoryview:
        """The part of the buffer for the next bytes, at least 1 byte. Makes earlier frames' views invalid."""
        size = len(self._buffer)
        held = self._end - self._start
        if held == 0:
            self._start = self._end = 0
            if size > BUFFER_BYTES:
                self.shrink()
                size = BUFFER_BYTES
        elif size - self._end < size // 4 and self._start:
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        if self._end == size or (self._filled and size < BUFFER_BYTES):
            self._grow()
        self._filled = False
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """Record that the receiver wrote `count` bytes into the last `space()`."""
        self._end += count
        self._filled = self._end == len(self._buffer)

    def frames(self) -> Iterator[memoryview]:
        """The complete frames, prefix included, in order. Their views are valid until the next `space()`.

        Raises `ProtocolError` at a length that is 0 or over the limit.
        """
        self.awaited = 0
        while self._end - self._start >= PREFIX_BYTES:
            (length,) = PREFIX.unpack_from(self._buffer, self._start)
            if length > self.limit or length == 0:
                raise ProtocolError("frame_length", self._no_frame(length))
            stop = self._start + PREFIX_BYTES + length
            if stop > self._end:
                self.awaited = PREFIX_BYTES + length
                return
            frame = self._view[self._start : stop]
            self._start = stop
            yield frame

    def shrink(self) -> None:
        """Free the memory of a large frame that `frames` has handed out. Views of the frame stay valid."""
        if self._start == self._end and len(self._buffer) > BUFFER_BYTES:
            self._start = self._end = 0
            self._replace(bytearray(BUFFER_BYTES))

    def release(self) -> None:
        """Free the buffer: no further bytes will come."""
        self._start = self._end = 0
        self._replace(bytearray())

    @property
    def size(self) -> int:
        """Bytes of the buffer after the next `space()`."""
        size = len(self._buffer)
        return self._grown() if self._end - self._start == size else size

    @property
    def unfinished(self) -> int:
        """Received bytes of the frame that has not ended."""
        return self._end - self._start

    def _no_frame(self, length: int) -> str:
        begin = PREFIX.pack(length)
        foreign = _FOREIGN.get(begin) or _FOREIGN.get(begin[:2])
        if foreign is not None:
            return (
                f"the connection begins like {foreign}: this port speaks the pubsubd protocol only"
            )
        return f"a frame of {length} bytes, allowed are 1..{self.limit}"

    def _grow(self) -> None:
        bigger = bytearray(self._grown())
        held = self._end - self._start
        bigger[:held] = self._view[self._start : self._end]
        self._replace(bigger)
        self._start, self._end = 0, held

    def _grown(self) -> int:
        # The buffer passes BUFFER_BYTES only for an unfinished frame whose length passed the limit check. Then it
        # takes at most twice the bytes that have arrived, and at most the bytes that the frame needs.
        size = max(2 * len(self._buffer), SMALL_BUFFER_BYTES)
        held = self._end - self._start
        if size > BUFFER_BYTES and held >= PREFIX_BYTES:
            (length,) = PREFIX.unpack_from(self._buffer, self._start)
            needed: int = PREFIX_BYTES + length
            if needed > held:
                return max(BUFFER_BYTES, min(size, needed))
        return size

    def _replace(self, buffer: bytearray) -> None:
        self._buffer = buffer
        self._view = memoryview(buffer)
