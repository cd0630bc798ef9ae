"""Bugs in how a session reads: gap markers, catch-up, skips, filters, notices."""

from __future__ import annotations

from typing import Any

from tests.simulation.mutants.mutant import Mutant, Patch, of_kind

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.peer_recovery import PeerRecovery
from pubsubd_broker.core.links.peers import Peers
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.log.cursor import Choose, Cursor
from pubsubd_broker.core.log.interest import Interest
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions import reading_states as states
from pubsubd_broker.core.sessions.bookmark import Bookmark
from pubsubd_broker.core.sessions.log_place import LogPlace
from pubsubd_broker.core.sessions.pending import Pending
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.sessions.session import Session
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import Claim, Expired, Verdict
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Attached, CursorExpired, FilterSet, SetFilter, Skip
from pubsubd_protocol.positions import Position, StreamView
from pubsubd_protocol.topics import Filter


def _marker_dropped() -> list[Patch]:
    def append_gap(self: Log, view: StreamView) -> None:
        newest = self.newest
        newest.epoch, newest.lineage, newest.next = view.epoch, view.lineage, view.next
        self.wake()

    return [(Log, "append_gap", append_gap)]


def _marker_one_late() -> list[Patch]:
    """The notice is told behind the first messages after the gap."""

    def read_log(self: Reading, choose: Choose, out: Outgoing) -> bool:
        pending = self.bookmark.pending
        expired, pending._expired = pending._expired, None
        pending.waits = pending._start is not None
        more = original(self, choose, out)
        pending._expired = pending._expired or expired
        pending.waits = pending._expired is not None
        return more

    original = Reading._read_log
    return [(Reading, "_read_log", read_log)]


def _marker_for_those_beyond() -> list[Patch]:
    original = Peers.producer_attached

    def producer_attached(
        self: Peers, end: ConsumerEnd, attached: Attached, answer: Verdict
    ) -> Replica:
        replica = original(self, end, attached, answer)
        if isinstance(answer, Expired):
            for session in self._sessions.list():
                reading, view = session.readings[end.producer], attached.view
                at = reading.position
                if at is not None and at.epoch == view.epoch and at.offset >= view.next:
                    reading.bookmark.pending.expires(answer, view, None)
        return replica

    overrun = Peers.registration_expired

    def registration_expired(self: Peers, producer: str, expired: CursorExpired) -> None:
        overrun(self, producer, expired)
        for session in self._sessions.list():
            reading, view = session.readings[producer], expired.view
            at = reading.position
            if at is not None and at.epoch == view.epoch and at.offset >= view.next:
                told = Expired(expired.reason, view.next, expired.missed)
                reading.bookmark.pending.expires(told, view, None)

    return [
        (Peers, "producer_attached", producer_attached),
        (Peers, "registration_expired", registration_expired),
    ]


def _second_expiry_replaces_first() -> list[Patch]:
    def expires(self: Pending, expired: Expired, view: StreamView, passed: Skip | None) -> None:
        self._passed = self._passed or passed
        self._expired = CursorExpired(self._node, expired.reason, expired.missed, view)
        self.waits = True

    return [(Pending, "expires", expires)]


def _late_answer_accepted() -> list[Patch]:
    def fetched(
        self: Reading, claim: Claim, view: StreamView, answer: Verdict, items: list[Entry | Skip]
    ) -> None:
        self._asked = None
        self.bookmark.apply(view, answer)
        self._inbox.extend(items)
        if self.state is not states.PARKED:
            self.state = states.CATCHING_UP if self._inbox else states.SEEKING
        self.wake()

    return [(Reading, "fetched", fetched)]


def _always_proved() -> list[Patch]:
    def waits(self: Reading) -> bool:
        newest, position = self.source.log.newest, self.bookmark.position
        if position is None:
            return False
        return position.epoch != newest.epoch or position.offset > newest.next

    return [(Reading, "_waits_for_replica", waits)]


def _never_fetches() -> list[Patch]:
    """A session behind its replica is expired by the replica."""

    def answer(self: Replica, claim: Claim) -> Any:
        from pubsubd_protocol.attach import resolve

        return self.log.view, resolve(claim, self.log.view)

    return [(Replica, "answer", answer)]


def _lost_link_keeps_fetches() -> list[Patch]:
    return [(Reading, "link_lost", lambda self: None)]


def _skip_not_told() -> list[Patch]:
    def pass_item(self: Cursor, item: Entry | Skip, choose: Choose, out: Outgoing) -> None:
        chosen = choose(item) if isinstance(item, Entry) else None
        if chosen is not None:
            out.entry(chosen)
        self.told = item.next
        self.position = Position(item.epoch, item.next)

    return [(Cursor, "pass_item", pass_item)]


def _filter_before_marker() -> list[Patch]:
    """A session with a filter is not told of a gap, as if no message in it were for the session."""
    original, original_pull = Bookmark._expire, Session.pull
    pulled: list[Session] = []

    def pull(self: Session, out: Outgoing) -> bool:
        pulled.append(self)
        more = original_pull(self, out)
        pulled.clear()
        return more

    def expire(self: Bookmark, expired: Expired, view: StreamView) -> None:
        if not pulled or pulled[0].filter.everything:
            original(self, expired, view)
        elif self.cursor is not None:
            self.cursor.jump(Position(view.epoch, expired.next))
            self.cursor.told = min(self.cursor.told, view.oldest)

    return [(Bookmark, "_expire", expire), (Session, "pull", pull)]


def _filter_at_no_place() -> list[Patch]:
    """A changed filter counts from the place that the session was told, not from the place where it stands."""

    def set_filter(self: SessionEnd, session: Session, frame: SetFilter, now: Now) -> None:
        positions = session.positions
        session.refilter(Filter(frame.patterns))
        stood = {
            node: Position(position.epoch, max(0, position.offset - 3))
            for node, position in positions.items()
        }
        self._connection.send(FilterSet(stood))

    return [(SessionEnd, "_set_filter", set_filter)]


def _directed_to_all() -> list[Patch]:
    def choose(self: Session, entry: Entry) -> Entry | None:
        from pubsubd_protocol.entries import part_of

        if entry.publisher == self._without:
            return None
        return entry if self.filter.everything else part_of(entry, self.filter.wants)

    return [(Session, "_choose", choose)]


def _rewinds_to_received() -> list[Patch]:
    original = Reading.rewind

    def rewind(self: Reading) -> None:
        position = self.position
        original(self)
        if position is not None:
            self.bookmark.cursor = Cursor(self.source.node, position)

    return [(Reading, "rewind", rewind)]


def _gone_from_the_replica() -> list[Patch]:
    """A name is dropped as soon as its broker's own replica has lost the messages that it needs."""

    def inquire(self: Reading) -> None:
        position = self.position
        self.gone = position is not None and self.source.log.locate(position) is None

    return [(Reading, "inquire", inquire)]


def _interest_outlives_filter() -> list[Patch]:
    """A session that changes its filter is still woken by its former topics, and by no others."""

    def refilter(self: LogPlace, changed: Filter) -> None:
        self._read_on()
        self.filter = changed

    return [(LogPlace, "refilter", refilter)]


def _resting_stands_still() -> list[Patch]:
    """A resting session does not move along with the log."""

    def unpark(self: LogPlace, index: int, position: Position) -> None:
        original(self, self.index or 0, position)

    original = LogPlace.unpark
    return [(LogPlace, "_move_along", lambda self: None), (LogPlace, "unpark", unpark)]


def _wakes_the_first_topic_only() -> list[Patch]:
    def wake(self: Interest, topics: str, index: int, position: Position) -> None:
        original(self, topics.split("\n")[0], index, position)

    original = Interest.wake
    return [(Interest, "wake", wake)]


def _own_loss_never_told() -> list[Patch]:
    return [(Sessions, "_lived_before", lambda self, session, positions: None)]


def _own_places_not_remembered() -> list[Patch]:
    """A broker that recovers its stream takes the messages, and not the places of its names."""

    def names(self: PeerRecovery, view: StreamView) -> dict[str, Position]:
        return {}

    return [(PeerRecovery, "_names", names)]


def _third_nodes_not_believed() -> list[Patch]:
    """A name that a producer has forgotten is new there, despite the memory of other peers."""
    original = Session.lived_before

    def lived_before(self: Session, node: str, place: Position) -> None:
        if node == self.reader:
            original(self, node, place)

    return [(Session, "lived_before", lived_before)]


READING = (
    Mutant("gap marker dropped", 20, _marker_dropped),
    Mutant("gap marker late", 200, _marker_one_late),
    Mutant("marker for sessions beyond it", 400, _marker_for_those_beyond),
    Mutant("second expiry replaces the first", 400, _second_expiry_replaces_first),
    Mutant("late fetch answer accepted", 400, _late_answer_accepted),
    Mutant("always proved", 400, _always_proved),
    Mutant("replica too small is a loss", 40, _never_fetches),
    Mutant("lost link keeps its fetches", 400, _lost_link_keeps_fetches),
    Mutant("skip not told", 20, _skip_not_told),
    Mutant("filter before the gap marker", 40, _filter_before_marker),
    Mutant("changed filter counts from elsewhere", 100, _filter_at_no_place),
    Mutant("directed message for all nodes", 20, _directed_to_all),
    Mutant("next life begins at what was received", 200, _rewinds_to_received),
    Mutant("own loss never told", 400, _own_loss_never_told),
    Mutant("own places are not remembered", 40, _own_places_not_remembered, of_kind("forgetful")),
    Mutant("third nodes are not believed", 40, _third_nodes_not_believed, of_kind("forgetful")),
    Mutant("interest outlives the filter", 400, _interest_outlives_filter),
    Mutant("a resting session stands still", 100, _resting_stands_still),
    Mutant("only the first topic wakes", 400, _wakes_the_first_topic_only),
    Mutant("name dropped when its replica lost it", 1500, _gone_from_the_replica),
)
