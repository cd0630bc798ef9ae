"""Coalescing: the messages that go out in one frame, as columns. Pure."""

from __future__ import annotations

from typing import Protocol

from pubsubd.errors import PubSubError
from pubsubd_protocol.entries import Batch, pack_numbers
from pubsubd_protocol.positions import Epoch
from pubsubd_protocol.topics import check_topic

BATCH_BYTES = 128 * 1024
"""A batch takes no further message that would bring it over this; one large message may be alone in it."""

MESSAGE_COST_BYTES = 64
"""What a message counts beside its payload, which bounds a batch to 2,048 messages."""


class Watcher(Protocol):
    """Somebody who waits until a batch's fate is known; an asyncio future is one."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class Placed:
    """The batch was accepted: its first message stands at `first`."""

    __slots__ = ("epoch", "first", "node")

    def __init__(self, node: str, epoch: Epoch, first: int) -> None:
        self.node = node
        self.epoch = epoch.hex()
        self.first = first


class Failed:
    """The batch was not accepted, or nobody knows."""

    __slots__ = ("_error",)

    def __init__(self, error: PubSubError) -> None:
        self._error = error

    def error(self) -> PubSubError:
        """A copy each time: an exception object must not be raised in several tasks."""
        original = self._error
        copy = type(original).__new__(type(original), *original.args)
        copy.__dict__.update(original.__dict__)
        return copy


class Outgoing:
    """A batch on its way: open for messages, then written, then with an outcome."""

    __slots__ = (
        "_index",
        "_payloads",
        "_topics",
        "batch",
        "deadline",
        "may_stand",
        "opened_at",
        "outcome",
        "room",
        "size",
        "timeout_s",
        "to",
        "watched",
        "watchers",
    )

    def __init__(self, to: str | None, timeout_s: float) -> None:
        self.to = to
        self.timeout_s = timeout_s
        self.room = BATCH_BYTES
        self.size = 0
        self._topics: dict[str, int] = {}
        self._index: list[int] = []
        self._payloads: list[bytes] = []
        self.batch: Batch | None = None
        """What was written to a socket; None as long as nothing of it was."""
        self.may_stand = False
        """Whether it may have been accepted, for all that is known."""
        self.opened_at: float | None = None
        self.deadline: float | None = None
        """Both set at the end of the loop turn in which it was opened."""
        self.outcome: Placed | Failed | None = None
        self.watchers: list[Watcher] = []
        self.watched = 0
        """How many of its messages have somebody waiting for the outcome."""

    @property
    def count(self) -> int:
        return len(self._payloads) if self.batch is None else self.batch.count

    def add(self, topic: str, payload: bytes) -> None:
        """Raises `InvalidTopic`. Cost: this is what every published message pays."""
        which = self._topics.get(topic)
        if which is None:
            check_topic(topic)
            which = self._topics[topic] = len(self._topics)
            self.room -= 4 * len(topic)
        self._index.append(which)
        self._payloads.append(payload)
        self.room -= len(payload) + MESSAGE_COST_BYTES

    def seal(self) -> None:
        """No message follows."""
        self.size = BATCH_BYTES - self.room

    def write_as(self, sequence: int) -> Batch:
        """The frame's content; columns are packed once, whatever happens to the connection."""
        many = len(self._topics) > 1
        self.batch = Batch(
            sequence,
            False,
            self.to,
            "\n".join(self._topics),
            pack_numbers("H", self._index) if many else b"",
            pack_numbers("I", list(map(len, self._payloads))),
            b"".join(self._payloads),
        )
        self._payloads.clear()
        self._index.clear()
        return self.batch
