"""Admission of connections: bounds in all and of one origin, and the users whom the settings allow."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum, auto

from pubsubd_broker.core.access.permissions import AllowedUsers
from pubsubd_broker.core.access.quota import Claimant, Quota
from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.limits import MAX_TURNED_AWAY, Limits


class Standing(Enum):
    """The way in which a connection came in, unless it was turned away."""

    ADMITTED = auto()
    CLOSED = auto()
    """There are too many even to tell this one why."""


@dataclass(frozen=True, slots=True)
class TurnedAway:
    """Refusal of a connection that is heard, so that it can be told this."""

    code: str
    detail: str


Admittance = Standing | TurnedAway


class Admission:
    """Counts the connections that came in and are still open. Cost of each: a look at three numbers."""

    __slots__ = (
        "_allowed_users",
        "_limits",
        "_of_origin",
        "_of_peers",
        "_turned_away",
        "admitted",
        "commands",
        "sessions",
    )

    def __init__(self, limits: Limits, allowed_users: AllowedUsers) -> None:
        self._limits = limits
        self._allowed_users = allowed_users
        self._of_origin: Counter[str] = Counter()
        self._of_peers = 0
        # Never more than are let in: where there are few descriptors they are few, too.
        self._turned_away = Quota(min(MAX_TURNED_AWAY, limits.connections))
        self.admitted = 0
        self.commands = Quota(limits.commands)
        """Open connections of commands: each may hold an answer as large as the node."""
        self.sessions = Quota(limits.sessions)
        """Open connections of sessions."""

    def enter(self, remote: Remote, claimant: Claimant, *, peers: bool) -> Admittance:
        """Admits or refuses a connection that has come, where `peers` come or where clients do. Hand the result to `leave` at its end."""
        refusal = (None if peers else self._stranger(remote)) or self._crowd(remote, peers)
        if refusal is None:
            self.admitted += 1
            self._of_peers += peers
            self._of_origin[remote.origin] += 1
            return Standing.ADMITTED
        return refusal if self._turned_away.change(claimant, 0, 1) else Standing.CLOSED

    def leave(
        self, remote: Remote, claimant: Claimant, admittance: Admittance, *, peers: bool
    ) -> None:
        match admittance:
            case Standing.ADMITTED:
                self.admitted -= 1
                self._of_peers -= peers
                self._of_origin[remote.origin] -= 1
                if not self._of_origin[remote.origin]:
                    del self._of_origin[remote.origin]
            case TurnedAway():
                self._turned_away.change(claimant, 1, 0)
            case Standing.CLOSED:
                pass

    def _stranger(self, remote: Remote) -> TurnedAway | None:
        allowed, uid, gid = self._allowed_users, remote.uid, remote.gid
        if uid is None or gid is None:
            if not allowed.uids and not allowed.gids:
                return None
            detail = (
                "the system does not say who this is, and --allow-uid or --allow-gid asks for it"
            )
            return TurnedAway("not_allowed", detail)
        if allowed.admits(uid, gid, remote.groups):
            return None
        detail = f"uid {uid} (gid {gid}) may not connect: --allow-uid {uid} would let it in"
        return TurnedAway("not_allowed", detail)

    def _crowd(self, remote: Remote, peers: bool) -> TurnedAway | None:
        limits, origin = self._limits, remote.origin
        if self.admitted >= limits.connections:
            detail = f"{limits.connections} connections are open, that is the limit"
            return TurnedAway("too_many_connections", detail)
        # Strangers on the network thus never keep local applications out.
        most_peers = limits.connections - limits.connections // 2
        if peers and self._of_peers >= most_peers:
            detail = f"{most_peers} connections of peers are open, half of what there may be"
            return TurnedAway("too_many_connections", detail)
        of_one = (
            limits.connections_per_uid if remote.host is None else limits.connections_per_address
        )
        if self._of_origin[origin] >= of_one:
            detail = f"{of_one} connections of {origin} are open, that is the limit for one"
            return TurnedAway("too_many_of_one", detail)
        return None
