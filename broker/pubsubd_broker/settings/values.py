"""Settings: the values that a broker runs on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from pubsubd_broker.core.access.permissions import TopicRule
from pubsubd_broker.core.limits import SECOND_NS, Limits
from pubsubd_protocol.addresses import Address
from pubsubd_protocol.frames import DEFAULT_CLUSTER

_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Values of all settings. Sizes in bytes, durations in seconds."""

    node: str
    socket: str
    listen: Address | None = ("127.0.0.1", 7420)
    peers: tuple[Address, ...] = ()
    ring_messages: int = 100_000
    ring_bytes: int = 64 << 20
    replica_messages: int = 100_000
    replica_bytes: int = 16 << 20
    pace_s: float = 0.25
    journal: str | None = None
    fsync: Literal["off", "snapshot", "interval", "always"] = "interval"
    fsync_interval_s: float = 0.05
    recover_from_peers: bool = False
    cursor_ttl_s: float = 86_400.0
    heartbeat_s: float = 2.0
    peer_timeout_s: float = 6.0
    max_message: int = 1 << 20
    max_frame: int = 16 << 20
    http: Address | None = ("127.0.0.1", 9420)
    cluster: str = DEFAULT_CLUSTER
    cluster_secret_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    tls_ca: str | None = None
    insecure: bool = False
    socket_mode: int = 0o600
    allow_uids: tuple[int, ...] = ()
    allow_gids: tuple[int, ...] = ()
    topic_rules: tuple[TopicRule, ...] = ()
    max_connections: int = _LIMITS.connections
    max_connections_per_uid: int = _LIMITS.connections_per_uid
    max_connections_per_address: int = _LIMITS.connections_per_address
    handshake_timeout_s: float = _LIMITS.handshake_ns / SECOND_NS
    max_receive_bytes: int = _LIMITS.receive_bytes
    max_unsent_bytes: int = _LIMITS.unsent_bytes
    max_fetched_bytes: int = _LIMITS.fetched_bytes
    max_sessions: int = _LIMITS.sessions
    max_named_sessions: int = _LIMITS.named_sessions
    max_patterns: int = _LIMITS.patterns
    max_topic_bytes: int = _LIMITS.topic_bytes
    max_batch: int = _LIMITS.batch_messages
    max_batch_topics: int = _LIMITS.batch_topics
    max_publishers: int = _LIMITS.publishers
    max_commands: int = _LIMITS.commands
    max_consumers: int = _LIMITS.consumers
    max_producers: int = _LIMITS.producers
    http_max_connections: int = 64
    http_max_head: int = 16 << 10
    http_timeout_s: float = 5.0
    log_repeat_s: float = 60.0
    log_format: Literal["console", "json"] = "json"
    log_level: Literal["debug", "info", "warning", "error"] = "info"
