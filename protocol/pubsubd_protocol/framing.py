"""Cuts frames out of a byte stream: a 4-byte big-endian length, then that many bytes of body.

One preallocated buffer per connection; the receiver writes straight into it. The length is checked
against the limit before any memory is taken for it, and memory for a large frame is taken only as its
bytes really arrive.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from pubsubd_protocol.errors import ProtocolError

PREFIX = struct.Struct(">I")
PREFIX_BYTES = PREFIX.size

BUFFER_BYTES = 256 * 1024
SMALL_BUFFER_BYTES = 4 * 1024
"""What an idle connection costs: the buffer starts here and grows to `BUFFER_BYTES` with traffic."""

_FOREIGN = {
    b"\x15\x03": "TLS",
    b"\x16\x03": "TLS",
    b"GET ": "HTTP",
    b"HEAD": "HTTP",
    b"HTTP": "HTTP",
    b"POST": "HTTP",
    b"PUT ": "HTTP",
}
"""How those begin who came to the wrong door: as a length each is beyond the limit of a greeting."""


class FrameReader:
    """`space()` → write there → `received(n)` → `frames()`."""

    __slots__ = ("_buffer", "_end", "_filled", "_start", "_view", "awaited", "limit")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """The longest body that is accepted, in bytes."""
        self.awaited = 0
        """How long the frame says it is that has begun and not ended, prefix included; 0 if there is none."""
        self._replace(bytearray(SMALL_BUFFER_BYTES))
        self._start = 0
        self._end = 0
        self._filled = False

    def space(self) -> memoryview:
        """Where the next bytes go; at least one byte long. Makes earlier frames' views invalid."""
        size = len(self._buffer)
        held = self._end - self._start
        if held == 0:
            self._start = self._end = 0
            self.shrink()
            size = len(self._buffer)
        elif size - self._end < size // 4 and self._start:
            self._buffer[:held] = self._buffer[self._start : self._end]
            self._start, self._end = 0, held
        if self._end == size or (self._filled and size < BUFFER_BYTES):
            self._grow()
        self._filled = False
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """`count` bytes have been written into the last `space()`."""
        self._end += count
        self._filled = self._end == len(self._buffer)

    def frames(self) -> Iterator[memoryview]:
        """The complete frames, prefix included, in order; views are valid until the next `space()`.

        Raises `ProtocolError` at a length that is zero or over the limit.
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
        """Lets go of what a large frame took, once it has been taken out. Views of it stay valid."""
        if self._start == self._end and len(self._buffer) > BUFFER_BYTES:
            self._start = self._end = 0
            self._replace(bytearray(BUFFER_BYTES))

    def release(self) -> None:
        """Nothing comes any more: lets the memory go."""
        self._start = self._end = 0
        self._replace(bytearray())

    @property
    def size(self) -> int:
        """Bytes of the buffer, as they are from the next `space()` on."""
        size = len(self._buffer)
        return self._grown() if self._end - self._start == size else size

    @property
    def unfinished(self) -> int:
        """Bytes of a frame that has not come to its end."""
        return self._end - self._start

    def _no_frame(self, length: int) -> str:
        begin = PREFIX.pack(length)
        foreign = _FOREIGN.get(begin) or _FOREIGN.get(begin[:2])
        if foreign is not None:
            return f"it begins like {foreign}, which is not spoken on this connection"
        return f"a frame of {length} bytes, allowed are 1..{self.limit}"

    def _grow(self) -> None:
        bigger = bytearray(self._grown())
        held = self._end - self._start
        bigger[:held] = self._view[self._start : self._end]
        self._replace(bigger)
        self._start, self._end = 0, held

    def _grown(self) -> int:
        # Beyond BUFFER_BYTES only for one unfinished frame whose length passed the limit check, and then
        # at most twice of what has really arrived is taken, and no more than the frame needs.
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
