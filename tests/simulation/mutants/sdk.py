"""Bugs in the SDK: the messages that a session received and handed out, and the retries of a publisher."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from tests.simulation.mutants.mutant import Mutant, Patch
from tests.simulation.publisher import Publisher

from pubsubd.acks import Acks
from pubsubd.inbox import Inbox
from pubsubd.outbox import Outbox
from pubsubd.resume import Arrived, Event, Moved, SessionState
from pubsubd_broker.core.streams.publishers import PublishAnswer
from pubsubd_broker.core.streams.publishers import PublisherRecord as Answered
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.entries import Batch, Entry
from pubsubd_protocol.frames import CursorExpired as Expired
from pubsubd_protocol.frames import Subscribe
from pubsubd_protocol.positions import Position


def _whole_entry_again() -> list[Patch]:
    def entry(self: SessionState, entry: Entry) -> Arrived | None:
        held = self._held(entry.node)
        self._continues(entry.node, held, entry.first)
        self.received[entry.node] = Position(entry.epoch, entry.next)
        return Arrived(entry, entry.first)

    return [(SessionState, "entry", entry)]


def _asks(instead: Callable[[SessionState, Subscribe], Subscribe]) -> Patch:
    """A session asks for something else than it would."""
    original = SessionState.subscribe

    def subscribe(
        self: SessionState,
        acknowledged: dict[str, Position] | None = None,
        unheard: Mapping[str, float] | None = None,
    ) -> Subscribe:
        return instead(self, original(self, acknowledged, unheard))

    return SessionState, "subscribe", subscribe


def _resumes_from_the_beginning() -> list[Patch]:
    """A reconnect presents one message less than was received, and takes that message again."""

    def lower(self: SessionState, asked: Subscribe) -> Subscribe:
        if asked.positions is None or self._born is None:
            return asked
        lowered = {n: Position(p.epoch, max(0, p.offset - 1)) for n, p in asked.positions.items()}
        return replace(asked, positions=lowered)

    def entry(self: SessionState, entry: Entry) -> Arrived | None:
        self.received[entry.node] = Position(entry.epoch, entry.next)
        return Arrived(entry, entry.first)

    return [_asks(lower), (SessionState, "entry", entry)]


def _forgets_its_birth() -> list[Patch]:
    """A reconnect looks like a resume from another life, and the other way round."""
    return [_asks(lambda _, asked: replace(asked, positions=None, born=None))]


def _moves_dropped() -> list[Patch]:
    original = Inbox.put

    def put(self: Inbox, event: Event) -> None:
        if not isinstance(event, Moved):
            original(self, event)

    return [(Inbox, "put", put)]


def _notices_not_merged_but_dropped() -> list[Patch]:
    def merge(self: Inbox, later: Expired) -> bool:
        return any(isinstance(e, Expired) and e.node == later.node for e in self._events)

    return [(Inbox, "_merge", merge)]


def _positions_run_ahead() -> list[Patch]:
    """The stored position stands behind all that was received, handed out or not."""

    def positions(self: Inbox) -> dict[str, Position]:
        ahead = dict(self._handed)
        if self._at is not None:
            ahead[self._at[0]] = self._at[1]
        return ahead

    return [(Inbox, "positions", positions)]


def _retries_renumbered() -> list[Patch]:
    original = Outbox.disconnected

    def disconnected(self: Outbox, why: str, *, turned_away: bool = False) -> None:
        original(self, why, turned_away=turned_away)
        for outgoing in self._pending:
            if outgoing.batch is not None:
                outgoing.batch.sequence = self._sequence
                self._sequence += 1

    return [(Outbox, "disconnected", disconnected)]


def _copy_keeps_its_id() -> list[Patch]:
    def id_in(self: Publisher, copy: Publisher) -> bytes:
        return self.id

    return [(Publisher, "id_in", id_in)]


def _copy_gets_old_answers() -> list[Patch]:
    """A copy keeps its id, and its broker looks up batches that are not marked as a retry."""
    original = Answered.earlier_answer

    def earlier_answer(self: Answered, sequence: int, retry: bool) -> PublishAnswer | None:
        new = not retry and sequence > self.last
        return None if new else original(self, sequence, True)

    def check_same(self: Stream, batch: Batch, answer: PublishAnswer) -> None:
        pass

    return [
        *_copy_keeps_its_id(),
        (Answered, "earlier_answer", earlier_answer),
        (Stream, "_check_same", check_same),
    ]


def _resumes_done_with_all() -> list[Patch]:
    """A resume does not name the messages that the application is done with: a broker takes all received ones for it."""
    return [_asks(lambda _, asked: replace(asked, acknowledged=None))]


def _acknowledges_once() -> list[Patch]:
    """A resume leaves out earlier acknowledgements."""

    def resumes(self: Acks, settled: Mapping[str, Position]) -> dict[str, Position]:
        return {ack.node: ack.position for ack in self.due(settled, settled, None)}

    return [(Acks, "resumes", resumes)]


def _manual_falls_back() -> list[Patch]:
    """A session that acknowledges by hand forgets the places that it passed without a message."""
    original = Acks.handed

    def handed(self: Acks, node: str, epoch: str, first: int, last: int) -> None:
        held = self._acknowledged.get(node)
        original(self, node, epoch, first, last)
        if held is not None:
            self._acknowledged[node] = held

    return [(Acks, "handed", handed)]


SDK = (
    Mutant("entry received twice is handed out twice", 100, _whole_entry_again),
    Mutant("reconnect one message back", 100, _resumes_from_the_beginning),
    Mutant("reconnect without positions", 40, _forgets_its_birth),
    Mutant("moves dropped", 20, _moves_dropped),
    Mutant("second notice dropped", 100, _notices_not_merged_but_dropped),
    Mutant("position ahead of what was handed out", 40, _positions_run_ahead),
    Mutant("retries renumbered", 100, _retries_renumbered),
    Mutant("copy of a publisher keeps its id", 20, _copy_keeps_its_id),
    Mutant("copy of a publisher gets old answers", 20, _copy_gets_old_answers),
    Mutant("resume done with all that was received", 1200, _resumes_done_with_all),
    Mutant("acknowledged by hand, backwards", 600, _manual_falls_back),
    Mutant("acknowledged once, not at every resume", 1000, _acknowledges_once),
)
