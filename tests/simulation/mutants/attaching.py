"""Bugs in the places where readers go on: the attach rule, first contact, the registry, the lineage."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from tests.simulation.mutants.mutant import Mutant, Patch

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links import consumer_end
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions import reading, starts
from pubsubd_broker.core.sessions.session import Session
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.sessions.source import Source
from pubsubd_broker.core.streams import stream
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol import attach
from pubsubd_protocol.attach import (
    At,
    Claim,
    Earliest,
    Expired,
    FromStart,
    Remembered,
    Resume,
    Verdict,
)
from pubsubd_protocol.frames import Ack, Attach, Attached, Subscribe
from pubsubd_protocol.positions import Epoch, Position, StreamView


def _epoch_not_compared() -> list[Patch]:
    def at(position: Position, view: StreamView) -> Verdict:
        return attach._within(Position(view.epoch, min(position.offset, view.next)), view)

    return [(attach, "_at", at)]


def _lineage_end_one_too_far() -> list[Patch]:
    def reach(self: StreamView, epoch: Epoch) -> int | None:
        if epoch == self.epoch:
            return self.next
        return next((end + 1 for earlier, end in self.lineage if earlier == epoch), None)

    return [(StreamView, "reach", reach)]


def _lineage_end_one_too_near() -> list[Patch]:
    def reach(self: StreamView, epoch: Epoch) -> int | None:
        if epoch == self.epoch:
            return self.next
        return next((end - 1 for earlier, end in self.lineage if earlier == epoch), None)

    return [(StreamView, "reach", reach)]


def _lineage_not_read() -> list[Patch]:
    def reach(self: StreamView, epoch: Epoch) -> int | None:
        return self.next if epoch == self.epoch else None

    return [(StreamView, "reach", reach)]


def _resume_at_next() -> list[Patch]:
    def within(position: Position, view: StreamView) -> Verdict:
        offset = position.offset
        if offset < view.oldest:
            return Expired(attach.Reason.OVERWRITTEN, view.next, view.next - offset)
        return Resume(view.next)

    return [(attach, "_within", within)]


def _oldest_refused() -> list[Patch]:
    def within(position: Position, view: StreamView) -> Verdict:
        offset = position.offset
        if offset <= view.oldest < view.next:
            return Expired(attach.Reason.OVERWRITTEN, view.next, view.next - offset)
        return Resume(offset)

    return [(attach, "_within", within)]


def _one_before_oldest_resumed() -> list[Patch]:
    def within(position: Position, view: StreamView) -> Verdict:
        offset = position.offset
        if offset < view.oldest - 1:
            return Expired(attach.Reason.OVERWRITTEN, view.next, view.next - offset)
        return Resume(max(offset, view.oldest))

    return [(attach, "_within", within)]


def _missed_counted_one_short() -> list[Patch]:
    def within(position: Position, view: StreamView) -> Verdict:
        offset = position.offset
        if offset < view.oldest:
            return Expired(attach.Reason.OVERWRITTEN, view.next, view.next - offset - 1)
        return Resume(offset)

    return [(attach, "_within", within)]


def _registry_moved_at_send() -> list[Patch]:
    original = ProducerEnd.pull

    def pull(self: ProducerEnd, out: Outgoing, now: Now) -> bool:
        more = original(self, out, now)
        if self._cursor is not None:
            sent = self._cursor.position
            self._registry.acknowledge(self.consumer, sent, {}, now.mono_ns)
        return more

    return [(ProducerEnd, "pull", pull)]


def _attach_registers() -> list[Patch]:
    original = ProducerEnd._attach

    def at_attach(self: ProducerEnd, attach: Attach, now: Now) -> None:
        self._registry.acknowledge(self.consumer, self._stream.log.end_position, {}, now.mono_ns)
        original(self, attach, now)

    return [(ProducerEnd, "_attach", at_attach)]


def _ack_beyond_replica() -> list[Patch]:
    def acknowledge(self: ConsumerEnd, now: Now) -> None:
        assert self.replica is not None
        self._ack_due_ns = None
        at = self.replica.registration
        ahead = Position(at.epoch, max(at.offset, self.producer_next or 0))
        self._acknowledged = ahead.offset
        self._connection.send(Ack(self.producer, ahead, self._places.moves(self.replica)))

    return [(ConsumerEnd, "_acknowledge", acknowledge)]


def _unseen_left_out() -> list[Patch]:
    original = attach.resolve

    def resolve(claim: Claim, view: StreamView, registered: Position | None = None) -> Verdict:
        answer = original(claim, view, registered)
        if isinstance(answer, Expired) and answer.reason is attach.Reason.UNSEEN:
            return Resume(view.next)
        return answer

    return _everywhere(resolve)


def _registered_cursor_for_resumed() -> list[Patch]:
    def first_contact(self: Session, node: str) -> Position | Claim:
        if node in self._presented:
            return self._presented[node]
        owed = Remembered(waiting=True)
        return Earliest(owed) if self.start == "earliest" else owed

    return [(Session, "first_contact", first_contact)]


def _origin_for_resumed() -> list[Patch]:
    original = starts.start_in

    def start_in(source: Source, session: Session, subscribe: Subscribe) -> Position | Claim:
        claim = original(source, session, subscribe)
        return At(source.origin) if isinstance(claim, FromStart) else claim

    return [(starts, "start_in", start_in)]


def _sessions_before_contact_begin_at_next() -> list[Patch]:
    original = attach.resolve

    def resolve(claim: Claim, view: StreamView, registered: Position | None = None) -> Verdict:
        if isinstance(claim, Remembered) and registered is None:
            return Resume(view.next)
        return original(claim, view, registered)

    return _everywhere(resolve)


def _earliest_owed_nothing() -> list[Patch]:
    """A reader that asks for the earliest is not told of messages published since and lost."""
    original = attach.resolve

    def resolve(claim: Claim, view: StreamView, registered: Position | None = None) -> Verdict:
        return original(attach.asked(claim), view, registered)

    return _everywhere(resolve)


def _everywhere(resolve: Callable[..., Verdict]) -> list[Patch]:
    """Patches in every module that imports the rule by name."""
    return [(module, "resolve", resolve) for module in (attach, consumer_end, reading, stream)]


def _named_cursor_from_received() -> list[Patch]:
    def named_cursors(
        self: Sessions, source: Source
    ) -> tuple[Collection[str], dict[str, Position]]:
        places = {n: s.positions.get(source.node) for n, s in self._named.items()}
        return self._named.keys(), {
            name: position
            for name, position in places.items()
            if position is not None and position.epoch == source.log.newest.epoch
        }

    return [(Sessions, "named_cursors", named_cursors)]


def _named_cursors_forgotten() -> list[Patch]:
    original = CursorRegistry.acknowledge

    def acknowledge(
        self: CursorRegistry,
        consumer: str,
        position: Position,
        named: Mapping[str, Position | None],
        now_ns: int,
        elsewhere: Mapping[str, Mapping[str, Position]] | None = None,
    ) -> None:
        forgotten = {n: p and Position(p.epoch, position.offset) for n, p in named.items()}
        original(self, consumer, position, forgotten, now_ns, elsewhere)

    return [(CursorRegistry, "acknowledge", acknowledge)]


def _replica_kept_across_epochs() -> list[Patch]:
    original = Replica.attached

    def attached(self: Replica, attached: Attached) -> None:
        if attached.answer is attach.Reason.STATE_LOST:
            self.log.continue_as(attached.view)
            self.log.newest.next = attached.view.next
            self.log.wake()
        else:
            original(self, attached)

    return [(Replica, "attached", attached)]


def _replica_forgets_lineage() -> list[Patch]:
    original = Replica.attached

    def attached(self: Replica, attached: Attached) -> None:
        original(self, attached)
        self.log.newest.lineage = ()

    return [(Replica, "attached", attached)]


ATTACHING = (
    Mutant("epoch not compared", 20, _epoch_not_compared),
    Mutant("lineage end one too far", 400, _lineage_end_one_too_far),
    Mutant("lineage end one too near", 200, _lineage_end_one_too_near),
    Mutant("lineage not read", 100, _lineage_not_read),
    Mutant("earliest is owed no loss", 200, _earliest_owed_nothing),
    Mutant("resume at next", 20, _resume_at_next),
    Mutant("oldest refused", 40, _oldest_refused),
    Mutant("one before oldest resumed", 100, _one_before_oldest_resumed),
    Mutant("missed counted one short", 20, _missed_counted_one_short),
    Mutant("registry moved at send", 400, _registry_moved_at_send),
    Mutant("attach registers", 400, _attach_registers),
    Mutant("acknowledged beyond the replica", 400, _ack_beyond_replica),
    Mutant("unseen left out", 100, _unseen_left_out),
    Mutant("registered cursor for resumed sessions", 200, _registered_cursor_for_resumed),
    Mutant("origin for resumed sessions", 100, _origin_for_resumed),
    Mutant("open sessions begin at next", 100, _sessions_before_contact_begin_at_next),
    Mutant("named cursor from received", 1000, _named_cursor_from_received),
    Mutant("named cursor from the node", 2000, _named_cursors_forgotten),
    Mutant("replica kept across epochs", 100, _replica_kept_across_epochs),
    Mutant("replica forgets the lineage", 400, _replica_forgets_lineage),
)
