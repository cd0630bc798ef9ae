"""Batches that are published and not yet answered: window, retries, receipts, deadlines. Pure.

Batches go from `open` to `pending` (sealed, not written on this connection) to `in_flight` (written,
not answered). A lost connection puts `in_flight` back before `pending`, to be sent again as retries.
A batch gets its sequence when it is first written, so sequences rise by one without a hole.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from pubsubd.batching import BatchFailed, BatchLimits, OutgoingBatch, Placed
from pubsubd.errors import BrokerUnavailable, PublishRejected, PublishUnknown, PubSubError
from pubsubd_protocol.entries import encode_batch
from pubsubd_protocol.errors import MessageTooLarge, ProtocolError
from pubsubd_protocol.frames import Receipt, Rejected, Welcome

MAX_UNANSWERED_BYTES = 8 * 1024 * 1024
LONGEST_OPEN_S = 0.05
"""Longest time in seconds for which a batch stays open for more messages while nothing can be written."""

NEARLY_FULL_BYTES = 4096
"""A batch with less room than this is sealed, not kept open for another small message."""

AT_ONCE = 64
"""Messages of one call that are checked together."""

NO_ANSWER = "the broker does not answer"


class Outbox:
    """A client's published batches, in order."""

    def __init__(self, socket: str) -> None:
        self.full = False
        """Whether a pipelined sender should wait. Cleared when half of the bound is free again."""
        self.sealed = 0
        """Number of batches sealed so far: closed for further messages."""
        self.opened = 0
        """Number of batches opened so far, each for its first message."""
        self.lost_because = NO_ANSWER
        self._socket = socket
        self._node = ""
        self._connected = False
        self._window = 1
        self._limits: BatchLimits | None = None
        self._max_message = -1
        self._open: OutgoingBatch | None = None
        self._unstamped: list[OutgoingBatch] = []
        self._pending: deque[OutgoingBatch] = deque()
        self._in_flight: deque[OutgoingBatch] = deque()
        self._unanswered_bytes = 0
        self._sequence = 0

    def connected(self, welcome: Welcome) -> list[OutgoingBatch]:
        """Begin a new connection. `writable` gives the buffers to send on it, retries first.

        Returns the failed batches: those made for an earlier life of the broker, with a frame longer than the new
        life's `max_frame`. They cannot be split: a retry must equal the first attempt, and receipts count from a
        batch's first message. They fail with `MessageTooLarge`, or with `PublishUnknown` if the earlier life may have
        accepted them. The broker checks all other limits.
        """
        self._limits = BatchLimits(welcome)
        self._connected = True
        self.lost_because = NO_ANSWER
        self._node = welcome.node
        self._window = max(1, welcome.window)
        self._max_message = self._limits.max_message
        # Begin a new batch: later messages obey the new limits.
        self._seal()
        max_frame = welcome.max_frame
        too_long = [outgoing for outgoing in self._pending if outgoing.frame_bytes > max_frame]
        for outgoing in too_long:
            self._pending.remove(outgoing)
            self._end(outgoing, BatchFailed(_unreadable(outgoing, max_frame)))
        self._review()
        return too_long

    def disconnected(self, why: str, *, turned_away: bool = False) -> None:
        """Keep unanswered batches for a retry. `turned_away`: the broker said that it accepted none of them."""
        self._connected = False
        self.lost_because = why
        unanswered = [outgoing for outgoing in self._in_flight if outgoing.outcome is None]
        self._in_flight.clear()
        for outgoing in unanswered:
            assert outgoing.batch is not None
            if turned_away and not outgoing.batch.retry:
                outgoing.may_stand = False
            else:
                outgoing.batch.retry = True
        self._pending.extendleft(reversed(unanswered))
        self._review()

    def disowned(self, why: str) -> list[OutgoingBatch]:
        """Begin anew after the loss of connection and publisher id. Returns the batches that fail by it.

        A batch that may be in the stream under the old id is not sent again: under a new id it could be placed twice.
        """
        self.disconnected(why)
        return [
            self._give_up(outgoing, "and the broker ended this publisher")
            for outgoing in list(self._pending)
            if outgoing.may_stand
        ]

    def put(self, topic: str, payload: bytes, to: str | None, timeout_s: float) -> OutgoingBatch:
        """Add a message to the open batch, or to a new one. Returns that batch.

        Raises `InvalidTopic` or `MessageTooLarge`, and then changes nothing.
        """
        size = len(payload)
        if size > self._max_message:
            raise MessageTooLarge("a message", size, self._max_message)
        batch = self._open
        if (
            batch is None
            or size + batch.cost > batch.room
            or to != batch.to
            or timeout_s != batch.timeout_s
        ):
            batch = self._reopen(topic, to, timeout_s)
        # Not by a method of the batch: another call would add a tenth to the cost of a message.
        which = batch.topics.get(topic)
        if which is None:
            which = batch.number(topic)
            if which is None:
                batch = self._reopen(topic, to, timeout_s)
                which = 0
        batch.index.append(which)
        batch.payloads.append(payload)
        room = batch.room = batch.room - size - batch.cost
        if room < NEARLY_FULL_BYTES:
            self._seal()
        return batch

    def put_many(
        self, topic: str, payloads: Sequence[bytes], to: str | None, timeout_s: float
    ) -> list[tuple[OutgoingBatch, int, int]]:
        """Add messages of one topic in order. Returns runs of them: the batch, the first message's number, the count.

        Raises like `put`, and then changes nothing.
        """
        largest = max(map(len, payloads), default=0)
        if largest > self._max_message:
            raise MessageTooLarge("a message", largest, self._max_message)
        runs: list[tuple[OutgoingBatch, int, int]] = []
        for at in range(0, len(payloads), AT_ONCE):
            some = payloads[at : at + AT_ONCE]
            size = sum(map(len, some))
            batch = self._open
            if (
                batch is not None
                and size + len(some) * batch.cost + NEARLY_FULL_BYTES <= batch.room
                and to == batch.to
                and timeout_s == batch.timeout_s
                and batch.number(topic) is not None
            ):
                first = batch.count
                batch.extend(topic, some, size)
                _join(runs, batch, first, len(some))
            else:
                for payload in some:
                    batch = self.put(topic, payload, to, timeout_s)
                    _join(runs, batch, batch.count - 1, 1)
        return runs

    @property
    def in_flight(self) -> bool:
        """Whether a batch is written and not answered."""
        return bool(self._in_flight)

    @property
    def unwritten(self) -> bool:
        """Whether messages wait that were not written on this connection."""
        return self._open is not None or bool(self._pending)

    @property
    def lone(self) -> bool:
        """Whether one message is unanswered, and it is not written."""
        opened = self._open
        return (
            opened is not None and opened.count == 1 and not self._pending and not self._in_flight
        )

    def end_turn(self, now: float) -> float | None:
        """End the turn of the event loop: its messages may go out. Returns the earliest new deadline."""
        earliest = self._stamp(now)
        batch = self._open
        if (
            batch is not None
            and batch.opened_at is not None
            and now - batch.opened_at >= LONGEST_OPEN_S
        ):
            self._seal()
        return earliest

    def writable(self) -> list[bytes]:
        """The buffers to write now, as far as the window allows."""
        buffers: list[bytes] = []
        if not self._connected:
            return buffers
        while len(self._in_flight) < self._window:
            if not self._pending:
                if self._open is None or self._open.opened_at is None:
                    break  # The batch's turn is not over: more messages may come.
                self._seal()
            outgoing = self._pending.popleft()
            batch = outgoing.batch
            if batch is None:
                batch = outgoing.write_as(self._sequence)
                self._sequence += 1
            outgoing.may_stand = True
            self._in_flight.append(outgoing)
            buffers.extend(encode_batch(batch))
        return buffers

    def receipt(self, receipt: Receipt) -> OutgoingBatch | None:
        """The batch that was accepted; None if the client had given it up."""
        outgoing = self._answered(receipt.sequence)
        if outgoing is None:
            return None
        return self._end(outgoing, Placed(self._node, receipt.epoch, receipt.first))

    def rejected(self, rejected: Rejected) -> OutgoingBatch | None:
        """The batch that was refused; None if the client had given it up."""
        outgoing = self._answered(rejected.sequence)
        return None if outgoing is None else self._end(outgoing, BatchFailed(_rejection(rejected)))

    def expire(self, now: float) -> list[OutgoingBatch]:
        """Give up the batches whose deadline has come."""
        due = [o for o in self.unfinished() if o.deadline is not None and o.deadline <= now]
        return [self._give_up(o, f"no answer within {o.timeout_s:g} s", o.timeout_s) for o in due]

    def give_up_all(self, why: str) -> list[OutgoingBatch]:
        """Give up all batches, for the reason `why`."""
        return [self._give_up(outgoing, why) for outgoing in list(self.unfinished())]

    def next_deadline(self) -> float | None:
        return min((o.deadline for o in self.unfinished() if o.deadline is not None), default=None)

    def unfinished(self) -> Iterator[OutgoingBatch]:
        for outgoing in self._in_flight:
            if outgoing.outcome is None:
                yield outgoing
        yield from self._pending
        if self._open is not None:
            yield self._open

    def _stamp(self, now: float) -> float | None:
        earliest: float | None = None
        for batch in self._unstamped:
            batch.opened_at = now
            batch.deadline = now + batch.timeout_s
            if earliest is None or batch.deadline < earliest:
                earliest = batch.deadline
        self._unstamped.clear()
        return earliest

    def _reopen(self, topic: str, to: str | None, timeout_s: float) -> OutgoingBatch:
        """Open the next batch, for a first message on `topic`. Raises `InvalidTopic`, and then changes nothing."""
        assert self._limits is not None
        fresh = OutgoingBatch(topic, to, timeout_s, self._limits)
        self._seal()
        self._open = fresh
        self.opened += 1
        self._unstamped.append(fresh)
        return fresh

    def _seal(self) -> None:
        if self._open is not None:
            self._open.seal()
            self._unanswered_bytes += self._open.size
            self._pending.append(self._open)
            self._open = None
            self.sealed += 1
            self._review()

    def _answered(self, sequence: int) -> OutgoingBatch | None:
        outgoing = self._in_flight[0] if self._in_flight else None
        if outgoing is None or outgoing.batch is None or outgoing.batch.sequence != sequence:
            raise ProtocolError(
                "unexpected_answer",
                f"the broker answered batch {sequence}, which is not the next one due",
            )
        self._in_flight.popleft()
        if outgoing.outcome is None:
            return outgoing
        self._review()
        return None

    def _give_up(
        self, outgoing: OutgoingBatch, why: str, timeout_s: float | None = None
    ) -> OutgoingBatch:
        error: PubSubError
        why = f"{why} ({self.lost_because})"
        if outgoing.may_stand:
            error = PublishUnknown(f"the client sent it, {why}", timeout_s)
        else:
            error = BrokerUnavailable(self._socket, why, timeout_s)
        if outgoing is self._open:
            self._seal()
        # A batch in flight keeps its place in the window: its answer may still come.
        if outgoing in self._pending:
            self._pending.remove(outgoing)
        return self._end(outgoing, BatchFailed(error))

    def _end(self, outgoing: OutgoingBatch, outcome: Placed | BatchFailed) -> OutgoingBatch:
        outgoing.outcome = outcome
        self._unanswered_bytes -= outgoing.size
        self._review()
        return outgoing

    def _review(self) -> None:
        batches = len(self._pending) + len(self._in_flight)
        if self.full:
            self.full = (
                2 * batches > self._window or 2 * self._unanswered_bytes > MAX_UNANSWERED_BYTES
            )
        else:
            self.full = batches >= self._window or self._unanswered_bytes >= MAX_UNANSWERED_BYTES


def _join(
    runs: list[tuple[OutgoingBatch, int, int]], batch: OutgoingBatch, first: int, count: int
) -> None:
    """Add `count` messages to `runs`; the first is number `first` of `batch`."""
    if runs and runs[-1][0] is batch:
        _, began, before = runs[-1]
        runs[-1] = batch, began, before + count
    else:
        runs.append((batch, first, count))


def _unreadable(outgoing: OutgoingBatch, max_frame: int) -> PubSubError:
    size = outgoing.frame_bytes
    if outgoing.may_stand:
        return PublishUnknown(
            f"the client sent it; the restarted broker takes frames of at most {max_frame} bytes, and this one "
            f"has up to {size}, so the client cannot send it again"
        )
    return MessageTooLarge(
        f"a batch of {outgoing.count} messages, made before the broker was restarted,",
        size,
        max_frame,
    )


def _rejection(rejected: Rejected) -> PubSubError:
    match rejected.code:
        case "too_large" | "too_many_messages" as code:
            unit = "bytes" if code == "too_large" else "messages"
            return MessageTooLarge("a batch", rejected.size or 0, rejected.limit or 0, unit)
        case "unknown":
            return PublishUnknown(rejected.detail)
        case code:
            return PublishRejected(code, rejected.detail, rejected.size, rejected.limit)
