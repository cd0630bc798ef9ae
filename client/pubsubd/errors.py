"""Errors of the SDK under one root, `PubSubError`. Figures are attributes; `retriable`: whether trying again can help.

`PubSubError`
├── `BrokerUnavailable`  no broker answers at the socket; nothing was published
├── `PublishRejected`    the broker refused a publish; the messages are not in the stream
├── `PublishUnknown`     the broker's answer was lost; the messages may be in the stream
├── `CursorExpired`      messages are lost to a subscription, at this very place
├── `NameInUse`          another connection holds the subscription's name, or took it meanwhile
├── `EncodeError`        the codec cannot encode the caller's payload; nothing was published
├── `DecodeError`        the codec cannot decode this one payload; the subscription goes on
├── `InvalidArgument`    the caller's argument has a wrong type, or is out of range
├── `ClientClosed`       the caller uses a client or subscription that is not open
├── `WrongEventLoop`     the caller is in another thread or event loop; nothing was done
├── `AlreadyIterating`   another task iterates the subscription
├── `ReentrantCall`      a signal's handler calls a blocking client in the middle of another call
└── and those of `pubsubd_protocol.errors`
"""

from __future__ import annotations

from copy import copy
from typing import TypeVar

from pubsubd_protocol.attach import Reason
from pubsubd_protocol.errors import (
    ConnectionRefused,
    InvalidPosition,
    InvalidTopic,
    MessageTooLarge,
    ProtocolError,
    PubSubError,
)


class BrokerUnavailable(PubSubError):
    """No broker answers at `socket`; `detail` gives the cause and the remedy.

    The messages of a failed publish are not in the stream; `failed` counts them. `timeout_s`: the time-out, if
    the attempt ended by it.
    """

    retriable = True

    def __init__(self, socket: str, detail: str, timeout_s: float | None = None) -> None:
        super().__init__(f"no broker answers at {socket}: {detail}")
        self.socket = socket
        self.detail = detail
        self.timeout_s = timeout_s
        self.failed: int = 1


class PublishRejected(PubSubError):
    """The broker refused a publish: `code` is a constant word, `detail` a sentence.

    `size` and `limit`: the figures, if the publish was over a limit. `failed`: the number of refused messages.
    `retriable`: False, because the broker would refuse the same publish again.
    """

    def __init__(
        self, code: str, detail: str, size: int | None = None, limit: int | None = None
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.size = size
        self.limit = limit
        self.failed: int = 1
        self.retriable = False


class PublishUnknown(PubSubError):
    """The client sent the message and cannot get the answer: the message may be in the stream or not.

    Publishing it again may place it twice. `detail`: the cause. `timeout_s`: the time-out, if the wait for the answer
    ended by it. `failed`: the number of such messages.
    """

    def __init__(self, detail: str, timeout_s: float | None = None) -> None:
        super().__init__(f"the outcome of a publish is unknown: {detail}")
        self.detail = detail
        self.timeout_s = timeout_s
        self.failed: int = 1


class CursorExpired(PubSubError):
    """Messages of `node` are lost to this subscription here; it goes on at offset `next` of `epoch`.

    `missed`: the number of lost messages; None if unknown. `reason`: the cause. Reload the state that the messages
    would have changed.
    """

    def __init__(
        self, node: str, reason: Reason, missed: int | None, next_offset: int, epoch: str
    ) -> None:
        count = "an unknown number of" if missed is None else f"{missed}"
        super().__init__(
            f"{count} messages of node {node} are lost ({reason.value}); going on at offset {next_offset}"
        )
        self.node = node
        self.reason = reason
        self.missed = missed
        self.next = next_offset
        self.epoch = epoch


class NameInUse(PubSubError):
    """Another connection subscribes under `name`, or took the name after this connection was lost.

    A name belongs to one connection at a time. A holder that hangs loses the name after 5 times `--peer-timeout`.
    `detail`: the broker's sentence.
    """

    retriable = True

    def __init__(self, name: str, detail: str) -> None:
        super().__init__(
            f"the subscription name {name!r} is in use: {detail}; end the other subscription, "
            "or take over from it with subscribe(name=…, wait=True)"
        )
        self.name = name
        self.detail = detail


class InvalidArgument(PubSubError, ValueError, TypeError):
    """An argument has a wrong type, or is out of range. The call with that argument raises; it did nothing."""


class EncodeError(PubSubError, ValueError, TypeError):
    """`codec` cannot encode a payload for `topic`, or could not decode it again. Nothing was published.

    `type`: the name of the payload's type. `detail`: the error of the codec.
    """

    def __init__(self, topic: str, kind: str, codec: str, detail: str) -> None:
        super().__init__(
            f"the payload for topic {topic!r}, a {kind}, cannot be encoded as {codec}: {detail}"
        )
        self.topic = topic
        self.type = kind
        self.codec = codec
        self.detail = detail


class DecodeError(PubSubError):
    """`codec` cannot decode the payload of message `offset` of `node`, on `topic`. The subscription goes on.

    `message.raw` has the bytes.
    """

    def __init__(self, topic: str, node: str, offset: int, codec: str, detail: str) -> None:
        super().__init__(
            f"the payload of message {offset} of node {node} ({topic}) cannot be decoded as {codec}: {detail}"
        )
        self.topic = topic
        self.node = node
        self.offset = offset
        self.codec = codec


class ClientClosed(PubSubError):
    """The client or subscription is not open: closed already, or not connected yet."""


class WrongEventLoop(PubSubError, RuntimeError):
    """A call from another thread or event loop than the one that opened the object. Nothing was done."""


class AlreadyIterating(PubSubError, RuntimeError):
    """Another task, or another thread, waits for this subscription's next message."""


class ReentrantCall(PubSubError, RuntimeError):
    """The handler of a signal called a blocking client in the middle of another call. Nothing was done."""


E = TypeVar("E", bound=PubSubError)


def copy_of(error: E) -> E:
    """A copy of `error`: one exception object must not be raised in several tasks."""
    return copy(error)


__all__ = [
    "AlreadyIterating",
    "BrokerUnavailable",
    "ClientClosed",
    "ConnectionRefused",
    "CursorExpired",
    "DecodeError",
    "EncodeError",
    "InvalidArgument",
    "InvalidPosition",
    "InvalidTopic",
    "MessageTooLarge",
    "NameInUse",
    "ProtocolError",
    "PubSubError",
    "PublishRejected",
    "PublishUnknown",
    "Reason",
    "ReentrantCall",
    "WrongEventLoop",
    "copy_of",
]
