"""A cursor over a log: where reading stops, what is written, what is told of what was left out."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.builders import E1, E2, MANY, at, entry, frames_in, log_of, skip, told, view

from pubsubd_broker.core.log.cursor import Choose, Cursor, Stop, read
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip


def everything(entry: Entry) -> Entry | None:
    return entry


def nothing(entry: Entry) -> Entry | None:
    return None


def only(*firsts: int) -> Choose:
    return lambda entry: entry if entry.first in firsts else None


def read_all(
    log: Log, offset: int = 0, choose: Choose = everything, budget: int = MANY
) -> tuple[Cursor, list[str], Stop]:
    cursor, out = Cursor("a", at(offset)), Outgoing(budget)
    index = log.locate(cursor.position)
    assert index is not None
    _, stop = read(cursor, log, index, choose, out)
    cursor.settle(out)
    return cursor, told(frames_in(out)), stop


def test_reading_ends_where_the_log_ends() -> None:
    cursor, seen, stop = read_all(log_of(entry(0, 2), entry(2)))
    assert (seen, stop) == (["entry 0..2", "entry 2..3"], Stop.END)
    assert cursor.position == at(3)


def test_an_empty_log_writes_nothing() -> None:
    assert read_all(log_of())[1:] == ([], Stop.END)


def test_reading_stops_when_the_budget_is_used_up_and_goes_on_there() -> None:
    log = log_of(*(entry(offset, payload=b"x" * 100) for offset in range(10)))
    cursor, index = Cursor("a", at(0)), 0
    seen: list[str] = []
    stops: list[Stop] = []
    while not stops or stops[-1] is Stop.FULL:
        out = Outgoing(2 * entry(0, payload=b"x" * 100).size)
        index, stop = read(cursor, log, index, everything, out)
        seen += told(frames_in(out))
        stops.append(stop)
        assert out.size <= out.budget
    assert seen == [f"entry {n}..{n + 1}" for n in range(10)]
    assert stops == [Stop.FULL] * 4 + [Stop.END]


def test_an_entry_larger_than_the_budget_is_still_written() -> None:
    log = log_of(entry(0, payload=b"x" * 1000), entry(1))
    _, seen, stop = read_all(log, budget=10)
    assert (seen, stop) == (["entry 0..1"], Stop.FULL)


def test_reading_stops_before_a_gap() -> None:
    log = log_of(entry(0))
    log.append_gap(view(5, 5))
    log.append(entry(5))
    cursor, seen, stop = read_all(log)
    assert (seen, stop) == (["entry 0..1"], Stop.GAP)
    assert cursor.position == at(1)


@pytest.mark.parametrize("later", [1, 2, 3, 50])
def test_an_evicted_item_is_never_read_as_an_older_one(later: int) -> None:
    log = log_of(entry(0), entry(1), max_messages=2)
    cursor = Cursor("a", at(0))
    index = log.locate(at(0))
    assert index == 0
    for offset in range(2, 2 + later):
        log.append(entry(offset))
    out = Outgoing(MANY)
    assert read(cursor, log, index, everything, out) == (0, Stop.OVERRUN)
    assert out.buffers == []
    assert cursor.position == at(0)


def test_a_reader_is_overrun_even_if_the_log_is_left_empty() -> None:
    log = log_of(entry(0), max_messages=2)
    cursor, out = Cursor("a", at(0)), Outgoing(MANY)
    log.append(entry(1, 3))
    assert log.begin == log.end
    assert read(cursor, log, 0, everything, out) == (0, Stop.OVERRUN)
    assert out.buffers == []


def test_an_item_larger_than_the_log_overruns_a_reader_at_the_end() -> None:
    log = log_of(entry(0), max_messages=2)
    cursor, out = Cursor("a", at(1)), Outgoing(MANY)
    index = log.locate(at(1))
    assert index is not None
    log.append(entry(1, 3))
    assert read(cursor, log, index, everything, out)[1] is Stop.OVERRUN


def test_an_eviction_while_reading_is_noticed_at_the_next_step() -> None:
    log = log_of(entry(0), entry(1), entry(2), max_messages=3)

    def publish_meanwhile(chosen: Entry) -> Entry:
        if chosen.first == 0:
            for offset in range(3, 7):
                log.append(entry(offset))
        return chosen

    cursor, out = Cursor("a", at(0)), Outgoing(MANY)
    assert read(cursor, log, 0, publish_meanwhile, out) == (1, Stop.OVERRUN)
    assert told(frames_in(out)) == ["entry 0..1"]
    assert cursor.position == at(1)


def test_a_cursor_inside_an_entry_gets_the_whole_entry() -> None:
    cursor, seen, _ = read_all(log_of(entry(0, 5), entry(5)), offset=3)
    assert seen == ["entry 0..5", "entry 5..6"]
    assert cursor.position == at(6)


def test_a_cursor_inside_an_unwanted_entry_skips_only_the_rest() -> None:
    assert read_all(log_of(entry(0, 5)), offset=3, choose=nothing)[1] == ["skip 3..5"]


def test_passed_entries_are_told_as_one_skip_before_the_next_entry() -> None:
    log = log_of(*(entry(offset) for offset in range(6)))
    assert read_all(log, choose=only(3))[1] == ["skip 0..3", "entry 3..4", "skip 4..6"]


def test_skips_of_the_stream_and_left_out_entries_are_one_skip() -> None:
    log = log_of(entry(0), skip(1, 4), entry(4), skip(5, 9), entry(9))
    assert read_all(log, choose=only(9))[1] == ["skip 0..9", "entry 9..10"]


def test_a_skip_is_not_told_before_somebody_asks_for_it() -> None:
    log = log_of(*(entry(offset) for offset in range(3)))
    cursor, out = Cursor("a", at(0)), Outgoing(MANY)
    read(cursor, log, 0, nothing, out)
    assert out.buffers == []
    assert cursor.unreported == 3
    cursor.settle(out)
    cursor.settle(out)
    assert told(frames_in(out)) == ["skip 0..3"]
    assert cursor.unreported == 0


def test_lookups_of_a_reader_are_counted_by_topics_and_their_cost() -> None:
    log = log_of(entry(0, topics=["t", "u"]), skip(2, 4), entry(4))
    cursor, out = Cursor("a", at(0)), Outgoing(MANY)
    out.looks = 3
    read(cursor, log, 0, nothing, out)
    assert out.looked == 9


def test_the_epoch_of_a_position_is_that_of_the_last_item_read() -> None:
    log = log_of(entry(0))
    log.continue_as(view(1, 1, E2, (E1, 1)))
    log.append(entry(1, epoch=E2))
    assert read_all(log)[0].position == at(2, E2)


def test_the_given_place_is_behind_the_last_item_for_the_reader() -> None:
    log = log_of(*(entry(offset) for offset in range(6)))
    cursor, out = Cursor("a", at(0)), Outgoing(MANY)
    assert cursor.given == at(0)
    read(cursor, log, 0, only(2), out)
    assert (cursor.given, cursor.position) == (at(3), at(6))
    cursor.jump(at(50, E2))
    assert cursor.given == at(50, E2)


def test_a_jump_is_not_told_to_the_reader_again() -> None:
    cursor, out = Cursor("a", at(0)), Outgoing(MANY)
    read(cursor, log_of(entry(0), entry(1)), 0, nothing, out)
    cursor.jump(at(50, E2))
    cursor.settle(out)
    assert out.buffers == []
    assert (cursor.position, cursor.unreported) == (at(50, E2), 0)


@given(
    spans=st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=12),
    start=st.integers(0, 8),
    budget=st.integers(1, 600),
)
def test_written_entries_and_skips_cover_every_offset_once(
    spans: Sequence[tuple[int, bool, bool]], start: int, budget: int
) -> None:
    log, wanted = log_of(), set()
    for span, is_skip, is_wanted in spans:
        first = log.newest.next
        log.append(skip(first, first + span) if is_skip else entry(first, span))
        if is_wanted and not is_skip:
            wanted.add(first)
    if start > log.newest.next:
        return
    cursor = Cursor("a", at(start))
    index = log.locate(cursor.position)
    assert index is not None
    reached, got, stop = start, set(), Stop.FULL
    while stop is Stop.FULL:
        out = Outgoing(budget)
        index, stop = read(cursor, log, index, only(*wanted), out)
        cursor.settle(out)
        for frame in frames_in(out):
            assert isinstance(frame, (Entry, Skip))
            assert frame.first <= reached < frame.next
            assert frame.first == reached or reached == start
            reached = frame.next
            if isinstance(frame, Entry):
                got.add(frame.first)
    assert reached == log.newest.next
    assert got == {first for first in wanted if _next_of(log, first) > start}


def _next_of(log: Log, first: int) -> int:
    index = log.locate(at(first))
    assert index is not None
    item = log[index]
    assert isinstance(item, Entry)
    return item.next
