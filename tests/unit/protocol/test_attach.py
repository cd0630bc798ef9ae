"""The attach rule, row by row, and at its edges."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.protocol import strategies

from pubsubd_protocol.attach import (
    At,
    Claim,
    Earliest,
    Expired,
    FromStart,
    Reason,
    Remembered,
    Resume,
    Verdict,
    asked,
    merge,
    resolve,
)
from pubsubd_protocol.positions import Epoch, Position, StreamView, new_epoch

NOW = Epoch(b"now-------------")
BEFORE = Epoch(b"before----------")
LONG_AGO = Epoch(b"long ago--------")
STRANGE = Epoch(b"strange---------")

# Continues BEFORE up to 60 and, by way of it, LONG_AGO up to 30. Holds 20..99.
VIEW = StreamView(NOW, ((BEFORE, 60), (LONG_AGO, 30)), oldest=20, next=100)


def overwritten(missed: int, following: int = 100) -> Expired:
    return Expired(Reason.OVERWRITTEN, following, missed)


LOST = Expired(Reason.STATE_LOST, 100, None)
AHEAD = Expired(Reason.AHEAD, 100, None)
UNSEEN = Expired(Reason.UNSEEN, 100, None)

NOTHING = Remembered(waiting=False)
WAITING = Remembered(waiting=True)

ROWS: dict[str, tuple[Claim, int | None, Verdict]] = {
    "same epoch, offset in the ring: resume": (At(Position(NOW, 50)), None, Resume(50)),
    "same epoch, at oldest: resume": (At(Position(NOW, 20)), None, Resume(20)),
    "same epoch, at oldest - 1: overwritten": (At(Position(NOW, 19)), None, overwritten(81)),
    "same epoch, at 0: overwritten": (At(Position(NOW, 0)), None, overwritten(100)),
    "same epoch, at next: resume, idle": (At(Position(NOW, 100)), None, Resume(100)),
    "same epoch, at next - 1: resume": (At(Position(NOW, 99)), None, Resume(99)),
    "same epoch, at next + 1: ahead": (At(Position(NOW, 101)), None, AHEAD),
    "earlier epoch, below its end: resume": (At(Position(BEFORE, 59)), None, Resume(59)),
    "earlier epoch, at its end: resume": (At(Position(BEFORE, 60)), None, Resume(60)),
    "earlier epoch, beyond its end: ahead": (At(Position(BEFORE, 61)), None, AHEAD),
    "earlier epoch, beyond its end, at an offset the ring holds by now: ahead": (
        At(Position(BEFORE, 99)),
        None,
        AHEAD,
    ),
    "earlier epoch, below oldest: overwritten": (At(Position(BEFORE, 19)), None, overwritten(81)),
    "epoch of two lives ago, below its end: resume": (At(Position(LONG_AGO, 29)), None, Resume(29)),
    "epoch of two lives ago, at its end: resume": (At(Position(LONG_AGO, 30)), None, Resume(30)),
    "epoch of two lives ago, beyond its end: ahead": (At(Position(LONG_AGO, 31)), None, AHEAD),
    "unknown epoch, offset in the ring: state lost": (At(Position(STRANGE, 50)), None, LOST),
    "unknown epoch, at next: state lost": (At(Position(STRANGE, 100)), None, LOST),
    "unknown epoch, below oldest: state lost": (At(Position(STRANGE, 3)), None, LOST),
    "unknown epoch, beyond next: state lost": (At(Position(STRANGE, 999)), None, LOST),
    "a position counts for more than a registered cursor": (At(Position(NOW, 50)), 70, Resume(50)),
    "an unknown epoch is not helped by a registered cursor": (At(Position(STRANGE, 50)), 50, LOST),
    "nothing presented, registered cursor in the ring: resume there": (NOTHING, 70, Resume(70)),
    "nothing presented, registered cursor at oldest: resume there": (NOTHING, 20, Resume(20)),
    "nothing presented, registered cursor at next: resume there": (NOTHING, 100, Resume(100)),
    "nothing presented, registered cursor overwritten": (NOTHING, 19, overwritten(81)),
    "nothing presented, no cursor: new consumer, at next": (NOTHING, None, Resume(100)),
    "nothing presented, a session waiting, registered cursor: resume there": (
        WAITING,
        70,
        Resume(70),
    ),
    "nothing presented, a session waiting, registered cursor overwritten": (
        WAITING,
        19,
        overwritten(81),
    ),
    "nothing presented, a session waiting, no cursor, beginning gone: unseen": (
        WAITING,
        None,
        UNSEEN,
    ),
    "registered cursor beyond next: ahead, never a place that does not exist": (
        NOTHING,
        101,
        AHEAD,
    ),
    "from the first message, beginning gone: unseen": (FromStart(), None, UNSEEN),
    "from the first message counts no registered cursor": (FromStart(), 70, UNSEEN),
    "all that the ring holds": (Earliest(), None, Resume(20)),
    "all that the ring holds counts no registered cursor": (Earliest(), 70, Resume(20)),
    "all that the ring holds, which is all that is owed": (Earliest(WAITING), 20, Resume(20)),
    "all that the ring holds, less than is owed: unseen, and on at the oldest": (
        Earliest(WAITING),
        19,
        Expired(Reason.UNSEEN, 20, None),
    ),
    "all that the ring holds, owed from the first message": (
        Earliest(FromStart()),
        70,
        Expired(Reason.UNSEEN, 20, None),
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_attach_table(row: str) -> None:
    claim, registered, answer = ROWS[row]
    cursor = VIEW.place(registered) if registered is not None else None
    assert resolve(claim, VIEW, cursor) == answer


WHOLE = StreamView(NOW, (), oldest=0, next=5)


def test_a_session_from_the_start_gets_all_while_the_ring_holds_it() -> None:
    assert resolve(FromStart(), WHOLE) == Resume(0)


def test_a_waiting_node_without_a_cursor_gets_a_held_first_message() -> None:
    assert resolve(WAITING, WHOLE) == Resume(0)


def test_the_epoch_is_compared_before_the_offset() -> None:
    """Trap 4: the offsets of a new history have passed the old ones; a number that fits means nothing."""
    restarted = StreamView(NOW, (), oldest=0, next=1000)
    for offset in (0, 1, 500, 999, 1000, 1001):
        answer = resolve(At(Position(STRANGE, offset)), restarted)
        assert answer == Expired(Reason.STATE_LOST, 1000, None)


def test_a_restart_that_published_nothing_still_lost_its_state() -> None:
    empty = StreamView(NOW, (), oldest=0, next=0)
    assert resolve(At(Position(STRANGE, 0)), empty) == Expired(Reason.STATE_LOST, 0, None)


class TestEmptyStream:
    VIEW = StreamView(NOW, (), oldest=0, next=0)

    @pytest.mark.parametrize(
        "claim",
        [
            At(Position(NOW, 0)),
            FromStart(),
            Earliest(),
            NOTHING,
            WAITING,
        ],
    )
    def test_every_claim_starts_at_zero(self, claim: Claim) -> None:
        assert resolve(claim, self.VIEW) == Resume(0)

    def test_one_beyond_is_ahead(self) -> None:
        answer = resolve(At(Position(NOW, 1)), self.VIEW)
        assert answer == Expired(Reason.AHEAD, 0, None)


class TestRingThatHoldsNothingAfterAJournal:
    """Continued from a journal up to 40, nothing in memory: 40 is a place, 39 is not."""

    VIEW = StreamView(NOW, ((BEFORE, 40),), oldest=40, next=40)

    def test_at_the_end_of_the_journal_resumes(self) -> None:
        assert resolve(At(Position(BEFORE, 40)), self.VIEW) == Resume(40)

    def test_one_before_it_is_overwritten(self) -> None:
        answer = resolve(At(Position(BEFORE, 39)), self.VIEW)
        assert answer == Expired(Reason.OVERWRITTEN, 40, 1)

    def test_one_after_it_is_ahead(self) -> None:
        answer = resolve(At(Position(BEFORE, 41)), self.VIEW)
        assert answer == Expired(Reason.AHEAD, 40, None)

    def test_all_that_the_ring_holds_is_nothing_yet(self) -> None:
        assert resolve(Earliest(), self.VIEW) == Resume(40)


class TestRingOfOne:
    VIEW = StreamView(NOW, (), oldest=7, next=8)

    @pytest.mark.parametrize(
        ("offset", "answer"),
        [
            (6, Expired(Reason.OVERWRITTEN, 8, 2)),
            (7, Resume(7)),
            (8, Resume(8)),
            (9, Expired(Reason.AHEAD, 8, None)),
        ],
    )
    def test_around_its_only_message(self, offset: int, answer: Verdict) -> None:
        assert resolve(At(Position(NOW, offset)), self.VIEW) == answer


def test_the_present_epoch_outweighs_the_same_one_in_the_lineage() -> None:
    odd = StreamView(NOW, ((NOW, 3),), oldest=0, next=9)
    assert odd.reach(NOW) == 9


@given(
    strategies.claims,
    strategies.epochs,
    st.lists(st.tuples(strategies.epochs, st.integers(0, 50)), max_size=3),
    st.integers(0, 100),
    st.integers(0, 100),
    st.none() | st.integers(0, 200),
)
def test_no_answer_is_ever_outside_the_stream(
    claim: Claim,
    epoch: Epoch,
    lineage: list[tuple[Epoch, int]],
    oldest: int,
    held: int,
    registered: int | None,
) -> None:
    view = StreamView(
        epoch, tuple((e, min(end, oldest + held)) for e, end in lineage), oldest, oldest + held
    )
    match resolve(claim, view, view.place(registered) if registered is not None else None):
        case Resume(offset):
            assert view.oldest <= offset <= view.next
        case Expired(reason, following, missed):
            assert following == view.next
            assert (missed is not None) == (reason is Reason.OVERWRITTEN)


def test_an_epoch_is_sixteen_bytes() -> None:
    assert new_epoch(bytes(16)) == bytes(16)
    with pytest.raises(ValueError, match="16 bytes, not 15"):
        new_epoch(bytes(15))


@pytest.mark.parametrize(
    ("earlier", "later", "merged"),
    [
        (
            Expired(Reason.OVERWRITTEN, 10, 3),
            Expired(Reason.OVERWRITTEN, 20, 4),
            Expired(Reason.OVERWRITTEN, 20, 7),
        ),
        (
            Expired(Reason.OVERWRITTEN, 10, 3),
            Expired(Reason.STATE_LOST, 0, None),
            Expired(Reason.STATE_LOST, 0, None),
        ),
        (
            Expired(Reason.STATE_LOST, 0, None),
            Expired(Reason.OVERWRITTEN, 9, 5),
            Expired(Reason.STATE_LOST, 9, None),
        ),
        (
            Expired(Reason.UNSEEN, 5, None),
            Expired(Reason.STATE_LOST, 4, None),
            Expired(Reason.UNSEEN, 4, None),
        ),
    ],
)
def test_two_expiries_with_nothing_read_between_are_one(
    earlier: Expired, later: Expired, merged: Expired
) -> None:
    assert merge(earlier, later) == merged


@pytest.mark.parametrize("turned", [False, True])
def test_ahead_is_a_graver_reason_than_overwritten(turned: bool) -> None:
    notices = [Expired(Reason.OVERWRITTEN, 5, 1), Expired(Reason.AHEAD, 7, None)]
    earlier, later = reversed(notices) if turned else notices
    assert merge(earlier, later).reason is Reason.AHEAD


def test_the_producer_is_not_told_what_an_earliest_claim_is_owed() -> None:
    assert asked(Earliest(FromStart())) == Earliest()
    assert asked(FromStart()) == FromStart()
