"""A cursor that reads a log: the same mechanism under a peer on a ring and a session on a replica."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto

from pubsubd_broker.core.log.log import Gap, Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Position

Choose = Callable[[Entry], Entry | None]
"""What of an entry a reader gets: all of it, a part, nothing."""


class Stop(Enum):
    """Why reading stopped."""

    END = auto()
    """Everything that the log holds has been read."""
    FULL = auto()
    """The budget is used up."""
    GAP = auto()
    """The next item is a gap marker."""
    OVERRUN = auto()
    """What was to be read next has been evicted."""


class Cursor:
    """The next offset that a reader needs. `told`: up to where the reader itself knows that it has read.

    The two differ while nothing was for the reader; the difference is sent as one skip. `given`: the place behind the
    last message or notice that was for the reader.
    """

    __slots__ = ("given", "node", "position", "told")

    def __init__(self, node: str, position: Position) -> None:
        self.node = node
        self.position = position
        self.told = position.offset
        self.given = position

    def jump(self, position: Position) -> None:
        """The reader is told to go on at `position`; whoever calls this tells it."""
        self.position = self.given = position
        self.told = position.offset

    def pass_item(self, item: Entry | Skip, choose: Choose, out: Outgoing) -> None:
        """Writes what the reader gets of the item that contains its position, and moves past it."""
        chosen = None
        if isinstance(item, Entry):
            chosen = choose(item)
            if out.looks:
                out.looked += out.looks * (item.topics.count("\n") + 1)
        if chosen is not None:
            if self.told < item.first:
                out.frame(Skip(self.node, self.position.epoch, self.told, item.first))
            out.entry(chosen)
            self.told = item.next
        self.position = Position(item.epoch, item.next)
        if chosen is not None:
            self.given = self.position

    def passed(self) -> Skip | None:
        """What was skipped at the end, of which the reader has not been told."""
        if self.told < self.position.offset:
            return Skip(self.node, self.position.epoch, self.told, self.position.offset)
        return None

    def settle(self, out: Outgoing) -> None:
        """Tells the reader of what was skipped at the end."""
        passed = self.passed()
        if passed is not None:
            out.frame(passed)
            self.told = passed.next

    @property
    def untold(self) -> int:
        """Offsets passed of which the reader has not been told."""
        return self.position.offset - self.told


def read(cursor: Cursor, log: Log, index: int, choose: Choose, out: Outgoing) -> tuple[int, Stop]:
    """Reads on from item `index` of `log`. Returns the index to go on at, and why it stopped.

    The index is compared with the oldest item at every step: an evicted slot is never read as an old one.
    """
    while index < log.end:
        if index < log.begin:
            return index, Stop.OVERRUN
        if out.full:
            return index, Stop.FULL
        item = log[index]
        if isinstance(item, Gap):
            return index, Stop.GAP
        cursor.pass_item(item, choose, out)
        index += 1
    return index, Stop.END
