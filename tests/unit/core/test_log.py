"""The log: what is held, what is evicted, where a position stands in it."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from tests.unit.core.builders import E1, E2, E3, at, cost_of, entry, log_of, skip, view
from tests.unit.core.test_interest import Parked
from tests.unit.examples import examples

from pubsubd_broker.core.limits import ITEM_OVERHEAD
from pubsubd_broker.core.log.interest import Interest
from pubsubd_broker.core.log.log import Gap, Log, Segment
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip
from pubsubd_protocol.positions import Epoch, Position
from pubsubd_protocol.topics import Filter

EPOCHS = st.sampled_from([E1, E2, E3])


class _Model:
    """The same log as a plain list of everything that was ever appended, and where each item stood."""

    def __init__(self, epoch: Epoch, offset: int) -> None:
        self.items: list[Entry | Skip | Gap] = []
        self.segments = [Segment(view(offset, offset, epoch), 0)]
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
            held = view(segment.first, segment.next, segment.epoch, *segment.lineage)
            reach = held.reach(position.epoch)
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
        horizon, end = self.log.horizon(*cost_of(item)), self.log.end
        self.log.append(item)
        assert horizon == min(self.log.begin, end), "the horizon is what the append evicts"
        self.model.items.append(item)
        self.model.segment_of.append(len(self.model.segments) - 1)
        newest = self.model.segments[-1]
        newest.next, newest.last = item.next, item.epoch

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
        horizon = self.log.horizon(0, ITEM_OVERHEAD)
        self.log.append_gap(gap)
        assert horizon == self.log.begin, "the horizon is what the marker evicts"
        self.model.segment_of.append(len(self.model.segments) - 1)
        self.model.segments.append(
            Segment(
                gap,
                len(self.model.items) + 1,
                joined=missed == 0 and gap.contains(newest.end_position),
            )
        )
        self.model.items.append(Gap(gap))

    @precondition(lambda self: not self.model.segments[-1].lineage)
    @rule(epoch=EPOCHS)
    def continue_as(self, epoch: Epoch) -> None:
        newest = self.model.segments[-1]
        if epoch != newest.epoch:
            lineage = ((newest.epoch, newest.next),)
            self.log.continue_as(view(newest.next, newest.next, epoch, *lineage))
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
    def its_view_is_what_is_held_without_a_missing_offset(self) -> None:
        if hasattr(self, "log"):
            log, newest = self.log, self.model.segments[-1]
            run = len(self.model.segments) - 1
            while self.model.segments[run].joined and self.model.segments[run].begin > log.begin:
                run -= 1
            begin = max(log.begin, self.model.segments[run].begin)
            items = [item for i in range(begin, log.end) if not isinstance(item := log[i], Gap)]
            # A run of which nothing else is left begins where its marker stands.
            ends = [segment.next for segment in self.model.segments[run:]]
            first = items[0].first if items else ends[0]
            assert log.view == view(first, newest.next, newest.epoch, *newest.lineage)


LogMachine.TestCase.settings = settings(
    max_examples=examples(60), stateful_step_count=30, deadline=None
)
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


def test_an_earlier_epochs_position_is_on_the_branch_up_to_its_end() -> None:
    log = log_of(entry(0, 4), entry(4, 4))
    log.continue_as(view(8, 8, E2, (E1, 8)))
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
    gap = log[2]
    assert isinstance(gap, Gap)
    assert gap.view == view(7, 9)
    assert [log.locate(at(offset)) for offset in (0, 1, 9, 10)] == [0, 1, 3, 4]
    assert log.locate(at(5)) is None  # in the gap: neither before nor after it


def test_a_place_is_named_by_the_epoch_of_the_message_before_it() -> None:
    log = log_of(entry(0, 4))
    log.continue_as(view(4, 4, E2, (E1, 4)))
    log.append(entry(4, epoch=E2))
    places = [log.view.place(offset) for offset in (3, 4, 5)]
    assert places == [at(3, E1), at(4, E1), at(5, E2)]


def test_a_position_at_a_gap_stands_on_its_own_branch() -> None:
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


def test_an_entry_is_found_where_it_begins_on_its_own_branch() -> None:
    log = log_of(entry(0, 2), skip(2, 4), entry(4, 2))
    found = {offset: log.entry_at(at(offset)) for offset in range(8)}
    assert {offset for offset, held in found.items() if held is not None} == {0, 4}
    assert found[4] is log[2]
    assert log.entry_at(at(4, E2)) is None
    log.append_gap(view(9, 9))
    assert log.entry_at(at(6)) is None, "a marker stands there"


def test_two_gaps_in_a_row_are_two_items() -> None:
    log = log_of(entry(0))
    log.append_gap(view(3, 4))
    log.append_gap(view(8, 9))
    assert [log.locate(at(offset)) for offset in (1, 4, 9)] == [1, 2, 3]


def test_a_log_that_was_emptied_wakes_and_ends_where_it_ended() -> None:
    log = log_of(entry(0), entry(1))
    calls: list[str] = []
    log.wait(lambda: calls.append("woken"))
    log.empty()
    assert (log.view, log.messages, log.bytes) == (view(2, 2), 0, 0)
    assert calls == ["woken"]
    assert (log.locate(at(1)), log.locate(at(2))) == (None, 2)


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


def test_a_gap_marker_is_not_a_message_and_evicts_none() -> None:
    log = log_of(entry(0), entry(1), max_messages=2)
    assert log.horizon(0, ITEM_OVERHEAD) == 0
    log.append_gap(view(5, 5))
    assert (log.begin, log.messages) == (0, 2)


@pytest.mark.parametrize(("more", "evicted"), [(0, 0), (1, 1)])
def test_an_append_evicts_only_beyond_the_bytes_of_the_log(more: int, evicted: int) -> None:
    item, later = entry(0), entry(1, payload=b"x" * more)
    log = log_of(item, max_bytes=cost_of(item)[1] + cost_of(entry(1))[1])
    assert log.horizon(*cost_of(later)) == evicted
    log.append(later)
    assert log.begin == evicted


@pytest.mark.parametrize("by", ["count", "bytes"])
def test_an_item_larger_than_the_log_leaves_it_empty(by: str) -> None:
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
        assert len(log.items) < 2000, "what was evicted takes room only for a while"
    assert (log.begin, log.end) == (4990, 5000)
    for index in range(log.begin, log.end):
        item = log[index]
        assert isinstance(item, Entry)
        assert item.first == held[index]
        assert log.locate(at(held[index])) == index


ITEMS = st.lists(st.tuples(st.integers(1, 4), st.integers(0, 200)), max_size=6)
"""Messages and bytes of a payload, of each entry."""


@settings(max_examples=examples(50))
@given(held=ITEMS, reserved=ITEMS, then=st.tuples(st.integers(1, 4), st.integers(0, 200)))
def test_reserved_entries_count_for_the_horizon(
    held: list[tuple[int, int]], reserved: list[tuple[int, int]], then: tuple[int, int]
) -> None:
    log, first = log_of(max_messages=9, max_bytes=6 * ITEM_OVERHEAD), 0
    entries: list[Entry] = []
    for count, size in [*held, *reserved, then]:
        entries.append(entry(first, count, payload=b"x" * size))
        first += count
    for item in entries[: len(held)]:
        log.append(item)
    waiting, last = entries[len(held) : -1], entries[-1]
    for item in waiting:
        log.reserve(item)
    horizon, end = log.horizon(*cost_of(last)), log.end
    for item in waiting:
        log.reserve(item, -1)
        log.append(item)
    assert (log.reserved_messages, log.reserved_bytes) == (0, 0)
    log.append(last)
    assert horizon == min(log.begin, end)


@pytest.mark.parametrize("by", ["messages", "bytes"])
def test_a_reserved_entry_takes_room_until_it_is_appended(by: str) -> None:
    size = cost_of(entry(0))[1]
    held = (entry(0), entry(1))
    log = log_of(*held, max_messages=3) if by == "messages" else log_of(*held, max_bytes=3 * size)
    log.reserve(entry(2))
    assert [log.horizon(1, size), log.horizon(2, 2 * size)] == [1, 2]
    log.reserve(entry(2), -1)
    assert [log.horizon(1, size), log.horizon(2, 2 * size)] == [0, 1]


# Reminding readers that rest of how far they have come.


@pytest.mark.parametrize(
    ("held", "old"),
    [
        (5, []),  # half full: nothing is evicted for a while
        (6, [0, 1, 2]),
        (7, [0, 1, 2, 3]),
        (10, [0, 1, 2, 3, 4]),
        (14, [4, 5, 6, 7, 8]),
    ],
)
@pytest.mark.parametrize("full_by", ["messages", "bytes"])
def test_a_log_that_fills_up_evicts_next_what_is_in_its_older_half(
    held: int, old: list[int], full_by: str
) -> None:
    size = cost_of(entry(0))[1]
    log = log_of(max_messages=10) if full_by == "messages" else log_of(max_bytes=10 * size)
    for offset in range(held):
        log.append(entry(offset))
    assert [i for i in range(log.begin, log.end) if log.is_old(i)] == old


class _Reminders(Interest):
    """Notes before which index readers are reminded."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def remind(self, index: int) -> None:
        self.seen.append(index)

    def take(self) -> list[int]:
        seen, self.seen = self.seen, []
        return seen


@pytest.mark.interpreted
def test_a_full_log_reminds_its_older_half_once_a_quarter() -> None:
    log = log_of(max_messages=16)
    reminders = log.interest = _Reminders()
    reminded_at: list[int] = []
    for offset in range(140):
        log.append(entry(offset))
        told = reminders.take()
        if told and offset >= 100:
            assert told == [log.begin + 8]
            reminded_at.append(offset)
    assert {later - at for at, later in pairwise(reminded_at)} == {4}


@pytest.mark.interpreted
def test_a_log_that_is_not_half_full_reminds_nobody() -> None:
    log = log_of(max_messages=10)
    reminders = log.interest = _Reminders()
    for offset in range(5):
        log.append(entry(offset))
    assert reminders.take() == []
    log.append(entry(5))
    assert reminders.take() == [3]


@pytest.mark.interpreted
def test_an_entry_that_evicts_more_than_the_older_half_reminds_at_once() -> None:
    log = log_of(max_messages=16)
    reminders = log.interest = _Reminders()
    for offset in range(32):
        log.append(entry(offset))
    reminders.take()
    log.append(entry(32, 12))
    assert (log.begin, log.end) == (28, 33)
    assert reminders.take() == [31]
    log.append(entry(44, 17))  # passes through
    assert (log.begin, log.end) == (34, 34)
    assert reminders.take() == [34]


class _Reader:
    """A reader that wants no entry. It reports its position when it is reminded, and when it comes to rest late."""

    def __init__(self, log: Log) -> None:
        self.filter = Filter(("never",))
        self.log = log
        self.told = log.end
        self.in_time = True

    def rest(self) -> None:
        if self.log.is_old(self.told):
            self.told = self.log.end
        self.log.interest.park(self)

    def unpark(self, index: int, position: Position) -> None:
        raise AssertionError("nothing is for it")

    def remind(self) -> None:
        self.in_time = self.told >= self.log.begin
        self.told = self.log.end


@given(
    max_messages=st.integers(2, 20),
    steps=st.lists(st.one_of(st.integers(1, 25), st.sampled_from(["reads", "rests"])), max_size=60),
)
def test_a_resting_reader_is_told_its_place_before_it_is_evicted(
    max_messages: int, steps: list[int | str]
) -> None:
    log = log_of(max_messages=max_messages)
    reader = _Reader(log)
    rests = False
    for step in steps:
        match step:
            case "reads":
                log.interest.unpark(reader)
                rests = False
            case "rests":
                reader.rest()
                rests = True
            case int(count):
                log.append(entry(log.newest.next, count))
        assert not rests or reader.told >= log.begin


@given(max_messages=st.integers(1, 40), begins=st.integers(0, 100))
def test_a_reader_of_small_entries_is_reminded_before_its_eviction(
    max_messages: int, begins: int
) -> None:
    log = log_of(*(entry(offset) for offset in range(begins)), max_messages=max_messages)
    reader = _Reader(log)
    reader.rest()
    for offset in range(begins, begins + 3 * max_messages):
        log.append(entry(offset))
        assert reader.in_time
        assert reader.told >= log.begin


# Waiting.


def waiting(log: Log, *, again: bool = False) -> list[str]:
    """The calls of a reader that waits, twice over, and does so again at each call if wanted."""
    calls: list[str] = []

    def wake() -> None:
        calls.append("woken")
        if again:
            log.wait(wake)

    log.wait(wake)
    log.wait(wake)
    return calls


def test_a_waiting_reader_is_called_once_at_the_next_change() -> None:
    log = log_of()
    calls = waiting(log)
    log.append(entry(0))
    log.append(entry(1))
    assert calls == ["woken"]


def test_a_gap_wakes_too() -> None:
    log = log_of()
    calls = waiting(log)
    log.append_gap(view(3, 3))
    assert calls == ["woken"]


def test_a_gap_wakes_those_who_rest_at_its_place() -> None:
    log = log_of(entry(0), entry(1))
    rester = Parked("never")
    log.interest.park(rester)
    log.append_gap(view(5, 5))
    assert rester.woken == [(2, at(2))]


def test_a_reader_that_waits_again_is_not_called_for_the_same_change() -> None:
    log = log_of()
    calls = waiting(log, again=True)
    log.append(entry(0))
    assert calls == ["woken"]
    log.append(entry(1))
    assert calls == ["woken", "woken"]


def test_a_forgotten_reader_is_not_called() -> None:
    log = log_of()

    def wake() -> None:
        raise AssertionError("called after it was forgotten")

    log.wait(wake)
    log.forget(wake)
    log.forget(wake)
    log.append(entry(0))


def test_an_append_makes_no_more_room_than_it_takes() -> None:
    _, size = cost_of(entry(0))
    log = Log(10, 2 * size, E1, (), 0)
    for offset in range(3):
        log.append(entry(offset))
    assert (log.begin, log.bytes) == (1, 2 * size), "two fit exactly"


def test_a_place_of_an_earlier_epoch_is_held_at_the_first_offset_too() -> None:
    segment = Segment(view(3, 3, E2, (E1, 5)), 0)
    assert segment.holds(Position(E1, 3))
    assert not segment.holds(Position(E1, 2))
