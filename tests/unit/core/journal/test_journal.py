"""The journal of a running node: what is to be written when, and what may be forgotten."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.core.builders import E1, E2, E3, PUBLISHER, at, entry
from tests.unit.core.journal.disk import Disk

from pubsubd_broker.core.journal.checkpoint import (
    Checkpoint,
    KeptConsumer,
    encode_cursor,
    encode_session,
)
from pubsubd_broker.core.journal.journal import (
    MAX_BACKLOG_BYTES,
    Append,
    Create,
    Fsync,
    Journal,
    Work,
)
from pubsubd_broker.core.journal.records import Kind
from pubsubd_broker.core.journal.recovery import Recovered
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.positions import Epoch, Lineage

INTERVAL = 100
LARGE = 2**30
"""A segment that is never full."""

WRITES = [Fsync.OFF, Fsync.INTERVAL, Fsync.ALWAYS]
"""All that write as they go."""


class Life:
    """A life of node "a": its journal, its disk, and the state beside its entries."""

    def __init__(
        self,
        disk: Disk | None = None,
        epoch: Epoch = E1,
        *,
        fsync: Fsync = Fsync.ALWAYS,
        segment_bytes: int = LARGE,
    ) -> None:
        self.disk = disk or Disk(fsync)
        self.recovered = self.disk.recover()
        lineage: Lineage = self.recovered.lineage if self.recovered is not None else ()
        self.state = Checkpoint("a", epoch, lineage, 0, {}, {}, {})
        self.journal = Journal(
            fsync,
            INTERVAL,
            segment_bytes,
            lambda: self.state,
            self.recovered,
            sorted(self.disk.segments),
        )
        self.next = self.journal.durable
        self.begun = self.journal.begin()
        self.disk.perform(self.begun)

    def append(self, messages: int = 1, payload: bytes = b"") -> Entry:
        placed = entry(self.next, messages, epoch=self.state.epoch, payload=payload)
        self.journal.append(placed, sequence=self.next)
        self.next = placed.next
        return placed

    def take(self, now: int = 0, *, oldest: int = 0, last: bool = False) -> Work:
        """Work that there is, not done yet."""
        work = self.journal.take(oldest, now, last=last)
        assert work is not None
        return work

    def write(self, now: int = 0, *, oldest: int = 0) -> Work:
        """Takes work and does it."""
        work = self.take(now, oldest=oldest)
        self.disk.perform(work)
        self.journal.done(now)
        return work

    def fill(self, segments: int) -> None:
        """Appends entries, one by one, until the journal has this number of segments."""
        while self.journal.segments < segments:
            self.append()
            self.write()


def again(disk: Disk) -> Recovered:
    recovered = disk.recover()
    assert recovered is not None
    return recovered


def steps(work: Work) -> list[str]:
    return [f"{type(step).__name__.lower()} {step.segment}" for step in work.steps]


def written(work: Work) -> bytes:
    """The bytes that `work` appends."""
    return b"".join(b"".join(step.buffers) for step in work.steps if isinstance(step, Append))


# Group commit.


def test_without_new_records_there_is_no_work() -> None:
    life = Life()
    assert life.journal.backlog_bytes == 0
    assert life.journal.take(0, 10**12) is None


def test_records_that_come_meanwhile_are_the_next_work_together() -> None:
    life = Life()
    life.append()
    first = life.take()
    life.append()
    life.append()
    assert life.journal.take(0, 0) is None
    assert life.journal.backlog_bytes > 0
    life.disk.perform(first)
    assert again(life.disk).next == 1
    life.journal.done(0)
    assert life.journal.backlog_bytes > 0
    second = life.write()
    assert steps(second) == ["append 1"]
    assert life.journal.backlog_bytes == 0
    assert life.journal.take(0, 0) is None
    assert again(life.disk).next == 3


def test_entries_are_durable_exactly_when_their_work_is_done() -> None:
    life = Life()
    life.append(3)
    life.take()
    life.append(2)
    assert life.journal.durable == 0
    life.journal.done(0)
    assert life.journal.durable == 3
    life.take()
    life.journal.done(0)
    assert life.journal.durable == 5


def test_payloads_are_not_copied() -> None:
    life = Life()
    placed = life.append(payload=b"x" * 10_000)
    (step,) = life.take().steps
    assert isinstance(step, Append)
    assert any(buffer is placed.wire[1] for buffer in step.buffers)


def test_other_changes_are_written_in_order_with_the_entries() -> None:
    life = Life()
    life.journal.note(Kind.CURSOR, encode_cursor("b", KeptConsumer(at(0))))
    life.append()
    life.journal.note(Kind.CURSOR, encode_cursor("b", KeptConsumer(at(1))))
    life.journal.note(Kind.SESSION, encode_session("s", {"a": at(1)}))
    assert steps(life.write()) == ["append 1"]
    state = again(life.disk).state
    assert state.consumers == {"b": KeptConsumer(at(1))}
    assert state.sessions == {"s": {"a": at(1)}}


# Making it durable.


def test_always_makes_every_piece_durable() -> None:
    life = Life(fsync=Fsync.ALWAYS)
    assert life.begun.sync
    for now in (0, 1, 2):
        life.append()
        assert life.write(now).sync


def test_off_makes_nothing_durable() -> None:
    life = Life(fsync=Fsync.OFF, segment_bytes=1)
    assert not life.begun.sync
    while life.journal.segments < 3:
        life.append()
        assert not life.write(10**12).sync
    life.append()
    assert not life.take(10**12, last=True).sync


def test_interval_makes_what_came_durable_once_in_that_time() -> None:
    life = Life(fsync=Fsync.INTERVAL)
    assert life.begun.sync
    synced = []
    for now in (1000, 1000, 1000 + INTERVAL - 1, 1000 + INTERVAL, 1000 + INTERVAL + 1):
        life.append()
        synced.append(life.write(now).sync)
    assert synced == [True, False, False, True, False]


def test_interval_syncs_the_last_records_too_and_then_rests() -> None:
    life = Life(fsync=Fsync.INTERVAL)
    for _ in range(2):
        life.append()
        life.write(1000)
    assert life.journal.take(0, 1000 + INTERVAL - 1) is None
    work = life.write(1000 + INTERVAL)
    assert (work.sync, work.steps) == (True, [])
    assert life.journal.take(0, 10**12) is None


def test_the_time_of_an_interval_counts_from_when_the_work_was_done() -> None:
    life = Life(fsync=Fsync.INTERVAL)
    life.append()
    assert life.take(1000).sync
    life.journal.done(1000 + INTERVAL)
    life.append()
    assert not life.write(1000 + INTERVAL + 1).sync


def test_at_the_end_of_a_life_an_interval_is_not_waited_for() -> None:
    life = Life(fsync=Fsync.INTERVAL)
    life.append()
    life.write(1000)
    life.append()
    assert life.take(1001, last=True).sync
    life.journal.done(1001)
    assert life.journal.take(0, 1001, last=True) is None
    life.append()
    life.write(1002)
    assert life.take(1002, last=True).sync


# Segments.


@pytest.mark.parametrize("fsync", WRITES)
def test_a_life_begins_with_a_segment_that_says_what_it_is(fsync: Fsync) -> None:
    first = Life(fsync=fsync)
    first.append(4)
    first.write()
    second = Life(first.disk, E2, fsync=fsync)
    assert steps(second.begun) == ["create 2"]
    third = again(first.disk)
    assert third.lineage == ((E2, 4), (E1, 4))
    assert third.segments == [(1, 4)]
    assert second.journal.durable == 4


def test_a_full_segment_is_followed_by_one_that_begins_where_it_ends() -> None:
    life = Life(segment_bytes=1000)
    life.state.publishers = {PUBLISHER: 1}
    while life.journal.segments == 1:
        assert len(life.disk.segments[1]) < 1000
        life.append(2)
        work = life.write()
    assert len(life.disk.segments[1]) >= 1000
    assert steps(work) == ["append 1", "create 2"]
    ends = life.next
    assert again(life.disk).segments == [(1, ends)]
    life.append()
    assert steps(life.write()) == ["append 2"]
    assert again(life.disk).segments == [(1, ends), (2, ends + 1)]
    del life.disk.segments[1]
    assert again(life.disk).state.publishers == {PUBLISHER: 1}
    assert again(life.disk).first == ends


def test_a_new_segment_says_what_stands_beside_the_entries_as_it_begins() -> None:
    life = Life(segment_bytes=1)
    life.state.consumers["b"] = KeptConsumer(at(1))
    life.fill(2)
    life.state.consumers["b"] = KeptConsumer(at(2))
    assert again(life.disk).state.consumers == {"b": KeptConsumer(at(1))}


def test_interval_syncs_a_full_segment_before_the_next_begins() -> None:
    life = Life(fsync=Fsync.INTERVAL, segment_bytes=1)
    life.append()
    life.write(1000)
    while life.journal.segments == 1:
        life.append()
        work = life.write(1001)
        assert work.sync == any(isinstance(step, Create) for step in work.steps)
    life.append()
    assert not life.write(1001 + INTERVAL - 1).sync


def test_segments_are_several_times_as_large_as_what_each_begins_with() -> None:
    life = Life(segment_bytes=1000)
    life.state.consumers = {f"node-{n}": KeptConsumer(at(n)) for n in range(1000)}
    life.fill(3)
    head = len(life.disk.segments[max(life.disk.segments)])
    assert head > 1000
    assert len(life.disk.segments[2]) >= 4 * head


def test_a_segment_is_removed_once_the_ring_has_evicted_it() -> None:
    life = Life(segment_bytes=1000)
    life.fill(4)
    ends = [end for _, end in again(life.disk).segments]
    life.append()
    assert steps(life.write(oldest=ends[0] - 1)) == ["append 4"]
    life.append()
    assert steps(life.write(oldest=ends[0])) == ["append 4", "remove 1"]
    life.append()
    work = life.write(oldest=life.next)
    assert steps(work)[:3] == ["append 4", "remove 2", "remove 3"]
    assert 4 in life.disk.segments
    assert life.journal.segments == len(life.disk.segments)
    assert again(life.disk).next == life.next


def test_the_newest_segment_stays_though_the_ring_holds_nothing_of_it() -> None:
    life = Life()
    life.append()
    assert steps(life.write(oldest=1)) == ["append 1"]
    assert life.journal.segments == 1


def test_a_segment_is_removed_only_after_the_next_one_has_come() -> None:
    life = Life(segment_bytes=1)
    works: list[Work] = []
    while life.journal.segments == 1 and not (works and len(works[-1].steps) > 1):
        life.append()
        works.append(life.write(oldest=life.next))
    assert [steps(work) for work in works[:-1]] == [["append 1"]] * (len(works) - 1)
    assert steps(works[-1]) == ["append 1", "create 2", "remove 1"]


def test_segments_of_earlier_lives_are_removed_too() -> None:
    first = Life(segment_bytes=1)
    first.fill(3)
    first.append()
    first.write()
    second = Life(first.disk, E2)
    second.append()
    assert steps(second.write(oldest=second.next)) == [
        "append 4",
        "remove 1",
        "remove 2",
        "remove 3",
    ]
    assert again(second.disk).lineage == ((E2, second.next), (E1, second.next - 1))


def test_an_unreadable_segment_is_removed_and_its_number_stays_unused() -> None:
    disk = Disk()
    first = Life(disk)
    first.append()
    first.write()
    disk.segments |= {5: b"garbage", 9: b""}
    life = Life(disk, E2)
    assert steps(life.begun) == ["create 10", "remove 5", "remove 9"]
    assert sorted(disk.segments) == [1, 10]
    life.append()
    assert steps(life.write())[0] == "append 10"


def test_segments_before_a_hole_are_removed_at_the_beginning() -> None:
    first = Life(segment_bytes=1)
    first.fill(4)
    first.append()
    first.write()
    del first.disk.segments[2]
    second = Life(first.disk, E2)
    assert steps(second.begun) == ["create 5", "remove 1"]


def test_an_empty_segment_is_removed_when_the_next_life_has_one() -> None:
    first = Life(segment_bytes=1)
    first.fill(2)
    idle = Life(first.disk, E2)
    assert steps(idle.begun) == ["create 3", "remove 2"]
    last = Life(first.disk, E3)
    assert steps(last.begun) == ["create 4", "remove 3"]
    assert again(last.disk).lineage == ((E3, first.next), (E2, first.next), (E1, first.next))


def test_a_life_begins_anew_behind_an_unreadable_journal() -> None:
    disk = Disk()
    disk.segments[3] = b"garbage"
    life = Life(disk)
    assert life.journal.durable == 0
    assert steps(life.begun) == ["create 4", "remove 3"]


# How much may wait.


def test_the_backlog_is_bounded_and_counts_work_under_way() -> None:
    life = Life()
    half = b"x" * (MAX_BACKLOG_BYTES // 2)
    life.append(payload=half)
    assert not life.journal.full
    first = life.take()
    life.append(payload=half)
    assert life.journal.full
    life.journal.done(0)
    assert not life.journal.full
    assert life.journal.backlog_bytes == len(written(life.take()))
    assert life.journal.backlog_bytes < len(written(first)) + 100
    life.journal.done(0)
    assert life.journal.backlog_bytes == 0


def test_changes_beside_the_stream_count_too() -> None:
    life = Life()
    life.journal.note(Kind.SESSION, bytes(MAX_BACKLOG_BYTES))
    assert life.journal.full


# Failure.


@pytest.mark.parametrize("fsync", WRITES)
def test_after_a_failure_nothing_is_written_any_more(fsync: Fsync) -> None:
    life = Life(fsync=fsync)
    for _ in range(2):
        life.append()
        life.write(1000)
    durable = life.journal.durable
    life.append()
    life.take(1000)
    life.append()
    life.journal.fail("no space left")
    assert life.journal.failed == "no space left"
    life.append(payload=b"x" * MAX_BACKLOG_BYTES)
    life.journal.note(Kind.CURSOR, encode_cursor("b", None))
    assert life.journal.take(0, 10**12) is None
    assert life.journal.take(0, 10**12, last=True) is None
    assert life.journal.durable == durable
    assert (life.journal.backlog_bytes, life.journal.full) == (0, False)


def test_the_first_failure_is_the_one_that_is_told() -> None:
    life = Life()
    life.journal.fail("no space left")
    life.journal.fail("input/output error")
    assert life.journal.failed == "no space left"


def test_failed_work_stays_as_it_was_handed_out() -> None:
    life = Life()
    life.append()
    work = life.take()
    before = written(work)
    life.journal.fail("no space left")
    assert written(work) == before


# Snapshots.


def test_a_snapshot_is_one_segment_with_everything() -> None:
    life = Life(fsync=Fsync.SNAPSHOT)
    assert (life.begun.sync, life.begun.steps) == (True, [])
    placed = [
        (entry(4, 2, epoch=E1), 7),
        (entry(6, epoch=E2, payload=b"x" * 9000), 8),
        (entry(7, epoch=E3), 9),
    ]
    life.state.epoch, life.state.lineage = E3, ((E2, 7), (E1, 6))
    life.state.consumers = {"b": KeptConsumer(at(5)), "c": KeptConsumer(at(8))}
    work = life.journal.end(4, placed)
    assert work.sync
    assert steps(work) == ["create 1"]
    life.disk.perform(work)
    recovered = again(life.disk)
    assert [e.wire[0][:9] for e in recovered.entries] == [e.wire[0][:9] for e, _ in placed]
    assert recovered.sequences == [7, 8, 9]
    assert (recovered.first, recovered.next) == (4, 8)
    assert recovered.lineage == ((E3, 8), (E2, 7), (E1, 6))
    assert recovered.state.consumers == {"b": KeptConsumer(at(5)), "c": KeptConsumer(at(8))}


def test_a_snapshot_of_an_empty_ring_says_where_it_stands() -> None:
    life = Life(fsync=Fsync.SNAPSHOT)
    life.disk.perform(life.journal.end(12, []))
    recovered = again(life.disk)
    assert (recovered.first, recovered.next) == (12, 12)


def test_a_snapshot_is_used_up_by_the_life_that_begins_with_it() -> None:
    first = Life(fsync=Fsync.SNAPSHOT)
    first.disk.perform(first.journal.end(0, [(entry(0), 1)]))
    second = Life(first.disk, E2, fsync=Fsync.SNAPSHOT)
    assert second.recovered is not None
    assert second.recovered.next == 1
    assert second.begun.sync
    assert steps(second.begun) == ["remove 1"]
    assert second.disk.recover() is None
    assert second.journal.segments == 0
    assert steps(second.journal.end(0, [])) == ["create 2"]


@pytest.mark.parametrize("fsync", WRITES)
def test_a_snapshot_and_a_journal_begin_with_one_another(fsync: Fsync) -> None:
    first = Life(fsync=Fsync.SNAPSHOT)
    first.disk.perform(first.journal.end(0, [(entry(0), 1)]))
    second = Life(first.disk, E2, fsync=fsync)
    second.append()
    second.write()
    assert again(second.disk).lineage == ((E2, 2), (E1, 1))
    third = Life(second.disk, E3, fsync=Fsync.SNAPSHOT)
    assert third.recovered is not None
    assert third.recovered.next == 2
    assert steps(third.begun) == ["remove 1", "remove 2"]


# Whenever it ends.


@given(
    lives=st.lists(
        st.lists(st.tuples(st.integers(1, 3), st.integers(0, 2)), max_size=8),
        min_size=1,
        max_size=4,
    ),
    cut=st.floats(0, 1),
    ring=st.integers(1, 30),
)
def test_each_end_of_a_life_leaves_durable_entries_and_no_others(
    lives: list[list[tuple[int, int]]], cut: float, ring: int
) -> None:
    """(messages, …): an entry; and then nothing is done, work is taken, or taken and done."""
    disk = Disk()
    left: dict[int, bytes] = {}
    for number, appends in enumerate(lives, 1):
        life = Life(disk, Epoch(bytes([number]) * 16), segment_bytes=300)
        under_way: Work | None = None
        for messages, then in appends:
            placed = life.append(messages)
            left[placed.first] = b"".join(placed.wire)
            if then and under_way is None:
                under_way = life.take(oldest=life.journal.durable - ring)
            if then == 2 and under_way is not None:
                disk.perform(under_way)
                life.journal.done(0)
                under_way = None
        durable, oldest = life.journal.durable, max(0, life.journal.durable - ring)
        if under_way is not None:
            disk.die_in(under_way, cut)
        recovered = again(disk)
        assert durable <= recovered.next <= life.next
        assert recovered.first <= oldest
        for taken in recovered.entries:
            assert b"".join(taken.wire) == left[taken.first]
        for offset in [offset for offset in left if offset >= recovered.next]:
            del left[offset]
