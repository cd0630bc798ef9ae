"""Counters of a node: plain integers, read at scrape time."""

from __future__ import annotations

from collections import Counter

from pubsubd_broker.core.observe.histogram import Histogram
from pubsubd_protocol.attach import Reason
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip


class Counters:
    """Counters that only grow. Labels are bounded: names of nodes whose streams are known, and constant words."""

    def __init__(self) -> None:
        self.messages_received: Counter[str] = Counter()
        self.bytes_received: Counter[str] = Counter()
        self.messages_delivered = 0
        self.bytes_delivered = 0
        self.expired_at_peers: Counter[Reason] = Counter()
        self.expired_at_sessions: Counter[Reason] = Counter()
        self.protocol_errors: Counter[str] = Counter()
        self.connections_refused: Counter[str] = Counter()
        self.publishes_rejected: Counter[str] = Counter()
        self.publish_seconds = Histogram()
        self.journal_fsync_seconds = Histogram()

    def received(self, peer: str, item: Entry | Skip) -> None:
        if isinstance(item, Entry):
            self.messages_received[peer] += item.count
            self.bytes_received[peer] += item.size

    def forget(self, peer: str) -> None:
        """Drops the counters of `peer`: this node has given up its stream."""
        self.messages_received.pop(peer, None)
        self.bytes_received.pop(peer, None)
