"""Ledgers of readers that were handed something wrong: each is refused, at once or at the end."""

from __future__ import annotations

import pytest
from tests.soak.ledger import HEAD, UNCOUNTED, Account, Broken, Ledger, audit, number_of

from pubsubd import RAW, CursorExpired, Message, Reason
from pubsubd.messages import MessageSource

EPOCH = "00" * 16
X, Y, OTHER = number_of("a", "x", 0), number_of("a", "y", 0), number_of("b", "x", 0)


def batch(first: int, *heads: tuple[int, int], node: str = "a") -> list[Message]:
    """Messages at `first` and the next offsets, of these publishers with these counts."""
    source = MessageSource(node, EPOCH, 0.0, RAW)
    return [Message("t", HEAD.pack(*head), first + i, source) for i, head in enumerate(heads)]


def notice(
    missed: int | None, following: int, reason: Reason = Reason.OVERWRITTEN
) -> CursorExpired:
    return CursorExpired("a", reason, missed, following, EPOCH)


def a_ledger(*, whole: bool = True) -> Ledger:
    """A ledger at 0 of a and b that has got the counts 0 and 1 of two publishers on a."""
    ledger = Ledger(whole)
    ledger.begin({"a": [EPOCH, 0], "b": [EPOCH, 0]}, again=False)
    ledger.got(batch(0, (X, 0), (Y, 0), (X, 1), (Y, 1)))
    return ledger


def test_counts_that_go_on_by_one_are_all_there() -> None:
    ledger = a_ledger()
    ledger.got(batch(4, (Y, 2), (UNCOUNTED, 0), (X, 2)))
    ledger.got(batch(0, (OTHER, 0), node="b"))
    audit(ledger, "xy", [Account(X, 3, 3), Account(Y, 9, 3), Account(OTHER, 1, 1)])


def test_a_gap_that_a_notice_explains_is_accepted() -> None:
    ledger = a_ledger()
    ledger.expired(notice(10, 14))
    ledger.got(batch(14, (X, 7)))
    ledger.got(batch(15, (Y, 7)))
    audit(ledger, "xy", [Account(X, 8, 8), Account(Y, 8, 8)])


def test_a_notice_explains_a_publisher_that_ended_within_the_gap() -> None:
    ledger = a_ledger()
    ledger.expired(notice(10, 14))
    ledger.got(batch(14, (X, 2), (Y, 2)))
    audit(
        ledger, "xy", [Account(X, 3, 3), Account(Y, 3, 3), Account(number_of("a", "x", 1), 10, 10)]
    )


@pytest.mark.parametrize(
    "wrong",
    [
        batch(5, (X, 2)),
        batch(3, (X, 2)),
        batch(4, (X, 3)),
        batch(4, (X, 1)),
        batch(4, (Y, 2), (Y, 2)),
        batch(4, (number_of("a", "x", 1), 1)),
        batch(4, (OTHER, 0)),
        batch(0, (X, 2), node="c"),
    ],
    ids=[
        "an offset left out",
        "an offset twice",
        "a count left out",
        "a count twice",
        "a count twice in one batch",
        "the first count of a publisher left out",
        "a publisher of another node",
        "a stream without a position",
    ],
)
def test_a_silent_loss_or_duplicate_is_found_at_once(wrong: list[Message]) -> None:
    ledger = a_ledger()
    with pytest.raises(Broken):
        ledger.got(wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        notice(None, 14, Reason.STATE_LOST),
        notice(10, 14, Reason.AHEAD),
        notice(9, 14),
        notice(0, 3),
    ],
    ids=["a lost state", "ahead", "a wrong count", "backwards"],
)
def test_a_notice_without_a_reason_is_refused(wrong: CursorExpired) -> None:
    with pytest.raises(Broken):
        a_ledger().expired(wrong)


def test_a_notice_explains_at_most_as_many_as_it_missed() -> None:
    ledger = a_ledger()
    ledger.expired(notice(10, 14))
    ledger.got(batch(14, (X, 7)))
    with pytest.raises(Broken, match="no notice said so"):
        ledger.got(batch(15, (Y, 8)))


def test_a_notice_explains_no_gap_that_comes_later() -> None:
    ledger = a_ledger()
    ledger.expired(notice(10, 14))
    ledger.got(batch(14, (X, 2)))
    with pytest.raises(Broken, match="no notice said so"):
        ledger.got(batch(15, (X, 4)))


@pytest.mark.parametrize(
    "account", [Account(X, 3, 3), Account(X, 1, 1), Account(number_of("a", "x", 1), 1, 1)]
)
def test_missing_and_invented_messages_are_found_at_the_end(account: Account) -> None:
    accounts = [account, Account(Y, 2, 2)]
    with pytest.raises(Broken):
        audit(a_ledger(), "xy", accounts)


def test_messages_missing_behind_a_gap_are_found_at_the_end() -> None:
    ledger = a_ledger()
    ledger.expired(notice(10, 14))
    ledger.got(batch(14, (X, 7)))
    with pytest.raises(Broken):
        audit(ledger, "x", [Account(X, 9, 9), Account(Y, 2, 2)])
    with pytest.raises(Broken, match="explains fewer"):
        audit(ledger, "xy", [Account(X, 8, 8), Account(Y, 9, 9)])


def test_a_reader_of_one_lane_is_owed_that_lane() -> None:
    ledger = Ledger(whole=False)
    ledger.begin({"a": [EPOCH, 0]}, again=False)
    ledger.got(batch(1, (X, 0)))
    ledger.got(batch(7, (X, 1)))
    audit(ledger, "x", [Account(X, 2, 2), Account(Y, 5, 5)])
    with pytest.raises(Broken):
        audit(ledger, "xy", [Account(X, 2, 2), Account(Y, 5, 5)])


def test_a_name_resumes_at_or_before_the_last_count() -> None:
    ledger = a_ledger()
    ledger.begin({"a": [EPOCH, 2]}, again=True)
    ledger.got(batch(2, (X, 1)))
    ledger.stands({"a": [EPOCH, 3]})
    ledger.got(batch(3, (Y, 1), (X, 2)))
    with pytest.raises(Broken, match="stands"):
        ledger.stands({"a": [EPOCH, 3]})
    assert ledger.streams["a"].next == 5
    with pytest.raises(Broken, match="begins"):
        ledger.begin({"a": [EPOCH, 6]}, again=True)


def test_a_stored_position_begins_exactly_there() -> None:
    ledger = a_ledger()
    ledger.begin({"a": [EPOCH, 4]}, again=False)
    with pytest.raises(Broken, match="begins"):
        ledger.begin({"a": [EPOCH, 3]}, again=False)


def test_a_reader_of_all_stands_behind_its_last_message() -> None:
    ledger = a_ledger()
    ledger.stands({"a": [EPOCH, 4], "b": [EPOCH, 0]})
    with pytest.raises(Broken, match="stands"):
        ledger.stands({"a": [EPOCH, 5]})


def test_a_reader_of_a_part_passes_other_messages() -> None:
    ledger = Ledger(whole=False)
    ledger.begin({"a": [EPOCH, 0]}, again=False)
    ledger.stands({"a": [EPOCH, 9]})
    ledger.begin({"a": [EPOCH, 12]}, again=False)
    with pytest.raises(Broken, match="stands"):
        ledger.stands({"a": [EPOCH, 8]})


def test_a_life_goes_on_with_the_ledger_of_the_last_one() -> None:
    ledger = a_ledger()
    ledger.expired(notice(10, 14))
    after = Ledger.load(ledger.dump())
    assert after.dump() == ledger.dump()
    after.got(batch(14, (X, 7)))
