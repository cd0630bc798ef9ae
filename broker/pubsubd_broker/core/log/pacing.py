"""Whoever appends to a full log waits a moment for readers that would be overrun, and never for long.

Before an append evicts what a live reader still needs it is held, until the reader has moved on or the log's
allowance is used up. The log has a new one when a quarter of what it holds has been appended since. So publishers
go at the speed of the slowest reader, down to a quarter of the log in each allowance, and no slower, however many
readers there are and whatever they do; a reader that is slower than that is overrun.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.log.log import Log


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


MAX_LABELS: Final = 1024
"""Names of readers that are told apart. For a further one the name that was waited for least is counted among the others."""

OTHER: Final = "other"


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

    def charge(self, label: str, waited_ns: int) -> None:
        """Publishers were held for the reader that is called `label`. Nodes that come under ever new names end as "other"."""
        waited = self.waited_ns
        if label not in waited and len(waited) >= MAX_LABELS:
            least = min((known for known in waited if known != OTHER), key=waited.__getitem__)
            waited[OTHER] += waited.pop(least)
        waited[label] += waited_ns

    def go_on(self, now: Now) -> None:
        """Lets everybody ask again who is held: readers have moved, or time has passed."""
        for pacing in list(self.holding):
            pacing.go_on(now)


STRIDE: Final = 4
"""An allowance is for this part of what a log holds."""


class Pacing:
    """The live readers of one log, and those who wait to append to it, in their turn."""

    __slots__ = (
        "_blocking",
        "_log",
        "_mark",
        "_pace",
        "_readers",
        "_safe",
        "_since_ns",
        "_waited_ns",
        "_waiting",
        "_yields",
    )

    def __init__(self, log: Log, pace: Pace, *, yields: bool = False) -> None:
        """`yields`: nobody is held while some reader has read all of what the log holds that is for it. It would wait for
        one that is slower.
        """
        self._log = log
        self._pace = pace
        self._yields = yields
        self._readers: dict[Follower, None] = {}
        # How long somebody has been held since the log had its allowance, and at which end it has a new one.
        self._waited_ns = 0
        self._mark = 0
        # No live reader needs an item below this index, so that most appends need not look at any.
        self._safe = 0
        # What each of them would add to the log: messages and bytes.
        self._waiting: dict[Appender, tuple[int, int]] = {}
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

    def admits(self, appender: Appender, cost: tuple[int, int], now_ns: int) -> bool:
        """Whether an item of this cost, see `cost_of`, may be appended now. If not, `appender` is asked to retry, in its turn."""
        in_turn = not self._waiting or next(iter(self._waiting)) is appender
        if not in_turn or not self._may_evict_for(cost, now_ns):
            self._waiting[appender] = cost
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
            first, cost = next(iter(self._waiting.items()))
            if not self._may_evict_for(cost, now.mono_ns):
                return
            first.retry(now)
            # It may have brought the next one already, and wait with that behind the others.
            if self._waiting.get(first) is cost:
                self.forget(first)

    @property
    def due_ns(self) -> int:
        """When the allowance is used up."""
        return self._since_ns + max(0, self._pace.allowance_ns - self._waited_ns)

    def _may_evict_for(self, cost: tuple[int, int], now_ns: int) -> bool:
        if not self._pace.allowance_ns or not self._readers:
            return True
        horizon = self._log.horizon(*cost)
        if horizon <= self._safe or horizon == self._log.begin:
            return True
        self._charge(now_ns)
        self._blocking = self._needing(horizon)
        self._since_ns = now_ns
        return not self._blocking or not self._has_allowance() or self._yields_to_others()

    def _charge(self, now_ns: int) -> None:
        if not self._blocking or not self._waiting:
            return
        waited_ns = now_ns - self._since_ns
        self._waited_ns += waited_ns
        for label in {reader.label for reader in self._blocking}:
            self._pace.charge(label, waited_ns)

    def _needing(self, horizon: int) -> list[Follower]:
        """The readers that need an item before `horizon`."""
        needing = []
        safe = self._log.end
        for reader in self._readers:
            index = reader.index
            if index is not None and index >= self._log.begin:
                safe = min(safe, index)
                if index < horizon:
                    needing.append(reader)
        self._safe = safe
        return needing

    def _has_allowance(self) -> bool:
        if self._log.end >= self._mark:
            self._waited_ns = 0
            self._mark = self._log.end + max(1, (self._log.end - self._log.begin) // STRIDE)
        return self._waited_ns < self._pace.allowance_ns

    def _yields_to_others(self) -> bool:
        return self._yields and self._log.interest.somebody_is_level(self._log.begin)
