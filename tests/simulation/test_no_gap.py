"""G1: the checker refuses a gap that the reader is not told of."""

from __future__ import annotations

import pytest
from tests.simulation.checkers import no_gap
from tests.simulation.history import (
    Event,
    Filtered,
    Kept,
    Moved,
    Opened,
    Stands,
)
from tests.simulation.made_histories import (
    E1,
    E2,
    LATER,
    LONG_AGO,
    continued,
    fill,
    got,
    history,
    lost,
    opened,
    refuses,
    restarted,
    stream,
)

from pubsubd_protocol.attach import Reason


@pytest.mark.parametrize(
    "good",
    [
        [opened(), *got(0, 1, 2)],
        [opened(at=(E1, 4)), *got(4, 5)],
        [opened(at=None), Stands("a", (E1, 0)), *got(0, 1)],
        [opened(), *got(0), Moved("a", (E1, 1)), *got(1)],
        [opened(), *got(0), lost(Reason.OVERWRITTEN, (E1, 7), oldest=3, missed=6), *got(7)],
        [opened(), *got(0, 1), opened(Kept.STORED, (E1, 2)), *got(2)],
        [opened(), *got(0, 1), opened(Kept.BROKER, (E1, 1)), *got(1, 2)],
        [opened(), *got(0, 1), opened(Kept.PRODUCERS, None), Stands("a", (E1, 0)), *got(0)],
    ],
)
def test_no_gap_accepts_messages_in_order(good: list[Event]) -> None:
    messages = stream(10, at=LONG_AGO if isinstance(good[0], Opened) and good[0].places else LATER)
    no_gap(history(good), {"a": messages})


def test_no_gap_accepts_skipped_messages_for_others() -> None:
    truth = stream(3)
    fill(truth, E1, 3, 6, topic="other")
    fill(truth, E1, 6, 8)
    no_gap(history(opened(), got(0, 1, 2, 6, 7)), {"a": truth})
    no_gap(history(opened(), got(0, 1, 2), Moved("a", (E1, 6)), got(6)), {"a": truth})


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        ([opened(), *got(0, 2)], "1 of e1 is missing"),
        ([opened(), *got(1)], "0 of e1 is missing"),
        ([opened(), *got(0), Moved("a", (E1, 3))], "1 of e1 is missing"),
        ([opened(), *got(0, 1, 0)], "after the reader stood at"),
        ([opened(), *got(0, 1), Moved("a", (E1, 1))], "after the reader stood at"),
        ([opened(at=None), *got(0)], "has no place"),
        ([opened(at=None), Stands("a", (E1, 2))], "was owed 0"),
        ([opened(at=(E1, 2))], "was owed 0"),
        ([opened(), *got(0), Stands("a", (E1, 1))], "as a new stream"),
        ([opened(), *got(0), opened(Kept.STORED, (E1, 3))], "next life begins at"),
        ([opened(), *got(0), opened(Kept.BROKER, (E1, 3))], "next life begins at"),
        ([opened(), *got(0, 1), Moved("a", ("never", 2))], "never had"),
    ],
)
def test_no_gap_refuses(bad: list[Event], word: str) -> None:
    refuses(lambda: no_gap(history(bad), {"a": stream(10)}), "G1", word)


def test_no_gap_refuses_a_silent_change_of_epoch() -> None:
    refuses(
        lambda: no_gap(history(opened(), got(0, 1), got(2, epoch=E2)), {"a": restarted()}),
        "without a notice",
    )
    told = lost(Reason.STATE_LOST, (E2, 2), oldest=0)
    no_gap(history(opened(), got(0, 1), told, got(2, epoch=E2)), {"a": restarted()})


def test_no_gap_refuses_a_life_behind_its_remembered_place() -> None:
    """Only the producer knew the session's place."""
    begins = opened(Kept.PRODUCERS, None, remembered={"a": (E1, 3)})
    seen = history(opened(), got(0, 1, 2), begins, Stands("a", (E1, 5)))
    refuses(lambda: no_gap(seen, {"a": stream(10)}), "G1", "producer knew")
    no_gap(history(opened(), got(0, 1, 2), begins, Stands("a", (E1, 3))), {"a": stream(10)})


def test_no_gap_accepts_the_step_to_a_continuing_epoch() -> None:
    events = [opened(), *got(*range(10)), *got(10, 11, epoch=E2)]
    no_gap(history(events), {"a": continued(cut_short=10)})
    # Entries keep the epoch under which they were placed: an older name may come again.
    events = [opened(at=(E2, 0)), *got(0, 1), Moved("a", (E2, 2)), *got(2)]
    no_gap(history(events, earliest=True), {"a": continued()})


def test_no_gap_refuses_a_step_beyond_the_lineage() -> None:
    events = [opened(), *got(*range(9)), *got(9, epoch=E2)]
    refuses(lambda: no_gap(history(events), {"a": continued()}), "without a notice")


def test_no_gap_refuses_a_message_missing_at_a_restart() -> None:
    events = [opened(), *got(*range(6)), *got(8, epoch=E2)]
    refuses(lambda: no_gap(history(events), {"a": continued()}), "6 of e2 is missing")


def test_no_gap_judges_each_message_by_its_filter() -> None:
    truth = stream(3)
    fill(truth, E1, 3, 6, topic="u")
    changed = Filtered({"a": (E1, 4)}, lambda published: published.topic == "u")
    no_gap(history(opened(), got(0, 1, 2), changed, got(4, 5, topic="u")), {"a": truth})
    late = Filtered({"a": (E1, 3)}, lambda published: published.topic == "u")
    refuses(
        lambda: no_gap(history(opened(), got(0, 1, 2), late, got(4, topic="u")), {"a": truth}),
        "3 of e1 is missing",
    )
    # The new filter is announced before it counts: messages before that place are still judged by the old one.
    refuses(
        lambda: no_gap(history(opened(), got(0, 1), changed, got(4, topic="u")), {"a": truth}),
        "2 of e1 is missing",
    )
