"""A cursor that reads a log: the same mechanism under a peer on a ring and a session on a replica."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.log.outgoing import LOOKS_AT_ONCE, Outgoing
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Position

Choose = Callable[[Entry], Entry | None]
"""Selects the part of an entry that a reader gets: the whole entry, a part, or None."""


class Stop(Enum):
    """The reason for which reading stopped."""

    END = auto()
    """The reader has read all items of the log."""
    FULL = auto()
    """The budget is used up."""
    GAP = auto()
    """The next item is a gap marker."""
    OVERRUN = auto()
    """The log has evicted the next item."""


class Cursor:
    """The next offset that a reader needs.

    `told`: the offset before which the reader knows that it has read all. It lags behind `position` while no message is for
    the reader; one skip makes up for the difference. `given`: the place behind the last message or notice that was for the
    reader.
    """

    __slots__ = ("given", "node", "position", "told")

    def __init__(self, node: str, position: Position) -> None:
        self.node = node
        self.position = position
        self.told = position.offset
        self.given = position

    def jump(self, position: Position) -> None:
        """Goes on at `position`. The caller tells the reader."""
        self.position = self.given = position
        self.told = position.offset

    def pass_item(self, item: Entry | Skip, choose: Choose, out: Outgoing) -> None:
        """Writes the reader's part of the item at its position, and moves past the item."""
        chosen = None
        if isinstance(item, Entry):
            chosen = choose(item)
            if out.looks:
                out.looked += out.looks * (item.topics.count("\n") + 1)
                out.full = out.full or out.looked >= LOOKS_AT_ONCE
        if chosen is not None:
            if self.told < item.first:
                out.frame(Skip(self.node, self.position.epoch, self.told, item.first))
            out.entry(chosen)
            self.told = item.next
        self.position = Position(item.epoch, item.next)
        if chosen is not None:
            self.given = self.position

    def passed(self) -> Skip | None:
        """The skip that the reader has not been told of yet; None without one."""
        return self._unreported_skip() if self.told < self.position.offset else None

    def settle(self, out: Outgoing) -> None:
        """Tells the reader of offsets that it passed since its last message."""
        # Asked at the end of every pull, so the usual answer makes no call.
        if self.told < self.position.offset:
            out.frame(self._unreported_skip())
            self.told = self.position.offset

    @property
    def unreported(self) -> int:
        """Offsets that the reader has passed without being told."""
        return self.position.offset - self.told

    def _unreported_skip(self) -> Skip:
        return Skip(self.node, self.position.epoch, self.told, self.position.offset)


def read(cursor: Cursor, log: Log, index: int, choose: Choose, out: Outgoing) -> tuple[int, Stop]:
    """Reads on from item `index` of `log`. Returns the index to go on at, and the reason for the stop.

    The index is compared with the oldest item at every step: an evicted slot is never read as an old one.
    """
    while index < log.end:
        if index < log.begin:
            return index, Stop.OVERRUN
        if out.full:
            return index, Stop.FULL
        item = log.items[index + log.shift]
        if isinstance(item, Gap):
            return index, Stop.GAP
        assert item is not None
        cursor.pass_item(item, choose, out)
        index += 1
    return index, Stop.END
