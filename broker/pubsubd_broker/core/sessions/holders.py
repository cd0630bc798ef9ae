"""Holders of session names: which connection may have a name that another one has, or had."""

from __future__ import annotations

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.sessions.session import UNNAMED_HOLDER, Seat, Session
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.frames import Subscribe


def take_name(known: Session, subscribe: Subscribe, seat: Seat, now: Now) -> None:
    """Lets `subscribe` have the name of `known`. Raises `ConnectionRefused` if another client has it, or had it since.

    A session that is back may find its own older connection there: the connection that was opened later stays.
    A session that comes back after another client has held the name would read on from its own old position. What the
    other client acknowledged would come again, or be missing.
    """
    mine = subscribe.id or UNNAMED_HOLDER
    is_back = bool(subscribe.id) and known.holder == mine
    if subscribe.id and subscribe.born is not None and known.holder not in (None, mine):
        raise ConnectionRefused(
            "name_lost", "another connection has held it since this one was lost"
        )
    if known.connected:
        older = known.seat
        if not is_back or older is None:
            raise ConnectionRefused("name_in_use", f"another connection to {known.reader} holds it")
        if older.opened_ns > seat.opened_ns:
            raise ConnectionRefused("replaced", "a newer connection has this session")
        older.replace(now)
    known.holder = mine
