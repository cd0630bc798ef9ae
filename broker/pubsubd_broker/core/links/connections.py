"""Connections: the open connections of a node, those that came in and those that it dialled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from operator import attrgetter
from typing import Protocol

from pubsubd_broker.core.access.admission import Admission, Admittance, Standing, TurnedAway
from pubsubd_broker.core.access.local_users import LocalUsers
from pubsubd_broker.core.access.permissions import Rights
from pubsubd_broker.core.access.quota import Claimant, Quota
from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.limits import Limits, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.dial_targets import DialTargets, Target
from pubsubd_broker.core.links.handshake import (
    AcceptedEnds,
    AcceptedHandshake,
    DialledEnds,
    DialledHandshake,
)
from pubsubd_broker.core.links.liveness import Timeouts
from pubsubd_broker.core.links.naming import BrokerIdentity
from pubsubd_broker.core.links.receive_share import ReceiveShare
from pubsubd_broker.core.links.round_robin import ReadyQueue
from pubsubd_broker.core.links.send_budget import SendBudget
from pubsubd_broker.core.observe.events import Events
from pubsubd_protocol.frames import Refused, Welcome


class MakesEnds(AcceptedEnds, DialledEnds, Protocol):
    """Makes the ends of all connections."""


class Accepted:
    """The side of the other end: it came in, and takes a place among those that may."""

    def __init__(
        self,
        remote: Remote,
        claimant: Claimant,
        admittance: Admittance,
        admission: Admission,
        events: Events,
        *,
        peers: bool,
    ) -> None:
        self.admittance = admittance
        self._remote = remote
        self._claimant = claimant
        self._admission = admission
        self._events = events
        self._peers = peers

    def failed(self, error: str) -> None:
        """The other end dials again, or does not: nothing is to be noted here."""

    def refused(self, refused: Refused, *, trusted: bool) -> None:
        remote = self._remote
        self._events.refused_by(remote.label, remote.origin, refused.code, refused.detail)

    def ended(self, now: Now, chance: float, *, greeted: bool, told: bool) -> None:
        entered = self._remote, self._claimant, self.admittance
        self._admission.leave(*entered, peers=self._peers)


class Dialled:
    """The side of this node: it dialled `target`, and will dial again."""

    def __init__(self, remote: Remote, target: Target, targets: DialTargets) -> None:
        self._remote = remote
        self._target = target
        self._targets = targets

    def failed(self, error: str) -> None:
        self._targets.unreachable(self._target, error)

    def refused(self, refused: Refused, *, trusted: bool) -> None:
        if trusted:
            # Without a proof, a stranger at that address could say so.
            self._target.is_self = refused.code == "self"
            self._target.recovers = self._target.recovers or refused.code == "recovering"
        self._targets.unreachable(self._target, f"{refused.detail} ({refused.code})")

    def ended(self, now: Now, chance: float, *, greeted: bool, told: bool) -> None:
        why = _why_lost(self._remote, greeted=greeted)
        if not greeted and not told:
            self._targets.unreachable(self._target, why)
        self._target.error = self._target.error or why
        self._target.failed(now.mono_ns, chance)


def _why_lost(remote: Remote, *, greeted: bool) -> str:
    """The likely cause, for people, where a connection that was dialled ends without a word."""
    if greeted:
        return "the connection was lost"
    if remote.channel is not None:
        # TLS 1.3 is done at this end before the other one has looked at our certificate.
        return (
            "it closed the connection after the TLS handshake: it may not accept this node's certificate, its log "
            "says why"
        )
    return (
        "it closed the connection before it had greeted: it may ask for TLS, or be no broker at all, its log "
        "says why"
    )


class Connections:
    """Makes connections, and forgets them when they are gone."""

    def __init__(
        self,
        me: BrokerIdentity,
        ends: MakesEnds,
        *,
        limits: Limits,
        client_timeouts: Timeouts,
        peer_timeouts: Timeouts,
        welcome: Callable[[Rights], Welcome],
        users: LocalUsers,
        admission: Admission,
        targets: DialTargets,
        events: Events,
    ) -> None:
        """`ends`: makes the end of a connection after its handshake. `welcome`: makes the frame that ends an accepted one."""
        self.ready = ReadyQueue[Connection](attrgetter("flow_key"))
        self.receiving = Quota(limits.receive_bytes)
        """The bytes of large frames that are coming in."""
        self.send_budget = SendBudget[Connection](limits.unsent_bytes)
        self._welcome = welcome
        self._me = me
        self._ends = ends
        self._users = users
        self._admission = admission
        self._targets = targets
        self._events = events
        self._client_timeouts = client_timeouts
        self._peer_timeouts = peer_timeouts
        self._open: dict[Connection, None] = {}

    def __iter__(self) -> Iterator[Connection]:
        return iter(list(self._open))

    def __len__(self) -> int:
        return len(self._open)

    def __contains__(self, connection: object) -> bool:
        return connection in self._open

    def accept(self, remote: Remote, now: Now, *, peers: bool) -> Connection:
        """A connection that came in, where `peers` are served or where clients are."""
        claimant = self._users.claimant(remote)
        admittance = self._admission.enter(remote, claimant, peers=peers)
        connection = Connection(
            remote,
            claimant,
            now,
            side=Accepted(remote, claimant, admittance, self._admission, self._events, peers=peers),
            forget=self._forget,
            handshake=partial(
                AcceptedHandshake,
                turned_away=admittance if isinstance(admittance, TurnedAway) else None,
                peers=peers,
                identity=self._me,
                users=self._users,
                commands=self._admission.commands,
                ends=self._ends,
                welcome=self._welcome,
            ),
            queue=self.ready.wake,
            events=self._events,
            send_budget=self.send_budget,
            share=ReceiveShare(self.receiving, claimant),
            timeouts=self._peer_timeouts if peers else self._client_timeouts,
        )
        self._open[connection] = None
        if admittance is Standing.CLOSED:
            self._events.closed_unheard()
            connection.close()
        return connection

    def dialled(self, target: Target, remote: Remote, now: Now) -> Connection:
        """The connection of a dial that succeeded."""
        connection = Connection(
            remote,
            self._users.claimant(remote),
            now,
            side=Dialled(remote, target, self._targets),
            forget=self._forget,
            handshake=partial(DialledHandshake, target=target, identity=self._me, ends=self._ends),
            queue=self.ready.wake,
            events=self._events,
            send_budget=self.send_budget,
            # Producers are as few as the settings name: their large frames are not counted.
            share=None,
            timeouts=self._peer_timeouts,
        )
        self._open[connection] = None
        target.opened()
        return connection

    def tick(self, now: Now) -> None:
        for connection in self:
            connection.tick(now)

    def farewell(self, now: Now) -> None:
        """This node is about to go: says the last words on every connection."""
        for connection in self:
            if connection.end is not None and not connection.closing:
                connection.end.farewell(now)

    def refuse_publishers(self, code: str, detail: str) -> None:
        """Ends the connection of every publisher."""
        for connection in self:
            if connection.end is not None and connection.end.role == "publisher":
                connection.refuse(code, detail)

    def _forget(self, connection: Connection) -> None:
        del self._open[connection]
        self.ready.forget(connection)
