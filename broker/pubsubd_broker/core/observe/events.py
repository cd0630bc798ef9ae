"""Events of a node: each is counted, and most are logged as a notice. For metrics and logs, never for a rule."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from pubsubd_broker.core.observe.counters import Counters
from pubsubd_broker.core.observe.notices import Level, Notice, Notices
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import CursorExpired, Rejected
from pubsubd_protocol.positions import Position, StreamView


class Written(Protocol):
    """Figures of what one pull wrote to a session."""

    @property
    def messages(self) -> int: ...

    @property
    def entries_bytes(self) -> int: ...

    @property
    def expired(self) -> Iterable[CursorExpired]: ...


class Events:
    """Counts and logs: a method for each kind of event.

    `label` names a connection in the log, `origin` its user or network. Repeated events of one origin: see `Notices`.
    """

    def __init__(self, counters: Counters, notices: Notices) -> None:
        self.counters = counters
        self.notices = notices
        self._met_itself = False

    def session_lagged(self, node: str, position: Position | None, replica: StreamView) -> None:
        """A session needs an offset that its broker's replica does not hold: the broker asks the producer."""
        self.notices.info(
            "session.lagged",
            node=node,
            offset=None if position is None else position.offset,
            replica_oldest=replica.oldest,
            replica_next=replica.next,
        )

    def delivered(self, session: str | None, written: Written) -> None:
        """Counts what one pull wrote. `session`: the session's name, if it has one."""
        self.counters.messages_delivered += written.messages
        self.counters.bytes_delivered += written.entries_bytes
        for expired in written.expired:
            self.counters.expired_at_sessions[expired.reason] += 1
            self.expired(
                "session",
                expired.node,
                expired.reason,
                expired.missed,
                expired.view.next,
                session=session,
            )

    def refused(self, label: str, origin: str, code: str, detail: str) -> None:
        """This node turns a connection away."""
        self.counters.connections_refused[code] += 1
        if code == "self" and self._met_itself:
            return  # A node dials itself every minute, and that is not a fault.
        self._met_itself = self._met_itself or code == "self"
        fields = {"connection": label, "code": code, "detail": detail}
        self._repeatable("connection.refused", origin, code, fields)

    def rejected(self, label: str, origin: str, answer: Rejected) -> None:
        """This node does not take a batch; the connection goes on."""
        self.counters.publishes_rejected[answer.code] += 1
        fields = {"connection": label, "code": answer.code, "detail": answer.detail}
        self._repeatable("publish.rejected", origin, answer.code, fields)

    def turned_away(self, label: str, origin: str, reason: str, detail: str) -> None:
        """The shell closed a socket before it became a connection."""
        self.counters.connections_refused[reason] += 1
        fields = {"connection": label, "code": reason, "detail": detail}
        self._repeatable("connection.refused", origin, reason, fields)

    def closed_unheard(self) -> None:
        """The node closed a connection without a word: too many connections wait for their refusal."""
        self.counters.connections_refused["too_many_unheard"] += 1

    def violated(self, label: str, origin: str, error: ProtocolError) -> None:
        self.counters.protocol_errors[error.kind] += 1
        fields = {"connection": label, "kind": error.kind, "detail": error.detail}
        self._repeatable("protocol.violated", origin, error.kind, fields)

    def silent(self, label: str, silent_ms: int) -> None:
        self.notices.warning("peer.silent", connection=label, silent_ms=silent_ms)

    def failed(self, label: str, error: Exception) -> None:
        """A bug in handling one connection. The connection ends, the broker lives."""
        self.counters.protocol_errors["internal"] += 1
        self.notices.error("connection.failed", connection=label, error=repr(error)[:1000])

    def refused_by(self, label: str, origin: str, code: str, detail: str) -> None:
        """A peer that this node dialled refuses it. All refusals of one peer count as one cause: the peer chooses the words."""
        fields = {"connection": label, "code": code, "detail": detail, "by": "them"}
        self._repeatable("connection.refused", origin, "by_the_other_end", fields)

    def unreachable(self, address: str, error: str) -> None:
        """This node has no link to `address`."""
        self.notices.warning("peer.unreachable", address=address, error=error)

    def expired(
        self, hop: str, node: str, reason: str, missed: int | None, following: int, **fields: object
    ) -> None:
        self.notices.warning(
            "cursor.expired",
            hop=hop,
            node=node,
            reason=str(reason),
            missed=missed,
            next=following,
            **fields,
        )

    def _repeatable(self, event: str, origin: str, why: str, fields: dict[str, str]) -> None:
        notice = Notice(event, Level.WARNING, {**fields, "origin": origin})
        self.notices.repeatable(notice, why, origin)
