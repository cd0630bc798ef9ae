"""The bounds, one row each. A new bound is a row here and a field with its default, of the core's `Limits` as a rule.

Option, variable, key of the file, `config show`, the check, the core's value and the table of docs/bounds.md come from
the row.
"""

from __future__ import annotations

from typing import Final

from pubsubd_broker.core.limits import SECOND_NS
from pubsubd_broker.settings.forms import (
    COUNT,
    FRAME_OVERHEAD_BYTES,
    count,
    duration,
    nanoseconds,
    size,
)
from pubsubd_broker.settings.row import bound
from pubsubd_protocol.columns import MAX_BATCH_MESSAGES, MAX_BATCH_TOPICS
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_STREAMS
from pubsubd_protocol.framing import MAX_FRAME_BYTES
from pubsubd_protocol.topics import MAX_PATTERNS, MAX_TOPIC_BYTES

HELD: Final = (
    bound(
        "ring-messages",
        "core.ring_messages",
        COUNT,
        "Most messages in the ring; it evicts whole batches.",
        at_it=(
            "the ring evicts the oldest entries, each as a whole: it holds at most this, and up to one batch less. "
            "Readers that still need them get `overwritten`. A larger batch: rejection `too_many_messages`"
        ),
        way_back="the oldest make room",
        shown_by=("ring_messages", "ring_capacity_messages", "cursor_expired_total"),
    ),
    bound(
        "ring-bytes",
        "core.ring_bytes",
        size(1),
        "Most bytes in the ring.",
        at_it="the same. A larger batch: rejection `too_large`",
        way_back="the oldest make room",
        shown_by=("ring_bytes", "cursor_expired_total"),
    ),
    bound(
        "replica-messages",
        "core.replica_messages",
        COUNT,
        "Most messages kept of each peer.",
        at_it="each replica evicts its oldest entries; a session that is slower reads from the producer",
        way_back="the oldest make room",
        shown_by=("paced_seconds_total",),
    ),
    bound(
        "replica-bytes",
        "core.replica_bytes",
        size(1),
        "Most bytes kept of each peer.",
        at_it="the same",
        way_back="the oldest make room",
        shown_by=("paced_seconds_total",),
    ),
)
"""Bounds of what the broker holds."""

SIZES: Final = (
    bound(
        "max-message",
        "core.max_message",
        size(1, MAX_FRAME_BYTES),
        "The largest payload.",
        at_it="rejection `too_large`; the SDK raises `MessageTooLarge` before it sends",
        way_back="a smaller message",
        shown_by=("publishes_rejected_total",),
    ),
    bound(
        "max-frame",
        "core.max_frame",
        size(FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES),
        "The largest frame, thus the largest batch.",
        at_it="a protocol error, before the broker takes memory for the frame; the SDK's batches are far smaller",
        way_back="a smaller batch",
        shown_by=("protocol_errors_total",),
    ),
)
"""Bounds of a message and a frame."""

LIMITS: Final = (
    bound(
        "max-connections",
        "core.limits.connections",
        COUNT,
        "Incoming connections, in all.",
        at_it=(
            "refusal `too_many_connections`, of peers at half of it; commands are served. At most 64 at once get the "
            "refusal, further ones are closed: `too_many_unheard`"
        ),
        way_back=(
            "a connection ends; the broker cuts off a peer that hangs after `--peer-timeout`, and a client after five "
            "times that"
        ),
        shown_by=("connections", "connections_refused_total"),
    ),
    bound(
        "max-connections-per-uid",
        "core.limits.connections_per_uid",
        COUNT,
        "Connections of one local user.",
        at_it="refusal `too_many_of_one`; commands are served",
        way_back="the same",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-connections-per-address",
        "core.limits.connections_per_address",
        COUNT,
        "Connections of peers from one address.",
        at_it="refusal `too_many_of_one`; of IPv6 the network of 64 bits counts",
        way_back="the same",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "handshake-timeout",
        "core.limits.handshake_ns",
        nanoseconds(0.01),
        "Time for the greeting of a connection, and for its first request.",
        at_it="refusal `handshake_timeout`; a TLS handshake: `tls`",
        way_back="a new connection",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-receive-bytes",
        "core.limits.receive_bytes",
        size(0),
        "Bytes of incoming frames of more than 256KiB, all together.",
        at_it=(
            "shared; refusal `too_much_unfinished` of a connection whose frame finds no room; the SDK connects and sends "
            "again"
        ),
        way_back="a frame is complete, or its sender is cut off, after five silent `--peer-timeout`s",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-unsent-bytes",
        "core.limits.unsent_bytes",
        size(0),
        "Bytes of entries of more than 256KiB that their readers have not taken, all together.",
        at_it=(
            "refusal `too_much_unsent` of the reader that has left a large entry unread for longest; it connects again "
            "and goes on at its position"
        ),
        way_back="the slowest reader makes room",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-fetched-bytes",
        "core.limits.fetched_bytes",
        size(0),
        "Bytes fetched from peers for subscriptions that have not read them, all together.",
        at_it=(
            "no refusal: the broker drops the fetched messages of the session that has left them unread for longest, "
            "and fetches them again when it reads on"
        ),
        way_back="the slowest session makes room",
        shown_by=("fetches_dropped_total",),
    ),
    bound(
        "max-sessions",
        "core.limits.sessions",
        COUNT,
        "Subscriptions that are connected.",
        at_it="shared; refusal `too_many_sessions`",
        way_back="a session ends; the broker cuts one off whose application hangs for five times `--peer-timeout`",
        shown_by=("sessions", "connections_refused_total"),
    ),
    bound(
        "max-named-sessions",
        "core.limits.named_sessions",
        count(MAX_NAMED_SESSIONS),
        "Names of subscriptions, connected or not.",
        at_it=(
            "shared; refusal `too_many_sessions` of a new name. The broker drops the name that is away for longest after "
            "`--cursor-ttl`"
        ),
        way_back="the name that is away for longest makes room, after `--cursor-ttl`",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-patterns",
        "core.limits.patterns",
        count(MAX_PATTERNS),
        "Patterns of one subscription.",
        at_it="refusal `too_many_patterns`, of a changed filter too",
        way_back="remove patterns, or subscribe a second time",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-topic-bytes",
        "core.limits.topic_bytes",
        count(MAX_TOPIC_BYTES),
        "Bytes of a topic or pattern.",
        at_it="rejection, or refusal of a pattern: `topic_too_long`",
        way_back="a shorter topic",
        shown_by=("publishes_rejected_total", "connections_refused_total"),
    ),
    bound(
        "max-batch",
        "core.limits.batch_messages",
        count(MAX_BATCH_MESSAGES),
        "Messages of one batch.",
        at_it="rejection `too_many_messages`; the SDK knows the bound and makes smaller batches",
        way_back="a smaller batch",
        shown_by=("publishes_rejected_total",),
    ),
    bound(
        "max-batch-topics",
        "core.limits.batch_topics",
        count(MAX_BATCH_TOPICS),
        "Different topics in one batch.",
        at_it="rejection `too_many_topics`; the SDK knows the bound and makes smaller batches",
        way_back="a smaller batch",
        shown_by=("publishes_rejected_total",),
    ),
    bound(
        "max-publishers",
        "core.limits.publishers",
        COUNT,
        "Publishers whose last answers are remembered while they are away.",
        at_it=(
            "the broker takes the user with the most absent publishers, and drops the record that was used longest ago; "
            "a retry of that publisher: rejection `unknown`"
        ),
        way_back="the record that was used longest ago makes room",
        shown_by=("publishers", "publishers_forgotten_total"),
    ),
    bound(
        "max-commands",
        "core.limits.commands",
        COUNT,
        "Commands that are connected, as status --watch.",
        at_it="shared; refusal `too_many_commands` of a further `pubsubd status` or the like; HTTP shows the same",
        way_back="a command ends: the SDK gives each 10 s",
        shown_by=("connections_refused_total",),
    ),
    bound(
        "max-consumers",
        "core.limits.consumers",
        COUNT,
        "Nodes that read from this one.",
        at_it=(
            "the broker gives up an absent consumer: an expired one first, then one without named "
            "subscriptions, then the one that is away for longest. It keeps connected consumers, and those with named "
            "subscriptions within `--cursor-ttl`. If only those are left: refusal `too_many_consumers`"
        ),
        way_back="an absent consumer makes room; one with named subscriptions after `--cursor-ttl`; `pubsubd cursors drop`",
        shown_by=("cursors", "cursors_given_up_total", "connections_refused_total"),
    ),
    bound(
        "max-producers",
        "core.limits.producers",
        # A subscription has a place in each of their streams, and in this node's own.
        count(MAX_STREAMS - 1),
        "Nodes from which this one reads.",
        at_it=(
            "at most 1023. The broker gives up the replica of a departed producer (another node answers at its address): "
            "first one that no subscription needs, then that of the producer away for longest. A needed replica stays for "
            "`--cursor-ttl`. If none can go, this node refuses the further producer that it has dialled: "
            "`too_many_producers`"
        ),
        way_back="a departed producer makes room; if its replica is needed, after `--cursor-ttl`",
        shown_by=("producers_given_up_total", "peer_connected", "connections_refused_total"),
    ),
    bound(
        "http-max-connections",
        "http_max_connections",
        COUNT,
        "Connections to the HTTP server.",
        at_it="503, `too_many_connections`; beyond 64 more, further ones are closed: `too_many_unheard`",
        way_back="a connection ends: a slow one after `--http-timeout`, an idle one after 60 s",
        shown_by=("http_requests_refused_total",),
    ),
    bound(
        "http-max-head",
        "http_max_head",
        size(256, 1 << 20),
        "Request line and headers of an HTTP request.",
        at_it="431, `too_large`",
        way_back="a smaller request",
        shown_by=("http_requests_refused_total",),
    ),
    bound(
        "http-timeout",
        "http_timeout_s",
        duration(0.01),
        "Time from the first byte of an HTTP request to the last byte of its answer.",
        at_it="408, or closed without an answer: `too_slow`",
        way_back="a new connection",
        shown_by=("http_requests_refused_total",),
    ),
    bound(
        "log-repeat",
        "core.log_repeat_ns",
        nanoseconds(0.0),
        "Time in which the same refusal of the same origin is logged once; 0: every time.",
        at_it="no refusal: the same cause is logged once in this time, and then the number of its repetitions",
        way_back="after that time",
        shown_by=("connections_refused_total", "protocol_errors_total"),
        default=60 * SECOND_NS,
    ),
)
"""Bounds that hardly any installation has to change: the README leaves them out."""

BOUNDS: Final = (*HELD, *SIZES, *LIMITS)
