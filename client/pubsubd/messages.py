"""A received message."""

from __future__ import annotations

from enum import Enum, auto
from typing import Any

from pubsubd.codecs import Codec
from pubsubd.errors import DecodeError


class MessageSource:
    """Fields that all messages of one entry share."""

    __slots__ = ("codec", "decode", "epoch", "node", "time")

    def __init__(self, node: str, epoch: str, time: float, codec: Codec) -> None:
        self.node = node
        self.epoch = epoch
        self.time = time
        self.codec = codec
        self.decode = codec.decode

    def __reduce__(self) -> tuple[Any, ...]:
        return MessageSource, (self.node, self.epoch, self.time, self.codec)


class _Payload(Enum):
    """Placeholder for a payload that was not decoded yet. An enum, so it stays one object after pickling and copying."""

    NOT_YET = auto()


_NOT_YET: Any = _Payload.NOT_YET


class Message:
    """A message at `offset` of its node's stream.

    `topic`: the topic of the publish. `raw`: the payload's bytes; `payload` decodes them on first use.
    """

    __slots__ = ("_decoded", "_source", "offset", "raw", "topic")

    def __init__(self, topic: str, raw: bytes, offset: int, source: MessageSource) -> None:
        self.topic = topic
        self.raw = raw
        self.offset = offset
        self._source = source
        self._decoded = _NOT_YET

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (self.topic, self.raw, self.offset, self._source, self._decoded)

    @property
    def payload(self) -> Any:
        """The decoded payload. Raises `DecodeError`, for this message only."""
        if self._decoded is _NOT_YET:
            try:
                self._decoded = self._source.decode(self.raw)
            except Exception as error:
                raise DecodeError(
                    *(self.topic, self.node, self.offset, self._source.codec.name),
                    f"{type(error).__name__}: {error}",
                ) from error
        return self._decoded

    @property
    def node(self) -> str:
        """The node on which the message was published."""
        return self._source.node

    @property
    def epoch(self) -> str:
        """The epoch in which `offset` is valid, as 32 hex digits."""
        return self._source.epoch

    @property
    def time(self) -> float:
        """The producer's wall time in seconds since 1970, for people only: do not order messages by it."""
        return self._source.time

    def __repr__(self) -> str:
        return f"Message({self.topic!r}, node={self.node!r}, offset={self.offset}, {len(self.raw)} bytes)"


def _remade(topic: str, raw: bytes, offset: int, source: MessageSource, decoded: Any) -> Message:
    """A copied or unpickled message, with its payload if that was decoded."""
    message = Message(topic, raw, offset, source)
    message._decoded = decoded
    return message
