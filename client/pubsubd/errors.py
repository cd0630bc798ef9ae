"""Errors of the SDK. One root, `PubSubError`; figures are attributes; `retriable` says if trying again helps.

`PubSubError`
├── `BrokerUnavailable`  no broker answers at the socket; nothing was published
├── `PublishRejected`    the broker said no to a publish; it is not in the stream
├── `PublishUnknown`     the answer was lost and can no longer be had; it may be in the stream
├── `CursorExpired`      messages are lost to a subscription, at this very place
├── `NameInUse`          another connection holds the subscription's name, or has held it since
├── `EncodeError`        our caller's payload can't be encoded; nothing was published
├── `DecodeError`        this one payload can't be decoded; the subscription goes on
├── `InvalidArgument`    our caller's argument has a wrong type, or is out of range
├── `ClientClosed`       our caller uses what is closed, or was never opened
├── `WrongEventLoop`     our caller is in another thread or event loop; nothing was done
├── `AlreadyIterating`   another task iterates the subscription
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
    """No broker answers at `socket`; `detail` says why, and what helps.

    A publish that ends so is not in the stream; `failed` counts its messages. `timeout_s`: for how long it was tried,
    where it ended because that time was over.
    """

    retriable = True

    def __init__(self, socket: str, detail: str, timeout_s: float | None = None) -> None:
        super().__init__(f"no broker answers at {socket}: {detail}")
        self.socket = socket
        self.detail = detail
        self.timeout_s = timeout_s
        self.failed = 1


class PublishRejected(PubSubError):
    """The broker refused a publish: `code` is a constant word, `detail` its sentence.

    Where it is over a limit: it is `size` large, and `limit` is allowed.
    """

    def __init__(
        self, code: str, detail: str, size: int | None = None, limit: int | None = None
    ) -> None:
        super().__init__(f"{detail} ({code})")
        self.code = code
        self.detail = detail
        self.size = size
        self.limit = limit
        self.failed = 1
        self.retriable = False


class PublishUnknown(PubSubError):
    """The message was sent, and no answer can be had any more: it may stand in the stream or not.

    Publishing it again may place it twice. `timeout_s`: for how long an answer was waited for, where it ended because
    that time was over.
    """

    def __init__(self, detail: str, timeout_s: float | None = None) -> None:
        super().__init__(f"the fate of a publish is unknown: {detail}")
        self.detail = detail
        self.timeout_s = timeout_s
        self.failed = 1


class CursorExpired(PubSubError):
    """Messages of `node` are lost to this subscription here; it goes on at offset `next` of `epoch`.

    `missed`: how many, None where that can't be known. Reload the state that the messages would have changed.
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
    """Another connection subscribes under `name`, or has done so since this one was lost.

    A name belongs to one connection at a time. A holder that hangs loses it after `--peer-timeout` x 5.
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
    """An argument of a wrong type, or out of its range. Raised by the call that brought it; nothing was done."""


class EncodeError(PubSubError, ValueError, TypeError):
    """A payload that `codec` can't encode, or could not decode again. Nothing was published.

    `type`: the name of the payload's type.
    """

    def __init__(self, topic: str, kind: str, codec: str, detail: str) -> None:
        super().__init__(
            f"the payload for topic {topic!r}, a {kind}, can't be encoded as {codec}: {detail}"
        )
        self.topic = topic
        self.type = kind
        self.codec = codec
        self.detail = detail


class DecodeError(PubSubError):
    """One payload that the codec can't decode; `message.raw` has its bytes."""

    def __init__(self, topic: str, node: str, offset: int, codec: str, detail: str) -> None:
        super().__init__(f"message {offset} of node {node} ({topic}) is no {codec}: {detail}")
        self.topic = topic
        self.node = node
        self.offset = offset
        self.codec = codec


class ClientClosed(PubSubError):
    """The client or subscription is not open: closed already, or not connected yet."""


class WrongEventLoop(PubSubError, RuntimeError):
    """A call from another thread or event loop than the one that opened the object. Nothing was done."""


class AlreadyIterating(PubSubError, RuntimeError):
    """Another task waits for this subscription's next message."""


E = TypeVar("E", bound=PubSubError)


def copy_of(error: E) -> E:
    """The same error once more: an exception object must not be raised in several tasks."""
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
    "WrongEventLoop",
    "copy_of",
]
