"""Pacing: the readers that a full log waits for, the length of the wait, and the order of the appenders."""

from __future__ import annotations

from tests.unit.core.builders import E1, MANY, cost_of, entry, skip
from tests.unit.core.test_interest import Parked

from pubsubd_broker.core.limits import Now
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.pacing import MAX_LABELS, Pace, Pacing
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Skip

ALLOWANCE = 250


class Reader:
    def __init__(self, index: int | None, label: str = "session") -> None:
        self.index = index
        self.label = label


class Ring:
    """A ring of a few messages that is full, and who appends to it."""

    def __init__(
        self, messages: int = 4, allowance_ns: int = ALLOWANCE, *, yields: bool = False
    ) -> None:
        self.log = Log(messages, MANY, E1, (), 0)
        self.pace = Pace(allowance_ns)
        self.pacing = Pacing(self.log, self.pace, yields=yields)
        self.now = 1000
        self.appended: list[str] = []
        for _ in range(messages):
            self.log.append(self.next())

    def next(self) -> Entry:
        offset = self.log.newest.next
        return entry(offset)

    def reader(self, index: int | None, label: str = "session") -> Reader:
        reader = Reader(index, label)
        self.pacing.enter(reader)
        return reader

    def pass_time(self, ns: int) -> None:
        self.now += ns
        self.pace.go_on(Now(self.now, 0))


class Appender:
    """Appends one message after the other, as soon as it may."""

    def __init__(self, ring: Ring, name: str, items: int = 1) -> None:
        self.ring = ring
        self.name = name
        self.left = items
        self.retry(Now(ring.now, 0))

    def retry(self, now: Now) -> None:
        while self.left:
            item = self.ring.next()
            if not self.ring.pacing.admits(self, cost_of(item), now.mono_ns):
                return
            self.ring.log.append(item)
            self.ring.appended.append(self.name)
            self.left -= 1


def held(ring: Ring) -> bool:
    return bool(ring.pace.holding)


def test_no_reader_is_waited_for_while_the_log_has_room() -> None:
    ring = Ring()
    ring.log.max_messages = 5
    ring.reader(0)
    Appender(ring, "p")
    assert ring.appended == ["p"]
    assert not held(ring)


def test_an_append_waits_until_a_reader_has_read_what_it_evicts() -> None:
    ring = Ring()
    reader = ring.reader(0)
    Appender(ring, "p")
    assert ring.appended == []
    assert ring.pace.due_ns == 1000 + ALLOWANCE
    ring.pass_time(100)
    assert held(ring)
    reader.index = 1
    ring.pass_time(0)
    assert ring.appended == ["p"]
    assert not held(ring)
    assert ring.pace.due_ns is None
    assert ring.pace.waited_ns == {"session": 100}


def test_no_append_waits_for_a_reader_of_items_that_stay() -> None:
    ring = Ring()
    ring.reader(1)
    Appender(ring, "p")
    assert ring.appended == ["p"]


def test_a_stopped_reader_is_waited_for_once_within_its_allowance() -> None:
    ring = Ring()
    ring.reader(0)
    Appender(ring, "p", items=20)
    ring.pass_time(ALLOWANCE - 1)
    assert ring.appended == []
    ring.pass_time(1)
    assert ring.appended == ["p"] * 20
    assert ring.pace.waited_ns == {"session": ALLOWANCE}


def test_one_that_trickles_gains_nothing() -> None:
    ring = Ring(messages=16)
    reader = ring.reader(0)
    Appender(ring, "p", items=40)
    for index in range(1, 4):
        ring.pass_time(ALLOWANCE // 2)
        reader.index = index
        ring.pass_time(0)
    # It was waited for at 0, and at 1; at 2 the allowance was used up, and it was overrun.
    assert ring.pace.waited_ns == {"session": ALLOWANCE}
    assert len(ring.appended) == 40


def test_a_quarter_of_the_ring_per_allowance_is_fast_enough() -> None:
    ring = Ring(messages=16)
    reader = ring.reader(0)
    Appender(ring, "p", items=20)
    for quarter in range(1, 6):
        ring.pass_time(ALLOWANCE - 1)
        reader.index = 4 * quarter
        ring.pass_time(0)
        assert len(ring.appended) == 4 * quarter
    assert ring.pace.waited_ns["session"] == 5 * (ALLOWANCE - 1)


def test_many_stopped_readers_cost_one_wait_per_quarter_of_the_ring() -> None:
    ring = Ring(messages=16)
    for index in range(16):
        ring.reader(index)
    Appender(ring, "p", items=16)
    for quarter in range(1, 5):
        ring.pass_time(ALLOWANCE)
        assert len(ring.appended) == 4 * quarter
    assert ring.pace.waited_ns == {"session": 4 * ALLOWANCE}


def test_new_readers_bring_no_new_allowance() -> None:
    ring = Ring(messages=16)
    Appender(ring, "p")
    for _ in range(10):
        ring.reader(ring.log.begin)
        Appender(ring, "q")
        ring.pass_time(ALLOWANCE // 4)
    # Ten times a quarter of it, and at most one for each quarter of the ring.
    assert len(ring.appended) >= 1 + 4
    assert ring.pace.waited_ns["session"] <= 2 * ALLOWANCE + ALLOWANCE // 2


def test_yielding_readers_do_not_wait_for_a_slower_one() -> None:
    ring = Ring(messages=4, yields=True)
    ring.reader(0)
    ring.log.interest.park(Parked("never.published"))
    Appender(ring, "p")
    assert held(ring), "a reader that never got an item is not faster than another"
    ring.log.interest.park(Parked("a"), ring.log.end)
    ring.pass_time(0)
    assert ring.appended == ["p"]


def test_a_yielding_reader_counts_while_its_last_item_is_held() -> None:
    ring = Ring(messages=4, yields=True)
    ring.log.interest.park(Parked("a"), taken=2)
    ring.reader(0)
    Appender(ring, "p", items=2)
    assert ring.appended == ["p", "p"]
    ring.reader(2)
    Appender(ring, "p")
    assert held(ring)


def test_all_readers_behind_are_waited_for_at_once() -> None:
    ring = Ring()
    ring.reader(0, "a")
    ring.reader(0, "b")
    Appender(ring, "p")
    ring.pass_time(ALLOWANCE)
    assert ring.appended == ["p"]
    assert ring.pace.waited_ns == {"a": ALLOWANCE, "b": ALLOWANCE}


def test_beyond_the_bound_the_least_waited_for_label_becomes_other() -> None:
    pace = Pace(ALLOWANCE)
    for number in range(MAX_LABELS):
        pace.charge(f"n{number}", 5 + number)
    for number in range(3):
        pace.charge(f"newcomer {number}", 1000 + number)
        assert len(pace.waited_ns) == MAX_LABELS + 1
        assert pace.waited_ns[f"newcomer {number}"] == 1000 + number
    assert pace.waited_ns["other"] == 5 + 6 + 7
    assert not {"n0", "n1", "n2"} & pace.waited_ns.keys()


def test_a_reader_that_leaves_is_not_waited_for() -> None:
    ring = Ring()
    reader = ring.reader(0)
    Appender(ring, "p")
    ring.pacing.leave(reader)
    ring.pass_time(0)
    assert ring.appended == ["p"]


def test_a_reader_that_enters_further_back_is_waited_for_as_well() -> None:
    ring = Ring()
    ring.reader(3)
    Appender(ring, "p")
    assert ring.appended == ["p"]
    ring.reader(1)
    Appender(ring, "p")
    assert held(ring)


def test_an_overrun_reader_or_one_elsewhere_is_not_waited_for() -> None:
    ring = Ring()
    ring.reader(None)
    ring.log.append(ring.next())
    ring.reader(0)
    Appender(ring, "p")
    assert ring.appended == ["p"]


def test_those_who_wait_append_in_turn() -> None:
    ring = Ring()
    reader = ring.reader(0)
    for name in "pqr":
        Appender(ring, name, items=2)
    reader.index = 4
    ring.pass_time(0)
    # One each, then again; and no more than the reader has read.
    assert ring.appended == ["p", "q", "r", "p"]
    reader.index = 8
    ring.pass_time(0)
    assert ring.appended == ["p", "q", "r", "p", "q", "r"]


def test_no_appender_overtakes_waiting_ones() -> None:
    ring = Ring()
    reader = ring.reader(0)
    Appender(ring, "p")
    assert not ring.pacing.admits(Appender(ring, "empty", items=0), cost_of(skip(4, 5)), ring.now)
    reader.index = 2
    ring.pass_time(0)
    assert ring.appended == ["p"]


def test_one_that_waits_and_is_gone_does_not_stand_in_the_way() -> None:
    ring = Ring()
    reader = ring.reader(0)
    gone, other = Appender(ring, "gone"), Appender(ring, "other")
    ring.pacing.forget(gone)
    reader.index = 1
    ring.pass_time(0)
    assert ring.appended == ["other"]
    ring.pacing.forget(other)
    assert not held(ring)


def test_without_an_allowance_nobody_is_ever_waited_for() -> None:
    ring = Ring(allowance_ns=0)
    ring.reader(0)
    Appender(ring, "p", items=9)
    assert len(ring.appended) == 9


def test_an_item_beyond_the_log_waits_until_all_has_been_read() -> None:
    ring = Ring()
    reader = ring.reader(0)
    large: Entry | Skip = entry(4, 8)
    waits = Appender(ring, "empty", items=0)
    assert not ring.pacing.admits(waits, cost_of(large), ring.now)
    reader.index = 3
    assert not ring.pacing.admits(waits, cost_of(large), ring.now)
    reader.index = 4
    assert ring.pacing.admits(waits, cost_of(large), ring.now)
