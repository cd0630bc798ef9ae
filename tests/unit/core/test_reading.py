"""A reading of a session in one stream: from its broker's log, from the producer, or not yet."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
from tests.unit.core.builders import (
    E1,
    E2,
    E3,
    MANY,
    PUBLISHER,
    Impatient,
    at,
    cost_of,
    entry,
    frames_in,
    log_of,
    skip,
    told,
    view,
)
from tests.unit.core.fake_source import FakeSource
from tests.unit.protocol.strategies import batch_of

from pubsubd_broker.core.limits import FETCH_BYTES, Now
from pubsubd_broker.core.log.cursor import Choose
from pubsubd_broker.core.log.log import Log
from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.log.pacing import Pace, Pacing
from pubsubd_broker.core.sessions.reading import Reading
from pubsubd_broker.core.sessions.source import Source
from pubsubd_broker.core.streams.publishers import PublisherRecord
from pubsubd_broker.core.streams.stream import Stream
from pubsubd_protocol.attach import At, Claim, Earliest, Expired, FromStart, Reason, Remembered
from pubsubd_protocol.entries import Entry
from pubsubd_protocol.frames import Ack, CursorExpired, Frame
from pubsubd_protocol.positions import UNREPORTED_LOSS, Position, StreamView
from pubsubd_protocol.topics import Filter

EXPIRED = Expired(Reason.OVERWRITTEN, 10, 7)


def everything(entry: Entry) -> Entry | None:
    return entry


def nothing(entry: Entry) -> Entry | None:
    return None


@dataclass
class Reader:
    """A reading, and all that it was written."""

    reading: Reading
    woken: list[int] = field(default_factory=list)
    frames: list[Frame] = field(default_factory=list)

    @classmethod
    def of(cls, source: Source, start: Position | Claim, *, away: bool = False) -> Reader:
        woken: list[int] = []
        wanted = Filter((">",))
        return cls(Reading(source, start, wanted, lambda: woken.append(1), away=away), woken)

    def pull(self, choose: Choose = everything, budget: int = MANY) -> list[str]:
        """The frames that one pull writes."""
        out = Outgoing(budget)
        self.reading.pull(choose, out)
        self.frames += frames_in(out)
        return told(frames_in(out))

    def settle(self) -> list[str]:
        out = Outgoing(0)
        self.reading.settle(out)
        self.frames += frames_in(out)
        return told(frames_in(out))

    @property
    def notices(self) -> list[CursorExpired]:
        return [frame for frame in self.frames if isinstance(frame, CursorExpired)]


def messages(first: int, stop: int) -> list[Entry]:
    return [entry(offset) for offset in range(first, stop)]


def small_log() -> Log:
    """A replica that holds 8 and 9 of a stream of ten."""
    return log_of(*messages(0, 10), max_messages=2)


# From the replica.


def test_messages_in_the_replica_are_read_from_it() -> None:
    source = FakeSource(log_of(*messages(0, 3)))
    reader = Reader.of(source, at(1))
    assert reader.pull() == ["entry 1..2", "entry 2..3"]
    assert reader.pull() == []
    source.log.append(entry(3))
    assert reader.woken == [1]
    assert reader.pull() == ["entry 3..4"]
    assert source.asked == source.caught == []
    assert reader.reading.position == at(4)


def test_a_caught_up_reader_is_woken_once_per_change() -> None:
    source = FakeSource(log_of())
    reader = Reader.of(source, at(0))
    reader.pull()
    source.log.append(entry(0))
    source.log.append(entry(1))
    assert reader.woken == [1]


def test_a_position_inside_an_entry_is_served_from_the_replica() -> None:
    source = FakeSource(log_of(entry(0, 5), entry(5)))
    assert Reader.of(source, at(3)).pull() == ["entry 0..5", "entry 5..6"]
    assert source.asked == []


def test_the_link_is_not_needed_for_what_is_at_hand() -> None:
    source = FakeSource(log_of(*messages(0, 2)), reachable=False)
    assert Reader.of(source, at(0)).pull() == ["entry 0..1", "entry 1..2"]


def test_reading_in_small_steps_reads_the_same() -> None:
    source = FakeSource(log_of(*messages(0, 5)))
    reader = Reader.of(source, at(0))
    steps: list[list[str]] = []
    while not steps or steps[-1]:
        steps.append(reader.pull(budget=1))
    assert steps == [[f"entry {n}..{n + 1}"] for n in range(5)] + [[]]


# From the producer.


def test_messages_before_the_replica_are_fetched_until_both_meet() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    assert reader.pull() == []
    assert source.asked == [At(at(3))]
    source.reply(view(0, 10), *messages(3, 6))
    assert reader.woken == [1]
    assert reader.pull() == ["entry 3..4", "entry 4..5", "entry 5..6"]
    assert source.asked == [At(at(3)), At(at(6))]
    source.reply(view(0, 10), *messages(6, 8))
    assert reader.pull() == ["entry 6..7", "entry 7..8", "entry 8..9", "entry 9..10"]
    assert source.fetches == []
    assert reader.notices == []


def test_it_asks_once_and_not_again_before_the_answer() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    for _ in range(3):
        reader.pull()
    source.log.append(entry(10))
    reader.pull()
    assert source.asked == [At(at(3))]


def test_fetched_messages_may_begin_inside_an_entry() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), entry(2, 6))
    assert reader.pull() == ["entry 2..8", "entry 8..9", "entry 9..10"]


def test_fetched_messages_are_filtered_and_told_as_skips() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull(nothing)
    assert source.budgets == [FETCH_BYTES]
    source.reply(view(0, 10), entry(3), skip(4, 6), entry(6, 2))
    assert reader.pull(nothing) == ["skip 3..10"]


def test_fetched_messages_are_read_within_the_budget() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), *messages(3, 6))
    assert reader.pull(budget=1) == ["entry 3..4"]
    assert source.fetches == []  # what was fetched is read first
    assert reader.pull(budget=1) == ["entry 4..5"]


def test_a_reader_overrun_in_the_replica_fetches_from_the_producer() -> None:
    source = FakeSource(log_of(*messages(0, 4), max_messages=4))
    reader = Reader.of(source, at(0))
    assert reader.pull(budget=1) == ["entry 0..1"]
    for item in messages(4, 12):
        source.log.append(item)
    assert reader.pull() == []
    assert source.asked == [At(at(1))]
    source.reply(view(0, 12), *messages(1, 8))
    assert reader.pull() == [f"entry {n}..{n + 1}" for n in range(1, 12)]
    assert reader.notices == []


def test_only_the_producers_answer_expires_it_with_the_number_missed() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(6, 10))
    assert reader.pull() == ["overwritten -> 10"]
    assert reader.notices[0].missed == 7
    source.log.append(entry(10))
    assert reader.pull() == ["entry 10..11"]
    assert len(reader.notices) == 1


def test_an_expired_reading_goes_on_at_next_even_behind_a_replica() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(20, 25))
    assert reader.pull() == ["overwritten -> 25"]
    for item in messages(10, 25):
        source.log.append(item)
    assert reader.pull() == []
    source.log.append(entry(25))
    assert reader.pull() == ["entry 25..26"]
    assert source.asked == [At(at(3))]


@pytest.mark.parametrize(
    ("position", "reason"),
    [(at(3, E2), Reason.STATE_LOST), (at(11), Reason.AHEAD)],
)
def test_another_history_or_too_far_is_for_the_producer_to_say(
    position: Position, reason: Reason
) -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, position)
    assert reader.pull() == []
    source.reply(view(0, 10))
    assert reader.pull() == [f"{reason} -> 10"]
    assert reader.reading.position == at(10)


# While no producer can answer.


def test_without_a_link_it_waits_and_asks_when_there_is_one() -> None:
    source = FakeSource(small_log(), reachable=False)
    reader = Reader.of(source, at(3))
    assert reader.pull() == []
    assert (source.asked, reader.notices) == ([], [])
    source.reachable = True
    source.log.wake()
    assert reader.woken == [1]
    reader.pull()
    assert source.asked == [At(at(3))]


def test_a_question_over_a_lost_link_is_asked_again() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    reader.reading.link_lost()
    reader.pull()
    assert source.asked == [At(at(3))] * 2


@pytest.mark.parametrize("end", [Reading.link_lost, Reading.rewind])
def test_an_answer_is_ignored_after_a_lost_link_or_life(end: Callable[[Reading], object]) -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    reading, claim = source.fetches.pop()
    end(reader.reading)
    reader.pull()
    reading.fetched(claim, view(9, 10), EXPIRED, [])
    assert reader.pull() == []
    source.reply(view(0, 10), *messages(3, 8))
    assert len(reader.pull()) == 7
    assert reader.notices == []


def test_an_answer_that_nobody_asked_for_changes_nothing() -> None:
    source = FakeSource(log_of(*messages(0, 2)))
    reader = Reader.of(source, at(0))
    reader.reading.fetched(At(at(0)), view(9, 10), EXPIRED, [])
    assert reader.pull() == ["entry 0..1", "entry 1..2"]


def test_a_stopped_reader_is_not_woken() -> None:
    source = FakeSource(log_of())
    reader = Reader.of(source, at(0))
    reader.pull()
    reader.reading.stop()
    source.log.append(entry(0))
    assert reader.woken == []


def test_a_reader_that_stopped_is_not_waited_for_nor_kept() -> None:
    log = log_of(*messages(0, 2), max_messages=2)
    source = FakeSource(log)
    source.pacing = Pacing(log, Pace(1000))
    reader = Reader.of(source, at(0))
    reader.pull(budget=1)
    reader.reading.stop()
    assert reader.reading not in source.pacing._readers
    for item in messages(2, 4):
        assert source.pacing.admits(Impatient(), cost_of(item), 0)
        log.append(item)


# Ahead of the replica.


def caught_up_ahead() -> tuple[FakeSource, Reader]:
    """A replica at 10, and a session that by catch-up has come to 15."""
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 15), *messages(3, 15))
    assert len(reader.pull()) == 12
    assert reader.reading.position == at(15)
    return source, reader


def test_a_session_ahead_of_the_replica_waits_for_it_and_asks_nobody() -> None:
    source, reader = caught_up_ahead()
    for item in messages(10, 15):
        source.log.append(item)
        assert reader.pull() == []
    source.log.append(entry(15))
    assert reader.pull() == ["entry 15..16"]
    assert source.asked == [At(at(3))]


def test_a_stopped_session_that_waited_for_the_replica_is_not_woken() -> None:
    source, reader = caught_up_ahead()
    woken = list(reader.woken)
    reader.reading.stop()
    source.log.append(entry(10))
    assert reader.woken == woken


def test_a_session_that_came_further_passes_the_gap_marker_in_silence() -> None:
    source, reader = caught_up_ahead()
    source.log.append_gap(view(12, 14))
    for item in messages(14, 17):
        source.log.append(item)
    assert reader.pull() == ["entry 15..16", "entry 16..17"]
    assert reader.notices == []


def test_a_session_in_the_middle_of_the_gap_is_judged_by_the_producer() -> None:
    source, reader = caught_up_ahead()
    source.log.append_gap(view(12, 20))
    reader.pull()
    assert source.asked[-1] == At(at(15))
    source.reply(view(15, 21), *messages(15, 21))
    assert reader.pull() == [f"entry {n}..{n + 1}" for n in range(15, 21)]
    assert reader.notices == []


def test_a_session_ahead_on_a_history_that_ended_is_not_left_waiting() -> None:
    source, reader = caught_up_ahead()
    source.log.append_gap(view(0, 30, E2))
    reader.pull()
    assert source.asked[-1] == At(at(15))
    source.reply(view(0, 30, E2))
    assert reader.pull() == ["state_lost -> 30"]


# The gap has a place.


def gapped(reason: Reason = Reason.OVERWRITTEN) -> FakeSource:
    """0..3, a gap, then two messages on the branch that goes on."""
    source = FakeSource(log_of(*messages(0, 3)))
    if reason is Reason.OVERWRITTEN:
        source.log.append_gap(view(6, 8))
        source.log.append(entry(8))
    else:
        source.log.append_gap(view(0, 1, E2))
        source.log.append(entry(1, epoch=E2))
    return source


def test_messages_before_the_gap_then_the_notice_then_messages_after_it() -> None:
    reader = Reader.of(gapped(), at(1))
    assert reader.pull() == ["entry 1..2", "entry 2..3", "overwritten -> 8", "entry 8..9"]
    assert reader.notices[0].missed == 5
    assert reader.pull() == []


def test_a_lost_state_is_told_at_its_place_though_its_offsets_go_back() -> None:
    reader = Reader.of(gapped(Reason.STATE_LOST), at(2))
    assert reader.pull() == ["entry 2..3", "state_lost -> 1", "entry 1..2"]
    assert reader.reading.position == at(2, E2)


def test_a_session_at_the_marker_gets_the_notice_in_each_life() -> None:
    source = gapped()
    assert Reader.of(source, at(3)).pull() == ["overwritten -> 8", "entry 8..9"]
    assert Reader.of(source, at(3)).pull() == ["overwritten -> 8", "entry 8..9"]
    assert Reader.of(source, at(8)).pull() == ["entry 8..9"]


def test_the_notice_comes_though_the_session_wants_none_of_the_messages() -> None:
    reader = Reader.of(gapped(), at(0))
    assert reader.pull(nothing) == ["skip 0..3", "overwritten -> 8"]
    assert reader.settle() == ["skip 8..9"]


def test_a_session_that_waits_at_the_end_is_told_of_a_gap_at_once() -> None:
    source = FakeSource(log_of(*messages(0, 3)))
    reader = Reader.of(source, at(3))
    assert reader.pull() == []
    source.log.append_gap(view(6, 8))
    assert reader.woken == [1]
    assert reader.pull() == ["overwritten -> 8"]


def test_two_gaps_without_a_read_between_are_one_wider_notice() -> None:
    source = FakeSource(log_of(*messages(0, 3)))
    source.log.append_gap(view(6, 8))
    source.log.append_gap(view(10, 12))
    source.log.append(entry(12))
    reader = Reader.of(source, at(2))
    assert reader.pull() == ["entry 2..3", "overwritten -> 12", "entry 12..13"]
    assert reader.notices[0].missed == 5 + 4


def test_the_graver_reason_of_two_merged_expiries_counts() -> None:
    source = FakeSource(log_of(*messages(0, 3)))
    source.log.append_gap(view(0, 8, E2))
    source.log.append_gap(view(10, 12, E2))
    reader = Reader.of(source, at(3))
    assert reader.pull() == ["state_lost -> 12"]
    assert reader.notices[0].missed is None


def test_two_gaps_with_a_message_between_are_two_notices() -> None:
    source = gapped()
    source.log.append_gap(view(15, 20))
    reader = Reader.of(source, at(3))
    assert reader.pull() == ["overwritten -> 8", "entry 8..9", "overwritten -> 20"]


def test_a_gap_for_others_only_is_passed_by_asking_the_producer() -> None:
    # The replica's registration was of a branch that ended; this position is of the one that goes on.
    source = FakeSource(log_of(*messages(0, 3)))
    source.log.append_gap(view(0, 9, E3, (E1, 5)))
    reader = Reader.of(source, at(3))
    assert reader.pull() == []
    assert (source.asked, source.budgets) == ([At(at(3))], [FETCH_BYTES])
    source.reply(view(0, 9, E3, (E1, 5)), entry(3, 2), entry(5, 4, epoch=E3))
    assert reader.pull() == ["entry 3..5", "entry 5..9"]
    assert reader.notices == []


def test_such_a_gap_holds_the_session_until_the_producer_can_be_asked() -> None:
    source = FakeSource(log_of(*messages(0, 3)), reachable=False)
    source.log.append_gap(view(0, 9, E3, (E1, 5)))
    reader = Reader.of(source, at(3))
    assert reader.pull() == []
    source.reachable = True
    source.log.wake()
    reader.pull()
    assert source.asked == [At(at(3))]


# A stream that is new to the session.


def test_a_session_is_told_where_it_stands_before_any_message() -> None:
    source = FakeSource(log_of(*messages(0, 2)))
    reader = Reader.of(source, Remembered(waiting=True))
    reader.reading.bookmark.judge(view(0, 2), None)
    assert reader.pull() == ["told 0", "entry 0..1", "entry 1..2"]


def test_a_session_is_told_where_it_stands_when_it_settles() -> None:
    reader = Reader.of(FakeSource(log_of()), FromStart())
    reader.reading.bookmark.judge(view(0, 5), None)
    assert reader.settle() == ["told 0"]


def test_a_session_is_told_where_it_stands_though_there_is_no_message() -> None:
    source = FakeSource(log_of())
    reader = Reader.of(source, Remembered(waiting=True))
    reader.reading.bookmark.judge(view(0, 0), None)
    assert reader.pull() == ["told 0"]
    assert reader.pull() == []


@pytest.mark.parametrize(
    ("start", "registered", "expected"),
    [
        (Remembered(waiting=True), None, ["told 0"]),
        (Remembered(waiting=True), at(6), ["told 6"]),
        (FromStart(), at(6), ["told 0"]),  # the registered cursor may be ahead of what it saw
        (Earliest(), at(6), ["told 0"]),
    ],
)
def test_a_sessions_beginning_at_first_contact(
    start: Claim, registered: Position | None, expected: list[str]
) -> None:
    source = FakeSource(log_of(offset=10))
    reader = Reader.of(source, start)
    reader.reading.bookmark.judge(view(0, 10), registered)
    assert reader.pull() == expected


@pytest.mark.parametrize(
    ("start", "registered"),
    [
        (Remembered(waiting=True), None),
        (
            Remembered(waiting=True),
            at(2),
        ),  # registered, but overwritten: still, it never saw this stream
        (FromStart(), at(6)),
    ],
)
def test_a_session_never_told_of_a_lost_beginning_is_told_unseen(
    start: Claim, registered: Position | None
) -> None:
    source = FakeSource(log_of(offset=10))
    reader = Reader.of(source, start)
    reader.reading.bookmark.judge(view(4, 10), registered)
    assert reader.pull() == ["unseen -> 10"]
    assert reader.notices[0].missed is None
    assert reader.reading.position == at(10)


def test_earliest_is_owed_no_more_than_what_is_left() -> None:
    reader = Reader.of(FakeSource(log_of(offset=10)), Earliest())
    reader.reading.bookmark.judge(view(4, 10), None)
    assert reader.pull() == ["told 4"]


def test_a_session_without_a_position_asks_the_producer_from_the_start() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, FromStart())
    assert reader.reading.position is None
    assert reader.pull() == []
    assert source.asked == [FromStart()]
    source.reply(view(0, 10), *messages(0, 9))
    assert reader.pull() == ["told 0"] + [f"entry {n}..{n + 1}" for n in range(10)]


def test_a_session_without_a_position_may_find_the_beginning_gone() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, FromStart())
    reader.pull()
    source.reply(view(4, 10))
    assert reader.pull() == ["unseen -> 10"]


def test_a_session_that_knows_its_place_is_not_judged_again() -> None:
    reader = Reader.of(FakeSource(log_of(*messages(0, 2))), at(1))
    reader.reading.bookmark.judge(view(0, 2), at(0))
    assert reader.pull() == ["entry 1..2"]


# Its own node's stream: the producer answers at once.


def own_stream(published: int, ring_messages: int = 4) -> Stream:
    stream = Stream(
        "a", E1, ring_messages=ring_messages, ring_bytes=MANY, max_message=100, pace=Pace(0)
    )
    publisher = PublisherRecord(8, forgotten=False)
    for sequence in range(published):
        stream.publish(
            batch_of([("t", b"")], sequence=sequence), publisher, PUBLISHER, Now(0, 0), Impatient()
        )
    return stream


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (at(5), ["overwritten -> 10"]),  # oldest - 1
        (at(6), [f"entry {n}..{n + 1}" for n in range(6, 10)]),  # oldest
        (at(10), []),
        (at(11), ["ahead -> 10"]),
        (at(7, E2), ["state_lost -> 10"]),
    ],
)
def test_a_session_on_its_own_nodes_stream_goes_by_the_same_rule(
    position: Position, expected: list[str]
) -> None:
    reader = Reader.of(own_stream(10), position)
    assert reader.pull() == expected
    assert reader.pull() == []


def test_a_slow_session_overrun_on_its_own_node_is_told_at_once() -> None:
    stream = own_stream(4)
    reader = Reader.of(stream, at(0))
    assert reader.pull(budget=1) == ["entry 0..1"]
    publisher = PublisherRecord(8, forgotten=False)
    for sequence in range(8):
        stream.publish(
            batch_of([("t", b"")], sequence=sequence), publisher, PUBLISHER, Now(0, 0), Impatient()
        )
    assert reader.pull() == ["overwritten -> 12"]
    assert reader.notices[0].missed == 11


# Between two lives of a named session.


def test_the_next_life_begins_at_what_was_acknowledged() -> None:
    reader = Reader.of(FakeSource(log_of(*messages(0, 5))), at(1))
    reader.pull()
    reader.reading.bookmark.acknowledged = at(3)
    reader.reading.rewind()
    assert reader.reading.position == at(3)
    assert reader.pull() == ["entry 3..4", "entry 4..5"]


def test_a_life_without_an_acknowledgement_begins_again() -> None:
    reader = Reader.of(FakeSource(log_of(*messages(0, 5))), at(1))
    first = reader.pull()
    reader.reading.rewind()
    assert reader.pull() == first


def test_an_unacknowledged_notice_is_told_again_in_the_next_life() -> None:
    reader = Reader.of(gapped(), at(2))
    first = reader.pull()
    reader.reading.rewind()
    assert reader.pull() == first == ["entry 2..3", "overwritten -> 8", "entry 8..9"]
    reader.reading.bookmark.acknowledged = at(8)
    reader.reading.rewind()
    assert reader.pull() == ["entry 8..9"]


def test_a_session_never_placed_begins_its_next_life_at_the_start() -> None:
    source = FakeSource(small_log(), reachable=False)
    reader = Reader.of(source, Remembered(waiting=True))
    reader.reading.rewind()
    assert reader.reading.needs == FromStart()
    assert reader.reading.position is None


def test_what_comes_behind_an_answered_inquiry_is_read() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3), away=True)
    reader.reading.inquire()
    source.reply(view(0, 10))
    assert not reader.reading.gone
    reader.reading.attend()
    reader.pull()
    source.reply(view(0, 10), *messages(3, 8))
    assert len(reader.pull()) == 7


def test_a_session_whose_place_was_gone_is_not_gone_in_its_next_life() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3), away=True)
    reader.reading.inquire()
    source.reply(view(4, 10))
    assert reader.reading.gone
    reader.reading.go_on(at(8))
    assert not reader.reading.gone


def test_a_returning_session_does_not_wait_for_an_old_inquiry() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3), away=True)
    reader.reading.inquire()
    reader.reading.inquire()
    assert source.budgets == [0]
    reader.reading.attend()
    assert reader.pull() == []
    assert source.budgets == [0, FETCH_BYTES]
    source.reply(view(9, 10))  # the late answer says that it is gone
    assert not reader.reading.gone
    assert reader.pull() == []
    source.reply(view(0, 10), *messages(3, 8))
    assert len(reader.pull()) == 7


@pytest.mark.parametrize(("held", "gone"), [(view(3, 10), False), (view(4, 10), True)])
def test_messages_that_the_producer_does_not_hold_are_gone(held: StreamView, gone: bool) -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3), away=True)
    reader.reading.inquire()
    source.reply(held)
    assert reader.reading.gone is gone
    reader.reading.attend()
    assert reader.pull() == [], "what was inquired is not told"


def test_a_reading_is_gone_at_its_own_gap_and_asks_about_others() -> None:
    source = FakeSource(log_of(*messages(0, 3)))
    source.log.append_gap(view(5, 9))
    reader = Reader.of(source, at(3), away=True)
    reader.reading.inquire()
    assert (reader.reading.gone, source.asked) == (True, [])
    source = FakeSource(log_of(*messages(0, 3)))
    source.log.append_gap(view(0, 9, E3, (E1, 5)))
    reader = Reader.of(source, at(3), away=True)
    reader.reading.inquire()
    assert (reader.reading.gone, source.asked) == (False, [At(at(3))])


def test_a_session_never_placed_asks_for_the_earliest_again() -> None:
    reader = Reader.of(FakeSource(small_log(), reachable=False), Earliest())
    reader.reading.rewind()
    assert reader.reading.needs == Earliest()


def test_an_unacknowledged_unseen_is_told_again() -> None:
    source = FakeSource(log_of(*messages(5, 7), offset=5))
    reader = Reader.of(source, FromStart())
    reader.reading.bookmark.judge(view(5, 7), None)
    assert reader.pull()[0] == "unseen -> 7"
    reader.reading.rewind()
    # The producer has begun anew meanwhile: from the start of that would be a silent gap.
    assert reader.reading.needs == At(UNREPORTED_LOSS)


def test_an_absent_sessions_loss_is_told_first_in_its_next_life() -> None:
    reader = Reader.of(own_stream(3), at(1))
    reader.reading.stop()
    reader.reading.lived_before(UNREPORTED_LOSS, reads=False)
    assert reader.reading.bookmark.introduce() == UNREPORTED_LOSS
    assert reader.pull() == ["state_lost -> 3"]


def test_its_own_nodes_lost_history_is_told_until_acknowledged() -> None:
    stream = own_stream(3)
    reader = Reader.of(stream, at(1))
    reader.reading.lived_before(UNREPORTED_LOSS, reads=True)
    assert reader.woken == [1]
    assert reader.pull() == ["state_lost -> 1", "entry 1..2", "entry 2..3"]
    reader.reading.rewind()
    assert reader.pull() == ["state_lost -> 3"]
    reader.reading.bookmark.acknowledged = at(3)
    reader.reading.rewind()
    assert reader.pull() == []


def test_messages_fetched_for_one_life_are_not_read_by_the_next() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), *messages(3, 6))
    assert reader.pull(budget=1) == ["entry 3..4"]
    reader.reading.leave()
    reader.reading.attend()
    assert reader.pull() == []
    assert source.asked == [At(at(3)), At(at(3))]


def test_a_life_that_is_yet_to_hear_of_a_loss_is_not_gone() -> None:
    source = FakeSource(small_log())
    reading = Reader.of(source, UNREPORTED_LOSS, away=True).reading
    reading.inquire()
    assert not reading.gone
    assert source.asked == []


# From one log to another.


def test_a_stream_that_is_met_anew_is_read_from_its_new_log() -> None:
    old, new = FakeSource(log_of(*messages(0, 3))), FakeSource(log_of(*messages(0, 6)))
    reader = Reader.of(old, at(0))
    reader.pull()
    reader.reading.gone = True
    reader.reading.moves_to(new)
    assert not reader.reading.gone
    assert not reader.reading.is_done(connected=True, named=False), "the new log holds more"
    assert reader.pull() == ["entry 3..4", "entry 4..5", "entry 5..6"]
    assert reader.reading.is_done(connected=True, named=False)
    old.log.append(entry(3))
    assert reader.woken == [], "it is not of that log any more"


def test_a_reader_of_an_earlier_log_is_not_level_with_the_new_one() -> None:
    old, new = FakeSource(log_of(*messages(0, 3))), FakeSource(log_of(*messages(0, 3)))
    reader = Reader.of(old, at(0))
    assert len(reader.pull()) == 3
    reader.reading.moves_to(new)
    assert reader.pull() == []
    assert not new.log.interest.has_level_reader(0)


def test_fetched_messages_are_read_before_a_session_is_done() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), *messages(3, 10))
    reader.pull(budget=1)
    reader.reading.bookmark.go_on(at(10))
    assert not reader.reading.is_done(connected=True, named=False)
    assert reader.reading.is_done(connected=False, named=False)


def test_a_connected_session_is_done_once_it_knows_its_place() -> None:
    reader = Reader.of(FakeSource(log_of(*messages(0, 3))), at(0))
    assert reader.pull(nothing) == []
    assert reader.reading.is_done(connected=False, named=False)
    assert not reader.reading.is_done(connected=True, named=False)
    assert reader.settle() == ["skip 0..3"]
    assert reader.reading.is_done(connected=True, named=False)


def test_a_named_session_is_done_when_it_has_acknowledged() -> None:
    reader = Reader.of(FakeSource(small_log()), at(8))
    reader.pull()
    assert reader.reading.is_done(connected=True, named=False)
    assert not reader.reading.is_done(connected=True, named=True)
    reader.reading.bookmark.acknowledge(Ack("a", at(10)))
    assert reader.reading.is_done(connected=True, named=True)


# A reader that rests.


def test_a_resting_reader_with_a_new_filter_is_woken_by_that_alone() -> None:
    source = FakeSource(log_of())
    reader = Reader.of(source, at(0))
    reader.reading.filter = Filter(("a",))
    reader.pull()
    source.log.append(entry(0, topic="b"))
    assert reader.woken == []
    reader.reading.refilter(Filter(("b",)))
    assert reader.reading.position == at(1), "what has passed is not for it"
    reader.pull()
    source.log.append(entry(1, topic="a"))
    assert reader.woken == []
    source.log.append(entry(2, topic="b"))
    assert reader.woken == [1]


def test_publishers_wait_for_risen_readers_and_not_for_resting_ones() -> None:
    log = log_of(*messages(0, 2), max_messages=2)
    source = FakeSource(log)
    source.pacing = Pacing(log, Pace(1000))
    reader = Reader.of(source, at(0))
    reader.pull()
    reader.reading.refilter(Filter(("never",)))
    reader.pull()
    for item in messages(2, 8):
        assert source.pacing.admits(Impatient(), cost_of(item), 0)
        log.append(item)
    reader.reading.refilter(Filter(("t",)))
    for item in messages(8, 10):
        assert source.pacing.admits(Impatient(), cost_of(item), 0)
        log.append(item)
    assert not source.pacing.admits(Impatient(), cost_of(entry(10)), 0)


def test_a_reader_told_in_place_is_not_woken_once_more() -> None:
    source = FakeSource(log_of(*messages(0, 2)))
    reader = Reader.of(source, at(2))
    reader.pull()
    reader.reading.lived_before(UNREPORTED_LOSS, reads=True)
    assert reader.woken == [1]
    source.log.append(entry(2))
    assert reader.woken == [1]
    assert reader.pull() == ["state_lost -> 2", "entry 2..3"]


def test_a_reader_settles_only_streams_in_which_it_passed_something() -> None:
    source = FakeSource(log_of(max_messages=100))
    reader = Reader.of(source, at(0))
    reader.reading.filter = Filter(("never",))
    reader.pull()
    out = Outgoing(MANY)
    reader.reading.settle(out)
    assert (out.frames, out.settled) == (0, [])
    for item in messages(0, 3):
        source.log.append(item)
    reader.reading.settle(out)
    assert (told(frames_in(out)), out.settled) == (["skip 0..3"], ["a"])
    assert (reader.reading.index, reader.reading.told) == (3, 3), "it stands at the end"


def test_a_reader_outside_the_log_settles_what_it_passed_elsewhere() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), *messages(3, 6))
    reader.pull(nothing)
    assert reader.reading.index is None
    before = reader.reading.told
    assert reader.settle() == []
    assert reader.reading.told == before


def test_a_resting_reader_has_no_more_to_read_when_told_its_place() -> None:
    source = FakeSource(log_of(max_messages=100))
    reader = Reader.of(source, at(0))
    reader.reading.filter = Filter(("never",))
    reader.pull()
    source.log.append(entry(0))
    out = Outgoing(MANY)
    assert not reader.reading.pull(everything, out)
    assert out.frames == 0
    reader.reading.remind()
    assert reader.woken == [1]
    assert not reader.reading.pull(everything, out)
    assert told(frames_in(out)) == ["skip 0..1"]


def test_a_reader_knows_its_last_item_and_not_what_it_passed_since() -> None:
    source = FakeSource(log_of(*messages(0, 4)))
    reader = Reader.of(source, at(0))
    assert reader.pull(lambda item: item if item.first == 1 else None) == [
        "skip 0..1",
        "entry 1..2",
    ]
    assert reader.reading.told == 1


def test_a_reader_told_all_knows_all_before_its_next_item() -> None:
    source = FakeSource(log_of(*messages(0, 4)))
    reader = Reader.of(source, at(0))
    reader.pull(budget=1)
    assert (reader.reading.index, reader.reading.told) == (1, 1)
    reader.pull()
    assert (reader.reading.index, reader.reading.told) == (4, 4)
    elsewhere = Reader.of(FakeSource(small_log()), at(3))
    elsewhere.pull()
    assert (elsewhere.reading.index, elsewhere.reading.told) == (None, -1)


def test_a_reader_back_in_the_log_is_waited_for_without_catch_up() -> None:
    log = log_of(*messages(0, 10), max_messages=2)
    source = FakeSource(log)
    source.pacing = Pacing(log, Pace(1000))
    reader = Reader.of(source, at(3))
    reader.pull()
    reader.reading.catches_up()
    source.reply(view(0, 10), *messages(3, 8))
    assert source.caught == []
    # No room to read on: it stands at 8, and has been given what was before.
    reader.pull(budget=5 * entry(0).size)
    reader.pull(budget=1)
    assert (reader.reading.lags, source.caught) == (False, [At(at(8))])
    assert reader.reading.told == reader.reading.index == 9
    assert source.pacing.admits(Impatient(), cost_of(entry(10)), 0)
    log.append(entry(10))
    assert not source.pacing.admits(Impatient(), cost_of(entry(11)), 0)


def test_offsets_passed_elsewhere_are_told_as_soon_as_a_reader_rests() -> None:
    source = FakeSource(log_of(*messages(8, 10), offset=8))
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), *messages(3, 8))
    assert reader.pull(nothing) == ["skip 3..10"]


def test_a_given_up_catch_up_ends_behind_all_that_was_sent_for_it() -> None:
    source = FakeSource(small_log())
    reader = Reader.of(source, at(3))
    reader.pull()
    source.reply(view(0, 10), *messages(3, 6))
    reader.reading.catches_up()
    reader.reading.forget_fetched()
    assert (reader.reading.lags, source.caught) == (False, [At(at(6))])
    assert reader.reading.position == at(3)


@pytest.mark.parametrize(("choose", "level"), [(everything, True), (nothing, False)])
def test_a_resting_reader_is_level_if_the_log_holds_an_item_for_it(
    choose: Choose, level: bool
) -> None:
    source = FakeSource(log_of(*messages(0, 4)))
    Reader.of(source, at(0)).pull(choose)
    assert source.log.interest.has_level_reader(0) is level
    assert not source.log.interest.has_level_reader(4), "that is evicted"


def test_a_roused_reader_needs_the_item_that_woke_it() -> None:
    source = FakeSource(log_of(*messages(0, 2)))
    reader = Reader.of(source, at(0))
    reader.pull()
    source.log.append(skip(2, 5))
    source.log.append(entry(5))
    assert (reader.reading.index, reader.reading.position) == (3, at(5))


# Told in time.


def test_a_reader_without_room_does_not_know_what_it_has_not_read() -> None:
    log = log_of(*messages(0, 3), max_messages=10)
    reader = Reader(Reading(FakeSource(log), at(3), Filter(("rare",)), lambda: None))
    assert reader.pull(nothing) == []
    log.append(entry(3, topic="rare"))
    for offset in range(4, 9):
        log.append(entry(offset))
    assert reader.pull(nothing, budget=0) == []
    knows = 3
    for offset in range(9, 20):
        log.append(entry(offset))
        for line in reader.pull(nothing):
            knows = int(line.rpartition("..")[2])
        assert knows >= log.view.oldest


@pytest.mark.parametrize("count", [3, 4, 9])
def test_a_resting_reader_is_told_its_place_as_one_entry_evicts_all(count: int) -> None:
    log = log_of(entry(0), max_messages=4)
    reading = Reading(FakeSource(log), at(1), Filter(("rare",)), lambda: None)
    reader = Reader(reading)
    assert reader.pull(nothing) == []
    log.append(entry(1, count))
    log.append(entry(1 + count, count))
    assert reader.pull(nothing) == [f"skip 1..{1 + 2 * count}"]
