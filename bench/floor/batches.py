"""The floor's batches: columns of many messages, and back. Pure."""

from __future__ import annotations

import struct
from array import array
from collections.abc import Iterator
from itertools import accumulate, pairwise

BATCH_BYTES = 136 * 1024
MESSAGE_COST_BYTES = 64

_HEADER = struct.Struct("<IIII")
"""Messages, bytes of the topics' names, bytes of the index, bytes of the payloads."""

BUFFER_BYTES = 1024 * 1024


class Packer:
    """Collects messages until a batch is full."""

    __slots__ = ("_index", "_payloads", "_room", "_topics")

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._room = BATCH_BYTES
        self._topics: dict[str, int] = {}
        self._index: list[int] = []
        self._payloads: list[bytes] = []

    def add(self, topic: str, payload: bytes) -> list[bytes] | None:
        """The finished batch, if this message does not fit into it any more."""
        cost = len(payload) + MESSAGE_COST_BYTES
        full = self.take() if cost > self._room and self._payloads else None
        self._room -= cost
        topics = self._topics
        self._index.append(topics.setdefault(topic, len(topics)))
        self._payloads.append(payload)
        return full

    def take(self) -> list[bytes]:
        """The collected batch, as buffers to write; an empty list without messages."""
        if not self._payloads:
            return []
        names = "\n".join(self._topics).encode()
        index = array("H", self._index).tobytes()
        lengths = array("I", map(len, self._payloads)).tobytes()
        joined = b"".join(self._payloads)
        head = _HEADER.pack(len(self._payloads), len(names), len(index), len(joined))
        self._begin()
        return [head + names + index + lengths, joined]


class Unpacker:
    """Takes bytes into `space()`, and gives messages out of `batches()`."""

    def __init__(self) -> None:
        self._buffer = memoryview(bytearray(BUFFER_BYTES))
        self._start = self._end = 0

    def space(self) -> memoryview:
        return self._buffer[self._end :]

    def received(self, count: int) -> None:
        self._end += count

    def batches(self) -> Iterator[tuple[list[str], list[bytes]]]:
        """The topics and the payloads of each complete batch, one of each for every message."""
        while (batch := self._next()) is not None:
            yield batch
        rest = self._buffer[self._start : self._end]
        # Move the rest to the front only near the end of the buffer: most often no byte is left to move.
        if not rest or len(self._buffer) - self._end < BUFFER_BYTES // 2:
            self._buffer[: len(rest)] = bytes(rest)
            self._start, self._end = 0, len(rest)

    def _next(self) -> tuple[list[str], list[bytes]] | None:
        at = self._start + _HEADER.size
        if at > self._end:
            return None
        count, names, index, joined = _HEADER.unpack_from(self._buffer, self._start)
        if at + names + index + 4 * count + joined > self._end:
            return None
        view = self._buffer
        topics = str(view[at : at + names], "utf-8").split("\n")
        at += names
        which = view[at : at + index].cast("H")
        at += index
        starts = accumulate(view[at : at + 4 * count].cast("I"), initial=0)
        at += 4 * count
        data = bytes(view[at : at + joined])
        self._start = at + joined
        return [topics[i] for i in which], [data[a:b] for a, b in pairwise(starts)]
