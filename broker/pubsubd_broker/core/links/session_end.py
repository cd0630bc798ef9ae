"""The broker's end of a session's connection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from pubsubd_broker.core.access.permissions import Rights
from pubsubd_broker.core.access.quota import Quota
from pubsubd_broker.core.access.validation import check_filter
from pubsubd_broker.core.limits import SETTLE_NS, Limits, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.end import ALIVE
from pubsubd_broker.core.links.health import ProducerHealth
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.sessions.session import Seat, Session
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_protocol.codec import MAX_CONTROL_BYTES
from pubsubd_protocol.errors import ConnectionRefused, InvalidTopic, ProtocolError
from pubsubd_protocol.frames import (
    Ack,
    FilterSet,
    Frame,
    Heartbeat,
    SetFilter,
    Subscribe,
    Subscribed,
)
from pubsubd_protocol.frames import Health as HealthFrame
from pubsubd_protocol.positions import Epoch
from pubsubd_protocol.topics import Filter


class SessionEnd:
    """Pulls what the session has to read while the socket takes it."""

    role: Final = "session"
    has_last_words: Final = True
    longest_frame: Final = MAX_CONTROL_BYTES

    def __init__(
        self,
        connection: Connection,
        client_id: bytes,
        rights: Rights,
        *,
        epoch: Epoch,
        sessions: Sessions,
        connected: Quota,
        name_of: Callable[[str | None], str | None],
        health: ProducerHealth,
        limits: Limits,
        events: Events,
    ) -> None:
        """`connected`: the connections of sessions that are open. `name_of`: gives the name here of the user's name."""
        self.session: Session | None = None
        self._connection = connection
        self._client_id = client_id
        self._rights = rights
        self._epoch = epoch
        self._sessions = sessions
        self._connected = connected
        self._name_of = name_of
        self._health = health
        self._limits = limits
        self._events = events
        self._settled_ns = 0
        self.beats = False
        self._health_version = 0
        self._lost: frozenset[str] = frozenset()
        """Producers of which the session was told last that they are not heard."""
        self._counts = False
        """Whether it has taken its place among the sessions that are connected."""

    @property
    def settled(self) -> bool:
        return self.session is not None

    def received(self, frame: Frame, now: Now) -> bool:
        match frame:
            case Subscribe() if self.session is None:
                self._subscribe(frame, now)
            case SetFilter() if self.session is not None:
                self._set_filter(self.session, frame, now)
            case Ack() if self.session is not None:
                self.session.acknowledge(frame)
                self._sessions.acknowledged(self.session, frame.node, now)
            case Heartbeat():
                self.beats = True
            case _:
                raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a session")
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        if self.session is None:
            return False
        if self._health_version != self._health.version:
            before = self._lost
            lost = self._lost_now(self.session, now)
            if before != self._lost:
                out.frame(HealthFrame(lost))
        more = self.session.pull(out)
        self._events.delivered(self.session.name, out)
        if out.settled:
            self._keep(self.session, out, now)
        return more

    def farewell(self, now: Now) -> None:
        """The application or the broker is about to go: the last that is said is how far the session has come."""
        if self.session is not None:
            self._settle(self.session, now)

    def heartbeat(self) -> Heartbeat | None:
        return ALIVE

    def tick(self, now: Now) -> None:
        if self.session is not None and now.mono_ns - self._settled_ns >= SETTLE_NS:
            self._settled_ns = now.mono_ns
            self.session.remind()

    def lost(self, now: Now) -> None:
        if self.session is not None:
            self._sessions.leave(self.session, now)
        if self._counts:
            self._connected.change(self._connection.claimant, 1, 0)

    def _subscribe(self, subscribe: Subscribe, now: Now) -> None:
        try:
            self._count()
            name = self._name_of(subscribe.name)
            subscribe = replace(subscribe, name=name)
            seat = Seat(self._connection.opened_ns, self._replaced)
            self.session, resumed = self._sessions.open(
                subscribe, self._client_id, self._rights, seat, now
            )
        except InvalidTopic as error:
            self._connection.refuse("invalid_topic", str(error))
            return
        except ConnectionRefused as refusal:
            self._connection.refuse(refusal.code, refusal.detail)
            return
        if self.session.name is not None:
            self._sessions.names_changed(self.session, now)
        self.session.wake = self._connection.wake
        self._settled_ns = now.mono_ns
        lost = self._lost_now(self.session, now)
        places = self.session.introduce()
        self._connection.send(Subscribed(places, self._epoch, resumed, lost))

    def _replaced(self, now: Now) -> None:
        """The session is back over a newer connection."""
        session, self.session = self.session, None
        assert session is not None, "a session has the seat of the connection that holds it"
        self._sessions.leave(session, now)
        self._connection.refuse("replaced", "this session has a newer connection")

    def _lost_now(self, session: Session, now: Now) -> dict[str, int]:
        """The producers that are not heard, to be told now."""
        self._health_version = self._health.version
        lost = self._health.report(session.unmet, now.mono_ns)
        self._lost = frozenset(lost)
        return lost

    def _count(self) -> None:
        claimant = self._connection.claimant
        if not self._connected.change(claimant, 0, 1):
            raise ConnectionRefused(
                "too_many_sessions",
                f"connected sessions: {self._connected.taken(claimant)}",
            )
        self._counts = True

    def _set_filter(self, session: Session, frame: SetFilter, now: Now) -> None:
        try:
            check_filter(frame.patterns, self._limits, self._rights)
            changed = Filter(frame.patterns)
        except InvalidTopic as error:
            self._connection.refuse("invalid_topic", str(error))
            return
        except ConnectionRefused as refusal:
            self._connection.refuse(refusal.code, refusal.detail)
            return
        # Everything before the change has been judged by the old patterns: say up to where that is.
        self._settle(session, now)
        session.refilter(changed)
        self._connection.send(FilterSet(session.positions))

    def _settle(self, session: Session, now: Now) -> None:
        out = Outgoing(0)
        session.settle(out)
        self._events.delivered(session.name, out)
        self._keep(session, out, now)
        self._connection.send_all(out)

    def _keep(self, session: Session, out: Outgoing, now: Now) -> None:
        """Moves what is kept of the session along with what it is told."""
        for node in out.settled:
            self._sessions.acknowledged(session, node, now)
