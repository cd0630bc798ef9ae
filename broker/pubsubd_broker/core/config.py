"""The settings of the core. Durations in nanoseconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b

from pubsubd_broker.core.access.permissions import ANYBODY, NO_RULES, Allowed, Rights, TopicRules
from pubsubd_broker.core.access.quota import Claimant
from pubsubd_broker.core.access.remote import Caller
from pubsubd_broker.core.limits import (
    CLIENT_PATIENCE,
    DEFAULT_LIMITS,
    ENTRY_HEAD_BYTES,
    ITEM_OVERHEAD,
    SECOND_NS,
    Limits,
)
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.fields import MAX_SESSION_NAME
from pubsubd_protocol.frames import DEFAULT_CLUSTER


@dataclass(frozen=True, slots=True)
class Config:
    """The settings that the rules need."""

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
    """What the brokers of the cluster know, and nobody else."""
    allowed: Allowed = ANYBODY
    """Which local users may connect."""
    topic_rules: TopicRules = NO_RULES
    limits: Limits = DEFAULT_LIMITS
    log_repeat_ns: int = 0
    """In so much time the same refusal of the same origin is logged once. 0: each."""

    @property
    def client_timeout_ns(self) -> int:
        """How long a client that sends heartbeats may be silent."""
        return CLIENT_PATIENCE * self.peer_timeout_ns

    @property
    def max_frame_held(self) -> int:
        """The longest publish that is accepted: as an entry it has to fit into the ring."""
        return min(self.max_frame, max(1, self.ring_bytes - ITEM_OVERHEAD - ENTRY_HEAD_BYTES))

    def is_operator(self, caller: Caller) -> bool:
        """Whether it may change what is kept of others. Where the system does not tell who it is, the socket's mode decides."""
        return caller.uid in (None, 0, self.allowed.own)

    def claimant(self, caller: Caller) -> Claimant:
        """On whose account a connection takes what all have to share. Whoever looks after the broker comes first."""
        return Claimant(caller.origin, caller.host is None and self.is_operator(caller))

    def rights_of(self, caller: Caller) -> Rights:
        """To which topics a local user may publish and subscribe."""
        uid = -1 if caller.uid is None else caller.uid
        gid = -1 if caller.gid is None else caller.gid
        return self.topic_rules.for_client(uid, gid, caller.groups)

    def client_id(self, caller: Caller, life: bytes) -> bytes:
        """Under what a client that calls itself `life` publishes here.

        All readers see it, and by it a publisher is answered its retries: nobody can publish under that of another user.
        Those of the broker's own user stay as they are.
        """
        if caller.uid in (None, self.allowed.own):
            return life
        return blake2b(life, digest_size=len(life), salt=b"%d" % caller.uid).digest()

    def session_name(self, caller: Caller, name: str | None) -> str | None:
        """What a session that a user calls `name` is called here: each user has names of his own.

        In the journal and with peers, too: nobody gets to another one's place. Those of the broker's own user stay as they
        are. Raises `ConnectionRefused`.
        """
        if name is None or caller.uid in (None, self.allowed.own):
            return name
        own = f"{caller.uid}:{name}"
        if len(own) > MAX_SESSION_NAME:
            raise ConnectionRefused(
                "name_too_long",
                f"{own!r}, as it is called here, has {len(own)} characters, allowed are {MAX_SESSION_NAME}",
            )
        return own
