"""Coalescing: the messages that go out in one frame, as columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Protocol

from pubsubd.errors import PubSubError, copy_of
from pubsubd_protocol.entries import Batch, pack_numbers
from pubsubd_protocol.frames import Welcome
from pubsubd_protocol.positions import Epoch
from pubsubd_protocol.topics import MAX_TOPIC_BYTES, Filter, check_publishable

BATCH_BYTES = 136 * 1024
"""A batch takes no further message that would bring it over this; one large message may be alone in it."""

MESSAGE_COST_BYTES = 64
"""Bytes that a message counts beside its payload, at the least. They bound a batch to 2,176 messages."""

REMEMBERED_TOPICS = 4096
"""Topics for which the client remembers how many others may be in one batch with them."""

FRAME_BYTES = 128
"""Bytes of a frame beside its topics, numbers and payloads, at the most; the prefix included."""

NUMBER_BYTES = 6
"""Bytes of a frame for the numbers of each message."""


class _TopicsWith(dict[str, int]):
    """Number of topics that a batch with this topic may have. Raises `InvalidTopic`.

    A topic that the broker will refuse is alone in its batch: a broker refuses a whole batch, and messages on other
    topics must not fail with it. The broker refuses, not the client, because the broker counts and logs it. Every
    batch names its topics anew, and looking up a known one costs no call of Python.
    """

    __slots__ = ("_max_topic", "_max_topics", "_may_publish")

    def __init__(self, welcome: Welcome) -> None:
        self._max_topics = welcome.max_topics
        self._max_topic = welcome.max_topic
        self._may_publish = Filter(welcome.publish).matches

    def __missing__(self, topic: str) -> int:
        check_publishable(topic)
        if len(self) >= REMEMBERED_TOPICS:
            self.clear()
        taken = self._may_publish(topic) and len(topic.encode()) <= self._max_topic
        most = self[topic] = self._max_topics if taken else 1
        return most


class Limits:
    """Limits of a broker, as a batch is filled: set anew for every connection. Sizes in bytes."""

    __slots__ = ("cost", "max_message", "room", "topics_with")

    def __init__(self, welcome: Welcome) -> None:
        max_frame = welcome.max_frame
        alone = max_frame - FRAME_BYTES - MAX_TOPIC_BYTES - 1 - NUMBER_BYTES
        self.max_message = min(welcome.max_message, alone)
        """The largest message that fits, alone in its batch. Below zero: none does."""
        # A message may bring a new topic, which counts only when it is in: that much stays free.
        self.room = min(BATCH_BYTES, max_frame - FRAME_BYTES - 4 * MAX_TOPIC_BYTES)
        """Bytes for which a batch is open. The first message is in, however large it is."""
        self.cost = max(MESSAGE_COST_BYTES, -(-self.room // max(1, welcome.max_batch)))
        """Bytes that a message takes of the room beside its payload. So messages need no counter of their own."""
        self.topics_with = _TopicsWith(welcome)


class Watcher(Protocol):
    """A waiter for the outcome of a batch. An asyncio future is one."""

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
    """The batch was not accepted, or its outcome can't be known."""

    __slots__ = ("_error",)

    def __init__(self, error: PubSubError) -> None:
        self._error = error

    def error(self) -> PubSubError:
        """A copy each time."""
        return copy_of(self._error)


class Outgoing:
    """A batch on its way: open for messages, then written, then with an outcome."""

    __slots__ = (
        "_bound",
        "_most_topics",
        "_topics_with",
        "batch",
        "cost",
        "deadline",
        "index",
        "may_stand",
        "opened_at",
        "outcome",
        "payloads",
        "room",
        "size",
        "timeout_s",
        "to",
        "topics",
        "watched",
        "watchers",
    )

    def __init__(self, topic: str, to: str | None, timeout_s: float, limits: Limits) -> None:
        """`topic`: of the first message. Raises `InvalidTopic`."""
        self._topics_with = limits.topics_with
        self._most_topics = limits.topics_with[topic]
        self.to = to
        self.timeout_s = timeout_s
        self.room = self._bound = limits.room
        """Bytes that it still takes."""
        self.cost = limits.cost
        self.size = 0
        self.topics: dict[str, int] = {}
        self.index: list[int] = []
        self.payloads: list[bytes] = []
        self.batch: Batch | None = None
        """The content that was written to a socket; None as long as it was not."""
        self.may_stand = False
        """Whether a broker may have accepted it."""
        self.opened_at: float | None = None
        self.deadline: float | None = None
        """Both set at the end of the loop turn in which it was opened."""
        self.outcome: Placed | Failed | None = None
        self.watchers: list[Watcher] = []
        self.watched = 0
        """Number of its messages for whose outcome a caller waits."""
        self.number(topic)

    @property
    def count(self) -> int:
        return len(self.payloads) if self.batch is None else self.batch.count

    @property
    def frame_bytes(self) -> int:
        """Length of its frame, at the most. Cost: a look at each message."""
        topics = sum(len(topic.encode()) + 1 for topic in self.topics)
        payloads = sum(map(len, self.payloads)) if self.batch is None else len(self.batch.payloads)
        return FRAME_BYTES + topics + NUMBER_BYTES * self.count + payloads

    def extend(self, topic: str, payloads: Sequence[bytes], size: int) -> None:
        """Adds several at once, of `size` bytes together, of a topic that it takes."""
        which = self.number(topic)
        assert which is not None
        self.index.extend(repeat(which, len(payloads)))
        self.payloads.extend(payloads)
        self.room -= size + len(payloads) * self.cost

    def number(self, topic: str) -> int | None:
        """Its number among the topics, as the last of them if it is new; None if it may not be in one batch with them.

        Raises `InvalidTopic`.
        """
        topics = self.topics
        which = topics.get(topic)
        if which is None:
            which = len(topics)
            if which >= self._most_topics or which >= self._topics_with[topic]:
                return None
            topics[topic] = which
            self.room -= 4 * len(topic)
        return which

    def seal(self) -> None:
        """No message follows."""
        self.size = self._bound - self.room

    def write_as(self, sequence: int) -> Batch:
        """The frame's content; columns are packed once, whatever happens to the connection."""
        many = len(self.topics) > 1
        self.batch = Batch(
            sequence,
            False,
            self.to,
            "\n".join(self.topics),
            pack_numbers("H", self.index) if many else b"",
            pack_numbers("I", list(map(len, self.payloads))),
            b"".join(self.payloads),
        )
        self.payloads.clear()
        self.index.clear()
        return self.batch
