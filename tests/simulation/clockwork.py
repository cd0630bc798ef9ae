"""Virtual time: events happen in order of time, ties in order of planning. Nothing else moves the clock."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count
from typing import Final

from pubsubd_broker.core.limits import Now

MS: Final = 1_000_000
"""Nanoseconds in a millisecond."""

START_NS: Final = 1_000 * 1_000 * MS


class Clockwork:
    """`at` and `after` plan; `run_until` lets time pass. The wall clock may be set: no rule may depend on it."""

    def __init__(self) -> None:
        self.now_ns = START_NS
        self.wall_us = 1_700_000_000_000_000
        self.events = 0
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._ticket = count()

    @property
    def now(self) -> Now:
        return Now(self.now_ns, self.wall_us + self.now_ns // 1000)

    def after(self, delay_ns: int, action: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (self.now_ns + delay_ns, next(self._ticket), action))

    def run_until(self, time_ns: int, done: Callable[[], bool] | None = None) -> bool:
        """Run all that is planned up to `time_ns`. Returns whether `done` came true on the way."""
        while self._queue and self._queue[0][0] <= time_ns:
            self.now_ns, _, action = heapq.heappop(self._queue)
            self.events += 1
            action()
            if done is not None and done():
                return True
        self.now_ns = max(self.now_ns, time_ns)
        return False
