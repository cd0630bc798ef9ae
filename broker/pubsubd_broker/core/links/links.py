"""Links of a node: builds the parts of this room, and connects them with the streams and the sessions."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from pubsubd_broker.core.access.admission import Admission
from pubsubd_broker.core.access.local_users import LocalUsers
from pubsubd_broker.core.access.remote import Remote
from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.links.connection import Connection
from pubsubd_broker.core.links.connections import Connections
from pubsubd_broker.core.links.consumer_end import ConsumerEnd
from pubsubd_broker.core.links.dial_targets import DialTargets, Target
from pubsubd_broker.core.links.ends import Ends
from pubsubd_broker.core.links.fetch_budget import FetchBudget
from pubsubd_broker.core.links.naming import BrokerIdentity
from pubsubd_broker.core.links.peer_recovery import PeerHistory, PeerRecovery
from pubsubd_broker.core.links.peers import PeerObserver, Peers
from pubsubd_broker.core.links.settings import LinkSettings
from pubsubd_broker.core.log.pacing import Pace
from pubsubd_broker.core.observe.events import Events
from pubsubd_broker.core.sessions.sessions import Sessions
from pubsubd_broker.core.streams.intake import Intake
from pubsubd_broker.core.streams.publishers import Publishers
from pubsubd_broker.core.streams.registry import CursorRegistry
from pubsubd_broker.core.streams.replica import Replica
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.addresses import Address
from pubsubd_protocol.frames import Query
from pubsubd_protocol.positions import Epoch


class Links:
    """All connections of a node, and the parts that they share."""

    def __init__(
        self,
        settings: LinkSettings,
        epoch: Epoch,
        addresses: Iterable[Address],
        *,
        stream: Stream,
        registry: CursorRegistry,
        publishers: Publishers,
        sessions: Sessions,
        replicas: dict[str, Replica],
        producers: dict[str, ConsumerEnd],
        pace: Pace,
        events: Events,
        observer: PeerObserver | None,
        answer: Callable[[Query, Now], str],
        started_ns: int,
    ) -> None:
        """`addresses`: the peers to dial. `answer`: gives the answer to a command as JSON text."""
        self._settings = settings
        self._me = BrokerIdentity(settings.node, epoch, settings.cluster, settings.secret)
        self._notices = events.notices
        self._started_ns = started_ns
        self.targets = DialTargets(addresses, events.unreachable)
        self.peers = Peers(
            self._me,
            most_producers=settings.limits.producers,
            replica_limits=settings.replica,
            ttl_ns=settings.cursor_ttl_ns,
            replicas=replicas,
            producers=producers,
            targets=self.targets,
            stream=stream,
            registry=registry,
            sessions=sessions,
            pace=pace,
            events=events,
            observer=observer,
            started_ns=started_ns,
        )
        self.intake = Intake(epoch, stream, publishers, settings.limits, self.peers.knows)
        self.fetch_budget = FetchBudget(settings.limits.fetched_bytes)
        users = LocalUsers(settings.allowed_users, settings.topic_rules)
        admission = Admission(settings.limits, settings.allowed_users)
        self._ends = Ends(
            self._me,
            limits=settings.limits,
            max_frame=settings.max_frame,
            ring=settings.ring,
            recovers_from_peers=settings.recovers_from_peers,
            stream=stream,
            registry=registry,
            intake=self.intake,
            sessions=sessions,
            peers=self.peers,
            targets=self.targets,
            users=users,
            admission=admission,
            fetch_budget=self.fetch_budget,
            events=events,
            answer=answer,
        )
        self.connections = Connections(
            self._me,
            self._ends,
            limits=settings.limits,
            client_timeouts=settings.client_timeouts,
            peer_timeouts=settings.peer_timeouts,
            welcome=settings.welcome,
            users=users,
            admission=admission,
            targets=self.targets,
            events=events,
        )

    def due(self, now: Now) -> list[Target]:
        """The targets to dial now. A node that stops dials none."""
        return [] if self.intake.draining else self.targets.due(now.mono_ns)

    def dialled(self, target: Target, remote: Remote, now: Now) -> Connection:
        """The dial succeeded."""
        return self.connections.dialled(target, remote, now)

    def take_secret(self, secret: bytes) -> None:
        """Links that open from now on are proved with `secret`; those that are open stay as they are."""
        self._me.secret = secret

    def tick(self, now: Now) -> None:
        """Looks at every connection, and gives up peers that have been away for too long."""
        self.connections.tick(now)
        self.peers.expire(now)

    def farewell(self, now: Now) -> None:
        """Says the last words of this life: to clients on each connection, then to producers."""
        self.connections.farewell(now)
        self.peers.acknowledge(now)

    def refuse_publishers(self, reason: str) -> None:
        """The journal has failed: publishers are sent away. Accepted messages stay readable."""
        self._notices.error("journal.failed", reason=reason)
        self.connections.refuse_publishers("journal_failed", self.intake.fail(reason))

    # Recovery from peers.

    @property
    def recovery(self) -> PeerRecovery | None:
        """Set as long as this node asks its peers for its own stream, and serves no client and no peer."""
        return self._ends.recovery

    def recover(
        self, latest: Epoch | None, decide: Callable[[PeerHistory | None, Now], None]
    ) -> None:
        """Begins to ask the peers. `latest` and `decide`: see `PeerRecovery`."""
        self._ends.recovery = PeerRecovery(
            self._me.node,
            self.targets,
            patience_ns=self._settings.peer_timeouts.silence_ns,
            most_names=self._settings.limits.named_sessions,
            started_ns=self._started_ns,
            latest=latest,
            decide=decide,
        )

    def end_recovery(self) -> None:
        """All are served from now on. The links over which peers were asked end; their streams are pulled over new ones."""
        recovery, self._ends.recovery = self._ends.recovery, None
        for end in recovery.ends if recovery is not None else ():
            end.close()
