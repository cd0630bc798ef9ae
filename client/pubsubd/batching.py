"""Batching: the messages that go out in one frame, as columns. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat
from typing import Protocol

from pubsubd.errors import PubSubError, copy_of
from pubsubd_protocol.columns import pack_numbers
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.frames import Welcome
from pubsubd_protocol.positions import Epoch
from pubsubd_protocol.topics import MAX_TOPIC_BYTES, Filter, check_publishable

BATCH_BYTES = 136 * 1024
"""Size of a batch. A message that would bring a batch over it goes to the next batch; a larger message goes alone."""

MESSAGE_COST_BYTES = 64
"""Least number of bytes that a message counts besides its payload. It bounds a batch to 2,176 messages."""

CHECKED_TOPICS = 4096
"""Topics for which the client remembers whether they may share a batch."""

FRAME_BYTES = 128
"""Greatest number of bytes of a frame besides its topics, numbers and payloads; includes the prefix."""

NUMBER_BYTES = 6
"""Bytes of a frame for the numbers of each message."""


class _TopicsWith(dict[str, int]):
    """Greatest number of topics of a batch that contains the given topic. Raises `InvalidTopic`.

    A topic that the broker will refuse gets a batch of its own: the broker refuses whole batches, and messages on other
    topics must not fail with it. The client leaves the refusal to the broker, because the broker counts and logs it.
    A known topic costs no Python call.
    """

    __slots__ = ("_max_topic", "_max_topics", "_may_publish")

    def __init__(self, welcome: Welcome) -> None:
        self._max_topics = welcome.max_topics
        self._max_topic = welcome.max_topic
        self._may_publish = Filter(welcome.publish).matches

    def __missing__(self, topic: str) -> int:
        check_publishable(topic)
        if len(self) >= CHECKED_TOPICS:
            self.clear()
        taken = self._may_publish(topic) and len(topic.encode()) <= self._max_topic
        most = self[topic] = self._max_topics if taken else 1
        return most


class BatchLimits:
    """The broker's limits for filling a batch, new for each connection. Sizes are in bytes."""

    __slots__ = ("cost", "max_message", "room", "topics_with")

    def __init__(self, welcome: Welcome) -> None:
        max_frame = welcome.max_frame
        alone = max_frame - FRAME_BYTES - MAX_TOPIC_BYTES - 1 - NUMBER_BYTES
        self.max_message = min(welcome.max_message, alone)
        """The largest message that fits, alone in its batch. Below 0: no message fits."""
        # A new topic is counted after its message is in the batch, so leave room for one topic.
        self.room = min(BATCH_BYTES, max_frame - FRAME_BYTES - 4 * MAX_TOPIC_BYTES)
        """Bytes of a batch. The first message is taken at any size."""
        self.cost = max(MESSAGE_COST_BYTES, -(-self.room // max(1, welcome.max_batch)))
        """Bytes of room that a message takes besides its payload. Thereby `room` bounds the number of messages, too."""
        self.topics_with = _TopicsWith(welcome)


class Watcher(Protocol):
    """A waiter for the outcome of a batch, for example an asyncio future."""

    def done(self) -> bool: ...

    def set_result(self, result: None, /) -> None: ...


class Placed:
    """The outcome of an accepted batch: its first message stands at `first`."""

    __slots__ = ("epoch", "first", "node")

    def __init__(self, node: str, epoch: Epoch, first: int) -> None:
        self.node = node
        self.epoch = epoch.hex()
        self.first = first


class BatchFailed:
    """The outcome of a batch that was not accepted, or whose fate is unknown."""

    __slots__ = ("_error",)

    def __init__(self, error: PubSubError) -> None:
        self._error = error

    def error(self) -> PubSubError:
        """A copy of the error for each caller."""
        return copy_of(self._error)


class OutgoingBatch:
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

    def __init__(self, topic: str, to: str | None, timeout_s: float, limits: BatchLimits) -> None:
        """`topic`: the first message's topic. Raises `InvalidTopic`."""
        self._topics_with = limits.topics_with
        self._most_topics = limits.topics_with[topic]
        self.to = to
        self.timeout_s = timeout_s
        self.room = self._bound = limits.room
        """Bytes that the batch still takes."""
        self.cost = limits.cost
        self.size = 0
        self.topics: dict[str, int] = {}
        self.index: list[int] = []
        self.payloads: list[bytes] = []
        self.batch: Batch | None = None
        """The content that was written to a socket; None before that."""
        self.may_stand = False
        """Whether a broker may have accepted the batch."""
        self.opened_at: float | None = None
        self.deadline: float | None = None
        """Set, like `opened_at`, at the end of the turn of the event loop in which the batch was opened."""
        self.outcome: Placed | BatchFailed | None = None
        self.watchers: list[Watcher] = []
        self.watched = 0
        """Number of messages whose outcome a caller awaits."""
        self.number(topic)

    @property
    def count(self) -> int:
        return len(self.payloads) if self.batch is None else self.batch.count

    @property
    def frame_bytes(self) -> int:
        """Upper bound of the frame's length. Cost: a look at each message."""
        topics = sum(len(topic.encode()) + 1 for topic in self.topics)
        payloads = sum(map(len, self.payloads)) if self.batch is None else len(self.batch.payloads)
        return FRAME_BYTES + topics + NUMBER_BYTES * self.count + payloads

    def extend(self, topic: str, payloads: Sequence[bytes], size: int) -> None:
        """Add several messages of one topic, `size` bytes together. The batch must accept the topic (see `number`)."""
        which = self.number(topic)
        assert which is not None
        self.index.extend(repeat(which, len(payloads)))
        self.payloads.extend(payloads)
        self.room -= size + len(payloads) * self.cost

    def number(self, topic: str) -> int | None:
        """The number of `topic` in this batch; a new topic is added. None if the topic may not join this batch.

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
        """Close the batch for further messages."""
        self.size = self._bound - self.room

    def write_as(self, sequence: int) -> Batch:
        """The frame's content. It is packed once; a retry on a new connection sends the same content."""
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
