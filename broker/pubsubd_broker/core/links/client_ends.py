"""The broker's ends of its clients' connections: a publisher's, a session's, a command's."""

from __future__ import annotations

from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from pubsubd_broker.core.access.validation import check_patterns
from pubsubd_broker.core.limits import PUBLISH_WINDOW, SECOND_NS, SETTLE_NS, Now
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.session import Seat, Session
from pubsubd_broker.core.streams.publishers import Answer, Outcome, Promise
from pubsubd_protocol.codec import MAX_CONTROL_BYTES
from pubsubd_protocol.entries import Batch
from pubsubd_protocol.errors import ConnectionRefused, InvalidTopic, ProtocolError
from pubsubd_protocol.frames import (
    Ack,
    FilterSet,
    Frame,
    Health,
    Heartbeat,
    Query,
    Rejected,
    Report,
    SetFilter,
    Subscribe,
    Subscribed,
)
from pubsubd_protocol.topics import Filter

if TYPE_CHECKING:
    from pubsubd_broker.core.links.connection import Connection
    from pubsubd_broker.core.node import Node


ALIVE: Final = Heartbeat()


class PublisherEnd:
    """Batches in, one answer each, in order."""

    role = "publisher"
    has_last_words = False
    settled = True

    def __init__(
        self, node: Node, connection: Connection, publisher_id: bytes, spoke_to: bytes | None
    ) -> None:
        self.longest_frame = node.config.max_frame
        self._node = node
        self._connection = connection
        self._id = publisher_id
        self._publisher = node.publishers.connect(
            publisher_id,
            same_life=spoke_to == node.life,
            other_life=spoke_to not in (None, node.life),
            user=connection.caller.origin,
        )
        self._publisher.take_over(connection.opened_ns, connection.refuse)
        self.sequence = -1
        """Of the last batch that this connection has brought: each is higher than the one before."""
        self.beats = False
        # When the batches came whose answers have not been written yet.
        self._unanswered_ns: list[int] = []
        # When the batch came that waits to be placed.
        self._held_ns: int | None = None
        # Answers in the order of their batches, from the first on that is not known yet; and when those came.
        self._answers: deque[tuple[Answer, int]] = deque()

    def received(self, frame: Frame, now: Now) -> bool:
        if isinstance(frame, Heartbeat):
            self.beats = True
            return True
        if not isinstance(frame, Batch):
            raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a publisher")
        if frame.sequence <= self.sequence:
            raise ProtocolError(
                "sequence",
                f"batch {frame.sequence} came behind batch {self.sequence} on one connection",
            )
        if self._node.draining and self._answers and self._hold(now):
            # The refusal says that nothing unanswered was accepted: what waits for the disk is answered before it.
            return False
        if self._node.draining:
            # Not accepted, and not rejected for good: the publisher tries it again with the next life.
            self._connection.refuse("draining", f"{self._node.name} is stopping")
            return True
        if self._node.failure is not None:
            self._connection.refuse("journal_failed", self._node.failure)
            return True
        came_ns = self._held_ns if self._held_ns is not None else now.mono_ns
        answer = self._answer(frame, now)
        if answer is None:
            self._held_ns = came_ns
            return False
        # Not before: one that is held comes again.
        self.sequence = frame.sequence
        self._held_ns = None
        if not self._answers and not isinstance(answer, Promise):
            self._send(answer, came_ns)
            return True
        self._answers.append((answer, came_ns))
        if isinstance(answer, Promise):
            answer.wake.append(self._settle)
        self._settle()
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        for came_ns in self._unanswered_ns:
            self._node.counters.publish_seconds.observe((now.mono_ns - came_ns) / SECOND_NS)
        self._unanswered_ns.clear()
        return False

    def heartbeat(self) -> Heartbeat | None:
        return ALIVE

    def tick(self, now: Now) -> None:
        """Nothing here waits for time."""

    def farewell(self, now: Now) -> None:
        """It has nothing more to say."""

    def lost(self, now: Now) -> None:
        self._answers.clear()
        self._node.stream.forget(self._connection)
        self._publisher.let_go(self._connection.refuse)
        self._node.publishers.disconnect(self._id)

    def _hold(self, now: Now) -> bool:
        """The batch that has just come waits until the disk has what is under way. Whether there is a disk to wait for."""
        durability = self._node.stream.durability
        if durability is None or self._node.failure is not None:
            return False
        if self._held_ns is None:
            self._held_ns = now.mono_ns
        durability.hold(self._connection)
        return True

    def _answer(self, batch: Batch, now: Now) -> Answer | None:
        """None: it is held."""
        durability = self._node.stream.durability
        if durability is not None and len(self._answers) >= PUBLISH_WINDOW:
            # Behind one that waits for the disk stand as many as it may leave unanswered.
            durability.hold(self._connection)
            return None
        return self._node.publish(batch, self._publisher, self._id, now, self._connection)

    def _settle(self) -> None:
        """Sends what is known, in order."""
        while self._answers:
            answer, came_ns = self._answers[0]
            outcome = answer.outcome if isinstance(answer, Promise) else answer
            if outcome is None:
                return
            self._answers.popleft()
            self._send(outcome, came_ns)

    def _send(self, outcome: Outcome, came_ns: int) -> None:
        if isinstance(outcome, Rejected):
            connection = self._connection
            self._node.reports.rejected(connection.label, connection.caller.origin, outcome)
        self._connection.send(outcome)
        self._unanswered_ns.append(came_ns)


class SessionEnd:
    """One session's connection: what it has to read is pulled while the socket takes it."""

    role = "session"
    has_last_words = True
    longest_frame = MAX_CONTROL_BYTES

    def __init__(self, node: Node, connection: Connection, client_id: bytes) -> None:
        self.session: Session | None = None
        self._node = node
        self._connection = connection
        self._client_id = client_id
        self._settled_ns = 0
        self.beats = False
        self._health_version = 0
        self._lost: frozenset[str] = frozenset()
        """The producers of which the session was told last that they are not heard."""
        self._counts = False
        """Whether it is one of the sessions that there may be."""

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
                self._node.sessions.acknowledged(self.session, frame.node, now)
            case Heartbeat():
                self.beats = True
            case _:
                raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a session")
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        if self.session is None:
            return False
        if self._health_version != self._node.health.version:
            before = self._lost
            lost = self._health(self.session, now)
            if before != self._lost:
                out.frame(Health(lost))
        more = self.session.pull(out)
        self._node.reports.delivered(self.session.name, out)
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
            self._node.sessions.leave(self.session, now)
        if self._counts:
            self._node.admission.sessions.change(self._connection.claimant, 1, 0)

    def _subscribe(self, subscribe: Subscribe, now: Now) -> None:
        try:
            self._count()
            name = self._node.config.session_name(self._connection.caller, subscribe.name)
            subscribe = replace(subscribe, name=name)
            seat = Seat(self._connection.opened_ns, self._replaced)
            self.session, resumed = self._node.sessions.open(
                subscribe, self._client_id, self._connection.rights, seat, now
            )
        except InvalidTopic as error:
            self._connection.refuse("invalid_topic", str(error))
            return
        except ConnectionRefused as refusal:
            self._connection.refuse(refusal.code, refusal.detail)
            return
        if self.session.name is not None:
            self._node.sessions.names_changed(self.session, now)
        self.session.wake = self._connection.wake
        self._settled_ns = now.mono_ns
        lost = self._health(self.session, now)
        places = self.session.introduce()
        self._connection.send(Subscribed(places, self._node.life, resumed, lost))

    def _replaced(self, now: Now) -> None:
        """Its session is back over a newer connection."""
        session, self.session = self.session, None
        assert session is not None, "a session has the seat of the connection that holds it"
        self._node.sessions.leave(session, now)
        self._connection.refuse("replaced", "this session has a newer connection")

    def _health(self, session: Session, now: Now) -> dict[str, int]:
        """The producers that are not heard, to be told now."""
        health = self._node.health
        self._health_version = health.version
        lost = health.report(session.unmet, self._node.started_ns, now.mono_ns)
        self._lost = frozenset(lost)
        return lost

    def _count(self) -> None:
        sessions, claimant = self._node.admission.sessions, self._connection.claimant
        if not sessions.change(claimant, 0, 1):
            raise ConnectionRefused(
                "too_many_sessions",
                f"of the sessions that may be connected {sessions.taken(claimant)}",
            )
        self._counts = True

    def _set_filter(self, session: Session, frame: SetFilter, now: Now) -> None:
        try:
            check_patterns(frame.patterns, self._node.config.limits, self._connection.rights)
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
        self._node.reports.delivered(session.name, out)
        self._keep(session, out, now)
        self._connection.send_all(out)

    def _keep(self, session: Session, out: Outgoing, now: Now) -> None:
        """What is kept of the session moves with what it is told."""
        for node in out.settled:
            self._node.sessions.acknowledged(session, node, now)


class ControlEnd:
    """Answers the command line."""

    role = "control"
    has_last_words = False
    settled = True
    beats = False
    longest_frame = MAX_CONTROL_BYTES

    def __init__(self, node: Node, connection: Connection) -> None:
        self._node = node
        self._connection = connection

    def received(self, frame: Frame, now: Now) -> bool:
        if not isinstance(frame, Query):
            raise ProtocolError("unexpected_frame", f"{type(frame).__name__} from a command")
        if frame.what == "drop_cursor" and not self._node.config.is_operator(
            self._connection.caller
        ):
            self._connection.refuse(
                "not_allowed", "only the broker's own user and root may drop a cursor"
            )
            return True
        self._connection.send(Report(self._node.answer_query(self._node, frame, now)))
        return True

    def pull(self, out: Outgoing, now: Now) -> bool:
        return False

    def heartbeat(self) -> Heartbeat | None:
        return None

    def tick(self, now: Now) -> None:
        """Nothing here waits for time."""

    def farewell(self, now: Now) -> None:
        """It has nothing more to say."""

    def lost(self, now: Now) -> None:
        self._node.admission.commands.change(self._connection.claimant, 1, 0)
