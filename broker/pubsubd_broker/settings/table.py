"""One table of settings. Command line options, `PUBSUBD_*` variables, TOML keys and `config show` come from it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from pubsubd_broker.settings.forms import (
    COUNT,
    FILE,
    FOLDER,
    FRAME_OVERHEAD_BYTES,
    ID,
    LISTEN,
    MAX_FRAME_BYTES,
    MODE,
    NODE,
    PEER,
    RULE,
    SOCKET,
    SWITCH,
    Form,
    choice,
    count,
    duration,
    size,
)
from pubsubd_protocol.entries import MAX_BATCH_MESSAGES, MAX_BATCH_TOPICS
from pubsubd_protocol.fields import MAX_NAMED_SESSIONS, MAX_STREAMS
from pubsubd_protocol.topics import MAX_PATTERNS, MAX_TOPIC_BYTES

ENVIRONMENT_PREFIX = "PUBSUBD_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table. `name` is the option and the TOML key, `field` the field of `Settings`."""

    name: str
    field: str
    form: Form
    help: str
    repeatable: bool = False
    limit: bool = False
    """Whether it is one of the bounds of docs/security.md, which hardly anybody has to change."""
    optional: bool = False
    """Whether there may be none: `false` in the file."""
    switch_off: str | None = None
    """What `--no-NAME` means; None if the setting can't be switched off."""

    @property
    def variable(self) -> str:
        return ENVIRONMENT_PREFIX + self.name.replace("-", "_").upper()

    @property
    def off_variable(self) -> str:
        return f"{ENVIRONMENT_PREFIX}NO_{self.name.replace('-', '_').upper()}"

    @property
    def may_be_off(self) -> bool:
        return self.optional or self.switch_off is not None

    @property
    def allowed(self) -> str:
        return self.form.allowed

    def show(self, value: Any) -> Any:
        """The value as it stands in TOML: `false` for one that is off, a list for a repeatable one."""
        if self.repeatable:
            return [self.form.show(each) for each in value]
        if value is None:
            return False
        return self.form.show(value)


def _limit(name: str, field: str, form: Form, meaning: str) -> Setting:
    return Setting(name, field, form, meaning, limit=True)


SETTINGS: Final = (
    Setting(
        "node", "node", NODE, "Name of this node, unique in its cluster. Default: the host name."
    ),
    Setting("socket", "socket", SOCKET, "The clients' Unix socket."),
    Setting(
        "listen",
        "listen",
        LISTEN,
        "Where peers connect; port 0 picks a free one.",
        switch_off="Take no peers: a single node, or one that only reads from its peers.",
    ),
    Setting("peer", "peers", PEER, "A broker to read from; may be repeated.", repeatable=True),
    Setting(
        "ring-messages",
        "ring_messages",
        COUNT,
        "How many messages the ring holds at most; it lets go of whole batches.",
    ),
    Setting("ring-bytes", "ring_bytes", size(1), "How many bytes the ring holds."),
    Setting("replica-messages", "replica_messages", COUNT, "Messages kept of each peer."),
    Setting("replica-bytes", "replica_bytes", size(1), "Bytes kept of each peer."),
    Setting(
        "pace",
        "pace_s",
        duration(0.0),
        "How long publishers wait, each time, for a reader that is about to be overrun; 0: never.",
    ),
    Setting(
        "journal",
        "journal",
        FOLDER,
        "Keep the stream in this folder, so that no restart is a loss. Default: beside the socket, after a clean stop.",
        switch_off="Keep nothing on disk.",
    ),
    Setting(
        "fsync",
        "fsync",
        choice("off", "snapshot", "interval", "always"),
        "When the journal survives the machine: off: as the system likes; snapshot: written at a clean stop "
        "only; interval: every --fsync-interval; always: before a reader or the publisher is told of it. "
        "Default: interval with --journal, else snapshot.",
    ),
    Setting(
        "fsync-interval",
        "fsync_interval_s",
        duration(0.001),
        "What --fsync interval may lose at the most when the machine dies.",
    ),
    Setting(
        "recover-from-peers",
        "recover_from_peers",
        SWITCH,
        "After a restart that finds nothing on disk, begin with what peers still hold of this node's stream.",
    ),
    Setting(
        "cursor-ttl",
        "cursor_ttl_s",
        duration(0.0),
        "How long the cursor of a consumer that is away is kept after it has expired.",
    ),
    Setting("heartbeat", "heartbeat_s", duration(0.01), "Time between heartbeats to a peer."),
    Setting(
        "peer-timeout", "peer_timeout_s", duration(0.01), "A peer silent for so long is cut off."
    ),
    Setting("max-message", "max_message", size(1, MAX_FRAME_BYTES), "The largest payload."),
    Setting(
        "max-frame",
        "max_frame",
        size(FRAME_OVERHEAD_BYTES, MAX_FRAME_BYTES),
        "The largest frame, thus the largest batch.",
    ),
    Setting(
        "http",
        "http",
        LISTEN,
        "Metrics, health and status over HTTP.",
        switch_off="No HTTP.",
    ),
    Setting(
        "cluster",
        "cluster",
        NODE,
        "The cluster to which this node belongs: it takes peers of no other.",
    ),
    Setting(
        "cluster-secret-file",
        "cluster_secret_file",
        FILE,
        "File with the secret that the brokers of the cluster prove to each other. Default: none.",
        optional=True,
    ),
    Setting(
        "tls-cert",
        "tls_cert",
        FILE,
        "This node's certificate, and those that it stands on: links to peers use TLS. Default: none.",
        optional=True,
    ),
    Setting(
        "tls-key", "tls_key", FILE, "The key of that certificate. Default: none.", optional=True
    ),
    Setting(
        "tls-ca",
        "tls_ca",
        FILE,
        "Certificates of the authorities that may sign this cluster's nodes. Default: none.",
        optional=True,
    ),
    Setting(
        "insecure",
        "insecure",
        SWITCH,
        "Take peers from other machines with neither TLS nor a secret: any machine could be one.",
    ),
    Setting(
        "socket-mode",
        "socket_mode",
        MODE,
        "Mode of the clients' socket: the users that may open it.",
    ),
    Setting(
        "allow-uid",
        "allow_uids",
        ID,
        "A user who may connect, of those who can open the socket; may be repeated. Default: all.",
        repeatable=True,
    ),
    Setting(
        "allow-gid",
        "allow_gids",
        ID,
        "A group that may connect, of those who can open the socket; may be repeated. Default: all.",
        repeatable=True,
    ),
    Setting(
        "topic-rule",
        "topic_rules",
        RULE,
        "Permission of a local user, as 'uid:1001 publish:orders.> subscribe:rooms.*'; may be repeated. With any rule "
        "set, everything else is denied. Default: every user may do everything.",
        repeatable=True,
    ),
    _limit("max-connections", "max_connections", COUNT, "Connections that came in, in all."),
    _limit(
        "max-connections-per-uid",
        "max_connections_per_uid",
        COUNT,
        "Connections of one local user.",
    ),
    _limit(
        "max-connections-per-address",
        "max_connections_per_address",
        COUNT,
        "Connections of peers from one address.",
    ),
    _limit(
        "handshake-timeout",
        "handshake_timeout_s",
        duration(0.01),
        "How long a connection may take to greet, and to say what it wants.",
    ),
    _limit(
        "max-receive-bytes",
        "max_receive_bytes",
        size(0),
        "What frames of more than 256KiB take while they come in, all together.",
    ),
    _limit(
        "max-unsent-bytes",
        "max_unsent_bytes",
        size(0),
        "What entries of more than 256KiB take that their readers have not taken, all together.",
    ),
    _limit(
        "max-fetched-bytes",
        "max_fetched_bytes",
        size(0),
        "What was fetched from peers for subscriptions that have not read it, all together.",
    ),
    _limit("max-sessions", "max_sessions", COUNT, "Subscriptions that are connected."),
    _limit(
        "max-named-sessions",
        "max_named_sessions",
        count(MAX_NAMED_SESSIONS),
        "Names of subscriptions, connected or not.",
    ),
    _limit("max-patterns", "max_patterns", count(MAX_PATTERNS), "Patterns of one subscription."),
    _limit(
        "max-topic-bytes", "max_topic_bytes", count(MAX_TOPIC_BYTES), "Bytes of a topic or pattern."
    ),
    _limit("max-batch", "max_batch", count(MAX_BATCH_MESSAGES), "Messages of one batch."),
    _limit(
        "max-batch-topics",
        "max_batch_topics",
        count(MAX_BATCH_TOPICS),
        "Different topics in one batch.",
    ),
    _limit(
        "max-publishers",
        "max_publishers",
        COUNT,
        "Publishers whose last answers are remembered while they are away.",
    ),
    _limit(
        "max-commands", "max_commands", COUNT, "Commands that are connected, as status --watch."
    ),
    _limit("max-consumers", "max_consumers", COUNT, "Nodes that read from this one."),
    _limit(
        "max-producers",
        "max_producers",
        # A subscription has a place in each of their streams, and in this node's own.
        count(MAX_STREAMS - 1),
        "Nodes from which this one reads.",
    ),
    _limit(
        "http-max-connections", "http_max_connections", COUNT, "Connections to the HTTP server."
    ),
    _limit(
        "http-max-head",
        "http_max_head",
        size(256, 1 << 20),
        "Request line and headers of an HTTP request.",
    ),
    _limit(
        "http-timeout",
        "http_timeout_s",
        duration(0.01),
        "From the first byte of an HTTP request to the last byte of its answer.",
    ),
    _limit(
        "log-repeat",
        "log_repeat_s",
        duration(0.0),
        "The same refusal of the same origin is logged once in this time; 0: each.",
    ),
    Setting(
        "log-format",
        "log_format",
        choice("console", "json"),
        "Form of the log. Default: console on a terminal, else json.",
    ),
    Setting(
        "log-level",
        "log_level",
        choice("debug", "info", "warning", "error"),
        "The least level that is logged.",
    ),
)
