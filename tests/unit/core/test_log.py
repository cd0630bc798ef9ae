"""The log: what is held, what is evicted, where a position stands in it."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.core.builders import E1, E2, E3, at, entry, log_of, skip, view

from pubsubd_broker.core.config import ITEM_OVERHEAD
from pubsubd_broker.core.log import Gap, Log, Segment
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Epoch, Position

EPOCHS = st.sampled_from([E1, E2, E3])


class _Model:
    """The same log as a plain list of everything that was ever appended, and where each item stood."""

    def __init__(self, epoch: Epoch, offset: int) -> None:
        self.items: list[Entry | Skip | Gap] = []
        self.segments = [(Segment(epoch, (), offset, 0))]
        self.segment_of: list[int] = []

    def cost(self, index: int) -> tuple[int, int]:
        item = self.items[index]
        if isinstance(item, Entry):
            return item.count, item.size + ITEM_OVERHEAD
        return 0, ITEM_OVERHEAD

    def oldest_held(self, max_messages: int, max_bytes: int) -> int:
        """The longest tail that is within the bounds, found by adding up from the end."""
        messages = size = 0
        for index in reversed(range(len(self.items))):
            more, bytes_more = self.cost(index)
            messages, size = messages + more, size + bytes_more
            if messages > max_messages or size > max_bytes:
                return index + 1
        return 0

    def locate(self, position: Position, begin: int) -> int | None:
        """By looking at every segment and item that is left, newest branch first."""
        for number in reversed(range(len(self.segments))):
            indices = [i for i, at_segment in enumerate(self.segment_of) if at_segment == number]
            entries = [
                i for i in indices if i >= begin and isinstance(self.items[i], (Entry, Skip))
            ]
            last = number == len(self.segments) - 1
            gap_index = None if last else self.segments[number + 1].begin - 1
            if gap_index is not None and gap_index < begin:
                return None
            segment = self.segments[number]
            first = self._offset(entries[0]) if entries else segment.next
            reach = segment.view.reach(position.epoch)
            on_branch = position.epoch == segment.epoch or (
                reach is not None and position.offset <= reach
            )
            if on_branch and first <= position.offset <= segment.next:
                for i in entries:
                    if position.offset < self._next(i):
                        return i
                return len(self.items) if gap_index is None else gap_index
        return None

    def _offset(self, index: int) -> int:
        item = self.items[index]
        assert not isinstance(item, Gap)
        return item.first

    def _next(self, index: int) -> int:
        item = self.items[index]
        assert not isinstance(item, Gap)
        return item.next


class LogMachine(RuleBasedStateMachine):
    log: Log
    model: _Model

    @initialize(
        max_messages=st.integers(1, 12),
        max_bytes=st.integers(ITEM_OVERHEAD, 6 * ITEM_OVERHEAD),
        offset=st.integers(0, 5),
    )
    def begin(self, max_messages: int, max_bytes: int, offset: int) -> None:
        self.log = Log(max_messages, max_bytes, E1, (), offset)
        self.model = _Model(E1, offset)

    def _append(self, item: Entry | Skip) -> None:
        self.log.append(item)
        self.model.items.append(item)
        self.model.segment_of.append(len(self.model.segments) - 1)
        self.model.segments[-1].next = item.next

    @rule(count=st.integers(1, 15), size=st.integers(0, 300))
    def append_entry(self, count: int, size: int) -> None:
        newest = self.model.segments[-1]
        self._append(entry(newest.next, count, epoch=newest.epoch, payload=b"x" * size))

    @rule(span=st.integers(1, 20))
    def append_skip(self, span: int) -> None:
        newest = self.model.segments[-1]
        self._append(skip(newest.next, newest.next + span, epoch=newest.epoch))

    @rule(epoch=EPOCHS, missed=st.integers(0, 10), kept=st.integers(0, 10), lineage=st.booleans())
    def append_gap(self, epoch: Epoch, missed: int, kept: int, lineage: bool) -> None:
        newest = self.model.segments[-1]
        following = newest.next + missed
        earlier = ((newest.epoch, newest.next),) if lineage and newest.epoch != epoch else ()
        gap = view(max(0, following - kept), following, epoch, *earlier)
        self.log.append_gap(gap)
        self.model.segment_of.append(len(self.model.segments) - 1)
        self.model.segments.append(
            Segment(epoch, earlier, following, begin=len(self.model.items) + 1)
        )
        self.model.items.append(Gap(gap))

    @precondition(lambda self: not self.model.segments[-1].lineage)
    @rule(epoch=EPOCHS)
    def continue_as(self, epoch: Epoch) -> None:
        newest = self.model.segments[-1]
        if epoch != newest.epoch:
            lineage = ((newest.epoch, newest.next),)
            self.log.continue_as(epoch, lineage)
            newest.epoch, newest.lineage = epoch, lineage

    @rule(epoch=EPOCHS, back=st.integers(-2, 40))
    def locate(self, epoch: Epoch, back: int) -> None:
        offset = self.log.newest.next - back
        if offset >= 0:
            position = Position(epoch, offset)
            assert self.log.locate(position) == self.model.locate(position, self.log.begin)

    @invariant()
    def within_both_bounds(self) -> None:
        if hasattr(self, "log"):
            assert self.log.messages <= self.log.max_messages
            assert self.log.bytes <= self.log.max_bytes

    @invariant()
    def holds_the_longest_tail_that_fits(self) -> None:
        if hasattr(self, "log"):
            log, model = self.log, self.model
            assert log.end == len(model.items)
            assert log.begin == model.oldest_held(log.max_messages, log.max_bytes)
            held = range(log.begin, log.end)
            costs = [model.cost(i) for i in held]
            assert (log.messages, log.bytes) == (sum(m for m, _ in costs), sum(b for _, b in costs))
            for index in held:
                mine, theirs = log[index], model.items[index]
                assert mine is theirs or (isinstance(mine, Gap) and isinstance(theirs, Gap))

    @invariant()
    def its_view_is_what_the_newest_segment_holds(self) -> None:
        if hasattr(self, "log"):
            log, newest = self.log, self.model.segments[-1]
            entries = [log[i] for i in range(max(log.begin, newest.begin), log.end)]
            first = entries[0].first if entries else newest.next  # type: ignore[union-attr]
            assert log.view == view(first, newest.next, newest.epoch, *newest.lineage)


LogMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_the_log_agrees_with_a_plain_list_at_every_step = LogMachine.TestCase


# Positions at the edges.


@pytest.mark.parametrize(
    ("offset", "index"),
    [
        (5, None),  # oldest - 1: evicted
        (6, 2),  # exactly oldest
        (7, 2),  # inside the oldest entry
        (8, 2),
        (9, 3),  # at the next entry
        (12, 4),  # at next: everything was read
        (13, None),  # next + 1: not here
    ],
)
def test_a_position_stands_at_the_entry_that_contains_it(offset: int, index: int | None) -> None:
    log = log_of(*(entry(first, 3) for first in range(0, 12, 3)), max_messages=6)
    assert log.view == view(6, 12)
    assert log.locate(at(offset)) == index


def test_a_position_inside_a_skipped_range_stands_at_the_skip() -> None:
    log = log_of(entry(0), skip(1, 100), entry(100))
    assert log.locate(at(50)) == 1
    assert log.locate(at(100)) == 2


def test_an_offset_that_fits_stands_nowhere_under_an_unknown_epoch() -> None:
    assert log_of(entry(0), entry(1)).locate(at(1, E2)) is None


def test_a_position_of_an_earlier_epoch_stands_on_the_branch_up_to_the_end_of_that_epoch() -> None:
    log = log_of(entry(0, 4), entry(4, 4))
    log.continue_as(E2, ((E1, 8),))
    log.append(entry(8, 4, epoch=E2))
    assert log.locate(at(5, E1)) == 1
    assert log.locate(at(8, E1)) == 2
    assert log.locate(at(9, E1)) is None
    assert log.locate(at(5, E2)) == 1
    assert log.locate(at(12, E2)) == 3


def test_a_position_at_the_end_of_an_older_segment_stands_at_the_gap() -> None:
    log = log_of(entry(0), entry(1))
    log.append_gap(view(7, 9))
    log.append(entry(9))
    assert log.locate(at(2)) == 2
    assert isinstance(log[2], Gap)
    assert [log.locate(at(offset)) for offset in (0, 1, 9, 10)] == [0, 1, 3, 4]
    assert log.locate(at(5)) is None  # in the gap: neither before nor after it


def test_a_position_that_fits_on_both_sides_of_a_gap_stands_on_its_own_branch() -> None:
    log = log_of(entry(0, 5), entry(5, 5))
    log.append_gap(view(0, 3, E2))
    log.append(entry(3, 5, epoch=E2))
    assert log.locate(at(5, E1)) == 1
    assert log.locate(at(5, E2)) == 3


def test_a_segment_whose_entries_are_gone_still_leads_to_its_gap() -> None:
    log = log_of(entry(0), max_messages=1)
    log.append_gap(view(5, 5))
    log.append(entry(5))  # evicts entry 0, not the marker
    assert log.locate(at(0)) is None
    assert log.locate(at(1)) == 1
    log.append(entry(6))
    assert log.locate(at(1)) is None
    assert log.locate(at(6)) == 3
    assert [segment.first for segment in log.segments] == [6]


def test_two_gaps_in_a_row_are_two_items() -> None:
    log = log_of(entry(0))
    log.append_gap(view(3, 4))
    log.append_gap(view(8, 9))
    assert [log.locate(at(offset)) for offset in (1, 4, 9)] == [1, 2, 3]


# Bounds.


def test_a_ring_of_one_holds_the_newest_message() -> None:
    log = log_of(max_messages=1)
    assert (log.view, log.messages, log.bytes) == (view(0, 0), 0, 0)
    for offset in range(5):
        log.append(entry(offset))
        assert log.view == view(offset, offset + 1)
        assert log.messages == 1


def test_a_batch_is_evicted_whole() -> None:
    log = log_of(entry(0, 4), entry(4, 4), max_messages=8)
    log.append(entry(8, 1))
    assert log.view == view(4, 9)
    assert log.messages == 5


@pytest.mark.parametrize("by", ["count", "bytes"])
def test_an_item_larger_than_the_log_passes_through_and_takes_everything_with_it(by: str) -> None:
    log = log_of(entry(0), entry(1), max_messages=10, max_bytes=3 * (ITEM_OVERHEAD + 200))
    log.append_gap(view(2, 2))
    big = entry(2, 11) if by == "count" else entry(2, 1, payload=b"x" * 4000)
    log.append(big)
    assert (log.messages, log.bytes) == (0, 0)
    assert log.begin == log.end == 4
    assert log.view == view(big.next, big.next)
    assert log.locate(at(big.next)) == 4
    assert log.locate(at(2)) is None
    log.append(entry(big.next))
    assert log.locate(at(big.next)) == 4


def test_what_fits_is_exactly_what_is_held() -> None:
    size = entry(0, 2, payload=b"xyz").size
    log = log_of(max_messages=2, max_bytes=size + ITEM_OVERHEAD)
    assert log.fits(2, size)
    assert not log.fits(3, size)
    assert not log.fits(2, size + 1)
    log.append(entry(0, 2, payload=b"xyz"))
    assert log.messages == 2


def test_an_empty_log_may_begin_inside_its_first_entry() -> None:
    log = log_of(offset=5)
    log.append(entry(3, 5))
    assert log.view == view(3, 8)
    assert log.locate(at(5)) == 0


def test_indices_stay_what_they_were_through_compaction() -> None:
    log = log_of(max_messages=10)
    held: dict[int, int] = {}
    for offset in range(5000):
        held[log.end] = offset
        log.append(entry(offset))
        assert log.end - log.begin <= 10
    assert (log.begin, log.end) == (4990, 5000)
    for index in range(log.begin, log.end):
        item = log[index]
        assert isinstance(item, Entry)
        assert item.first == held[index]
        assert log.locate(at(held[index])) == index


# Waiting.


def test_who_waits_is_called_once_at_the_next_change() -> None:
    log = log_of()
    calls: list[str] = []

    def wake() -> None:
        calls.append("woken")

    log.wait(wake)
    log.wait(wake)
    log.append(entry(0))
    log.append(entry(1))
    assert calls == ["woken"]


def test_a_gap_wakes_too() -> None:
    log = log_of()
    calls: list[str] = []
    log.wait(lambda: calls.append("woken"))
    log.append_gap(view(3, 3))
    assert calls == ["woken"]


def test_who_waits_again_while_being_called_is_not_called_for_the_same_change() -> None:
    log = log_of()
    calls: list[str] = []

    def wake() -> None:
        calls.append("woken")
        log.wait(wake)

    log.wait(wake)
    log.append(entry(0))
    assert calls == ["woken"]
    log.append(entry(1))
    assert calls == ["woken", "woken"]


def test_who_is_forgotten_is_not_called() -> None:
    log = log_of()

    def wake() -> None:
        raise AssertionError("called after it was forgotten")

    log.wait(wake)
    log.forget(wake)
    log.forget(wake)
    log.append(entry(0))
