"""G4: the checker refuses alarms that are not true."""

from __future__ import annotations

from functools import partial

import pytest
from tests.simulation.checkers import no_false_alarm
from tests.simulation.history import (
    Forgotten,
    Kept,
    Stands,
)
from tests.simulation.made_histories import (
    E1,
    E2,
    E3,
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
from tests.simulation.truth import Place, Truth

from pubsubd_protocol.attach import Reason


def overrun(at: int, missed: int | None, *, oldest: int = 6, capacity: int | None = None) -> None:
    truth = stream(10, oldest=6)
    truth.capacity = capacity
    told = lost(Reason.OVERWRITTEN, (E1, 10), oldest=oldest, missed=missed)
    no_false_alarm(history(opened(), got(*range(at)), told), {"a": truth})


def test_no_false_alarm_accepts_an_overrun_with_its_count() -> None:
    overrun(5, 5)
    overrun(0, 10)
    overrun(5, 5, capacity=4)


@pytest.mark.parametrize(
    ("at", "missed", "oldest"),
    [
        (6, 4, 6),
        (9, 1, 6),
        (5, 4, 6),
        (5, 6, 6),
        (5, None, 6),
        (5, 5, 7),
    ],
)
def test_no_false_alarm_refuses_a_false_overrun(at: int, missed: int | None, oldest: int) -> None:
    refuses(lambda: overrun(at, missed, oldest=oldest), "G4")


def test_no_false_alarm_refuses_an_overrun_of_held_messages() -> None:
    refuses(lambda: overrun(5, 5, capacity=5), "G4", "the ring holds 5")


def test_no_false_alarm_accepts_a_merged_notice() -> None:
    truth = stream(4)
    fill(truth, E1, 4, 6, topic="other")
    fill(truth, E1, 6, 10)
    truth.held(6)
    for missed in (8, 9, 10):
        told = lost(Reason.OVERWRITTEN, (E1, 10), oldest=6, missed=missed)
        no_false_alarm(history(opened(), told), {"a": truth})
    told = lost(Reason.OVERWRITTEN, (E1, 10), oldest=6, missed=7)
    refuses(lambda: no_false_alarm(history(opened(), told), {"a": truth}), "G4")


@pytest.mark.parametrize(
    ("reason", "missed"),
    [
        (Reason.OVERWRITTEN, 5),
        (Reason.AHEAD, None),
        (Reason.UNSEEN, None),
        (Reason.STATE_LOST, 5),
    ],
)
def test_only_a_lost_state_is_true_across_epochs(reason: Reason, missed: int | None) -> None:
    told = lost(reason, (E2, 5), oldest=0, missed=missed)
    seen = history(opened(), got(0, 1), told)
    refuses(lambda: no_false_alarm(seen, {"a": restarted()}), "G4")
    told = lost(Reason.STATE_LOST, (E2, 5), oldest=0)
    no_false_alarm(history(opened(), got(0, 1), told), {"a": restarted()})


def test_a_lost_state_is_false_in_one_history() -> None:
    told = lost(Reason.STATE_LOST, (E1, 10), oldest=6)
    refuses(
        lambda: no_false_alarm(history(opened(), got(0), told), {"a": stream(10, oldest=6)}), "G4"
    )
    told = lost(Reason.STATE_LOST, (E2, 12), oldest=0)
    refuses(lambda: no_false_alarm(history(opened(), got(0), told), {"a": continued()}), "G4")


@pytest.mark.parametrize(("at", "true"), [(9, True), (10, True), (8, False), (3, False)])
def test_a_reader_beyond_the_lineage_is_ahead(at: int, true: bool) -> None:
    told = lost(Reason.AHEAD, (E2, 12), oldest=0)
    seen = history(opened(), got(*range(at)), told)
    if true:
        no_false_alarm(seen, {"a": continued(cut_short=8)})
    else:
        refuses(lambda: no_false_alarm(seen, {"a": continued(cut_short=8)}), "G4")


def test_a_reader_beyond_the_lineage_is_only_told_ahead() -> None:
    for reason, missed in ((Reason.OVERWRITTEN, 3), (Reason.STATE_LOST, None)):
        told = lost(reason, (E2, 12), oldest=0, missed=missed)
        seen = history(opened(), got(*range(9)), told)
        refuses(lambda seen=seen: no_false_alarm(seen, {"a": continued()}), "G4")  # type: ignore[misc]


@pytest.mark.parametrize(("after", "true"), [((E1, 8), True), ((E2, 12), False)])
def test_a_reader_may_have_joined_a_history_lost_later(after: Place, true: bool) -> None:
    truth = stream(10)
    truth.begin(E2, (E1, 10))
    fill(truth, E2, 10, 12)
    truth.held(0)
    # The recovered history may be older than E2, as after a power loss that took more than one life.
    truth.begin(E3, after)
    fill(truth, E3, after[1], 14)
    truth.held(0)
    told = lost(Reason.STATE_LOST, (E3, 14), oldest=0)
    seen = history(opened(), got(0), told)
    if true:
        no_false_alarm(seen, {"a": truth})
    else:
        refuses(lambda: no_false_alarm(seen, {"a": truth}), "G4")


def test_unseen_is_only_for_readers_without_a_place() -> None:
    told = lost(Reason.UNSEEN, (E1, 10), oldest=6)
    truth: Truth = {"a": stream(10, oldest=6)}
    no_false_alarm(history(opened(at=None), told), truth)
    refuses(lambda: no_false_alarm(history(opened(), got(0), told), truth), "G4")
    other = lost(Reason.OVERWRITTEN, (E1, 10), oldest=6, missed=10)
    refuses(lambda: no_false_alarm(history(opened(at=None), other), truth), "has no place")


def test_unseen_is_false_while_the_ring_holds_the_first_message() -> None:
    told = lost(Reason.UNSEEN, (E1, 10), oldest=0)
    refuses(
        lambda: no_false_alarm(history(opened(at=None), told), {"a": stream(10)}), "first message"
    )


def test_a_life_without_a_known_place_is_told_unseen_again() -> None:
    truth = stream(10, oldest=3)
    fill(truth, E1, 10, 20)
    truth.held(13)
    first = lost(Reason.UNSEEN, (E1, 10), oldest=3)
    again = lost(Reason.UNSEEN, (E1, 20), oldest=13)
    begins = opened(Kept.BROKER, None, unknown=frozenset({"a"}))
    no_false_alarm(history(opened(at=None), first, begins, again), {"a": truth})
    knows = opened(Kept.BROKER, None)
    seen = history(opened(at=None), first, knows, again)
    refuses(lambda: no_false_alarm(seen, {"a": truth}), "G4")


def test_a_third_nodes_memory_of_an_open_session_is_a_true_alarm() -> None:
    """The broker forgot where the session stood, and placed it as new. It cannot know that nothing is lost."""
    truth = {"a": restarted()}
    third = {"a": {"b": ((E1, 3), E1)}}
    placed, told = Stands("a", (E2, 0)), lost(Reason.STATE_LOST, (E2, 5), oldest=0)
    no_false_alarm(history(opened(at=None), Forgotten(True, third), placed, told), truth)
    seen = history(opened(at=None), Forgotten(True), placed, told)
    refuses(lambda: no_false_alarm(seen, truth), "G4")


def test_a_ring_that_never_was_is_refused() -> None:
    told = lost(Reason.OVERWRITTEN, (E1, 9), oldest=6, missed=9)
    seen = history(opened(), told)
    refuses(lambda: no_false_alarm(seen, {"a": stream(10, oldest=6)}), "never existed")


def test_a_session_older_than_its_broker_is_told_so_once() -> None:
    told = lost(Reason.STATE_LOST, (E1, 5), oldest=0, own=True)
    no_false_alarm(history(opened(), got(0, 1), Forgotten(), told), {"a": stream(10)})
    # Its broker has kept its name, or the application knows its place.
    knows = history(opened(), got(0, 1), Forgotten(knows=True), told)
    refuses(lambda: no_false_alarm(knows, {"a": stream(10)}), "G4")
    told = lost(Reason.STATE_LOST, (E1, 5), oldest=0)
    refuses(lambda: no_false_alarm(history(opened(), got(0, 1), told), {"a": stream(10)}), "G4")


def test_an_earlier_lifes_loss_may_merge_with_ahead() -> None:
    truth = restarted()
    truth.begin(E3, (E2, 2))
    truth.held(0)
    # The name stood in E1, began anew in E2, and read more of E2 than E3 continues.
    begun = [opened(), *got(0, 1), opened(Kept.PRODUCERS, (E2, 0)), *got(0, 1, 2, epoch=E2)]
    told = lost(Reason.STATE_LOST, (E3, 2), oldest=0, own=True)
    no_false_alarm(history(*begun, told), {"a": truth})
    # Not for another node, nor for a name without an earlier life, nor for one that has taken the loss in.
    of_another = lost(Reason.STATE_LOST, (E3, 2), oldest=0)
    first_life = [opened(at=(E2, 0)), *got(0, 1, 2, epoch=E2)]
    heard = [*begun, lost(Reason.STATE_LOST, (E2, 3), oldest=0, own=True)]
    for bad in ([*begun, of_another], [*first_life, told], [*heard, told]):
        refuses(partial(no_false_alarm, history(*bad), {"a": truth}), "further than that history")
