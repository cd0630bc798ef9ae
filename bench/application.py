"""The reader's application: counts its messages, and takes the time of the first and the last.

The cost is the same for every contestant: one call for all messages that its client gives at a time, and a look at
each message.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from operator import itemgetter

from bench.feed import Value
from bench.statistics import percentile
from bench.workloads import Workload

STAMP_BYTES = 8

LOOK_S = 0.25
"""Seconds between two looks whether more messages have come."""


def stamp(size: int) -> bytes:
    """A payload with the time when it was made."""
    return time.monotonic_ns().to_bytes(STAMP_BYTES, "big") + bytes(size - STAMP_BYTES)


class Application:
    """Counts the messages given to `take` against the expected number."""

    def __init__(self, workload: Workload) -> None:
        self._dicts = workload.dicts
        self._stamped = workload.kind == "latency"
        self._done = asyncio.Event()
        self._expected = 0
        self._count = 0
        self._weight = 0
        self._first = 0
        """The number of messages in the first call, which may have come before the window."""
        self._began_ns = self._ended_ns = 0
        self._arrivals_ns: list[tuple[int, int]] = []
        self._surplus = 0

    def expect(self, count: int) -> None:
        """Begin a window of `count` messages, before any of them is published."""
        self._surplus += self._count - self._expected
        self._expected = count
        self._count = self._weight = 0
        self._arrivals_ns.clear()
        self._done.clear()

    def take(self, values: Sequence[Value]) -> None:
        """Some decoded messages have arrived."""
        if self._stamped:
            now = time.monotonic_ns()
            self._arrivals_ns += [
                (int.from_bytes(value[:STAMP_BYTES], "big"), now) for value in values
            ]
        if not self._count:
            self._began_ns = time.monotonic_ns()
            self._first = len(values)
        self._count += len(values)
        if self._dicts:
            self._weight += sum(map(itemgetter("id"), values))
        else:
            self._weight += sum(map(len, values))
        if self._count >= self._expected:
            self._ended_ns = time.monotonic_ns()
            self._done.set()

    def arrivals_ns(self) -> list[tuple[int, int]]:
        """The time when each stamped message of the window was made, and when it came."""
        return self._arrivals_ns

    async def window(self, stall_s: float) -> dict[str, float]:
        """Wait until all came, or none for `stall_s`. Returns plain figures."""
        quiet_s, seen = 0.0, -1
        while not self._done.is_set() and quiet_s < stall_s:
            try:
                await asyncio.wait_for(self._done.wait(), LOOK_S)
            except TimeoutError:
                quiet_s = quiet_s + LOOK_S if self._count == seen else 0.0
                seen = self._count
        return self._seen()

    def _seen(self) -> dict[str, float]:
        seconds = (self._ended_ns - self._began_ns) / 1e9
        after_first = self._count - self._first
        seen: dict[str, float] = {
            "count": self._count,
            "surplus": self._surplus,
            "weight": self._weight,
            "began_ns": self._began_ns,
            "seconds": seconds,
            # Messages that came all at once have no rate.
            "rate": after_first / seconds if after_first > 0 and seconds > 0 else 0.0,
        }
        if self._arrivals_ns:
            delays_us = sorted((came - made) / 1e3 for made, came in self._arrivals_ns)
            seen |= {
                "p50_us": percentile(delays_us, 0.5),
                "p99_us": percentile(delays_us, 0.99),
                "p99_9_us": percentile(delays_us, 0.999),
                "max_us": delays_us[-1],
            }
        return seen
