"""The consumer's end of a peer link: pulls a peer's stream into the replica, and fetches for those behind."""

from __future__ import annotations

from collections import deque
from typing import Final, Protocol

from pubsubd_broker.core.limits import ACK_DELAY_NS, ACK_MESSAGES, ITEM_OVERHEAD, MAX_FETCHES, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.links.fetch_budget import FetchBudget
from pubsubd_broker.core.links.remembered_names import RememberedNames
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.streams.fetching import LaggingReader
from pubsubd_broker.core.streams.replica import Replica, check_origin, check_replica_view
from pubsubd_protocol.attach import At, Claim, Reason, Resume, Verdict, asked, resolve, short
from pubsubd_protocol.entries import MAX_ENTRY_OVERHEAD, Entry
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
    Skip,
)
from pubsubd_protocol.positions import MAX_OFFSET, Position, StreamView

LEAST_SKIP_BYTES: Final = 28
"""No encoded skip is shorter."""


class _Fetching:
    """A fetch under way: for whom, and what has come of it."""

    __slots__ = ("budget", "bytes", "claim", "items", "left", "reader")

    def __init__(self, reader: LaggingReader, claim: Claim, budget: int) -> None:
        self.reader = reader
        self.claim = claim
        self.budget = budget
        self.items: list[Entry | Skip] = []
        self.bytes = 0
        self.left = 0


class ProducerTable(Protocol):
    """The producers that this node has met."""

    def claim_of(self, producer: str) -> Claim:
        """The claim that this node presents to `producer`."""

    def producer_attached(self, end: ConsumerEnd, attached: Attached, answer: Verdict) -> Replica:
        """The producer has answered the attach. Returns the replica of its stream."""

    def registration_expired(self, producer: str, expired: CursorExpired) -> None:
        """The producer has told, on a live link, that its ring went past."""

    def producer_lost(self, end: ConsumerEnd, now: Now) -> None:
        """The link to the producer is gone."""


class ConsumerEnd:
    """Attaches once; a reconnect is a new link with a new one of these."""

    role = "producer"
    has_last_words = False
    beats = True

    def __init__(
        self,
        connection: Connection,
        target: Target,
        producer: str,
        epoch: bytes,
        *,
        reader: str,
        max_frame: int,
        producers: ProducerTable,
        places: RememberedNames,
        fetch_budget: FetchBudget,
        events: Events,
    ) -> None:
        """`reader`: the name of this node. `max_frame`: the longest publish that is accepted."""
        self.producer = producer
        self.target = target
        self.epoch = epoch
        self.replica: Replica | None = None
        """Set once the producer has answered the attach."""
        self.producer_next: int | None = None
        self.longest_frame = max_frame + MAX_ENTRY_OVERHEAD
        self._reader = reader
        self._connection = connection
        self._producers = producers
        self._places = places
        self._fetch_budget = fetch_budget
        self._events = events
        self._acknowledged = -1
        self._ack_due_ns: int | None = None
        self._fetch_id = 0
        self._fetching: dict[int, _Fetching] = {}
        self._waiting: deque[_Fetching] = deque()
        # The fetch whose entries are coming in, between its answer and its last frame.
        self._incoming: tuple[_Fetching, Fetched] | None = None
        self._claim = asked(producers.claim_of(producer))
        connection.send(Attach(self._claim))

    def received(self, frame: Frame, now: Now) -> bool:
        if self.replica is None:
            if isinstance(frame, Attached):
                self._attached(frame, now)
            elif not isinstance(frame, Heartbeat):
                raise ProtocolError(
                    "unexpected_frame", f"{type(frame).__name__} before the attach is answered"
                )
            return True
        match frame:
            case Entry() | Skip() if self._incoming is not None:
                self._fetched_item(self.replica, *self._incoming, frame)
                return True
            case _ if self._incoming is not None:
                raise ProtocolError(
                    "unexpected_frame", f"{type(frame).__name__} among what was fetched"
                )
            case Entry() | Skip():
                cost = frame.count, frame.size + ITEM_OVERHEAD
                if not self.replica.pacing.admits(self._connection, cost, now.mono_ns):
                    return False
                self.replica.append(frame)
                self._events.counters.received(self.producer, frame)
            case CursorExpired():
                self.replica.expired(frame)
                self._producers.registration_expired(self.producer, frame)
            case Fetched():
                self._fetched(frame)
                return True
            case Heartbeat(following):
                self._heartbeat(self.replica, following)
                return True
            case _:
                raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a producer")
        # The replica goes further than before: the producer is to know, soon.
        if self.replica.log.newest.next - self._acknowledged >= ACK_MESSAGES:
            self._acknowledge(now)
        elif self._ack_due_ns is None:
            self._ack_due_ns = now.mono_ns + ACK_DELAY_NS
        return True

    def fetch(self, reader: LaggingReader, claim: Claim, budget: int) -> bool:
        """Asks the producer on behalf of one session; further ones than a few wait their turn."""
        if self.replica is None:
            return False
        self._waiting.append(_Fetching(reader, claim, budget))
        if budget and reader.catches_up():
            view = self.replica.log.view
            self._events.session_lagged(self.producer, reader.position, view)
        self._send_fetches()
        return True

    def named_moved(self, now: Now) -> None:
        """A named session acknowledged something: the producer is to know, soon."""
        if self._ack_due_ns is None and self.replica is not None:
            self._ack_due_ns = now.mono_ns + ACK_DELAY_NS

    def places_moved(self) -> None:
        """A named session moved in some stream: the producer is to know, in its time."""
        self._places.moved()

    def pull(self, out: Outgoing, now: Now) -> bool:
        return False

    def heartbeat(self) -> Heartbeat:
        return Heartbeat()

    @property
    def settled(self) -> bool:
        return self.replica is not None

    @property
    def lag(self) -> int | None:
        """Messages that the producer is known to have beyond the replica."""
        if self.replica is None or self.producer_next is None:
            return None
        return max(0, self.producer_next - self.replica.log.newest.next)

    def tick(self, now: Now) -> None:
        acks = self._ack_due_ns is not None and now.mono_ns >= self._ack_due_ns
        if self.replica is not None and (acks or self._places.due(now)):
            self._acknowledge(now)

    def farewell(self, now: Now) -> None:
        """Says no more than `acknowledge`, behind the last words to sessions."""

    def acknowledge(self, now: Now) -> None:
        """Tells the producer all that is acknowledged, now: this node is about to go."""
        self._places.hurry()
        if self.replica is not None:
            self._acknowledge(now)

    def lost(self, now: Now) -> None:
        unanswered = [*self._fetching.values(), *self._waiting]
        self._fetching.clear()
        self._waiting.clear()
        self._incoming = None
        if self.replica is not None:
            self.replica.pacing.forget(self._connection)
        for fetching in unanswered:
            fetching.reader.link_lost()
        self._producers.producer_lost(self, now)

    def _attached(self, attached: Attached, now: Now) -> None:
        self.producer_next = attached.view.next
        answer = self._judged(self._claim, attached.view, attached.answer, attached.registered)
        self.replica = self._producers.producer_attached(self, attached, answer)
        self._places.begin(attached.named)
        self._acknowledge(now)

    def _heartbeat(self, replica: Replica, following: int | None) -> None:
        if following is None:
            return
        least = max(self.producer_next or 0, replica.log.newest.next)
        if not least <= following <= MAX_OFFSET:
            raise ProtocolError(
                "offset", f"{self.producer} says that it is at {following}, it was at {least}"
            )
        self.producer_next = following

    def _acknowledge(self, now: Now) -> None:
        assert self.replica is not None
        self._ack_due_ns = None
        registration = self.replica.registration
        self._acknowledged = registration.offset
        moves = self._places.moves(self.replica)
        elsewhere = self._places.moves_elsewhere(moves, now)
        self._connection.send(Ack(self.producer, registration, moves, elsewhere=elsewhere))

    def _send_fetches(self) -> None:
        while self._waiting and len(self._fetching) < MAX_FETCHES:
            fetching = self._waiting.popleft()
            if fetching.budget and not fetching.reader.awaits(fetching.claim):
                continue
            self._fetch_id += 1
            self._fetching[self._fetch_id] = fetching
            self._connection.send(Fetch(self._fetch_id, fetching.claim, fetching.budget))

    def _fetched(self, fetched: Fetched) -> None:
        fetching = self._fetching.pop(fetched.id, None)
        if fetching is None:
            raise ProtocolError(
                "fetch", f"{self.producer} answered fetch {fetched.id}, which was not asked"
            )
        fetching.left = fetched.count
        if fetched.count:
            self._incoming = (fetching, fetched)
        else:
            self._finish(fetching, fetched)

    def _fetched_item(
        self, replica: Replica, fetching: _Fetching, fetched: Fetched, item: Entry | Skip
    ) -> None:
        check_origin(item, self.producer, self._reader)
        if not isinstance(fetched.answer, Resume):
            raise ProtocolError("fetch", f"{self.producer} sent messages to an expired cursor")
        expected = fetching.items[-1].next if fetching.items else fetched.answer.offset
        if item.first != expected and (fetching.items or not item.first < expected < item.next):
            raise ProtocolError(
                "offset",
                f"{self.producer} sent {item.first}..{item.next} where {expected} comes next",
            )
        # A producer that reaches the budget stops there, and can only add what was skipped at the end.
        last_skip = isinstance(item, Skip) and fetching.left == 1
        if fetching.bytes >= fetching.budget and not last_skip:
            raise ProtocolError(
                "fetch",
                f"{self.producer} sent more than the {fetching.budget} bytes that were asked",
            )
        if not fetched.view.covers(item.epoch, item.next):
            raise ProtocolError(
                "epoch",
                f"{self.producer} sent {item.first}..{item.next} of {item.epoch.hex()}, by its own view "
                f"that ends at {fetched.view.reach(item.epoch)}",
            )
        if isinstance(item, Entry) and replica.contradicts(item):
            raise ProtocolError(
                "content",
                f"{self.producer} sent other bytes for {item.first}..{item.next} than before",
            )
        fetching.items.append(item)
        fetching.bytes += item.size if isinstance(item, Entry) else LEAST_SKIP_BYTES
        fetching.left -= 1
        if fetching.left == 0:
            self._incoming = None
            self._finish(fetching, fetched)

    def _finish(self, fetching: _Fetching, fetched: Fetched) -> None:
        answer = self._judged(fetching.claim, fetched.view, fetched.answer)
        reader, items = fetching.reader, fetching.items
        wanted = reader.awaits(fetching.claim)
        reader.fetched(fetching.claim, fetched.view, answer, items)
        if items and wanted:
            self._fetch_budget.given(reader)
        elif items:
            # The reader that asked is gone; the producer need not keep what would have come next.
            self.fetch(reader, At(Position(items[-1].epoch, items[-1].next)), 0)
        self._send_fetches()

    def _judged(
        self,
        claim: Claim,
        view: StreamView,
        said: Resume | Reason,
        registered: Position | None = None,
    ) -> Verdict:
        """The producer's answer with its figures; both ends go by one rule, so what it said has to agree."""
        check_replica_view(view, self.producer)
        answer = resolve(asked(claim), view, registered)
        if short(answer) != said:
            raise ProtocolError(
                "attach", f"{self.producer} answered {said}, by its own view it is {answer}"
            )
        return resolve(claim, view, registered)
