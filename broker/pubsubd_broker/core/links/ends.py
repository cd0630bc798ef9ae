"""Ends of a node's connections: makes each out of its collaborators, and says when none may be had."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from pubsubd_broker.core.access.admission import Admission
from pubsubd_broker.core.access.local_users import LocalUsers
from pubsubd_broker.core.access.permissions import Rights
from pubsubd_broker.core.limits import Limits, Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.control_end import ControlEnd
from pubsubd_broker.core.links.dial_targets import DialTargets, Target
from pubsubd_broker.core.links.end import LinkEnd
from pubsubd_broker.core.links.fetch_budget import FetchBudget
from pubsubd_broker.core.links.naming import BrokerIdentity
from pubsubd_broker.core.links.peer_recovery import PeerRecovery, RecoveryEnd
from pubsubd_broker.core.links.peers import Peers
from pubsubd_broker.core.links.producer_end import ProducerEnd
from pubsubd_broker.core.links.publisher_end import PublisherEnd
from pubsubd_broker.core.links.remembered_names import RememberedNames
from pubsubd_broker.core.links.session_end import SessionEnd
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.streams.intake import Intake
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.frames import Query, Welcome


class Ends:
    """The ends that handshakes ask for. `recovery`: set as long as the node asks its peers for its own stream."""

    def __init__(
        self,
        me: BrokerIdentity,
        *,
        limits: Limits,
        max_frame: int,
        ring: tuple[int, int],
        recovers_from_peers: bool,
        stream: Stream,
        registry: CursorRegistry,
        intake: Intake,
        sessions: Sessions,
        peers: Peers,
        targets: DialTargets,
        users: LocalUsers,
        admission: Admission,
        fetch_budget: FetchBudget,
        events: Events,
        answer: Callable[[Query, Now], str],
    ) -> None:
        """`ring`: the most messages and bytes of `stream`. `answer`: gives the answer to a command as JSON text."""
        self.recovery: PeerRecovery | None = None
        self._limits = limits
        self._max_frame = max_frame
        self._ring = ring
        self._me = me
        self._stream = stream
        self._recovered_stream = stream if recovers_from_peers else None
        """The own stream, if the next life asks the peers for it; else None."""
        self._registry = registry
        self._intake = intake
        self._sessions = sessions
        self._peers = peers
        self._targets = targets
        self._users = users
        self._admission = admission
        self._fetch_budget = fetch_budget
        self._events = events
        self._answer = answer

    # Ends of connections that came in.

    def check_open(self, role: str) -> None:
        """Raises `ConnectionRefused` while the node serves no end of this role."""
        if role == "control":
            return
        if self.recovery is not None:
            raise ConnectionRefused(
                "recovering", f"{self._me.node} asks its peers for its stream: try again"
            )
        if self._intake.draining:
            raise ConnectionRefused("draining", f"{self._me.node} is stopping")

    def check_consumer(self, name: str, epoch: bytes, now_ns: int) -> None:
        """Raises `ConnectionRefused` if a peer of this name may not pull the stream now."""
        self._peers.check_consumer(name, epoch, now_ns)

    def consumer(self, connection: Connection, name: str, epoch: bytes) -> LinkEnd:
        return ProducerEnd(
            connection,
            name,
            epoch,
            stream=self._stream,
            registry=self._registry,
            consumers=self._peers,
            replica_of=self._peers.replicas.get,
        )

    def publisher(
        self, connection: Connection, publisher_id: bytes, spoke_to: bytes | None, rights: Rights
    ) -> LinkEnd:
        return PublisherEnd(
            connection,
            publisher_id,
            spoke_to,
            rights,
            intake=self._intake,
            max_frame=self._max_frame,
            events=self._events,
        )

    def session(self, connection: Connection, client_id: bytes, rights: Rights) -> LinkEnd:
        return SessionEnd(
            connection,
            client_id,
            rights,
            epoch=self._me.epoch,
            sessions=self._sessions,
            connected=self._admission.sessions,
            name_of=partial(self._users.session_name, connection.remote),
            health=self._peers.health,
            limits=self._limits,
            events=self._events,
        )

    def control(self, connection: Connection) -> LinkEnd:
        return ControlEnd(
            connection,
            answer=self._answer,
            operator=self._users.is_operator(connection.remote),
            commands=self._admission.commands,
        )

    # Ends of connections that this node dialled.

    def producer(self, connection: Connection, target: Target, welcome: Welcome) -> LinkEnd | None:
        """For the node at `target`. None: another address has led to it already.

        Raises `ConnectionRefused` if no link to it may be had.
        """
        name, epoch = welcome.node, welcome.epoch
        clash = self._peers.clash_with_producer(name, epoch)
        if clash is not None:
            target.is_self = clash[0] == "self"
            raise ConnectionRefused(*clash)
        if self.recovery is not None:
            return self._recovery_end(connection, target, self.recovery)
        if name in self._peers.producers:
            target.reached = True
            self._targets.unreachable(target, f"{name} is linked by another address")
            connection.close()
            return None
        if welcome.max_frame > self._max_frame:
            raise ConnectionRefused(
                "frame_limit",
                f"{name} sends frames of up to {welcome.max_frame} bytes, {self._me.node} takes "
                f"{self._max_frame}: give both the same --max-frame",
            )
        self._peers.make_room_for_producer(name, connection.opened_ns)
        end = self._peers.producers[name] = ConsumerEnd(
            connection,
            target,
            name,
            epoch,
            reader=self._me.node,
            max_frame=self._max_frame,
            producers=self._peers,
            places=RememberedNames(
                name, self._sessions, self._recovered_stream, self._peers.replicas
            ),
            fetch_budget=self._fetch_budget,
            events=self._events,
        )
        return end

    def _recovery_end(
        self, connection: Connection, target: Target, recovery: PeerRecovery
    ) -> RecoveryEnd:
        return RecoveryEnd(
            connection,
            target,
            node=self._me.node,
            ring=self._ring,
            max_frame=self._max_frame,
            recovery=recovery,
        )
