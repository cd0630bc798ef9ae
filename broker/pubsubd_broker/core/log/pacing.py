"""Holds an append to a full log while a live reader still needs the items that it would evict.

The hold ends when the reader has moved on, or when the log's allowance is used up. The log gets a new allowance when a
quarter of its size has been appended since the last one. Publishers thus go at the speed of the slowest reader, but at
least a quarter of the log in each allowance. The number of readers does not matter. A slower reader is overrun.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, Protocol

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.log.log import Log


class PacedReader(Protocol):
    """A live reader of a log."""

    @property
    def index(self) -> int | None:
        """The index of the reader's next item; None while it does not read this log."""

    @property
    def label(self) -> str:
        """The reader's name in the metric, one of a bounded number of names."""


class Appender(Protocol):
    """A publisher's end that has an item to append, and keeps the item while it is held."""

    def retry(self, now: Now) -> None:
        """Asks again now, if the item is still to be appended."""


MAX_LABELS: Final = 1024
"""Names of readers that are told apart. Beyond that, the name with the shortest wait is counted as `OTHER`."""

OTHER: Final = "other"


class Pace:
    """Shared by a node's logs: the allowance of each, and the time for which publishers waited for each reader."""

    __slots__ = ("allowance_ns", "holding", "waited_ns")

    def __init__(self, allowance_ns: int) -> None:
        self.allowance_ns = allowance_ns
        self.holding: dict[Pacing, None] = {}
        """The logs that hold an appender now."""
        self.waited_ns: Counter[str] = Counter()

    @property
    def due_ns(self) -> int | None:
        """The time at which the first hold ends at the latest; None if no appender is held."""
        return min((pacing.due_ns for pacing in self.holding), default=None)

    def charge(self, label: str, waited_ns: int) -> None:
        """Counts time for which publishers were held for the reader `label`."""
        waited = self.waited_ns
        if label not in waited and len(waited) >= MAX_LABELS:
            least = min((known for known in waited if known != OTHER), key=waited.__getitem__)
            waited[OTHER] += waited.pop(least)
        waited[label] += waited_ns

    def go_on(self, now: Now) -> None:
        """Lets all held appenders ask again: readers have moved, or time has passed."""
        for pacing in list(self.holding):
            pacing.go_on(now)


class _Held:
    """An item that an appender holds back: `cost` in messages and bytes, as in `Log`. Each hold is an object of its own."""

    __slots__ = ("cost",)

    def __init__(self, cost: tuple[int, int]) -> None:
        self.cost = cost


STRIDE: Final = 4
"""A log gets a new allowance for each quarter of its items."""


class Pacing:
    """The live readers of one log, and the appenders that wait for them, in their turn."""

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
        """`yields`: no appender is held while a caught-up reader would have to wait for a slower one."""
        self._log = log
        self._pace = pace
        self._yields = yields
        self._readers: dict[PacedReader, None] = {}
        # The time held under the present allowance, and the log's end at which it gets a new one.
        self._waited_ns = 0
        self._mark = 0
        # No live reader needs an item below this index, so that most appends need not look at any.
        self._safe = 0
        self._waiting: dict[Appender, _Held] = {}
        # The readers that the first appender waits for, and the time up to which that wait is counted.
        self._blocking: list[PacedReader] = []
        self._since_ns = 0

    def enter(self, reader: PacedReader) -> None:
        """Counts `reader` as a live one, at its `index`."""
        self._readers[reader] = None
        if reader.index is not None and reader.index < self._safe:
            self._safe = reader.index

    def leave(self, reader: PacedReader) -> None:
        """Forgets `reader`: it has read all items, or is gone."""
        self._readers.pop(reader, None)

    def admits(self, appender: Appender, cost: tuple[int, int], now_ns: int) -> bool:
        """Whether an item of this cost may be appended now. If not, `appender` retries in its turn. `cost`: messages and bytes, see `Log`."""
        in_turn = not self._waiting or next(iter(self._waiting)) is appender
        if not in_turn or not self._may_evict_for(cost, now_ns):
            self._waiting[appender] = _Held(cost)
            self._pace.holding[self] = None
            return False
        if self._waiting:
            self.forget(appender)
        return True

    def forget(self, appender: Appender) -> None:
        """Forgets `appender`: it waits no longer."""
        if self._waiting.pop(appender, None) is not None and not self._waiting:
            self._blocking = []
            del self._pace.holding[self]

    def go_on(self, now: Now) -> None:
        """Lets waiting appenders ask again, one after the other, until an appender has to wait on."""
        while self._waiting:
            first, held = next(iter(self._waiting.items()))
            if not self._may_evict_for(held.cost, now.mono_ns):
                return
            first.retry(now)
            # The appender may already wait with its next item, behind the others.
            if self._waiting.get(first) is held:
                self.forget(first)

    @property
    def due_ns(self) -> int:
        """The time at which the allowance is used up."""
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

    def _needing(self, horizon: int) -> list[PacedReader]:
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
        return self._yields and self._log.interest.has_level_reader(self._log.begin)
