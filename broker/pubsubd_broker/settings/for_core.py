"""Settings as the core takes them: sizes in bytes, durations in nanoseconds."""

from __future__ import annotations

from pubsubd_broker.core.access.permissions import Allowed, TopicRules
from pubsubd_broker.core.config import Config
from pubsubd_broker.core.limits import SECOND_NS, Limits
from pubsubd_broker.settings.values import Settings


def config_of(settings: Settings, secret: bytes | None, uid: int) -> Config:
    """`secret`: what stands in the file of the cluster's secret. `uid`: the broker's own."""
    return Config(
        node=settings.node,
        ring_messages=settings.ring_messages,
        ring_bytes=settings.ring_bytes,
        replica_messages=settings.replica_messages,
        replica_bytes=settings.replica_bytes,
        max_message=settings.max_message,
        max_frame=settings.max_frame,
        heartbeat_ns=_ns(settings.heartbeat_s),
        peer_timeout_ns=_ns(settings.peer_timeout_s),
        pace_ns=_ns(settings.pace_s),
        recover_from_peers=settings.recover_from_peers,
        cursor_ttl_ns=_ns(settings.cursor_ttl_s),
        cluster=settings.cluster,
        secret=secret,
        allowed=Allowed(frozenset(settings.allow_uids), frozenset(settings.allow_gids), uid),
        topic_rules=TopicRules(settings.topic_rules),
        limits=Limits(
            connections=settings.max_connections,
            connections_per_uid=settings.max_connections_per_uid,
            connections_per_address=settings.max_connections_per_address,
            handshake_ns=_ns(settings.handshake_timeout_s),
            receive_bytes=settings.max_receive_bytes,
            unsent_bytes=settings.max_unsent_bytes,
            fetched_bytes=settings.max_fetched_bytes,
            batch_messages=settings.max_batch,
            batch_topics=settings.max_batch_topics,
            topic_bytes=settings.max_topic_bytes,
            patterns=settings.max_patterns,
            publishers=settings.max_publishers,
            sessions=settings.max_sessions,
            named_sessions=settings.max_named_sessions,
            commands=settings.max_commands,
            consumers=settings.max_consumers,
            producers=settings.max_producers,
        ),
        log_repeat_ns=_ns(settings.log_repeat_s),
    )


def _ns(seconds: float) -> int:
    return int(seconds * SECOND_NS)
