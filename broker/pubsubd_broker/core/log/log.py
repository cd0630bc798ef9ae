"""A constant-size log of a stream's newest items: the producer's ring, and a consumer's replica of it.

Items have an absolute index (0, 1, 2 …) that only this log knows, and every entry has offsets that all
nodes know. A log holds segments, with a gap marker between two: in a ring at the end of each life that lost something
of what it had accepted, in a replica also where its own registration expired.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Literal

from pubsubd_broker.core.limits import ITEM_OVERHEAD
from pubsubd_broker.core.log.interest import Interest
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Epoch, Lineage, Losses, Position, StreamView


class Gap:
    """The place where messages are missing: it holds what the producer held of the stream up to where it goes on.

    A reader that reaches it is judged against `view` by the attach rule, as if the producer answered.
    """

    __slots__ = ("view",)

    def __init__(self, view: StreamView) -> None:
        self.view = view

    @property
    def next(self) -> int:
        """The offset at which the log goes on behind it."""
        return self.view.next


Item = Entry | Skip | Gap


class Segment:
    """A run of contiguous offsets on one branch, without a gap. `first <= offset < next` is what it still holds.

    The branch may be known beyond its end: of a stream that goes on behind a gap that has not come yet.
    """

    __slots__ = ("begin", "epoch", "first", "joined", "last", "lineage", "losses", "next")

    def __init__(self, view: StreamView, begin: int, *, joined: bool = False) -> None:
        self.epoch = view.epoch
        self.lineage = view.lineage
        self.losses = view.losses
        self.first = view.next
        self.next = view.next
        self.last = view.place(view.next).epoch
        """The epoch that names the place at its end."""
        self.begin = begin
        """The index of its first item."""
        self.joined = joined
        """Whether it goes on at the offset at which the segment before it ends, in one history."""

    @property
    def front(self) -> Position:
        """The place at its end, before any gap that may follow there."""
        return Position(self.last, self.next)

    def holds(self, position: Position) -> bool:
        """Whether a reader at `position` stands on this branch, inside or at the end of what is held."""
        if not self.first <= position.offset <= self.next:
            return False
        if position.epoch == self.last:
            return True
        view = StreamView(self.epoch, self.lineage, self.first, self.next, self.losses)
        reach = view.reach(position.epoch)
        if reach is None or position.offset > reach:
            return False
        return not self.losses or len(view.gaps(position.epoch)) == len(view.gaps(self.last))


class Log:
    """Bounded by `max_messages` and by `max_bytes`; evicts whole items, oldest first."""

    __slots__ = (
        "_head",
        "_items",
        "_remind_at",
        "_told_from",
        "_waiting",
        "begin",
        "bytes",
        "end",
        "interest",
        "max_bytes",
        "max_messages",
        "messages",
        "reserved_bytes",
        "reserved_messages",
        "segments",
    )

    def __init__(
        self,
        max_messages: int,
        max_bytes: int,
        epoch: Epoch,
        lineage: Lineage,
        offset: int,
        losses: Losses = (),
    ) -> None:
        self.max_messages = max_messages
        self.max_bytes = max_bytes
        self.messages = 0
        self.bytes = 0
        self.reserved_messages = 0
        self.reserved_bytes = 0
        """What has its place behind the end already, and is appended later."""
        self.begin = 0
        """The index of the oldest item."""
        self.end = 0
        """The index that the next item will have."""
        self._items: list[Item | None] = []
        self._head = 0
        self.segments = [Segment(StreamView(epoch, lineage, offset, offset, losses), 0)]
        # Ordered, so that equal histories wake in an equal order.
        self._waiting: dict[Callable[[], None], None] = {}
        self.interest = Interest()
        """The readers that rest at the end."""
        # Readers that rest are looked at when begin + end has come so far.
        self._remind_at = 0
        # Every reader that rests was told of all before this index, or is about to be.
        self._told_from = 0

    @property
    def newest(self) -> Segment:
        return self.segments[-1]

    @property
    def oldest(self) -> int:
        """The offset from which on none is missing here."""
        index = len(self.segments) - 1
        while index and self.segments[index].joined:
            index -= 1
        return self.segments[index].first

    @property
    def view(self) -> StreamView:
        """The newest run of messages without a missing offset, in the history of the newest segment."""
        newest = self.segments[-1]
        return StreamView(newest.epoch, newest.lineage, self.oldest, newest.next, newest.losses)

    @property
    def front(self) -> Position:
        """The position of a reader that has read all that is at hand."""
        return self.segments[-1].front

    def __getitem__(self, index: int) -> Item:
        item = self._items[self._head + index - self.begin]
        assert item is not None, "an index below `begin` is checked for by the reader"
        return item

    def is_old(self, index: int) -> bool:
        """Whether `index` lies in the older half of a log that fills up: the next items are evicted from there."""
        if index < self._told_from:
            return True
        return 2 * index < self.begin + self.end and (
            2 * self.messages > self.max_messages or 2 * self.bytes > self.max_bytes
        )

    def fits(self, messages: int, size: int) -> bool:
        """Whether an entry of this size can be held at all."""
        return messages <= self.max_messages and size + ITEM_OVERHEAD <= self.max_bytes

    def horizon(self, messages: int, size: int) -> int:
        """The index of the oldest item that would be left if one of this cost were appended."""
        messages += self.messages + self.reserved_messages - self.max_messages
        size += self.bytes + self.reserved_bytes - self.max_bytes
        index = self.begin
        while (messages > 0 or size > 0) and index < self.end:
            counted, cost = cost_of(self[index])
            messages -= counted
            size -= cost
            index += 1
        return index

    def reserve(self, item: Entry | Skip, sign: Literal[1, -1] = 1) -> None:
        """`item` will be appended, or (-1) is now."""
        messages, size = cost_of(item)
        self.reserved_messages += sign * messages
        self.reserved_bytes += sign * size

    def append(self, item: Entry | Skip) -> None:
        """Puts `item` at the end. It has to begin where the log ends; its caller has checked that.

        An item larger than the whole log passes through it: everything is evicted, it too.
        """
        messages, size = cost_of(item)
        # Evict first: a full log must never hold more than its bounds, not even for one turn.
        if self.messages + messages > self.max_messages or self.bytes + size > self.max_bytes:
            self._make_room(messages, size)
        newest = self.segments[-1]
        front = newest.front
        if self.begin == self.end and item.first < newest.first:
            newest.first = item.first
        newest.next = item.next
        newest.last = item.epoch
        self.end += 1
        if messages <= self.max_messages and size <= self.max_bytes:
            self._items.append(item)
            self.messages += messages
            self.bytes += size
        else:
            self.begin += 1
            newest.first = item.next
        if self._waiting:
            self.wake()
        if isinstance(item, Entry):
            self.interest.rouse(item.topics, self.end - 1, front)
        if self.begin > self._told_from or self.begin + self.end >= self._remind_at:
            self._remind()

    def append_gap(self, view: StreamView) -> None:
        """Marks that what comes next is `view.next` on `view`'s branch, and does not follow on what is held."""
        self._make_room(0, ITEM_OVERHEAD)
        index, front = self.end, self.front
        self._items.append(Gap(view))
        self.end += 1
        self.bytes += ITEM_OVERHEAD
        joined = front.offset == view.next and view.covers(front.epoch, front.offset)
        self.segments.append(Segment(view, index + 1, joined=joined))
        self.wake()
        self.interest.rouse_all(index, front)

    def empty(self) -> None:
        """Evicts all that is held. A reader that has read all of it stands at the end as before."""
        while self._head < len(self._items):
            self._evict()
        self.wake()

    def continue_as(self, view: StreamView) -> None:
        """The branch of the newest segment is that of `view` now, which contains it."""
        newest = self.newest
        newest.epoch, newest.lineage, newest.losses = view.epoch, view.lineage, view.losses

    def locate(self, position: Position) -> int | None:
        """The index of the item to read next from `position`; None if it does not stand in this log."""
        stop = self.end
        for segment in reversed(self.segments):
            if segment.holds(position):
                return self._find(position.offset, max(segment.begin, self.begin), stop)
            stop = segment.begin - 1
        return None

    def entry_at(self, position: Position) -> Entry | None:
        """The entry that begins at `position`, if it is held."""
        index = self.locate(position)
        if index is None or index == self.end:
            return None
        held = self[index]
        return held if isinstance(held, Entry) and held.first == position.offset else None

    def wait(self, wake: Callable[[], None]) -> None:
        """Calls `wake` once, at the next change."""
        self._waiting[wake] = None

    def wake(self) -> None:
        """Calls everybody who waits."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for wake in waiting:
                wake()

    def forget(self, wake: Callable[[], None]) -> None:
        """The reader behind `wake` is gone."""
        self._waiting.pop(wake, None)

    def _remind(self) -> None:
        """Has the readers told how far they have come that rest, and were told so last in the older half.

        Looked at again when a quarter of the log has gone by, or when a large entry has evicted more than that.
        """
        if self.begin > self._told_from or self.is_old(self.begin):
            self._told_from = (self.begin + self.end + 1) // 2
            self.interest.remind(self._told_from)
        self._remind_at = self.begin + self.end + max(1, (self.end - self.begin) // 2)

    def _find(self, offset: int, begin: int, stop: int) -> int:
        shift = self._head - self.begin
        after = bisect_right(self._items, offset, begin + shift, stop + shift, key=_first)
        if after > begin + shift:
            held = self._items[after - 1]
            assert held is not None
            if not isinstance(held, Gap) and offset < held.next:
                after -= 1
        return after - shift

    def _make_room(self, messages: int, size: int) -> None:
        while self._head < len(self._items) and (
            self.messages + messages > self.max_messages or self.bytes + size > self.max_bytes
        ):
            self._evict()

    def _evict(self) -> None:
        item = self._items[self._head]
        assert item is not None
        self._items[self._head] = None
        self._head += 1
        self.begin += 1
        if self._head > 1024 and 2 * self._head > len(self._items):
            del self._items[: self._head]
            self._head = 0
        messages, cost = cost_of(item)
        self.messages -= messages
        self.bytes -= cost
        if isinstance(item, Gap):
            del self.segments[0]
        else:
            self.segments[0].first = item.next


def cost_of(item: Item) -> tuple[int, int]:
    """Messages and bytes that an item takes of a log's bounds."""
    return (
        (item.count, item.size + ITEM_OVERHEAD) if isinstance(item, Entry) else (0, ITEM_OVERHEAD)
    )


def _first(item: Item | None) -> int:
    assert isinstance(item, (Entry, Skip)), "a segment's items are entries and skips"
    return item.first
