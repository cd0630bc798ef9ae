"""Settings of the core. Durations in nanoseconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial

from pubsubd_broker.core.access.permissions import (
    ALL_USERS,
    NO_RULES,
    AllowedUsers,
    Rights,
    TopicRules,
)
from pubsubd_broker.core.limits import (
    CLIENT_PATIENCE,
    DEFAULT_LIMITS,
    ENTRY_HEAD_BYTES,
    ITEM_OVERHEAD,
    MS_NS,
    PUBLISH_WINDOW,
    SECOND_NS,
    Limits,
)
from pubsubd_broker.core.links.liveness import Timeouts
from pubsubd_broker.core.links.settings import LinkSettings
from pubsubd_protocol.frames import DEFAULT_CLUSTER, VERSION, Welcome
from pubsubd_protocol.positions import Epoch


@dataclass(frozen=True, slots=True)
class Config:
    """Settings that the rules need."""

    node: str
    ring_messages: int = 100_000
    ring_bytes: int = 64 * 2**20
    replica_messages: int = 100_000
    replica_bytes: int = 16 * 2**20
    max_message: int = 2**20
    max_frame: int = 16 * 2**20
    heartbeat_ns: int = 2 * SECOND_NS
    peer_timeout_ns: int = 6 * SECOND_NS
    cursor_ttl_ns: int = 24 * 3600 * SECOND_NS
    pace_ns: int = SECOND_NS // 4
    recover_from_peers: bool = False
    cluster: str = DEFAULT_CLUSTER
    secret: bytes | None = field(default=None, repr=False)
    """The secret of the cluster. Only its brokers know it."""
    allowed_users: AllowedUsers = ALL_USERS
    """The local users that may connect."""
    topic_rules: TopicRules = NO_RULES
    limits: Limits = DEFAULT_LIMITS
    log_repeat_ns: int = 0
    """The time in which the same refusal of the same origin is logged once. 0: every refusal is logged."""

    @property
    def client_timeout_ns(self) -> int:
        """The longest silence of a client that sends heartbeats, before the broker closes its connection."""
        return CLIENT_PATIENCE * self.peer_timeout_ns

    @property
    def max_frame_held(self) -> int:
        """The longest publish that the node accepts: as an entry it has to fit into the ring."""
        return min(self.max_frame, max(1, self.ring_bytes - ITEM_OVERHEAD - ENTRY_HEAD_BYTES))

    def for_links(self, epoch: Epoch) -> LinkSettings:
        """Settings of the links. `epoch`: of this life."""
        timeouts = partial(Timeouts, self.limits.handshake_ns, self.heartbeat_ns)
        return LinkSettings(
            node=self.node,
            cluster=self.cluster,
            secret=self.secret,
            allowed_users=self.allowed_users,
            topic_rules=self.topic_rules,
            limits=self.limits,
            client_timeouts=timeouts(self.client_timeout_ns),
            peer_timeouts=timeouts(self.peer_timeout_ns),
            max_frame=self.max_frame,
            ring=(self.ring_messages, self.ring_bytes),
            replica=(self.replica_messages, self.replica_bytes),
            cursor_ttl_ns=self.cursor_ttl_ns,
            recovers_from_peers=self.recover_from_peers,
            welcome=partial(self.welcome, epoch),
        )

    def welcome(self, epoch: Epoch, rights: Rights) -> Welcome:
        """The frame that welcomes a remote end with these rights. `epoch`: of this life."""
        return Welcome(
            VERSION,
            self.node,
            epoch,
            self.max_message,
            self.max_frame_held,
            PUBLISH_WINDOW,
            min(self.limits.batch_messages, self.ring_messages),
            self.cluster,
            self.limits.batch_topics,
            self.limits.topic_bytes,
            rights.publishable,
            self.heartbeat_ns // MS_NS,
            self.peer_timeout_ns // MS_NS,
        )
