"""Table of settings: the options of `pubsubd start`, the `PUBSUBD_*` variables, the keys of the file, `config show`."""

from __future__ import annotations

from typing import Any, Final

from pubsubd_broker.settings.bounds import HELD, LIMITS, SIZES
from pubsubd_broker.settings.forms import (
    FILE,
    FOLDER,
    ID,
    LISTEN,
    MODE,
    NODE,
    PEER,
    RULE,
    SOCKET,
    SWITCH,
    choice,
    duration,
    nanoseconds,
)
from pubsubd_broker.settings.row import Setting

SETTINGS: Final = (
    Setting(
        "node",
        "core.node",
        NODE,
        "Name of this node, unique in its cluster. Default: the host name.",
    ),
    Setting("socket", "socket", SOCKET, "The clients' Unix socket."),
    Setting(
        "listen",
        "listen",
        LISTEN,
        "Address for peers; port 0 picks a free one.",
        switch_off="Take no peers: a single node, or one that only reads from its peers.",
    ),
    Setting("peer", "peers", PEER, "A broker to read from; may be repeated.", repeatable=True),
    *HELD,
    Setting(
        "pace",
        "core.pace_ns",
        nanoseconds(0.0),
        "Longest wait of publishers, each time, for a reader that is about to be overrun; 0: never.",
    ),
    Setting(
        "journal",
        "journal",
        FOLDER,
        "Keep the stream in this folder, so that a restart loses no message. Default: beside the socket, after a clean stop.",
        switch_off="Keep nothing on disk.",
    ),
    Setting(
        "fsync",
        "fsync",
        choice("off", "snapshot", "interval", "always"),
        "Time at which messages are safe from a crash of the machine. off: the system decides; snapshot: after a clean "
        "stop only; interval: after --fsync-interval; always: before a reader or the publisher hears of them. "
        "Default: interval with --journal, else snapshot.",
    ),
    Setting(
        "fsync-interval",
        "fsync_interval_s",
        duration(0.001),
        "Time between two fsyncs of --fsync interval: a crash of the machine loses at most this much.",
    ),
    Setting(
        "recover-from-peers",
        "core.recover_from_peers",
        SWITCH,
        "After a restart that finds nothing on disk, begin with the messages of this node's stream that peers still hold.",
    ),
    Setting(
        "cursor-ttl",
        "core.cursor_ttl_ns",
        nanoseconds(0.0),
        "Time for which the expired cursor of an absent consumer is kept.",
    ),
    Setting(
        "heartbeat", "core.heartbeat_ns", nanoseconds(0.01), "Time between heartbeats to a peer."
    ),
    Setting(
        "peer-timeout",
        "core.peer_timeout_ns",
        nanoseconds(0.01),
        "Time after which a silent peer is cut off.",
    ),
    *SIZES,
    Setting(
        "http",
        "http",
        LISTEN,
        "Metrics, health and status over HTTP.",
        switch_off="No HTTP.",
    ),
    Setting(
        "cluster",
        "core.cluster",
        NODE,
        "Cluster of this node. It refuses peers of other clusters.",
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
        "This node's certificate and its chain: links to peers use TLS. Default: none.",
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
        "Take peers from other machines without TLS and without a secret: any machine can then be a peer.",
    ),
    Setting(
        "socket-mode",
        "socket_mode",
        MODE,
        "Mode of the clients' socket; it decides which users may open the socket.",
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
    *LIMITS,
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
        "Lowest level that is logged.",
    ),
)

DEFAULTS: Final[dict[str, Any]] = {
    setting.field: setting.default for setting in SETTINGS if setting.default is not None
}
"""Defaults that are not those of the fields, by field."""
