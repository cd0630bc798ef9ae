"""Table of Prometheus metrics. Each row reads the broker's status at a scrape: no message costs any work."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from pubsubd_protocol.attach import Reason

StatusValues = Mapping[str, Any]
"""Content of `/status.json`."""

Samples = Iterable[tuple[tuple[str, ...], float]]
"""Label values and the figure."""

METRIC_PREFIX: Final = "pubsubd_"


@dataclass(frozen=True, slots=True)
class Row:
    """Row of the table. `name` is without the prefix, as it is exposed: a counter's ends in `_total`."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Callable[[StatusValues], Samples]
    labels: tuple[str, ...] = ()


def _single(read: Callable[[StatusValues], float]) -> Callable[[StatusValues], Samples]:
    return lambda status: [((), read(status))]


def _counter(name: str) -> Callable[[StatusValues], Samples]:
    return _single(lambda status: status["counters"][name])


def _by_label(name: str) -> Callable[[StatusValues], Samples]:
    return lambda status: [((label,), count) for label, count in status["counters"][name].items()]


def _ring(name: str) -> Callable[[StatusValues], Samples]:
    return _single(lambda status: status["ring"][name])


def _consumers(name: str) -> Callable[[StatusValues], Samples]:
    return lambda status: [((row["consumer"],), float(row[name])) for row in status["consumers"]]


def _peers(name: str) -> Callable[[StatusValues], Samples]:
    """A peer is called by its node name once it has told it, by its address before.

    One node behind two addresses is one peer: connected if either is, reconnects added up.
    """

    def read(status: StatusValues) -> Samples:
        figures: dict[tuple[str, ...], float] = {}
        for row in status["peers"]:
            label = (row["node"] or row["address"],)
            figure, before = float(row[name]), figures.get(label, 0.0)
            figures[label] = max(figure, before) if name == "connected" else figure + before
        return figures.items()

    return read


def _expired(status: StatusValues) -> Samples:
    # Also those that have not happened yet: Prometheus sees no increase in a series that begins at 1.
    counted = status["counters"]["cursor_expired"]
    for hop in ("peer", "session"):
        for reason in Reason:
            yield (hop, reason.value), counted[hop].get(reason.value, 0)


def _build(status: StatusValues) -> Samples:
    version, protocol = status["version"], str(status["protocol_version"])
    return [((status["node"], version, status["build"], protocol, platform.python_version()), 1.0)]


def _connected_sessions(status: StatusValues) -> float:
    return sum(1 for row in status["sessions"] if row["connected"])


def _places(status: StatusValues) -> Samples:
    return [((name,), trouble is not None) for name, trouble in status["places"].items()]


def _certificate_expiry(status: StatusValues) -> Samples:
    expires_s = status["certificate_expires_s"]
    return [] if expires_s is None else [((), expires_s)]


METRICS: Final = (
    Row(
        "build_info",
        "gauge",
        "Versions of the running broker, and whether it is compiled or interpreted; always 1.",
        _build,
        ("node", "version", "build", "protocol_version", "python_version"),
    ),
    Row(
        "messages_published_total",
        "counter",
        "Messages that this node has accepted into its stream.",
        _counter("messages_published"),
    ),
    Row(
        "messages_received_total",
        "counter",
        "Messages that this node has taken from a peer's stream.",
        _by_label("messages_received"),
        ("peer",),
    ),
    Row(
        "messages_delivered_total",
        "counter",
        "Messages that were sent to local sessions.",
        _counter("messages_delivered"),
    ),
    Row(
        "bytes_published_total",
        "counter",
        "Bytes that this node has accepted into its stream.",
        _counter("bytes_published"),
    ),
    Row(
        "bytes_received_total",
        "counter",
        "Bytes that this node has taken from a peer's stream.",
        _by_label("bytes_received"),
        ("peer",),
    ),
    Row(
        "bytes_delivered_total",
        "counter",
        "Bytes that were sent to local sessions.",
        _counter("bytes_delivered"),
    ),
    Row("ring_messages", "gauge", "Messages in the ring.", _ring("messages")),
    Row(
        "ring_capacity_messages",
        "gauge",
        "Messages that the ring holds at most.",
        _ring("capacity_messages"),
    ),
    Row("ring_bytes", "gauge", "Bytes in the ring.", _ring("bytes")),
    Row(
        "ring_oldest_offset",
        "gauge",
        "Offset of the oldest message in the ring.",
        _ring("oldest_offset"),
    ),
    Row(
        "ring_next_offset",
        "gauge",
        "Offset that the next message will take.",
        _ring("next_offset"),
    ),
    Row(
        "consumer_lag_messages",
        "gauge",
        "Messages of this node's stream that a consumer has not acknowledged.",
        _consumers("lag_messages"),
        ("consumer",),
    ),
    Row(
        "consumer_connected",
        "gauge",
        "1 while a consumer is connected, else 0.",
        _consumers("connected"),
        ("consumer",),
    ),
    Row(
        "peer_connected",
        "gauge",
        "1 while this node is connected to a peer, else 0.",
        _peers("connected"),
        ("peer",),
    ),
    Row(
        "peer_reconnects_total",
        "counter",
        "Number of times that this node connected to a peer again.",
        _peers("reconnects"),
        ("peer",),
    ),
    Row(
        "cursors",
        "gauge",
        "Consumers whose cursor this node keeps.",
        _single(lambda status: len(status["consumers"])),
    ),
    Row(
        "cursors_removed_total",
        "counter",
        "Cursors dropped after their time to live, by hand, or for room.",
        _counter("cursors_removed"),
    ),
    Row(
        "cursors_given_up_total",
        "counter",
        "Cursors of absent consumers that were dropped to make room for another consumer.",
        _counter("cursors_given_up"),
    ),
    Row(
        "producers_given_up_total",
        "counter",
        "Replicas of departed producers that were dropped to make room for another producer.",
        _counter("producers_given_up"),
    ),
    Row(
        "cursor_expired_total",
        "counter",
        "Notices of gaps to readers.",
        _expired,
        ("hop", "reason"),
    ),
    Row(
        "paced_seconds_total",
        "counter",
        "Time that publishers, or a peer's stream, were held for a reader about to be overrun.",
        _by_label("paced_seconds"),
        ("reader",),
    ),
    Row("sessions", "gauge", "Local sessions that are connected.", _single(_connected_sessions)),
    Row(
        "publish_seconds",
        "histogram",
        "Time from reading a publish to its answer.",
        lambda _status: (),  # Histograms have their own shape: see _histogram.
    ),
    Row(
        "journal_fsync_seconds",
        "histogram",
        "Time to make one piece of the journal durable.",
        lambda _status: (),
    ),
    Row(
        "journal_backlog_bytes",
        "gauge",
        "Bytes that wait to be written to the journal, or are being written.",
        _single(lambda status: status["journal"]["backlog_bytes"] if status["journal"] else 0),
    ),
    Row(
        "journal_failed",
        "gauge",
        "1 once a write to the journal has failed: the broker accepts no more messages.",
        _single(lambda status: bool(status["journal"] and status["journal"]["failed"])),
    ),
    Row(
        "place_lost",
        "gauge",
        "1 while a file or folder of this node is removed or replaced, else 0.",
        _places,
        ("place",),
    ),
    Row(
        "protocol_errors_total",
        "counter",
        "Connections ended because the other end broke the protocol.",
        _by_label("protocol_errors"),
        ("kind",),
    ),
    Row(
        "connections_refused_total",
        "counter",
        "Connections that this node has refused.",
        _by_label("connections_refused"),
        ("reason",),
    ),
    Row(
        "publishes_rejected_total",
        "counter",
        "Batches that this node refused.",
        _by_label("publishes_rejected"),
        ("reason",),
    ),
    Row(
        "http_requests_refused_total",
        "counter",
        "Connections to the HTTP server that were ended before their request was answered.",
        _by_label("http_refused"),
        ("reason",),
    ),
    Row(
        "log_lines_dropped_total",
        "counter",
        "Log lines that could not be written.",
        _counter("log_lines_dropped"),
    ),
    Row(
        "accept_pauses_total",
        "counter",
        "Pauses without new connections, because descriptors or memory had run out.",
        _by_label("accept_pauses"),
        ("listener",),
    ),
    Row(
        "connections",
        "gauge",
        "Connections of clients and peers that are open, those that this node dialled included.",
        _single(lambda status: status["connections"]),
    ),
    Row(
        "publishers",
        "gauge",
        "Publishers whose last answers are remembered, connected or not.",
        _single(lambda status: status["publishers"]),
    ),
    Row(
        "publishers_forgotten_total",
        "counter",
        "Records of absent publishers that were dropped for newer ones.",
        _counter("publishers_forgotten"),
    ),
    Row(
        "fetches_dropped_total",
        "counter",
        "Number of times that fetched messages were dropped unread, to be fetched again.",
        _counter("fetches_dropped"),
    ),
    Row(
        "tls_certificate_expiry_seconds",
        "gauge",
        "Expiry of this node's certificate, in seconds since 1970; missing without TLS.",
        _certificate_expiry,
    ),
    Row(
        "event_loop_lag_seconds",
        "gauge",
        "Delay of the event loop's last timer.",
        _single(lambda status: status["event_loop_lag_s"]),
    ),
    Row(
        "event_loop_tasks",
        "gauge",
        "Tasks on the event loop.",
        _single(lambda status: status["tasks"]),
    ),
)
