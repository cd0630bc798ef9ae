"""A node's own stream: where publishes take their place."""

from __future__ import annotations

from pubsubd_broker.core.config import Now
from pubsubd_broker.core.log import Log
from pubsubd_broker.core.pacing import Appender, Pace, Pacing
from pubsubd_broker.core.publishers import Publisher
from pubsubd_protocol.attach import Answer, Claim, resolve
from pubsubd_protocol.entries import Batch, Entry, place
from pubsubd_protocol.errors import InvalidTopic, MessageTooLarge
from pubsubd_protocol.frames import Receipt, Rejected
from pubsubd_protocol.positions import MAX_OFFSET, Epoch, Lineage, Position, StreamView


class Stream:
    """The ring of one node's messages, under one epoch; the authority on what it still holds."""

    __slots__ = ("log", "max_message", "node", "pacing")

    def __init__(
        self,
        node: str,
        epoch: Epoch,
        lineage: Lineage = (),
        *,
        ring_messages: int,
        ring_bytes: int,
        max_message: int,
        pace: Pace,
        offset: int = 0,
    ) -> None:
        self.node = node
        self.max_message = max_message
        self.log = Log(ring_messages, ring_bytes, epoch, lineage, offset)
        self.pacing = Pacing(self.log, pace)

    @property
    def view(self) -> StreamView:
        return self.log.view

    @property
    def epoch(self) -> Epoch:
        return self.log.newest.epoch

    @property
    def next(self) -> int:
        return self.log.newest.next

    @property
    def origin(self) -> Position:
        """Where a session of this life stands that has no position here."""
        return Position(self.epoch, 0)

    @property
    def end(self) -> Position:
        return Position(self.epoch, self.next)

    def answer(self, claim: Claim, registered: int | None = None) -> tuple[StreamView, Answer]:
        """What this producer says to a reader's claim, and what it held when it said so."""
        view = self.view
        return view, resolve(claim, view, registered)

    def fetch(self, reading: object, claim: Claim, budget: int) -> bool:
        """Never needed: this node answers for its own stream here and now."""
        return False

    def caught_up(self, reading: object, claim: Claim) -> None:
        """Never needed either."""

    def publish(
        self,
        batch: Batch,
        publisher: Publisher,
        publisher_id: bytes,
        now: Now,
        appender: Appender,
        *,
        knows_addressee: bool = True,
    ) -> Receipt | Rejected | None:
        """Places `batch`, or says why not; a retry gets its first answer again. None: it has to wait for readers.

        `knows_addressee`: whether the node to which it is directed, if to any, has ever been seen.
        Raises `ProtocolError` for a batch that contradicts itself.
        """
        outcome = publisher.recall(batch.sequence, batch.retry)
        if outcome is None:
            outcome = self._judge(batch, publisher, publisher_id, now, appender, knows_addressee)
            if outcome is not None:
                publisher.remember(batch.sequence, outcome)
        return outcome

    def _judge(
        self,
        batch: Batch,
        publisher: Publisher,
        publisher_id: bytes,
        now: Now,
        appender: Appender,
        knows_addressee: bool,
    ) -> Receipt | Rejected | None:
        try:
            batch.check(self.max_message)
        except InvalidTopic as error:
            return publisher.refuse(batch, "invalid_topic", str(error))
        except MessageTooLarge as error:
            return publisher.refuse(batch, "too_large", str(error), error.size, error.limit)
        first = self.next
        if not knows_addressee:
            detail = f"no node {batch.to!r} was ever seen by {self.node}: check the name"
            return publisher.refuse(batch, "unknown_node", detail)
        if first + batch.count > MAX_OFFSET:
            detail = f"the stream is at offset {first}, its last is {MAX_OFFSET}"
            return publisher.refuse(batch, "stream_full", detail)
        entry = place(batch, self.node, self.epoch, first, now.wall_us, publisher_id)
        if not self.log.fits(entry.count, entry.size):
            return publisher.refuse(batch, *self._too_large(entry))
        if not self.pacing.admits(appender, entry, now.mono_ns):
            return None
        self.log.append(entry)
        return Receipt(batch.sequence, self.epoch, first)

    def _too_large(self, entry: Entry) -> tuple[str, str, int, int]:
        if entry.count > self.log.max_messages:
            code, size, limit, unit = (
                "too_many_messages",
                entry.count,
                self.log.max_messages,
                "messages",
            )
        else:
            code, size, limit, unit = "too_large", entry.size, self.log.max_bytes, "bytes"
        detail = f"a batch of {size} {unit} does not fit into the ring, which holds {limit}: publish it in smaller ones"
        return code, detail, size, limit
