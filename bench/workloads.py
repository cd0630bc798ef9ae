"""The workloads. A workload says nothing about the contestants."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

KIB: Final = 1024
MIB: Final = 1024 * KIB

Kind = Literal["throughput", "catchup", "pause", "latency", "memory", "witness"]

Group = Literal[
    "throughput",
    "fan-out",
    "receipts",
    "latency",
    "catch-up",
    "idle sessions",
    "durability",
    "memory",
    "witness",
]
"""Workloads that share a table and a plot of the report."""

LATENCY_RATE: Final = 1000
"""Messages a second while latency is measured."""

IDLE_SESSIONS: Final = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A measurement, for every contestant that can do it."""

    name: str
    title: str
    group: Group
    kind: Kind = "throughput"
    payload_bytes: int = 100
    """The size of each message; for dicts about the size of their msgpack."""
    dicts: bool = False
    """Five-field dicts, encoded by the publisher's and decoded by the reader's client."""
    topics: int = 1
    """Topics that the messages take in turn."""
    nodes: int = 2
    """Brokers of pubsubd, or relays of the floor, between publisher and reader. Each other contestant has one server."""
    sessions: int = 1
    """Subscriptions in the reader's process; every message goes to each of them."""
    waiting: int = 0
    """Publishers at once, each waiting for its receipt before its next message. 0: one publisher that streams."""
    idle_sessions: int = 0
    """Subscriptions beside the reader's, to topics without messages."""
    most_messages: int = 2_000_000
    """The most messages of any contestant: they have to fit in memory."""
    fill_messages: int = 0
    """Messages that are stored before they are read back."""
    keep_bytes: int = 0
    """The most bytes that the contestant is told to retain; 0: all."""
    quick: bool = False
    """Part of `--quick`."""


WORKLOADS: Final = (
    Workload(name="16b", title="16 B", group="throughput", payload_bytes=16),
    Workload(name="100b", title="100 B", group="throughput", quick=True),
    Workload(
        name="idle-sessions",
        title="100 B, beside 1,000 idle sessions",
        group="idle sessions",
        idle_sessions=IDLE_SESSIONS,
    ),
    Workload(
        name="1kib",
        title="1 KiB",
        group="throughput",
        payload_bytes=KIB,
        most_messages=1_000_000,
        quick=True,
    ),
    Workload(
        name="64kib",
        title="64 KiB",
        group="throughput",
        payload_bytes=64 * KIB,
        most_messages=16_000,
    ),
    Workload(
        name="100b-1000-topics",
        title="100 B, 1,000 topics",
        group="throughput",
        topics=1000,
        quick=True,
    ),
    Workload(name="dicts", title="5-field dicts", group="throughput", dicts=True, quick=True),
    Workload(name="fanout-1", title="1 session", group="fan-out", most_messages=1_000_000),
    Workload(
        name="fanout-10",
        title="10 sessions",
        group="fan-out",
        sessions=10,
        most_messages=200_000,
    ),
    Workload(
        name="fanout-100",
        title="100 sessions",
        group="fan-out",
        sessions=100,
        most_messages=20_000,
    ),
    Workload(
        name="waiting-1",
        title="1 publisher",
        group="receipts",
        waiting=1,
        most_messages=50_000,
    ),
    Workload(
        name="waiting-50",
        title="50 publishers",
        group="receipts",
        waiting=50,
        most_messages=200_000,
        quick=True,
    ),
    Workload(name="latency", title="two brokers", group="latency", kind="latency", quick=True),
    Workload(
        name="latency-one-node",
        title="one broker",
        group="latency",
        kind="latency",
        nodes=1,
        quick=True,
    ),
    Workload(
        name="catchup-earliest",
        title="a new session reads from the earliest",
        group="catch-up",
        kind="catchup",
        fill_messages=400_000,
    ),
    Workload(
        name="catchup-pause",
        title="the reader's broker stood still",
        group="catch-up",
        kind="pause",
        fill_messages=400_000,
    ),
    Workload(
        name="durable",
        title="one publisher that streams",
        group="durability",
        most_messages=500_000,
    ),
    Workload(
        name="durable-50",
        title="50 publishers that each wait",
        group="durability",
        waiting=50,
        most_messages=100_000,
    ),
    Workload(
        name="memory",
        title="1 KiB messages",
        group="memory",
        kind="memory",
        payload_bytes=KIB,
        idle_sessions=IDLE_SESSIONS,
        fill_messages=100_000,
        keep_bytes=64 * MIB,
    ),
    Workload(name="witness", title="100 B a publish", group="witness", kind="witness", quick=True),
)

BY_NAME: Final = {workload.name: workload for workload in WORKLOADS}
