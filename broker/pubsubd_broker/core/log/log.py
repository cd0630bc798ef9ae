"""A constant-size log of a stream's newest items: the producer's ring, and a consumer's replica of it.

Items have an absolute index (0, 1, 2 …) that only this log knows, and every entry has offsets that all nodes know. A log
holds segments, with a gap marker between two. A ring has a gap at the end of each life that lost accepted messages. A
replica also has one where its own registration expired.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from typing import Final, Literal

from pubsubd_broker.core.limits import ITEM_OVERHEAD
from pubsubd_broker.core.log.interest import Interest
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Epoch, Lineage, Losses, Position, StreamView


class Gap:
    """A gap marker: messages are missing here.

    `view`: the producer's view of the stream, up to the offset at which the log goes on. A reader that reaches the gap is
    judged against `view` by the attach rule, as if the producer answered.
    """

    __slots__ = ("view",)

    count: Final = 0
    size: Final = 0
    """A gap takes no room of a log's bounds besides `ITEM_OVERHEAD`."""

    def __init__(self, view: StreamView) -> None:
        self.view = view

    @property
    def next(self) -> int:
        """The offset at which the log goes on behind the gap."""
        return self.view.next


Item = Entry | Skip | Gap


class Segment:
    """A run of contiguous offsets on one branch, without a gap. The segment still holds `first <= offset < next`.

    The branch may be known beyond the segment's end: the stream then goes on behind a gap that has not come yet.
    """

    __slots__ = ("begin", "epoch", "first", "joined", "last", "lineage", "losses", "next")

    def __init__(self, view: StreamView, begin: int, *, joined: bool = False) -> None:
        self.epoch = view.epoch
        self.lineage = view.lineage
        self.losses = view.losses
        self.first = view.next
        self.next = view.next
        self.last = view.place(view.next).epoch
        """The epoch of the position at the segment's end."""
        self.begin = begin
        """The index of the segment's first item."""
        self.joined = joined
        """Whether the segment before this one ends at the offset where this one begins, in one history."""

    @property
    def end_position(self) -> Position:
        """The position at the segment's end, before a gap that may follow there."""
        return Position(self.last, self.next)

    def holds(self, position: Position) -> bool:
        """Whether `position` lies on this branch, inside or at the end of the held offsets."""
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
    """Items in order, bounded by `max_messages` and by `max_bytes`. Evicts whole items, oldest first.

    An item takes `item.count` messages and `item.size + ITEM_OVERHEAD` bytes of these bounds.
    """

    __slots__ = (
        "_remind_at",
        "_told_from",
        "_waiting",
        "begin",
        "bytes",
        "end",
        "interest",
        "items",
        "max_bytes",
        "max_messages",
        "messages",
        "newest",
        "reserved_bytes",
        "reserved_messages",
        "segments",
        "shift",
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
        """Room for entries that have their place behind the end and are appended later."""
        self.begin = 0
        """The index of the oldest item."""
        self.end = 0
        """The index that the next item will have."""
        self.items: list[Item | None] = []
        self.shift = 0
        """The item at an index stands at `index + shift` in `items`. Evicted items leave the list many at once."""
        self.newest = Segment(StreamView(epoch, lineage, offset, offset, losses), 0)
        """The last of the segments."""
        self.segments = [self.newest]
        # Ordered, so that equal histories wake in an equal order.
        self._waiting: dict[Callable[[], None], None] = {}
        self.interest = Interest()
        """The readers that are parked at the end."""
        # The value of begin + end at which parked readers are looked at next.
        self._remind_at = 0
        # Every parked reader has been told of all items before this index, or is about to be.
        self._told_from = 0

    @property
    def oldest(self) -> int:
        """The first offset behind the last hole: the log holds all offsets from here to its end."""
        index = len(self.segments) - 1
        while index and self.segments[index].joined:
            index -= 1
        return self.segments[index].first

    @property
    def view(self) -> StreamView:
        """The newest run of messages without a missing offset, in the history of the newest segment."""
        newest = self.newest
        return StreamView(newest.epoch, newest.lineage, self.oldest, newest.next, newest.losses)

    @property
    def end_position(self) -> Position:
        """The position of a reader that has read the whole log."""
        return self.newest.end_position

    def __getitem__(self, index: int) -> Item:
        item = self.items[index + self.shift]
        assert item is not None, "an index below `begin` is checked for by the reader"
        return item

    def is_old(self, index: int) -> bool:
        """Whether `index` lies in the older half of a log that is at least half full. The log evicts from that half next."""
        if index < self._told_from:
            return True
        return 2 * index < self.begin + self.end and (
            2 * self.messages > self.max_messages or 2 * self.bytes > self.max_bytes
        )

    def fits(self, messages: int, size: int) -> bool:
        """Whether an entry of this size fits into the empty log."""
        return messages <= self.max_messages and size + ITEM_OVERHEAD <= self.max_bytes

    def horizon(self, messages: int, size: int) -> int:
        """The index of the oldest item that stays if an item of this cost is appended."""
        messages += self.messages + self.reserved_messages - self.max_messages
        size += self.bytes + self.reserved_bytes - self.max_bytes
        index = self.begin
        while (messages > 0 or size > 0) and index < self.end:
            item = self.items[index + self.shift]
            assert item is not None
            messages -= item.count
            size -= item.size + ITEM_OVERHEAD
            index += 1
        return index

    def reserve(self, item: Entry | Skip, sign: Literal[1, -1] = 1) -> None:
        """Reserves room for `item`, which is appended later. `sign` -1: gives the room back."""
        self.reserved_messages += sign * item.count
        self.reserved_bytes += sign * (item.size + ITEM_OVERHEAD)

    def append(self, item: Entry | Skip) -> None:
        """Puts `item` at the end. The caller has checked that the item begins where the log ends.

        An item larger than the whole log passes through: the log evicts all items, and this one too.
        """
        messages, size = item.count, item.size + ITEM_OVERHEAD
        # Evict first: a full log must never hold more than its bounds, not even for one turn.
        if self.messages + messages > self.max_messages or self.bytes + size > self.max_bytes:
            self._make_room(messages, size)
        newest = self.newest
        last, offset = newest.last, newest.next
        if self.begin == self.end and item.first < newest.first:
            newest.first = item.first
        newest.next = item.next
        newest.last = item.epoch
        self.end += 1
        if messages <= self.max_messages and size <= self.max_bytes:
            self.items.append(item)
            self.messages += messages
            self.bytes += size
        else:
            self.begin += 1
            self.shift -= 1
            newest.first = item.next
        if self._waiting:
            self.wake()
        if self.interest.parked and isinstance(item, Entry):
            self.interest.wake(item.topics, self.end - 1, Position(last, offset))
        if self.begin > self._told_from or self.begin + self.end >= self._remind_at:
            self._remind()

    def append_gap(self, view: StreamView) -> None:
        """Appends a gap marker. The next item begins at `view.next` on `view`'s branch, behind missing messages."""
        self._make_room(0, ITEM_OVERHEAD)
        index, end_position = self.end, self.end_position
        self.items.append(Gap(view))
        self.end += 1
        self.bytes += ITEM_OVERHEAD
        joined = end_position.offset == view.next and view.covers(
            end_position.epoch, end_position.offset
        )
        self.newest = Segment(view, index + 1, joined=joined)
        self.segments.append(self.newest)
        self.wake()
        self.interest.wake_all(index, end_position)

    def empty(self) -> None:
        """Evicts all items. A reader that has read them all stands at the end as before."""
        self._make_room(self.max_messages, self.max_bytes)
        self.wake()

    def continue_as(self, view: StreamView) -> None:
        """Gives the newest segment the branch of `view`, which contains the segment's old branch."""
        newest = self.newest
        newest.epoch, newest.lineage, newest.losses = view.epoch, view.lineage, view.losses

    def locate(self, position: Position) -> int | None:
        """The index of the item to read next from `position`; None if that position does not lie in this log."""
        stop = self.end
        for segment in reversed(self.segments):
            if segment.holds(position):
                return self._find(position.offset, max(segment.begin, self.begin), stop)
            stop = segment.begin - 1
        return None

    def entry_at(self, position: Position) -> Entry | None:
        """The entry that begins at `position`, if the log holds it."""
        index = self.locate(position)
        if index is None or index == self.end:
            return None
        held = self[index]
        return held if isinstance(held, Entry) and held.first == position.offset else None

    def wait(self, wake: Callable[[], None]) -> None:
        """Calls `wake` once, at the next change."""
        self._waiting[wake] = None

    def wake(self) -> None:
        """Calls all waiting readers."""
        if self._waiting:
            waiting, self._waiting = self._waiting, {}
            for wake in waiting:
                wake()

    def forget(self, wake: Callable[[], None]) -> None:
        """Stops waiting: `wake` is not called."""
        self._waiting.pop(wake, None)

    def _remind(self) -> None:
        """Has parked readers told of their position if they were told last in the older half of the log.

        Looks again when a quarter of the log has gone by, or when a large entry has evicted more than that.
        """
        if self.begin > self._told_from or self.is_old(self.begin):
            self._told_from = (self.begin + self.end + 1) // 2
            self.interest.remind(self._told_from)
        self._remind_at = self.begin + self.end + max(1, (self.end - self.begin) // 2)

    def _find(self, offset: int, begin: int, stop: int) -> int:
        shift = self.shift
        after = bisect_right(self.items, offset, begin + shift, stop + shift, key=_first)
        if after > begin + shift:
            held = self.items[after - 1]
            assert held is not None
            if not isinstance(held, Gap) and offset < held.next:
                after -= 1
        return after - shift

    def _make_room(self, messages: int, size: int) -> None:
        """Evicts items until this much fits, or the log is empty."""
        while self.begin < self.end and (
            self.messages + messages > self.max_messages or self.bytes + size > self.max_bytes
        ):
            place = self.begin + self.shift
            item = self.items[place]
            assert item is not None
            self.items[place] = None
            self.begin += 1
            self.messages -= item.count
            self.bytes -= item.size + ITEM_OVERHEAD
            if isinstance(item, Gap):
                del self.segments[0]
            else:
                self.segments[0].first = item.next
        evicted = self.begin + self.shift
        if evicted > 1024 and 2 * evicted > len(self.items):
            del self.items[:evicted]
            self.shift -= evicted


def _first(item: Item | None) -> int:
    assert isinstance(item, (Entry, Skip)), "a segment's items are entries and skips"
    return item.first
