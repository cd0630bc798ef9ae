"""Messages that were published together, column by column."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import repeat
from typing import Any, Final, overload

from pubsubd.codecs import Codec
from pubsubd.messages import Message, MessageSource
from pubsubd_protocol.columns import cut
from pubsubd_protocol.entries import Entry, open_entry


class Batch(Sequence[Message]):
    """Messages that were published together: an immutable sequence of `Message`, used like a list.

    A `Message` is made when the batch is indexed or iterated, once. The columns `raws`, `topics` and `offsets`, and
    `payloads()`, make no messages. A batch that is kept keeps the bytes of its whole entry; a kept `Message` keeps
    only its own.
    """

    __slots__ = (
        "_begin",
        "_distinct",
        "_frame",
        "_index",
        "_lengths",
        "_made",
        "_raws",
        "_single",
        "_source",
        "offsets",
    )

    def __init__(
        self,
        source: MessageSource,
        distinct: Sequence[str],
        index: Sequence[int],
        offsets: Sequence[int],
        lengths: Sequence[int],
        frame: bytes,
        begin: int,
    ) -> None:
        """Message `i` has the topic `distinct[index[i]]`; the payloads begin at byte `begin` of `frame`."""
        self.offsets: Final = offsets
        """The offsets, in order."""
        self._source = source
        self._distinct = distinct
        self._index = index
        self._lengths = lengths
        self._frame = frame
        self._begin = begin
        self._raws: list[bytes] | None = None
        # Messages that were asked for one by one, until all are made.
        self._single: dict[int, Message] = {}
        self._made: list[Message] | None = None

    @property
    def node(self) -> str:
        """The node on which the messages were published."""
        return self._source.node

    @property
    def epoch(self) -> str:
        """The epoch in which the offsets are valid, as 32 hex digits."""
        return self._source.epoch

    @property
    def time(self) -> float:
        """The producer's wall time in seconds since 1970, for people only: do not order messages by it."""
        return self._source.time

    @property
    def raws(self) -> list[bytes]:
        """The payloads' bytes. Made once, at the first access."""
        if self._raws is None:
            self._raws = cut(self._frame, self._begin, self._lengths)
        return self._raws

    @property
    def topics(self) -> list[str]:
        """The topic of each message. Made anew at each access."""
        return list(map(self._distinct.__getitem__, self._index))

    def payloads(self) -> list[Any]:
        """The decoded payloads. Each call decodes all of them anew, in one pass if the codec can.

        Raises `DecodeError` for the first message whose payload cannot be decoded.
        """
        decode_all = self._source.codec.decode_all
        if decode_all is not None:
            column = memoryview(self._frame)[self._begin : self._begin + sum(self._lengths)]
            with suppress(Exception):
                decoded = decode_all(column, self._lengths)
                if len(decoded) == len(self):
                    return decoded
        return [message.payload for message in self._messages()]

    def without(self, count: int) -> Batch:
        """The messages without the first `count`."""
        return Batch(
            self._source,
            self._distinct,
            self._index[count:],
            self.offsets[count:],
            self._lengths[count:],
            self._frame,
            self._begin + sum(self._lengths[:count]),
        )

    def reversed_messages(self) -> list[Message]:
        """All messages, the last one first: a list to pop them from."""
        return self._messages()[::-1]

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> Message: ...

    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...

    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        if self._made is not None or isinstance(index, slice):
            return self._messages()[index]
        return self._one(range(len(self))[index])

    def __iter__(self) -> Iterator[Message]:
        return iter(self._messages())

    def __eq__(self, other: object) -> bool:
        """Whether `other` is a list, or a batch, of the very same messages."""
        if not isinstance(other, (list, Batch)):
            return NotImplemented
        return self._messages() == other[:]

    __hash__ = None  # type: ignore[assignment]

    def __add__(self, other: list[Message]) -> list[Message]:
        return self._messages() + other[:]

    def __radd__(self, other: list[Message]) -> list[Message]:
        return other + self._messages()

    def __repr__(self) -> str:
        first, last = self.offsets[0], self.offsets[-1]
        return f"Batch(node={self.node!r}, offsets {first} to {last}, {len(self)} messages)"

    def _one(self, at: int) -> Message:
        message = self._single.get(at)
        if message is None:
            (raw,) = cut(
                self._frame, self._begin + sum(self._lengths[:at]), self._lengths[at : at + 1]
            )
            topic = self._distinct[self._index[at]]
            message = self._single[at] = Message(topic, raw, self.offsets[at], self._source)
        return message

    def _messages(self) -> list[Message]:
        """All messages. Cost: one object each, no decoding."""
        if self._made is None:
            topics = map(self._distinct.__getitem__, self._index)
            made = list(map(Message, topics, self.raws, self.offsets, repeat(self._source)))
            # A message that was asked for before stays the same object.
            for at, message in self._single.items():
                made[at] = message
            self._made = made
        return self._made


def batch_of(entry: Entry, start: int, codec: Codec) -> Batch:
    """The messages of `entry` from offset `start` on, possibly none. Cost: independent of the number of messages."""
    columns = open_entry(entry)
    source = MessageSource(entry.node, entry.epoch.hex(), columns.time_us / 1e6, codec)
    batch = Batch(
        source,
        *(columns.topics, columns.index, columns.offsets, columns.lengths),
        columns.frame,
        columns.begin,
    )
    if start <= entry.first:
        return batch
    return batch.without(bisect_left(columns.offsets, start))
