"""Status of a node: one dictionary for the command line, HTTP and the metrics."""

from __future__ import annotations

import json
from typing import Final, TypedDict

from pubsubd_broker.core.limits import SECOND_NS, Now
from pubsubd_broker.core.links.dial_targets import Target
from pubsubd_broker.core.node import Node
from pubsubd_broker.core.observe.histogram import Histogram
from pubsubd_broker.core.sessions.session import Session
from pubsubd_protocol import __version__
from pubsubd_protocol.build import BUILD
from pubsubd_protocol.frames import VERSION, Query
from pubsubd_protocol.positions import dump_positions


class Addresses(TypedDict):
    socket: str
    listen: str | None
    http: str | None


class Ring(TypedDict):
    messages: int
    capacity_messages: int
    bytes: int
    capacity_bytes: int
    oldest_offset: int
    next_offset: int


class ConsumerStatus(TypedDict):
    consumer: str
    connected: bool
    cursor: int
    lag_messages: int
    away_s: float | None


class ReplicaStatus(TypedDict):
    messages: int
    bytes: int
    oldest_offset: int
    next_offset: int


class PeerStatus(TypedDict):
    address: str
    node: str | None
    connected: bool
    reached: bool
    epoch: str | None
    next_offset: int | None
    lag_messages: int | None
    reconnects: int
    replica: ReplicaStatus | None
    error: str | None


SHOWN_PATTERNS: Final = 4
"""Patterns shown of a session. A status of all sessions must not take much memory."""


class SessionStatus(TypedDict):
    name: str | None
    patterns: list[str]
    """At most `SHOWN_PATTERNS` of the session's `pattern_count` patterns."""
    pattern_count: int
    connected: bool
    positions: dict[str, list[str | int]]
    lag_messages: dict[str, int]


class CounterValues(TypedDict):
    messages_published: int
    bytes_published: int
    messages_received: dict[str, int]
    bytes_received: dict[str, int]
    messages_delivered: int
    bytes_delivered: int
    cursor_expired: dict[str, dict[str, int]]
    paced_seconds: dict[str, float]
    cursors_removed: int
    cursors_given_up: int
    producers_given_up: int
    protocol_errors: dict[str, int]
    connections_refused: dict[str, int]
    publishes_rejected: dict[str, int]
    publishers_forgotten: int
    fetches_dropped: int
    accept_pauses: dict[str, int]
    http_refused: dict[str, int]
    log_lines_dropped: int


class JournalStatus(TypedDict):
    folder: str | None
    fsync: str
    segments: int
    backlog_bytes: int
    durable_offset: int
    failed: str | None


class Seconds(TypedDict):
    buckets: list[tuple[float, int]]
    sum: float
    count: int


class Status(TypedDict):
    node: str
    epoch: str
    version: str
    build: str
    """`compiled` or `interpreted`."""
    protocol_version: int
    uptime_s: float
    ready: bool
    not_ready: list[str]
    places: dict[str, str | None]
    addresses: Addresses
    ring: Ring
    publishers: int
    certificate_expires_s: float | None
    journal: JournalStatus | None
    consumers: list[ConsumerStatus]
    peers: list[PeerStatus]
    sessions: list[SessionStatus]
    connections: int
    counters: CounterValues
    publish_seconds: Seconds
    journal_fsync_seconds: Seconds
    event_loop_lag_s: float
    tasks: int


def not_ready(node: Node) -> list[str]:
    """The causes for which the node is not ready, one sentence each. Empty if it is ready."""
    causes = [
        f"peer {target.label} has not been reached yet: {target.error or 'dialling'}"
        for target in node.targets
        if not target.reached and not target.is_self
    ]
    causes[:0] = filter(None, node.runtime.places.values())
    if node.recovery is not None:
        causes.insert(0, "asking peers for its own stream")
    if node.failure is not None:
        causes.insert(0, node.failure)
    return ["draining", *causes] if node.intake.draining else causes


def node_status(node: Node, now: Now) -> Status:
    """The whole status. Cost: one look at every peer, consumer and session."""
    log, around = node.stream.log, node.runtime
    causes = not_ready(node)
    counters = node.events.counters
    return {
        "node": node.name,
        "epoch": node.epoch.hex(),
        "version": __version__,
        "build": BUILD,
        "protocol_version": VERSION,
        "uptime_s": (now.mono_ns - node.started_ns) / SECOND_NS,
        "ready": not causes,
        "not_ready": causes,
        "places": dict(around.places),
        "addresses": {"socket": around.socket, "listen": around.listen, "http": around.http},
        "ring": {
            "messages": log.messages,
            "capacity_messages": log.max_messages,
            "bytes": log.bytes,
            "capacity_bytes": log.max_bytes,
            "oldest_offset": log.oldest,
            "next_offset": log.newest.next,
        },
        "publishers": len(node.publishers),
        "certificate_expires_s": around.certificate_expires_s,
        "journal": _journal(node),
        "consumers": consumers(node, now),
        "peers": [_peer(node, target) for target in node.targets],
        "sessions": [_session(session) for session in node.sessions.list()],
        "connections": len(node.connections),
        "counters": {
            "messages_published": node.stream.messages_published,
            "bytes_published": node.stream.bytes_published,
            "messages_received": dict(counters.messages_received),
            "bytes_received": dict(counters.bytes_received),
            "messages_delivered": counters.messages_delivered,
            "bytes_delivered": counters.bytes_delivered,
            "cursor_expired": {
                "peer": {str(reason): n for reason, n in counters.expired_at_peers.items()},
                "session": {str(reason): n for reason, n in counters.expired_at_sessions.items()},
            },
            "paced_seconds": paced_seconds(node),
            "cursors_removed": node.registry.removed,
            "cursors_given_up": node.registry.given_up,
            "producers_given_up": node.peers.departures.given_up,
            "protocol_errors": dict(counters.protocol_errors),
            "connections_refused": dict(counters.connections_refused),
            "publishes_rejected": dict(counters.publishes_rejected),
            "publishers_forgotten": node.publishers.forgotten,
            "fetches_dropped": node.links.fetch_budget.dropped,
            "accept_pauses": dict(around.accept_pauses),
            "http_refused": dict(around.http_refused),
            "log_lines_dropped": around.log_lines_dropped,
        },
        "publish_seconds": _seconds(counters.publish_seconds),
        "journal_fsync_seconds": _seconds(counters.journal_fsync_seconds),
        "event_loop_lag_s": around.event_loop_lag_s,
        "tasks": around.tasks,
    }


def _journal(node: Node) -> JournalStatus | None:
    if node.keeper is None:
        return None
    journal = node.keeper.journal
    return {
        "folder": node.runtime.journal,
        "fsync": str(journal.fsync),
        "segments": journal.segments,
        "backlog_bytes": journal.backlog_bytes,
        "durable_offset": journal.durable,
        "failed": journal.failed,
    }


def _seconds(histogram: Histogram) -> Seconds:
    return {
        "buckets": histogram.cumulative(),
        "sum": histogram.sum_s,
        "count": histogram.count,
    }


def paced_seconds(node: Node) -> dict[str, float]:
    """Seconds for which publishers waited, by reader; 0 for readers that no publisher has waited for."""
    readers = {"session", *node.peers.consumers, *node.pace.waited_ns}
    return {reader: node.pace.waited_ns[reader] / SECOND_NS for reader in sorted(readers)}


def consumers(node: Node, now: Now) -> list[ConsumerStatus]:
    """The cursor registry, and consumers that are attached but have acknowledged nothing yet."""
    following = node.stream.next
    rows: dict[str, ConsumerStatus] = {
        name: {
            "consumer": name,
            "connected": True,
            "cursor": end.acknowledged,
            "lag_messages": following - end.acknowledged,
            "away_s": None,
        }
        for name, end in node.peers.consumers.items()
        if end.settled
    }
    for name, registered in node.registry.items():
        if name not in rows:
            rows[name] = {
                "consumer": name,
                "connected": False,
                "cursor": registered.cursor.offset,
                "lag_messages": following - registered.cursor.offset,
                "away_s": (now.mono_ns - registered.seen_ns) / SECOND_NS,
            }
    return [rows[name] for name in sorted(rows)]


def report(node: Node, query: Query, now: Now) -> str:
    """The answer to a command, as JSON text."""
    match query.what:
        case "status":
            return json.dumps(node_status(node, now))
        case "cursors":
            return json.dumps({"cursors": consumers(node, now)})
        case "drop_cursor":
            name = query.argument or ""
            if name in node.peers.consumers:
                error = (
                    f"{name} is connected: its cursor would come back with its next acknowledgement"
                )
                return json.dumps({"dropped": False, "error": error})
            return json.dumps({"dropped": node.registry.drop(name)})
        case what:
            return json.dumps(
                {"error": f"no query {what!r}: there are status, cursors, drop_cursor"}
            )


def _peer(node: Node, target: Target) -> PeerStatus:
    name = target.node
    replica = node.peers.replicas.get(name) if name is not None else None
    end = node.peers.producers.get(name) if name is not None else None
    connected = end is not None and end.replica is not None
    return {
        "address": target.label,
        "node": name,
        "connected": connected,
        "reached": target.reached,
        "epoch": replica.log.newest.epoch.hex() if replica is not None else None,
        "next_offset": replica.log.newest.next if replica is not None else None,
        "lag_messages": end.lag if end is not None else None,
        "reconnects": target.reconnects,
        "replica": {
            "messages": replica.log.messages,
            "bytes": replica.log.bytes,
            "oldest_offset": replica.log.oldest,
            "next_offset": replica.log.newest.next,
        }
        if replica is not None
        else None,
        "error": target.error,
    }


def _session(session: Session) -> SessionStatus:
    return {
        "name": session.name,
        "patterns": list(session.filter.patterns[:SHOWN_PATTERNS]),
        "pattern_count": len(session.filter.patterns),
        "connected": session.connected,
        "positions": dump_positions(
            {node: at for node, at in session.positions.items() if node in session.readings}
        ),
        "lag_messages": {
            name: reading.source.log.end_position.offset - reading.position.offset
            for name, reading in session.readings.items()
            if reading.position is not None and reading.source.log.view.contains(reading.position)
        },
    }
