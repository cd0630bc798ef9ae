"""All sessions of a node: opened, met with new streams, kept by name while their application is away."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from operator import itemgetter
from typing import Protocol

from pubsubd_broker.core.access.permissions import Rights
from pubsubd_broker.core.access.quota import has_room
from pubsubd_broker.core.access.remote import owner_of
from pubsubd_broker.core.access.validation import check_filter
from pubsubd_broker.core.limits import Limits, Now
from pubsubd_broker.core.observe.notices import Notices
from pubsubd_broker.core.sessions import starts
from pubsubd_broker.core.sessions.holders import take_name
from pubsubd_broker.core.sessions.session import UNNAMED_HOLDER, Seat, Session
from pubsubd_broker.core.sessions.source import Source
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_protocol.attach import Claim, FromStart, Remembered
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.fields import MAX_STREAMS
from pubsubd_protocol.frames import Attached, Subscribe
from pubsubd_protocol.positions import UNREPORTED_LOSS, Epoch, Position


class ProducerLink(Protocol):
    """The link to a producer, which remembers the places of this node's named sessions."""

    def named_moved(self, now: Now) -> None:
        """A named session moved in the producer's stream: to be told soon."""

    def places_moved(self) -> None:
        """A named session moved in another stream: to be told in time."""


def _unkept(name: str) -> None:
    """Names are kept in memory only."""


class Sessions:
    """The connected sessions, and the named ones."""

    def __init__(
        self,
        node: str,
        life: Epoch,
        limits: Limits,
        notices: Notices,
        *,
        own: Source,
        replicas: Mapping[str, Source],
        producers: Mapping[str, ProducerLink],
        started_ns: int,
    ) -> None:
        """`own`: the stream of this `node`, whose `life` began at `started_ns`. `producers`: the links that are up."""
        self._node = node
        self._life = life
        self._limits = limits
        self._notices = notices
        self._own = own
        self._replicas = replicas
        self._producers = producers
        self._started_ns = started_ns
        self.moved: Callable[[str], None] = _unkept
        """Called with the name of a session whose kept state has changed."""
        self._all: dict[Session, None] = {}
        self._named: dict[str, Session] = {}

    def list(self) -> list[Session]:
        """Connected ones first, then by name."""
        return sorted(self._all, key=lambda s: (not s.connected, s.name or ""))

    def open(
        self, subscribe: Subscribe, client_id: bytes, rights: Rights, seat: Seat, now: Now
    ) -> tuple[Session, bool]:
        """The session that `subscribe` asks for, and whether it is one that was known by name.

        Raises `ConnectionRefused` if the name is in use or lost, or a bound is reached, `InvalidTopic`.
        """
        limits = self._limits
        check_filter(subscribe.patterns, limits, rights)
        known = self._named.get(subscribe.name) if subscribe.name is not None else None
        if known is not None:
            take_name(known, subscribe, seat, now)
            known.rejoin(subscribe, client_id)
            known.seat = seat
            self._presents(known, subscribe)
            self._bound(known)
            return known, True
        if subscribe.name is not None and not self._has_room_for(subscribe.name):
            raise ConnectionRefused(
                "too_many_sessions",
                f"{len(self._named)} of {limits.named_sessions} named sessions are kept, "
                f"{self._named_of(subscribe.name)} of them of this user",
            )
        born_here = subscribe.positions is None or subscribe.born == self._life
        session = Session(self._node, subscribe, client_id, born_here=born_here)
        session.holder, session.seat = subscribe.id or UNNAMED_HOLDER, seat
        for source in self._sources():
            session.add(source, starts.start_in(source, session, subscribe))
            if session.name is not None:
                session.assumed.add(source.node)
        self._presents(session, subscribe)
        self._keep(session)
        return session, False

    def leave(self, session: Session, now: Now) -> None:
        """The session's application is gone. Only a name keeps the session."""
        if session.name is None:
            session.close()
            self._all.pop(session, None)
        else:
            session.leave(now.mono_ns)
            for node in session.readings:
                self.acknowledged(session, node, now)

    def named(self, name: str) -> Session | None:
        return self._named.get(name)

    def all_named(self) -> Collection[tuple[str, Session]]:
        return self._named.items()

    def restore(self, name: str, positions: dict[str, Position], holder: bytes | None) -> None:
        """A named session of an earlier life of this broker, as that one kept it."""
        absent = Subscribe((), "latest", positions, None, name, True)
        session = self._absent(absent)
        session.holder = holder
        for source in self._sources():
            session.add(source, positions.get(source.node, FromStart()))
        self._keep(session)

    def acknowledged(self, session: Session, producer: str, now: Now) -> None:
        """A named session's progress is told to the producer, which remembers it for this node's next life.

        In this node's own stream it is told to all producers, in those of others to all a little later.
        """
        if session.name is None:
            return
        self._changed(session)
        for name, end in self._producers.items():
            end.places_moved()
            if producer in (name, self._node):
                end.named_moved(now)

    def names_changed(self, session: Session, now: Now) -> None:
        """A name is new, or gone: the places that producers remember under it are no longer true."""
        self._changed(session)
        for end in self._producers.values():
            end.places_moved()
            end.named_moved(now)

    def first_contact(self, replica: Replica, attached: Attached) -> None:
        """A stream is met for the first time in this life, or anew: every session gets its place in it.

        With the stream comes what its producer remembers of the names of this node's earlier lives.
        """
        for name in attached.named | attached.elsewhere:
            if name not in self._named and self._has_room_for(name):
                self._revive(name, replica)
        for session in self._all:
            if replica.node in session.readings:
                session.meet_again(replica).bookmark.judge(attached.view, attached.registered)
                session.wake()
                continue
            self._meet(session, replica, attached)
            self._bound(session)
            session.wake()
        for end in self._producers.values():
            end.places_moved()

    def need(self, replica: Replica) -> bool:
        """Whether some session has not read all that `replica` holds, or its application does not know so."""
        return any(
            not session.is_done_with(replica.node)
            for session in self._all
            if self._reads(session, replica)
        )

    def let_go(self, replica: Replica) -> None:
        """Every session that needs nothing of `replica` keeps its place in that stream, and nothing else."""
        for session in self._all:
            if self._reads(session, replica):
                session.let_go(replica.node)

    def link_lost(self, producer: str) -> None:
        """The producer answers no more questions of sessions."""
        for session in self._all:
            session.readings[producer].link_lost()

    def health_changed(self) -> None:
        """Sessions are to be told which producers are heard."""
        for session in self._all:
            session.wake()

    def lowest_need(self, producer: str) -> Claim:
        """With what a node without memory attaches: with what the session needs that is furthest behind."""
        needs = [session.needs(producer) for session in self._all]
        return min(needs, key=starts.depth, default=Remembered(waiting=False))

    def named_cursors(self, source: Source) -> tuple[Collection[str], dict[str, Position]]:
        """All names, and how far each session has acknowledged this stream; what it has lost there follows from that.

        By catch-up one may have come further than its broker, which only speaks for what it has. Of one that was
        owed the stream from its beginning, and has not been there to hear that it is gone, there is nothing to say:
        it may come and know its place.
        """
        cursors: dict[str, Position] = {}
        view = source.log.view
        for name, session in self._named.items():
            reading = session.readings.get(source.node)
            if reading is None or reading.bookmark.unreported_loss == view.epoch:
                continue
            position = reading.bookmark.acknowledged
            if position is not None:
                if view.is_before(source.log.end_position, position) and view.contains(position):
                    position = source.log.end_position
                cursors[name] = position
        return self._named.keys(), cursors

    def forget_old(self, ttl_ns: int, now: Now) -> None:
        """Drops named sessions that are away for longer than the time-to-live and have expired anyway.

        Where their user finds no room for a further name, the one away for longest need not have expired.
        """
        away = [
            (session.left_ns, name, session)
            for name, session in self._named.items()
            if not session.connected and now.mono_ns - session.left_ns > ttl_ns
        ]
        for _, name, session in sorted(away, key=itemgetter(0)):
            if not self._has_room_for(name) or session.is_gone(now.mono_ns, ttl_ns // 8):
                session.close()
                del self._named[name]
                self._all.pop(session, None)
                self._notices.info("session.forgotten", session=name)
                self.names_changed(session, now)

    def remind(self) -> None:
        """Has every application told how far its session has come."""
        for session in self._all:
            if session.connected:
                session.remind()

    @property
    def drained(self) -> bool:
        return all(session.drained for session in self._all if session.connected)

    def _reads(self, session: Session, replica: Replica) -> bool:
        reading = session.readings.get(replica.node)
        return reading is not None and reading.source is replica

    def _has_room_for(self, name: str) -> bool:
        """Whether one more name may be kept. The broker's own user may have all that are left."""
        own = 0 if owner_of(name) is None else self._named_of(name)
        return has_room(own, len(self._named), self._limits.named_sessions)

    def _named_of(self, name: str) -> int:
        owner = owner_of(name)
        return sum(owner_of(kept) == owner for kept in self._named)

    def _keep(self, session: Session) -> None:
        self._all[session] = None
        if session.name is not None:
            self._named[session.name] = session
        self._bound(session)

    def _bound(self, session: Session) -> None:
        """Keeps a session within its bound after it has come to know more streams."""
        forgotten = session.keep_within_bound()
        if forgotten:
            self._notices.info(
                "session.places_forgotten", session=session.name, nodes=forgotten, limit=MAX_STREAMS
            )

    def _meet(self, session: Session, replica: Replica, attached: Attached) -> None:
        """The application's word counts most, then the producer's, then that of other peers."""
        start, name = session.first_contact(replica.node), session.name or ""
        if isinstance(start, Position):
            session.add(replica, start)
            return
        place = session.remembered(replica.node, attached.view)
        place = attached.named.get(name, place)
        reading = session.add(replica, start if place is None else place, tell=place is not None)
        reading.bookmark.judge(attached.view, attached.registered)
        if place is None and name:
            session.assumed.add(replica.node)
        if name in attached.named or name in attached.elsewhere:
            self._lived_before(session, attached.elsewhere.get(name, {}))

    def _lived_before(self, session: Session, positions: Mapping[str, Position]) -> None:
        """A peer remembers the session, and where it stood. Its own node's stream began anew since, if no place says more."""
        for node, place in {self._node: UNREPORTED_LOSS, **positions}.items():
            session.lived_before(node, place)

    def _revive(self, name: str, replica: Replica) -> None:
        """A named session of an earlier life of this broker, as a producer remembers it."""
        session = self._absent(Subscribe((), "latest", None, None, name, True))
        for source in self._sources():
            if source is not replica:
                session.add(source, FromStart())
                session.assumed.add(source.node)
        self._keep(session)
        self._changed(session)

    def remembered(self, name: str, node: str, place: Position) -> None:
        """A peer remembers that the restored session `name` stood at `place` of `node`'s stream."""
        if name in self._named:
            self._named[name].lived_before(node, place)

    def _absent(self, subscribe: Subscribe) -> Session:
        """A session whose application was last seen in an earlier life of this broker."""
        session = Session(self._node, subscribe, b"", born_here=False)
        session.connected = False
        session.left_ns = self._started_ns
        return session

    def _changed(self, session: Session) -> None:
        if session.name is not None:
            self.moved(session.name)

    def _sources(self) -> Iterator[Source]:
        """The streams that this node knows, its own first."""
        yield self._own
        yield from self._replicas.values()

    def _presents(self, session: Session, subscribe: Subscribe) -> None:
        """An application that stands in an earlier history of a stream is told so by the attach rule."""
        # A position that was told in this life can be named by an earlier epoch of the same history.
        if subscribe.born == self._life:
            return
        for node, position in (subscribe.positions or {}).items():
            reading = session.readings.get(node)
            if reading is not None and position.epoch != reading.source.log.view.epoch:
                session.assumed.discard(node)
