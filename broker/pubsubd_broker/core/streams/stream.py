"""A node's own stream: gives each publish its place."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from pubsubd_broker.core.access.validation import Rejection
from pubsubd_broker.core.limits import ITEM_OVERHEAD, Now
from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.log.pacing import Appender, Pace, Pacing
from pubsubd_broker.core.streams.durability import Durability
from pubsubd_broker.core.streams.publishers import Promise, PublishAnswer, PublisherRecord
from pubsubd_protocol.attach import Claim, resolve
from pubsubd_protocol.attach import Verdict as Verdict
from pubsubd_protocol.entries import Batch, Entry, entry_size, is_of, place_batch
from pubsubd_protocol.errors import InvalidTopic, MessageTooLarge, ProtocolError
from pubsubd_protocol.frames import Receipt, Rejected
from pubsubd_protocol.positions import MAX_OFFSET, Epoch, Lineage, Losses, Position, StreamView


def _unnoted(following: int) -> None:
    """Later lives need no count of accepted messages."""


class _Placed:
    """A batch that waits for the disk."""

    __slots__ = ("answer", "entry", "receipt", "size")

    def __init__(self, entry: Entry, size: int, receipt: Receipt, answer: Promise) -> None:
        self.entry = entry
        self.size = size
        self.receipt = receipt
        self.answer = answer


class Stream:
    """The ring of one node's messages, under one epoch. Its view is the authority on the offsets that are still held.

    One object serves the node's whole life. `begin` gives it the history of earlier lives, before its first publish.
    """

    __slots__ = (
        "_accepted",
        "_pace",
        "_placed",
        "_published",
        "bytes_published",
        "durability",
        "log",
        "max_message",
        "messages_published",
        "node",
        "pacing",
    )

    def __init__(
        self,
        node: str,
        epoch: Epoch,
        *,
        ring_messages: int,
        ring_bytes: int,
        max_message: int,
        pace: Pace,
        accepted: Callable[[int], None] = _unnoted,
        published: Callable[[Entry], None] | None = None,
    ) -> None:
        """`accepted`: called with the offset before which all is accepted, before any publisher is told.

        `published`: called with each accepted entry, after the entry is appended.
        """
        self.node = node
        self.max_message = max_message
        self._accepted = accepted
        self._published = published
        self._pace = pace
        self.log = Log(ring_messages, ring_bytes, epoch, (), 0)
        self.pacing = Pacing(self.log, pace)
        self.durability: Durability | None = None
        """Keeps accepted batches on disk as they come. None: in memory only."""
        # Entries that have their place, and must be on disk before any reader or publisher knows of them.
        self._placed: deque[_Placed] = deque()
        self.messages_published = 0
        self.bytes_published = 0

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
    def placed(self) -> int:
        """The offset at which the next batch is placed."""
        return self._placed[-1].entry.next if self._placed else self.log.newest.next

    @property
    def settled(self) -> bool:
        """Whether all placed entries can be read."""
        return not self._placed

    @property
    def origin(self) -> Position:
        """The position of a session of this life that has no position in this stream."""
        return self.view.start

    def begin(
        self, lineage: Lineage, offset: int, losses: Losses, entries: Iterable[Entry]
    ) -> None:
        """Goes on with earlier lives: `entries` from `offset` on, with a gap where a life lost accepted messages.

        The stream gets a new log. Called before any reader or publisher has met the old one.
        """
        old = self.log
        self.log = log = Log(old.max_messages, old.max_bytes, self.epoch, lineage, offset, losses)
        self.pacing = Pacing(log, self._pace)
        whole = self.view
        ends = dict.fromkeys(end for end, _ in whole.gaps(whole.start.epoch))
        gaps = [end for end in ends if end > log.newest.next]
        for entry in entries:
            while gaps and gaps[0] <= entry.first:
                log.append_gap(whole.until(gaps.pop(0)))
            log.append(entry)
        for end in gaps:
            log.append_gap(whole.until(end))
        # Only now the oldest held offset is known: the ring may have evicted the oldest entries.
        held = self.view
        for item in (log[index] for index in range(log.begin, log.end)):
            if isinstance(item, Gap):
                item.view = held.until(item.next)

    def answer(
        self, claim: Claim, registered: Position | None = None
    ) -> tuple[StreamView, Verdict]:
        """The answer to a reader's claim, and the view by which it was judged."""
        view = self.view
        return view, resolve(claim, view, registered)

    def fetch(self, reader: object, claim: Claim, budget: int) -> bool:
        """Never asks: this node answers for its own stream at once."""
        return False

    def caught_up(self, reader: object, claim: Claim) -> None:
        """Does nothing: no producer has to be told."""

    def publish(
        self,
        batch: Batch,
        publisher: PublisherRecord,
        publisher_id: bytes,
        now: Now,
        appender: Appender,
        *,
        rejection: Rejection | None = None,
    ) -> PublishAnswer | None:
        """Places `batch`, or rejects it with a reason. A retry gets its first answer again. None: the batch has to wait.

        `rejection`: the reason to reject a well-formed batch, if one exists.
        Raises `ProtocolError` for a batch that contradicts itself, or an earlier answer to its publisher id.
        """
        outcome = publisher.earlier_answer(batch.sequence, batch.retry)
        if outcome is not None:
            self._check_same(batch, outcome)
        else:
            outcome = self._judge(batch, publisher, publisher_id, now, appender, rejection)
            if outcome is not None:
                publisher.remember(batch.sequence, outcome)
        return outcome

    def forget(self, appender: Appender) -> None:
        """Stops waiting: `appender` never retries."""
        self.pacing.forget(appender)
        if self.durability is not None:
            self.durability.forget(appender)

    def commit(self, durable: int) -> None:
        """Accepts the entries placed before the offset `durable`, which are on disk now. Readers see them from now on."""
        while self._placed and self._placed[0].entry.next <= durable:
            placed = self._placed.popleft()
            self.log.reserve(placed.entry, -1)
            self._accept(placed.entry, placed.size)
            placed.answer.settle(placed.receipt)

    def _check_same(self, batch: Batch, answer: PublishAnswer) -> None:
        """Raises `ProtocolError` if the stream holds other bytes than `batch` under the sequence of this retry."""
        entry = self._placed_as(answer)
        if entry is not None and not is_of(entry, batch):
            raise ProtocolError(
                "sequence",
                f"the retry of batch {batch.sequence} is not what was accepted under that sequence: two publishers have "
                "one id",
            )

    def _placed_as(self, answer: PublishAnswer) -> Entry | None:
        """The entry whose receipt is `answer`, while the stream holds it."""
        if isinstance(answer, Promise):
            return next((p.entry for p in self._placed if p.answer is answer), None)
        if isinstance(answer, Rejected):
            return None
        return self.log.entry_at(Position(answer.epoch, answer.first))

    def _judge(
        self,
        batch: Batch,
        publisher: PublisherRecord,
        publisher_id: bytes,
        now: Now,
        appender: Appender,
        rejection: Rejection | None,
    ) -> PublishAnswer | None:
        try:
            batch.check(self.max_message)
        except InvalidTopic as invalid:
            return publisher.refuse(batch, "invalid_topic", str(invalid))
        except MessageTooLarge as large:
            return publisher.refuse(batch, "too_large", str(large), large.size, large.limit)
        if rejection is not None:
            return publisher.refuse(batch, *rejection)
        epoch, first = self.log.newest.epoch, self.placed
        if first + batch.count > MAX_OFFSET:
            detail = f"the stream is at offset {first}, its last is {MAX_OFFSET}"
            return publisher.refuse(batch, "stream_full", detail)
        placing = batch, self.node, epoch, first, now.wall_us, publisher_id
        # Asked before anything is encoded: a publisher that waits asks again and again.
        size = entry_size(*placing)
        if not self.log.fits(batch.count, size):
            return publisher.refuse(batch, *self._too_large(batch.count, size))
        durability = self.durability
        if durability is not None and not durability.admits(appender, batch.count, size):
            return None
        if not self.pacing.admits(appender, (batch.count, size + ITEM_OVERHEAD), now.mono_ns):
            return None
        entry = place_batch(*placing)
        receipt = Receipt(batch.sequence, epoch, first)
        if durability is None or durability.keeps(entry, batch.sequence):
            self._accept(entry, len(batch.payloads))
            return receipt
        answer = Promise()
        self.log.reserve(entry)
        self._placed.append(_Placed(entry, len(batch.payloads), receipt, answer))
        return answer

    def _accept(self, entry: Entry, size: int) -> None:
        self._accepted(entry.next)
        self.log.append(entry)
        self.messages_published += entry.count
        self.bytes_published += size
        if self._published is not None:
            self._published(entry)

    def _too_large(self, count: int, size: int) -> tuple[str, str, int, int]:
        if count > self.log.max_messages:
            code, size, limit, unit = "too_many_messages", count, self.log.max_messages, "messages"
        else:
            code, limit, unit = "too_large", self.log.max_bytes, "bytes"
        detail = f"a batch of {size} {unit} does not fit into the ring, which holds {limit}: publish it in smaller ones"
        return code, detail, size, limit
