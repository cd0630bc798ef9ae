"""The bookmark of a session in one stream: its place, its acknowledgements, and the notices before it reads on."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from tests.unit.core.builders import E1, E2, MANY, at, entry, frames_in, log_of, told, view
from tests.unit.core.fake_source import FakeSource

from pubsubd_broker.core.log.outgoing import Outgoing
from pubsubd_broker.core.sessions.bookmark import Bookmark
from pubsubd_protocol.attach import (
    At,
    Claim,
    Earliest,
    Expired,
    FromStart,
    Reason,
    Remembered,
    Resume,
)
from pubsubd_protocol.frames import Ack, CursorExpired, Frame
from pubsubd_protocol.positions import UNREPORTED_LOSS, Position

LOST = Expired(Reason.OVERWRITTEN, 10, 4)


def source_of(messages: int = 10) -> FakeSource:
    """A log with this number of messages, from offset 0 on."""
    return FakeSource(log_of(*(entry(offset) for offset in range(messages))))


def bookmark(start: Position | Claim, *, tell: bool = False, messages: int = 10) -> Bookmark:
    return Bookmark(source_of(messages), start, tell=tell)


def said(mark: Bookmark) -> list[Frame]:
    """The frames that the session is sent now."""
    out = Outgoing(MANY)
    mark.tell(out)
    return frames_in(out)


# News for the session.


def test_a_place_that_the_session_knows_is_introduced_and_not_told() -> None:
    mark = bookmark(at(3))
    assert mark.introduce() == at(3)
    assert said(mark) == []
    assert mark.unreported_loss is None


@pytest.mark.parametrize("introduced", [False, True])
def test_a_place_that_the_session_does_not_know_is_told_once(introduced: bool) -> None:
    mark = bookmark(at(3), tell=True)
    if introduced:
        assert mark.introduce() == at(3)
        assert said(mark) == []
    else:
        assert told(said(mark)) == ["told 3"]


def test_a_place_is_told_before_the_loss_behind_it() -> None:
    mark = bookmark(at(3), tell=True)
    mark.apply(view(8, 10), LOST)
    assert mark.introduce() == at(3), "where it stood before"
    assert mark.introduce() is None, "the loss is told, not the place behind it"
    assert told(said(mark)) == ["overwritten -> 10"]
    assert mark.introduce() == at(10)


# The producer's answer.


def test_a_claim_is_presented_until_the_producer_answers() -> None:
    mark = bookmark(FromStart())
    assert (mark.position, mark.needs, mark.unreported, mark.proved) == (
        None,
        FromStart(),
        0,
        False,
    )
    mark.judge(view(0, 10), None)
    assert (mark.position, mark.needs, mark.proved) == (at(0), At(at(0)), True)
    assert mark.acknowledged == at(0)
    assert told(said(mark)) == ["told 0"]
    mark.judge(view(0, 10), at(7))
    assert mark.position == at(0), "it has its place"


def test_a_claim_is_judged_by_the_cursor_that_the_producer_remembers() -> None:
    mark = bookmark(Remembered(waiting=True))
    mark.judge(view(0, 10), at(7))
    assert mark.position == at(7)


def test_a_resuming_session_stands_where_the_producer_says() -> None:
    mark = bookmark(at(3))
    mark.apply(view(0, 10, E2, (E1, 2)), Resume(3))
    assert mark.position == at(3, E2)
    assert mark.acknowledged == at(3), "it has not acknowledged more"


@pytest.mark.parametrize("reason", list(Reason))
def test_losses_of_a_session_never_told_of_the_stream_are_unseen(reason: Reason) -> None:
    mark = bookmark(FromStart())
    mark.apply(view(5, 10, E2), Expired(reason, 10, 4))
    assert (mark.position, mark.acknowledged, mark.unreported_loss) == (
        at(10, E2),
        UNREPORTED_LOSS,
        E2,
    )
    (notice,) = said(mark)
    assert isinstance(notice, CursorExpired)
    assert (notice.node, notice.reason, notice.missed) == ("a", Reason.UNSEEN, None)
    assert mark.unreported_loss is None, "it has been told"


def test_a_loss_is_told_behind_what_was_passed_and_of_the_bookmarks_node() -> None:
    mark = bookmark(at(3))
    assert mark.cursor is not None
    mark.cursor.position = at(5)
    assert mark.unreported == 2
    mark.apply(view(8, 10), LOST)
    assert told(said(mark)) == ["skip 3..5", "overwritten -> 10"]
    assert (mark.position, mark.unreported) == (at(10), 0)


@pytest.mark.parametrize(
    "begin",
    [
        lambda mark: mark.judge(view(0, 10), None),
        lambda mark: mark.go_on(at(0)),
        lambda mark: mark.apply(view(5, 10), LOST),
        lambda mark: mark.rewind(),
    ],
)
def test_what_was_passed_is_told_of_the_bookmarks_node(begin: Callable[[Bookmark], None]) -> None:
    mark = bookmark(FromStart())
    mark.acknowledge(Ack("a", at(0)))
    begin(mark)
    assert mark.cursor is not None
    assert mark.cursor.node == "a"


# Streams that the session is done with.


def test_acknowledging_never_goes_back_on_one_branch() -> None:
    mark = bookmark(at(3))
    mark.acknowledge(Ack("a", at(7)))
    mark.acknowledge(Ack("a", at(5)))
    assert mark.acknowledged == at(7)


def test_acknowledging_the_same_place_takes_the_name_that_it_is_given() -> None:
    log = log_of(entry(0), entry(1))
    log.continue_as(view(2, 2, E2, (E1, 2)))
    mark = Bookmark(FakeSource(log), at(2), tell=False)
    mark.acknowledge(Ack("a", at(2, E2)))
    assert mark.acknowledged == at(2, E2)


def test_acknowledging_another_history_goes_where_it_says() -> None:
    mark = bookmark(at(3))
    mark.acknowledge(Ack("a", at(7)))
    mark.acknowledge(Ack("a", at(2, E2)))
    assert mark.acknowledged == at(2, E2)


def test_a_session_never_told_of_the_stream_still_acknowledges() -> None:
    mark = bookmark(FromStart())
    mark.acknowledge(Ack("a", at(7)))
    mark.acknowledge(Ack("a", at(5)))
    assert mark.acknowledged == at(5)


def test_an_acknowledgement_counts_only_after_the_loss_is_taken_in() -> None:
    mark = bookmark(at(3))
    mark.lived_before(UNREPORTED_LOSS, reads=False)
    assert (mark.acknowledged, mark.kept) == (UNREPORTED_LOSS, UNREPORTED_LOSS)
    mark.acknowledge(Ack("a", at(5)))
    assert mark.acknowledged == UNREPORTED_LOSS
    mark.acknowledge(Ack("a", at(5), noticed=True))
    assert mark.acknowledged == at(5)
    mark.acknowledge(Ack("a", at(6)))
    assert mark.acknowledged == at(6)


def test_a_place_beyond_its_historys_end_is_not_kept_after_a_notice() -> None:
    mark = bookmark(at(50))
    mark.apply(view(0, 40), Expired(Reason.AHEAD, 40, None))
    assert mark.acknowledged == UNREPORTED_LOSS
    mark.acknowledge(Ack("a", at(40)))
    assert mark.acknowledged == at(40)


def test_a_reading_session_is_told_its_earlier_lifes_loss_in_place() -> None:
    mark = bookmark(at(4))
    mark.lived_before(UNREPORTED_LOSS, reads=True)
    assert (mark.position, mark.acknowledged) == (at(4), UNREPORTED_LOSS)
    (notice,) = said(mark)
    assert isinstance(notice, CursorExpired)
    assert (notice.reason, notice.missed, notice.view) == (Reason.STATE_LOST, None, view(0, 4))


def test_the_kept_place_moves_with_passed_offsets() -> None:
    mark = bookmark(at(3))
    assert mark.cursor is not None
    mark.cursor.position = at(5)
    assert mark.kept == at(5), "nothing was for it"
    mark.cursor.given = at(5)
    assert mark.kept == at(3)
    mark.acknowledge(Ack("a", at(5)))
    mark.cursor.position = at(8)
    assert mark.kept == at(8)
    mark.apply(view(9, 10), LOST)
    assert mark.kept == at(5), "it has not been told"


# Lives of the application.


def test_the_next_reader_begins_at_the_acknowledged_place() -> None:
    mark = bookmark(at(3), tell=True)
    mark.apply(view(0, 10), Resume(6))
    assert mark.proved
    mark.rewind()
    assert (mark.position, mark.proved) == (at(3), False)
    assert said(mark) == []


@pytest.mark.parametrize(
    ("claim", "again"),
    [(Remembered(waiting=True), FromStart()), (FromStart(), FromStart()), (Earliest(), Earliest())],
)
def test_without_a_place_the_next_life_claims_the_whole_stream(claim: Claim, again: Claim) -> None:
    mark = bookmark(claim)
    mark.rewind()
    assert (mark.position, mark.needs) == (None, again)


def test_a_session_that_knows_its_place_goes_on_there_and_was_told_all() -> None:
    mark = bookmark(FromStart())
    mark.apply(view(5, 10), LOST)
    mark.rewind()
    mark.go_on(at(8))
    assert (mark.position, mark.unreported_loss) == (at(8), None)
    assert said(mark) == []


def test_a_loss_that_may_be_unheard_is_told_in_place_once_more() -> None:
    mark = bookmark(at(3))
    mark.lived_before(UNREPORTED_LOSS, reads=False)
    mark.rewind()
    mark.go_on(at(4))
    assert mark.acknowledged == UNREPORTED_LOSS
    assert told(said(mark)) == ["state_lost -> 4"]
    elsewhere = bookmark(at(3))
    elsewhere.lived_before(UNREPORTED_LOSS, reads=False)
    elsewhere.go_on(at(4, E2))
    assert not elsewhere.would_resume
    assert said(elsewhere) == [], "the attach rule tells it"


# Whether all has been read.


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize(
    ("at_end", "acknowledged", "done"),
    [(9, 9, False), (10, 9, True), (10, 10, True), (11, 11, True)],
)
def test_a_session_is_done_at_the_end_a_named_one_when_it_said_so(
    connected: bool, named: bool, at_end: int, acknowledged: int, done: bool
) -> None:
    mark = bookmark(at(at_end))
    assert mark.cursor is not None
    mark.acknowledged = at(acknowledged)
    assert mark.is_done(connected=connected, named=named) is (
        done and (not named or acknowledged == at_end)
    )


def test_a_session_is_not_done_elsewhere_or_nowhere() -> None:
    for start in (at(10, E2), FromStart()):
        assert not bookmark(start).is_done(connected=True, named=False)


def test_a_connected_session_is_not_done_before_it_was_told_all() -> None:
    passed, new = bookmark(at(3)), bookmark(at(10), tell=True)
    assert passed.cursor is not None
    passed.cursor.position = at(10)
    for mark in (passed, new):
        assert not mark.is_done(connected=True, named=False)
        assert mark.is_done(connected=False, named=False)


def test_a_stream_met_anew_is_judged_by_its_new_log() -> None:
    mark = bookmark(at(10))
    mark.apply(view(0, 10), Resume(10))
    mark.moves_to(source_of(12))
    assert not mark.proved
    assert not mark.is_done(connected=False, named=False)
