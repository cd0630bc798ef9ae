"""Whoever appends to a full log waits a moment for readers that would be overrun, and never for long.

Before an append evicts what a live reader still needs it is held, until the reader has moved on or its allowance
is used up. A reader that has read a quarter of the log meanwhile gets a new allowance. One that has used up its own is
overrun, and gets a new one when it has caught up: when it has read all that the log held then. So one that reads at
some speed, however far behind, is waited for again and again, and one that does not, once.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from pubsubd_broker.core.config import Now
from pubsubd_broker.core.log import Log
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip


class Follower(Protocol):
    """A live reader of a log."""

    @property
    def index(self) -> int | None:
        """The index of the item that it reads next; None while it reads nothing here."""

    @property
    def label(self) -> str:
        """By what it is called in the metric: out of a bounded number of names."""


class Appender(Protocol):
    """Who brings what is to be appended, and may have to keep it for a while."""

    def retry(self, now: Now) -> None:
        """It asks again now, unless it has nothing to ask any more."""


class Pace:
    """What a node's logs have in common: how long one reader is waited for, and for whom it was how long."""

    __slots__ = ("allowance_ns", "holding", "waited_ns")

    def __init__(self, allowance_ns: int) -> None:
        self.allowance_ns = allowance_ns
        self.holding: dict[Pacing, None] = {}
        """Those that hold somebody now."""
        self.waited_ns: Counter[str] = Counter()

    @property
    def due_ns(self) -> int | None:
        """When the first of those that hold somebody has waited long enough; None if nobody is held."""
        return min((pacing.due_ns for pacing in self.holding), default=None)

    def go_on(self, now: Now) -> None:
        """Lets everybody ask again who is held: readers have moved, or time has passed."""
        for pacing in list(self.holding):
            pacing.go_on(now)


STRIDE: Final = 4
"""A reader that has read this part of what a log holds is as good as a new one."""


class _Incident:
    """For one reader: until where it has to read for a new allowance, and what is used up of this one."""

    __slots__ = ("mark", "waited_ns")

    def __init__(self, mark: int) -> None:
        self.mark = mark
        self.waited_ns = 0


class Pacing:
    """The live readers of one log, and those who wait to append to it, in their turn."""

    __slots__ = (
        "_blocking",
        "_incidents",
        "_log",
        "_pace",
        "_readers",
        "_safe",
        "_since_ns",
        "_waiting",
    )

    def __init__(self, log: Log, pace: Pace) -> None:
        self._log = log
        self._pace = pace
        self._readers: dict[Follower, None] = {}
        self._incidents: dict[Follower, _Incident] = {}
        # No live reader needs an item below this index, so that most appends need not look at any.
        self._safe = 0
        self._waiting: dict[Appender, Entry | Skip] = {}
        # For whom the first in turn has been waiting, and since when that was counted last.
        self._blocking: list[Follower] = []
        self._since_ns = 0

    def enter(self, reader: Follower) -> None:
        """It reads from here on, at its `index`."""
        self._readers[reader] = None
        if reader.index is not None and reader.index < self._safe:
            self._safe = reader.index

    def leave(self, reader: Follower) -> None:
        """It has read everything, or is gone."""
        self._readers.pop(reader, None)
        self._incidents.pop(reader, None)

    def admits(self, appender: Appender, item: Entry | Skip, now_ns: int) -> bool:
        """Whether `item` may be appended now. If not, `appender` is asked to retry, in its turn."""
        in_turn = not self._waiting or next(iter(self._waiting)) is appender
        if not in_turn or not self._may_evict_for(item, now_ns):
            self._waiting[appender] = item
            self._pace.holding[self] = None
            return False
        if self._waiting:
            self.forget(appender)
        return True

    def forget(self, appender: Appender) -> None:
        """It waits no longer."""
        if self._waiting.pop(appender, None) is not None and not self._waiting:
            self._blocking = []
            del self._pace.holding[self]

    def go_on(self, now: Now) -> None:
        """Lets those who wait ask again, one after the other, until one has to wait on."""
        while self._waiting:
            first, item = next(iter(self._waiting.items()))
            if not self._may_evict_for(item, now.mono_ns):
                return
            first.retry(now)
            # It may have brought the next one already, and wait with that behind the others.
            if self._waiting.get(first) is item:
                self.forget(first)

    @property
    def due_ns(self) -> int:
        """When every reader that is waited for has used up its allowance."""
        left = [
            self._pace.allowance_ns - self._incidents[r].waited_ns
            for r in self._blocking
            if r in self._incidents
        ]
        return self._since_ns + max(left, default=0)

    def _may_evict_for(self, item: Entry | Skip, now_ns: int) -> bool:
        if not self._pace.allowance_ns or not self._readers:
            return True
        horizon = self._log.horizon(item)
        if horizon <= self._safe or horizon == self._log.begin:
            return True
        self._charge(now_ns)
        self._blocking = self._needing(horizon)
        self._since_ns = now_ns
        return not self._blocking

    def _charge(self, now_ns: int) -> None:
        for reader in self._blocking:
            incident = self._incidents.get(reader)
            if incident is not None:
                incident.waited_ns += now_ns - self._since_ns
                self._pace.waited_ns[reader.label] += now_ns - self._since_ns

    def _needing(self, horizon: int) -> list[Follower]:
        """The readers, with some allowance left, that need an item before `horizon`."""
        needing = []
        safe = self._log.end
        for reader in self._readers:
            index = reader.index
            if index is None or index < self._log.begin:
                continue
            if index < horizon:
                if not self._has_allowance(reader, index):
                    continue
                needing.append(reader)
            safe = min(safe, index)
        self._safe = safe
        return needing

    def _has_allowance(self, reader: Follower, index: int) -> bool:
        incident = self._incidents.get(reader)
        if incident is None or index >= incident.mark:
            stride = max(1, (self._log.end - self._log.begin) // STRIDE)
            incident = self._incidents[reader] = _Incident(index + stride)
        if incident.waited_ns < self._pace.allowance_ns:
            return True
        incident.mark = max(incident.mark, self._log.end)
        return False
