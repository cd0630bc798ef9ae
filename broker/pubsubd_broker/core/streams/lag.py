"""Warns that a consumer is about to be overrun."""

from __future__ import annotations

from pubsubd_broker.core.limits import LAG_WARNING_EVERY_NS, LAG_WARNING_SHARE
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.streams.registry import CursorRegistry


def lag_share(lag: int, log: Log) -> float:
    """The share of the ring's capacity that `lag` messages take, by count or by bytes: the larger one."""
    if not log.messages:
        return 0.0
    waiting = min(lag, log.messages)
    # One division each: a share that is exact in figures must not fall short of a threshold by rounding.
    by_count = waiting / log.max_messages
    by_bytes = waiting * log.bytes / (log.messages * log.max_bytes)
    return max(by_count, by_bytes)


class LagWarning:
    """Warns of the slowest consumer whose cursor is still in the ring, at most once in `LAG_WARNING_EVERY_NS`."""

    def __init__(self) -> None:
        self._warned_ns: int | None = None

    def check(self, log: Log, registry: CursorRegistry, now_ns: int) -> dict[str, object] | None:
        """The fields of the warning, if one is due."""
        if self._warned_ns is not None and now_ns - self._warned_ns < LAG_WARNING_EVERY_NS:
            return None
        newest = log.newest
        waiting = [
            (r.cursor.offset, consumer)
            for consumer, r in registry.items()
            if r.cursor.offset >= log.oldest
        ]
        if not waiting:
            return None
        cursor, consumer = min(waiting)
        lag = newest.next - cursor
        share = lag_share(lag, log)
        if share < LAG_WARNING_SHARE:
            return None
        self._warned_ns = now_ns
        return {
            "consumer": consumer,
            "lag_messages": lag,
            "share": round(share, 3),
            "threshold": LAG_WARNING_SHARE,
            "ring_messages": log.messages,
            "capacity_messages": log.max_messages,
        }
