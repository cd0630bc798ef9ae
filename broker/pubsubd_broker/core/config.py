"""What a node is told about itself, and every bound it keeps. Durations in nanoseconds, sizes in bytes."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, NamedTuple

from pubsubd_broker.core.allowed import ANYBODY, NO_RULES, Allowed, Rights, TopicRules
from pubsubd_broker.core.caller import Caller
from pubsubd_broker.core.pool import Claimant
from pubsubd_protocol.entries import MAX_BATCH_MESSAGES
from pubsubd_protocol.errors import ConnectionRefused
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_SESSION_NAME
from pubsubd_protocol.frames import DEFAULT_CLUSTER
from pubsubd_protocol.topics import MAX_PATTERNS, MAX_TOPIC_BYTES

SECOND_NS: Final = 1_000_000_000

MAX_TURNED_AWAY: Final = 64
"""Further ones that are heard, so that they can be told why they are refused; beyond that they are just closed."""

PUBLISH_WINDOW: Final = 128
"""Batches that a publisher may have unanswered; the table remembers as many answers of each."""

FRAMES_AT_ONCE: Final = 2 * PUBLISH_WINDOW
"""Of what one connection has said so many frames are taken at once, or one that may cost much; then it is others' turn."""

MAX_FETCHES: Final = 4
"""Fetches under way at once on a link; further ones wait their turn."""

FETCH_BYTES: Final = 256 * 1024
"""What one fetch asks for, and what one pull writes at the most (or one entry, if it is larger)."""

MAX_OUTBOX_BYTES: Final = 256 * 1024
"""Unsent answers at which a connection is no longer read from."""

HANDSHAKE_BYTES: Final = 64 * 1024
"""The longest frame before the greeting is over."""

ACK_DELAY_NS: Final = 50_000_000
ACK_MESSAGES: Final = 1024
"""A consumer acknowledges after this time or this many messages, whichever comes first."""

PLACES_NS: Final = 250_000_000
"""A consumer tells where its named sessions stand in the streams of third nodes no sooner than after this time."""

SETTLE_NS: Final = 7 * SECOND_NS // 10
"""A session is told how far it has come where nothing was for it after this time, or sooner if its log moves on fast."""

TICK_NS: Final = SECOND_NS // 4
"""How often each connection looks at the time at least: with `SETTLE_NS` that makes less than a second."""

LAG_WARNING_SHARE: Final = 0.4
LAG_WARNING_EVERY_NS: Final = 60 * SECOND_NS
"""A consumer that lags by this share of the ring is warned of, at most once in this time."""


class Now(NamedTuple):
    """One reading of the clocks, taken by the shell."""

    mono_ns: int
    """Monotonic: every rule goes by it."""
    wall_us: int
    """Since 1970: printed for people, read by no rule."""


ITEM_OVERHEAD: Final = 512
"""What an item of a log costs beside its frame: objects, slots, the head's columns. Counted, so that bounds are real."""

ENTRY_HEAD_BYTES: Final = 256
"""By how much an entry's frame is longer than the publish that it came from, at the most."""


CLIENT_PATIENCE: Final = 5
"""How much longer than a peer a client may be silent: an application may compute for a while, a broker never does."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How many of each there may be. What happens at each is in docs/security.md."""

    connections: int = 4096
    """That came in, clients and peers together."""
    connections_per_uid: int = 2048
    connections_per_address: int = 256
    handshake_ns: int = 5 * SECOND_NS
    """How long a connection may take to greet, and to say what it wants."""
    receive_bytes: int = 256 * 2**20
    """What large frames that are coming in take, beyond the usual buffers of their connections."""
    unsent_bytes: int = 256 * 2**20
    """What readers keep of large entries that their sockets have not taken."""
    fetched_bytes: int = 256 * 2**20
    """What was fetched from producers for sessions that have not read it."""
    batch_messages: int = MAX_BATCH_MESSAGES
    batch_topics: int = 1024
    topic_bytes: int = MAX_TOPIC_BYTES
    patterns: int = MAX_PATTERNS
    publishers: int = 1024
    """That the table of accepted batches remembers, those that are connected not counted."""
    sessions: int = 2048
    """That are connected."""
    named_sessions: int = MAX_NAMED_SESSIONS
    commands: int = 64
    """That are connected, as `pubsubd status` is."""
    consumers: int = 1024
    """Nodes in the cursor registry."""
    producers: int = 1000
    """Streams of other nodes that are known; a node that comes back under a new name is a new one."""


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
    listens: bool = True
    recover_from_peers: bool = False
    cluster: str = DEFAULT_CLUSTER
    secret: bytes | None = field(default=None, repr=False)
    """What the brokers of the cluster know, and nobody else."""
    allowed: Allowed = ANYBODY
    """Which local users may connect."""
    topic_rules: TopicRules = NO_RULES
    limits: Limits = Limits()
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


def owner_of(name: str) -> str | None:
    """The user who has a session of this name, as it is called here. None: the broker's own."""
    uid, colon, _ = name.partition(":")
    return uid if colon and uid.isdecimal() else None
