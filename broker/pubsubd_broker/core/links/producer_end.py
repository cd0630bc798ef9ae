"""The producer's end of a peer link: serves this node's stream to one consumer node."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from pubsubd_broker.core.limits import FETCH_BYTES, MAX_FETCHES, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.log.cursor import Cursor, Stop, read
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.streams.catch_up import CatchUps
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import At, Claim, Expired, Resume, Verdict, resolve, short
from pubsubd_protocol.codec import MAX_CONTROL_BYTES
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import (
    Ack,
    Attach,
    Attached,
    CursorExpired,
    Fetch,
    Fetched,
    Frame,
    Heartbeat,
)
from pubsubd_protocol.positions import NO_EPOCH, Position, StreamView

NOTHING: Final = StreamView(NO_EPOCH, (), 0, 0)
"""The view of a stream that was never met."""


class ConsumerTable(Protocol):
    """The consumers that are linked, and their answers."""

    def attaches(self, end: ProducerEnd) -> bool:
        """A consumer asks for the stream: from now on this is its link. False: it is refused."""

    def consumer_attached(self, end: ProducerEnd, claim: Claim, answer: Verdict, now: Now) -> None:
        """The consumer has its answer to the attach."""

    def consumer_overrun(self, consumer: str, expired: Expired) -> None:
        """The consumer's cursor expired on a live link, and the consumer is being told."""

    def consumer_lost(self, end: ProducerEnd, now: Now) -> None:
        """The link of the consumer is gone."""


class ProducerEnd:
    """The cursor of one consumer over the ring. Sending moves `_cursor`; only acknowledgements move the registry."""

    role = "consumer"
    has_last_words = False
    beats = True
    longest_frame = MAX_CONTROL_BYTES

    def __init__(
        self,
        connection: Connection,
        consumer: str,
        epoch: bytes,
        *,
        stream: Stream,
        registry: CursorRegistry,
        consumers: ConsumerTable,
        replica_of: Callable[[str], Replica | None],
    ) -> None:
        """`replica_of`: finds the replica of the consumer's own stream, which the consumer may ask for."""
        self.consumer = consumer
        self.epoch = epoch
        """The consumer broker's own: tells a reconnect from a second broker of that name."""
        self.connection = connection
        self._stream = stream
        self._registry = registry
        self._consumers = consumers
        self._replica_of = replica_of
        self._cursor: Cursor | None = None
        self.index: int | None = None
        self._fetches: deque[Fetch] = deque()
        self._fetched_last = False
        self._catch_ups = CatchUps(self._stream.pacing, consumer)
        self._recovers = False
        self.acknowledged = 0

    def received(self, frame: Frame, now: Now) -> bool:
        match frame:
            case Attach() if self._cursor is None:
                self._attach(frame, now)
            case Ack() if self._cursor is not None:
                self._acknowledge(frame, now)
            case Fetch() if self._cursor is not None or frame.stream is not None:
                if frame.stream not in (None, self.consumer):
                    raise ProtocolError(
                        "fetch", f"{self.consumer} asked for the stream of {frame.stream}"
                    )
                if len(self._fetches) >= MAX_FETCHES:
                    raise ProtocolError(
                        "fetch",
                        f"{len(self._fetches) + 1} fetches at once, allowed are {MAX_FETCHES}",
                    )
                self._fetches.append(frame)
                self.connection.wake()
            case Heartbeat():
                pass
            case _:
                raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a consumer")
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        if self._cursor is None and not self._fetches:
            return False
        # They take turns: neither a live backlog nor fetches without end may starve the other.
        self._fetched_last = bool(self._fetches) and not self._fetched_last
        if self._fetched_last:
            self._answer(self._fetches.popleft(), out)
        if self._cursor is None:
            return bool(self._fetches)
        more = self._read(self._cursor, out)
        if not more:
            self._stream.log.wait(self.connection.wake)
        return more or bool(self._fetches)

    @property
    def label(self) -> str:
        return self.consumer

    def heartbeat(self) -> Heartbeat:
        return Heartbeat(self._stream.next)

    @property
    def settled(self) -> bool:
        """Whether it has attached, or asked for its own stream."""
        return self._cursor is not None or self._recovers

    @property
    def drained(self) -> bool:
        """Whether the consumer has acknowledged everything."""
        return self._cursor is None or self.acknowledged == self._stream.next

    def tick(self, now: Now) -> None:
        """Waits for no time."""

    def farewell(self, now: Now) -> None:
        """Says nothing more."""

    def lost(self, now: Now) -> None:
        self._stream.log.forget(self.connection.wake)
        self._stream.pacing.leave(self)
        self._catch_ups.close()
        self._consumers.consumer_lost(self, now)

    def _attach(self, attach: Attach, now: Now) -> None:
        if not self._consumers.attaches(self):
            return
        registered = self._registry.get(self.consumer)
        cursor = registered.cursor if registered is not None else None
        named = dict(registered.named) if registered is not None else {}
        view, answer = self._stream.answer(attach.claim, cursor)
        offset = answer.offset if isinstance(answer, Resume) else answer.next
        self._cursor = Cursor(self._stream.node, view.place(offset))
        self.acknowledged = offset
        elsewhere = registered.places if registered is not None else {}
        self.connection.send(Attached(view, short(answer), cursor, named, elsewhere))
        self._consumers.consumer_attached(self, attach.claim, answer, now)

    def _acknowledge(self, ack: Ack, now: Now) -> None:
        assert self._cursor is not None
        sent = self._cursor.position
        offset = ack.position.offset
        if ack.node != self._stream.node or not self._stream.view.contains(ack.position):
            raise ProtocolError("ack", f"{self.consumer} acknowledged another stream or history")
        view = self._stream.view
        if offset < self.acknowledged or view.is_before(sent, ack.position):
            raise ProtocolError(
                "ack",
                f"{self.consumer} acknowledged {offset}, sent were {self.acknowledged}..{sent.offset}",
            )
        for name, position in ack.named.items():
            if position is None or position.epoch != self._stream.epoch:
                continue  # The ends of other epochs are not known here.
            # Messages fetched for that session may be ahead of those sent for all sessions.
            if position.offset > self._stream.next:
                raise ProtocolError(
                    "ack",
                    f"{self.consumer} acknowledged {position.offset} for session {name!r}, the stream is at "
                    f"{self._stream.next}",
                )
        if any(self._stream.node in positions for positions in ack.elsewhere.values()):
            raise ProtocolError("ack", f"{self.consumer} names this stream among the other ones")
        self.acknowledged = offset
        self._registry.acknowledge(
            self.consumer, ack.position, ack.named, now.mono_ns, ack.elsewhere
        )

    def _read(self, cursor: Cursor, out: Outgoing) -> bool:
        log = self._stream.log
        while not out.full:
            if self.index is None:
                self.index = log.locate(cursor.position)
                self._stream.pacing.enter(self)
            if self.index is None:
                self._overrun(cursor, out)
                continue
            index, stop = read(cursor, log, self.index, self._choose, out)
            self.index = index
            if stop is Stop.OVERRUN:
                self.index = None
            elif stop is Stop.GAP:
                self._overrun(cursor, out)
                self.index = index + 1
            elif stop is Stop.END:
                cursor.settle(out)
                return False
        cursor.settle(out)
        return True

    def _overrun(self, cursor: Cursor, out: Outgoing) -> None:
        """The ring overtook the connected consumer, or has a gap there: it is told at this place, and goes on at `next`."""
        view, answer = self._stream.answer(At(cursor.position))
        assert isinstance(answer, Expired), "a position that the ring holds is found in it"
        cursor.settle(out)
        out.frame(
            CursorExpired(self._stream.node, answer.reason, answer.missed, view.until(answer.next))
        )
        cursor.jump(view.place(answer.next))
        self._consumers.consumer_overrun(self.consumer, answer)

    def _answer(self, fetch: Fetch, out: Outgoing) -> None:
        if fetch.stream is not None:
            self._recovers = True
            self._serve_recovery(fetch, out)
            return
        view, answer = self._stream.answer(fetch.claim)
        part = Outgoing(min(fetch.budget, FETCH_BYTES))
        if not isinstance(answer, Resume) or not part.budget:
            self._catch_ups.ends(fetch.claim)
        else:
            log = self._stream.log
            cursor = Cursor(self._stream.node, view.place(answer.offset))
            index = log.locate(cursor.position)
            assert index is not None, "where a reader resumes is in the ring"
            reader = self._catch_ups.goes_on(fetch.claim, index)
            index, _ = read(cursor, log, index, self._choose, part)
            cursor.settle(part)
            self._catch_ups.reads_to(reader, cursor.position, index)
        out.frame(Fetched(fetch.id, view, short(answer), part.frames))
        out.extend(part)

    def _serve_recovery(self, fetch: Fetch, out: Outgoing) -> None:
        """Sends what this node's replica holds of the consumer's own stream."""
        replica = self._replica_of(self.consumer)
        part = Outgoing(min(fetch.budget, FETCH_BYTES))
        view = replica.unbroken if replica is not None else NOTHING
        answer = resolve(fetch.claim, view)
        if replica is not None and part.budget and isinstance(answer, Resume):
            # At its end a gap may follow, of which it knows: it has nothing from behind that.
            at_end = answer.offset == view.next
            start = replica.log.end_position if at_end else view.place(answer.offset)
            cursor = Cursor(self.consumer, start)
            index = replica.log.locate(cursor.position)
            assert index is not None, "what is unbroken is in the log"
            read(cursor, replica.log, index, lambda entry: entry, part)
        registered = self._registry.get(self.consumer)
        if registered is not None and not part.budget:
            # Only the question how far the replica reaches has no budget: it comes first, and once.
            named: dict[str, Position | None] = {**registered.named}
            out.frame(Ack(self._stream.node, registered.cursor, named, elsewhere=registered.places))
        other_epochs = replica.other_epochs if replica is not None else ()
        out.frame(Fetched(fetch.id, view, short(answer), part.frames, other_epochs))
        out.extend(part)

    def _choose(self, entry: Entry) -> Entry | None:
        return entry if entry.to is None or entry.to == self.consumer else None
