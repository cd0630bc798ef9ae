"""The checkers judge by the accepted messages: histories made by hand around the end at which a later life goes on."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial

import pytest
from tests.simulation.checkers import no_false_alarm, no_gap, passed_is_not_read_again
from tests.simulation.history import Closed, Event, History, Kept, Lost, Moved, Stands
from tests.simulation.machine import Machine
from tests.simulation.made_histories import (
    E1,
    E2,
    E3,
    LONG_AGO,
    fill,
    got,
    history,
    lost,
    opened,
    refuses,
    stream,
)
from tests.simulation.truth import Place, StreamTruth, Truth

from pubsubd_protocol.attach import Reason

BEFORE, BEHIND = (E1, 8), (E2, 8)
"""The two places at the end of E1, of which E2 continues eight messages of ten."""


def cut(*, lost_there: int = 2, proven: bool = True, oldest: int = 0) -> StreamTruth:
    """E2 goes on where eight messages of E1 end, and has four of its own. `lost_there`: messages of E1 beyond that."""
    truth = stream(8 + lost_there)
    truth.begin(E2, BEFORE, proven=proven)
    truth.held(0)
    fill(truth, E2, 8, 12)
    truth.held(oldest)
    return truth


def told(missed: int | None = 2, place: Place = BEHIND, **more: object) -> Lost:
    return replace(lost(Reason.STATE_LOST, place, oldest=0, missed=missed), **more)  # type: ignore[arg-type]


def passes(seen: History, truth: StreamTruth) -> None:
    no_gap(seen, {"a": truth})
    no_false_alarm(seen, {"a": truth})


# G1: a loss is told, at its place.


def test_g1_a_reader_is_told_at_a_lost_end() -> None:
    passes(history(opened(), got(*range(8)), told(), got(8, 9, epoch=E2)), cut())
    passes(history(opened(), got(*range(8)), told(None), got(8, epoch=E2)), cut(proven=False))


def test_g1_a_silent_step_over_a_lost_end_is_refused() -> None:
    seen = history(opened(), got(*range(8)), got(8, epoch=E2))
    refuses(partial(no_gap, seen, {"a": cut()}), "G1", "8 of e1 was lost at ('e1', 8), and 1 more")
    moved = history(opened(), got(*range(8)), Moved("a", BEHIND))
    refuses(partial(no_gap, moved, {"a": cut(lost_there=1)}), "G1", "8 of e1 was lost at ('e1', 8)")


def test_g1_a_whole_end_may_be_passed_in_silence() -> None:
    seen = history(opened(), got(*range(8)), got(8, epoch=E2))
    passes(seen, cut(lost_there=0))
    passes(seen, cut(lost_there=0, proven=False))


def test_g1_a_place_before_a_lost_end_may_be_told_again() -> None:
    passes(history(opened(), got(*range(8)), Moved("a", BEFORE), told()), cut())


@pytest.mark.parametrize("third", [{}, {"a": {"b": (BEFORE, E1)}}])
@pytest.mark.parametrize("lost_there", [0, 2])
def test_g1_a_life_may_begin_under_a_later_name_of_its_place(
    third: dict[str, dict[str, tuple[Place, str]]], lost_there: int
) -> None:
    """The broker has that place from its producer, or from the third node, and finds the history whole behind it."""
    first = [opened(at=None)] if third else [opened(), *got(*range(8))]
    again = opened(Kept.PRODUCERS, None, third=third)
    seen = history(*first, again, Stands("a", BEHIND), earliest=True)
    check = partial(no_gap, seen, {"a": cut(lost_there=lost_there)})
    if lost_there:
        refuses(check, "G1", "the ring held 0")
    else:
        check()


@pytest.mark.parametrize("begin", [BEHIND, (E2, 10)])
def test_g1_a_known_name_begins_before_a_lost_end(
    begin: Place,
) -> None:
    again = opened(Kept.PRODUCERS, None, remembered={"a": (E1, 5)})
    seen = history(opened(), got(*range(5)), again, Stands("a", begin))
    refuses(partial(no_gap, seen, {"a": cut()}), "G1", "was owed")
    before = history(opened(), got(*range(5)), again, Stands("a", (E1, 5)), got(5, 6, 7), told())
    no_gap(before, {"a": cut()})


def test_g1_a_reader_of_other_topics_is_told_all_the_same() -> None:
    truth = stream(8, topic="t")
    fill(truth, E1, 8, 10, topic="other")
    truth.begin(E2, BEFORE)
    truth.held(0)
    fill(truth, E2, 8, 12)
    truth.held(0)
    passes(history(opened(), got(*range(8)), told(), got(8, epoch=E2)), truth)


def test_g1_a_reader_beyond_a_lost_end_is_told_ahead() -> None:
    ahead = lost(Reason.AHEAD, (E2, 12), oldest=0)
    passes(history(opened(), got(*range(9)), ahead), cut())


@pytest.mark.parametrize("kept", [Kept.BROKER, Kept.STORED])
def test_g1_an_application_begins_before_an_untold_lost_end(
    kept: Kept,
) -> None:
    seen = history(opened(), got(*range(8)), opened(kept, BEHIND))
    refuses(partial(no_gap, seen, {"a": cut()}), "G1", "its next life begins at ('e2', 8)")
    passes(history(opened(), got(*range(8)), opened(kept, BEFORE), told()), cut())


def test_g1_a_reader_behind_a_lost_end_is_not_told_again() -> None:
    again = history(opened(), got(*range(8)), told(), opened(Kept.STORED, BEHIND), told())
    refuses(partial(no_false_alarm, again, {"a": cut()}), "G4", "no message behind it is lost")


def test_g1_an_earlier_subscriber_begins_before_the_loss() -> None:
    seen = history(opened(at=None), Stands("a", BEHIND))
    truth = stream(8, at=LONG_AGO)
    fill(truth, E1, 8, 10)
    truth.begin(E2, BEFORE)
    refuses(partial(no_gap, seen, {"a": truth}), "G1", "was lost at ('e1', 8) after it subscribed")
    no_gap(history(opened(at=None), Stands("a", BEFORE)), {"a": truth})
    old = stream(10, at=LONG_AGO)
    old.begin(E2, BEFORE)
    no_gap(seen, {"a": old})


def test_g1_an_overrun_reader_is_told_of_the_lost_end_too() -> None:
    truth = cut(oldest=10)
    over = partial(lost, place=(E2, 12), oldest=10)
    passes(history(opened(), got(0, 1, 2), over(Reason.STATE_LOST, missed=9 + 2)), truth)
    for reason, missed in ((Reason.OVERWRITTEN, 9), (Reason.STATE_LOST, 9)):
        seen = history(opened(), got(0, 1, 2), over(reason, missed=missed))
        refuses(partial(no_false_alarm, seen, {"a": truth}), "lost")


def test_g1_a_life_in_between_is_lost_at_the_end_before_it() -> None:
    truth = stream(8)
    truth.begin(E2)
    truth.held(0)
    fill(truth, E2, 0, 3)
    truth.begin(E3, BEFORE, proven=False)
    truth.held(0)
    fill(truth, E3, 8, 10)
    truth.held(0)
    assert truth.ends[E3].lost == ((E2, 0), (E2, 1), (E2, 2))
    seen = history(opened(), got(*range(8)), got(8, epoch=E3))
    refuses(partial(no_gap, seen, {"a": truth}), "G1", "0 of e2 was lost at ('e1', 8)")
    passes(history(opened(), got(*range(8)), told(None, (E3, 8)), got(8, epoch=E3)), truth)
    # A reader of the life in between knows only that life.
    of_that = history(
        opened(at=(E2, 0)), got(0, epoch=E2), lost(Reason.STATE_LOST, (E3, 10), oldest=0)
    )
    no_false_alarm(of_that, {"a": truth})


def twice(*, second: bool = True) -> StreamTruth:
    """Two lives lost messages at one place: E2 goes on at 8 of E1, and E3 at 8 of E2."""
    truth = cut()
    truth.begin(E3, BEHIND, proven=second)
    truth.held(0)
    fill(truth, E3, 8, 9)
    truth.held(0)
    return truth


def test_g1_two_lost_ends_at_one_offset_are_two() -> None:
    first, other = told(), told(4, (E3, 8))
    passes(history(opened(), got(*range(8)), first, other, got(8, epoch=E3)), twice())
    passes(history(opened(), got(*range(8)), told(6, (E3, 8)), got(8, epoch=E3)), twice())
    seen = history(opened(), got(*range(8)), first, got(8, epoch=E3))
    refuses(partial(no_gap, seen, {"a": twice()}), "G1", "was lost at ('e2', 8)")
    wrong = history(opened(), got(*range(8)), told(4, (E3, 8)))
    refuses(partial(no_false_alarm, wrong, {"a": twice()}), "G4", "6 are lost")


def test_g1_an_untold_reader_has_not_reached_an_idle_streams_end() -> None:
    truth = stream(10)
    truth.begin(E2, BEFORE)
    assert truth.latest(BEFORE) == BEFORE != truth.end
    assert truth.latest(BEHIND) == truth.end
    assert truth.further(BEHIND, BEFORE)
    assert not truth.further(BEFORE, BEHIND)


# G4: no other alarm is true.


@pytest.mark.parametrize("missed", [0, 1, None])
def test_g4_an_alarm_at_a_proven_whole_end_is_refused(missed: int | None) -> None:
    seen = history(opened(), got(*range(8)), told(missed))
    truth: Truth = {"a": cut(lost_there=0)}
    refuses(partial(no_false_alarm, seen, truth), "G4", "no message behind it is lost")


def test_g4_an_alarm_at_an_unproven_end_is_right() -> None:
    passes(history(opened(), got(*range(8)), told(None)), cut(lost_there=0, proven=False))
    counted = history(opened(), got(*range(8)), told(1))
    truth: Truth = {"a": cut(lost_there=0, proven=False)}
    refuses(partial(no_false_alarm, counted, truth), "G4", "0 are lost")


@pytest.mark.parametrize("missed", [1, 3, None])
def test_g4_a_known_number_of_lost_messages_is_told(missed: int | None) -> None:
    seen = history(opened(), got(*range(8)), told(missed))
    refuses(partial(no_false_alarm, seen, {"a": cut()}), "G4", "lost")


@pytest.mark.parametrize("missed", [1, 3])
def test_g4_a_told_number_is_exact(missed: int) -> None:
    seen = history(opened(), got(*range(8)), told(missed))
    refuses(partial(no_false_alarm, seen, {"a": cut(proven=False)}), "G4", "2 are lost")


def test_g4_a_lost_end_takes_no_held_message() -> None:
    early = history(opened(), got(*range(5)), told())
    refuses(partial(no_false_alarm, early, {"a": cut()}), "G4", "5 was held")
    far = history(opened(), got(*range(8)), told(place=(E2, 12)))
    refuses(partial(no_false_alarm, far, {"a": cut()}), "G4", "8 was held")


def test_g4_a_notice_of_a_lost_end_shows_a_ring_that_was() -> None:
    passes(history(opened(), got(*range(8)), told(oldest=3)), held_from(3))
    seen = history(opened(), got(*range(8)), told(oldest=5))
    refuses(partial(no_false_alarm, seen, {"a": held_from(3)}), "G4", "never existed")


def held_from(oldest: int) -> StreamTruth:
    truth = cut()
    truth.held(oldest)
    return truth


def test_g4_another_reason_at_a_lost_end_is_refused() -> None:
    for reason in (Reason.OVERWRITTEN, Reason.AHEAD, Reason.UNSEEN):
        seen = history(opened(), got(*range(8)), replace(told(), reason=reason))
        refuses(partial(no_false_alarm, seen, {"a": cut()}), str(reason))


def test_g4_a_name_that_peers_remember_is_told_of_a_lost_end() -> None:
    seen = history(opened(), got(*range(8)), told(own=True, recovered=BEFORE))
    no_false_alarm(seen, {"a": cut()})
    refuses(partial(no_false_alarm, seen, {"a": cut(lost_there=0)}), "G4", "recovered with that")


def test_g4_a_reader_of_an_abandoned_life_is_always_told() -> None:
    truth = stream(10)
    for life in (E2, E3):
        truth.begin(life, BEFORE)
        truth.held(0)
    fill(truth, E3, 8, 12)
    truth.held(0)
    told_there = told(None, (E3, 12), own=True, recovered=(E1, 5))
    stood_behind = history(opened(), got(*range(8)), Moved("a", BEHIND), told_there)
    no_false_alarm(stood_behind, {"a": truth})
    stood_before = history(opened(), got(*range(8)), told_there)
    refuses(partial(no_false_alarm, stood_before, {"a": truth}), "G4", "recovered with that")


@pytest.mark.parametrize(
    ("topic", "kept", "held"), [("other", 8, None), ("t", 8, "8 was held"), ("other", 10, "10 was")]
)
def test_g4_a_reader_may_be_told_of_two_ends_at_once(
    topic: str, kept: int, held: str | None
) -> None:
    """The reader's broker had come further in the second life, and met the third life at this place."""
    truth = stream(10)
    truth.begin(E2, BEFORE)
    fill(truth, E2, 8, 10, topic=topic)
    truth.held(0)
    truth.begin(E3, (E2, kept))
    fill(truth, E3, kept, 12)
    truth.held(0)
    seen = history(opened(), got(*range(8)), told(None, (E3, 12)))
    check = partial(no_false_alarm, seen, {"a": truth})
    if held is None:
        check()
    else:
        refuses(check, "G4", held)


def test_g4_a_reader_may_close_before_a_lost_end() -> None:
    events: list[Event] = [opened(), *got(*range(8)), Closed({"a": BEHIND}, 1)]
    passed_is_not_read_again(history(events), {"a": cut()})


def test_g4_a_name_at_a_lost_end_may_be_dropped() -> None:
    def dropped(place: Place) -> History:
        begins = opened(Kept.FORGOTTEN, None, acknowledged={"a": place}, held={"a": (E2, 3)})
        return history(opened(), got(*range(8)), begins)

    no_false_alarm(dropped(BEFORE), {"a": cut()})
    refuses(partial(no_false_alarm, dropped((E1, 7)), {"a": cut()}), "G4", "forgotten")
    refuses(partial(no_false_alarm, dropped(BEHIND), {"a": cut()}), "G4", "forgotten")


# The proofs that a machine holds.


def machine(life: str = E1) -> Machine:
    found = Machine(random.Random(0))
    found.begins(life, in_folder=True)
    return found


def test_a_crash_of_the_process_alone_leaves_the_proof() -> None:
    assert machine().proves(E1, promised=False)


def test_after_a_power_loss_only_the_journal_proves() -> None:
    found = machine()
    found.boot += 1
    assert not found.proves(E1, promised=False)
    assert found.proves(E1, promised=True)


def test_a_life_between_a_copy_and_no_witness_proves_nothing() -> None:
    found = machine()
    found.begins(E2, in_folder=False)
    assert not found.proves(E1, promised=True)
    found = machine()
    assert found.folder is not None
    found.folder.good = False
    assert not found.proves(E1, promised=True)
    found = machine()
    found.folder = found.beside = None
    assert not found.proves(E1, promised=True)
