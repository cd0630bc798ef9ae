"""What a node counts and says of what happens to it: for metrics and logs, never for a rule."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pubsubd_broker.core.caller import Caller
from pubsubd_broker.core.counters import Counters
from pubsubd_broker.core.dialling import Target
from pubsubd_broker.core.notices import Level, Notice, Notices
from pubsubd_broker.core.outgoing import Outgoing
from pubsubd_broker.core.reading import Reading
from pubsubd_broker.core.session import Session
from pubsubd_protocol.errors import ProtocolError
from pubsubd_protocol.frames import Rejected

if TYPE_CHECKING:
    from pubsubd_broker.core.connection import Connection


class Reports:
    """One function for each kind of thing that can happen."""

    def __init__(self, counters: Counters, notices: Notices) -> None:
        self.counters = counters
        self.notices = notices
        self._met_itself = False

    def session_lagged(self, reading: Reading) -> None:
        """A session needs what its broker's replica does not hold: the producer is asked, until the two meet."""
        position, log = reading.position, reading.source.log
        self.notices.info(
            "session.lagged",
            node=reading.source.node,
            offset=None if position is None else position.offset,
            replica_oldest=log.view.oldest,
            replica_next=log.view.next,
        )

    def delivered(self, session: Session, out: Outgoing) -> None:
        """What one pull of a session wrote."""
        self.counters.messages_delivered += out.messages
        self.counters.bytes_delivered += out.entries_bytes
        for expired in out.expired:
            self.counters.expired_at_sessions[expired.reason] += 1
            self.expired(
                "session",
                expired.node,
                expired.reason,
                expired.missed,
                expired.view.next,
                session=session.name,
            )

    def refused(self, connection: Connection, code: str, detail: str) -> None:
        """This node turns somebody away."""
        self.counters.connections_refused[code] += 1
        if connection.target is not None:
            self.target_failed(connection.target, detail)
        if code == "self" and self._met_itself:
            return  # It comes again every minute, and is nobody's fault.
        self._met_itself = self._met_itself or code == "self"
        fields = {"connection": connection.label, "code": code, "detail": detail}
        self._repeatable("connection.refused", connection.caller, code, fields)

    def rejected(self, connection: Connection, answer: Rejected) -> None:
        """This node does not take a batch; the connection goes on."""
        self.counters.publishes_rejected[answer.code] += 1
        fields = {"connection": connection.label, "code": answer.code, "detail": answer.detail}
        self._repeatable("publish.rejected", connection.caller, answer.code, fields)

    def turned_away(self, caller: Caller, reason: str, detail: str) -> None:
        """Somebody has come, and never had a connection."""
        self.counters.connections_refused[reason] += 1
        fields = {"connection": caller.label, "code": reason, "detail": detail}
        self._repeatable("connection.refused", caller, reason, fields)

    def closed_unheard(self, connection: Connection) -> None:
        """There are too many to hear what this one wants."""
        self.counters.connections_refused["too_many_unheard"] += 1
        connection.close()

    def violated(self, connection: Connection, error: ProtocolError) -> None:
        self.counters.protocol_errors[error.kind] += 1
        if connection.target is not None:
            self.target_failed(connection.target, str(error))
        fields = {"connection": connection.label, "kind": error.kind, "detail": error.detail}
        self._repeatable("protocol.violated", connection.caller, error.kind, fields)

    def silent(self, connection: Connection, silent_ms: int) -> None:
        self.notices.warning("peer.silent", connection=connection.label, silent_ms=silent_ms)

    def failed(self, connection: Connection, error: Exception) -> None:
        """A bug in handling one connection: it ends, the broker lives."""
        self.counters.protocol_errors["internal"] += 1
        self.notices.error(
            "connection.failed", connection=connection.label, error=repr(error)[:1000]
        )
        connection.close()

    def refused_by(self, connection: Connection, code: str, detail: str) -> None:
        """Somebody who came turns this node away, in words of his own: they tell no causes apart."""
        fields = {"connection": connection.label, "code": code, "detail": detail, "by": "them"}
        self._repeatable("connection.refused", connection.caller, "by_the_other_end", fields)

    def target_failed(self, target: Target, error: str) -> None:
        """Says it once, not at every attempt."""
        if target.error != error:
            target.error = error
            self.notices.warning("peer.unreachable", address=target.label, error=error)

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

    def _repeatable(self, event: str, caller: Caller, why: str, fields: dict[str, str]) -> None:
        notice = Notice(event, Level.WARNING, {**fields, "origin": caller.origin})
        self.notices.repeatable(notice, why, caller.origin)
