"""G1 and G4: the checkers judge the places at which a life of an application begins."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from tests.simulation.checkers import no_false_alarm, no_gap
from tests.simulation.history import (
    Event,
    Forgotten,
    Kept,
    Lost,
    Moved,
    Opened,
    Stands,
)
from tests.simulation.made_histories import (
    BIRTH,
    E1,
    E2,
    E3,
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
from tests.simulation.truth import NOWHERE, Place, StreamTruth

from pubsubd_protocol.attach import Reason


@pytest.mark.parametrize(
    ("truth", "held", "rightly"),
    [
        (stream(10, oldest=4), (E1, 4), True),
        (restarted(), (E2, 0), True),
        (stream(10, oldest=3), (E1, 3), False),
        (continued(), (E2, 3), False),
    ],
)
def test_g4_a_name_is_dropped_only_if_something_was_lost(
    truth: StreamTruth, held: Place, rightly: bool
) -> None:
    begins = opened(Kept.FORGOTTEN, None, acknowledged={"a": (E1, 3)}, held={"a": held})
    seen = history(opened(), got(0, 1, 2), begins)
    if rightly:
        no_false_alarm(seen, {"a": truth})
    else:
        refuses(partial(no_false_alarm, seen, {"a": truth}), "G4", "forgotten")


def test_g4_claims_nothing_of_a_name_unknown_to_its_broker() -> None:
    seen = history(opened(), got(0), opened(Kept.FORGOTTEN, None, held={"a": (E1, 0)}))
    no_false_alarm(seen, {"a": stream(10)})


def test_g4_a_life_keeps_its_place_before_a_lost_end() -> None:
    """The broker has gone back to an older state, and may be told by producers of a later one: its place stays."""
    truth = stream(10)
    truth.begin(E2, (E1, 10), proven=False)
    truth.held(0)
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E2, 0)})
    seen = history(opened(), got(*range(9)), nowhere)
    refuses(partial(no_false_alarm, seen, {"a": truth}), "begins without a place")
    # A name at the end has only the loss before it.
    no_false_alarm(history(opened(), got(*range(10)), nowhere), {"a": truth})


def test_g4_a_life_without_a_loss_keeps_its_place() -> None:
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 0)})
    refuses(
        partial(no_false_alarm, history(opened(), got(0, 1), nowhere), {"a": stream(10)}),
        "G4",
        "begins without a place",
    )
    # It had lost messages, and may not have taken that in; or the ring has moved past its place.
    told = lost(Reason.UNSEEN, (E1, 10), oldest=4)
    no_false_alarm(history(opened(at=None), told, nowhere), {"a": stream(10, oldest=4)})
    # It has taken the loss in, and its broker knows; or it died before its broker heard that.
    goes_on = [opened(at=None), told, *got(10, 11)]
    truth = stream(10, oldest=4)
    fill(truth, E1, 10, 12)
    held = {"a": (E1, 4)}
    heard = opened(Kept.BROKER, NOWHERE, held=held, acknowledged={"a": (E1, 12)})
    refuses(
        partial(no_false_alarm, history(*goes_on, heard), {"a": truth}),
        "G4",
        "begins without a place",
    )
    unheard = opened(Kept.BROKER, NOWHERE, held=held)
    no_false_alarm(history(*goes_on, unheard), {"a": truth})
    moved_on = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 3)})
    no_false_alarm(history(opened(), got(0, 1), moved_on), {"a": stream(10)})


@pytest.mark.parametrize("knows", [True, False])
def test_g4_a_kept_name_loses_its_own_place_only_by_a_loss(
    knows: bool,
) -> None:
    nowhere = opened(Kept.BROKER, NOWHERE, held={"a": (E1, 0)})
    seen = history(opened(), got(0, 1), Forgotten(knows), nowhere)
    seen.node = "a"
    if knows:
        refuses(partial(no_false_alarm, seen, {"a": stream(10)}), "begins without a place")
    else:
        no_false_alarm(seen, {"a": stream(10)})


@pytest.mark.parametrize("heard", [False, True])
def test_g4_a_name_met_as_new_loses_its_place_by_an_old_loss(
    heard: bool,
) -> None:
    again: list[Event] = [opened(Kept.PRODUCERS, (E2, 0)), opened(Kept.BROKER, (E2, 0))]
    told_of_it: list[Event] = (
        [lost(Reason.STATE_LOST, (E2, 0), oldest=0, own=True)] if heard else []
    )
    held: dict[str, object] = {"held": {"a": (E2, 0)}, "acknowledged": {"a": (E2, 0)}}
    nowhere = opened(Kept.BROKER, NOWHERE, **held)
    seen = history(opened(), got(0, 1), again[0], told_of_it, again[1], nowhere)
    seen.node = "a"
    if not heard:
        # Its next life as well, if the last one ended before it was told.
        seen.add(nowhere)
    check = partial(no_false_alarm, seen, {"a": restarted()})
    if heard:
        refuses(check, "begins without a place")
    else:
        check()


@pytest.mark.parametrize(
    ("begin", "true"),
    [(NOWHERE, True), ((E1, 3), True), ((E1, 5), True), ((E1, 7), False), ((E2, 12), False)],
)
def test_g1_a_name_unknown_to_its_broker_begins_no_later(begin: Place, true: bool) -> None:
    again = Opened(BIRTH, Kept.BROKER, {"a": begin}, unknown=frozenset("a"))
    seen = history(opened(), got(*range(5)), again)
    if true:
        no_gap(seen, {"a": continued()})
    else:
        refuses(lambda: no_gap(seen, {"a": continued()}), "G1", "the reader stood at")


@pytest.mark.parametrize(("begin", "true"), [((E1, 2), True), ((E1, 3), False)])
def test_g1_an_untold_life_without_a_place_moves_nothing(begin: Place, true: bool) -> None:
    again = opened(Kept.BROKER, begin)
    seen = history(opened(), got(0, 1), opened(Kept.BROKER, NOWHERE), again)
    if true:
        no_gap(seen, {"a": stream(10)})
    else:
        refuses(lambda: no_gap(seen, {"a": stream(10)}), "G1", "the last one ended at")


def test_g1_the_earliest_is_the_oldest_offset_of_a_ring() -> None:
    truth = {"a": stream(10, oldest=4, at=LONG_AGO)}
    for begin in (0, 4):
        no_gap(history(opened(at=None), Stands("a", (E1, begin)), earliest=True), truth)
    late = history(opened(at=None), Stands("a", (E1, 6)), earliest=True)
    refuses(partial(no_gap, late, truth), "G1", "the ring held 4")


def test_g1_the_earliest_includes_all_after_the_subscription() -> None:
    stream_a = stream(3, at=LONG_AGO)
    fill(stream_a, E1, 3, 10)
    for oldest in (2, 3, 4):
        stream_a.held(oldest)
    for begin in (2, 3):
        no_gap(history(opened(at=None), Stands("a", (E1, begin)), earliest=True), {"a": stream_a})
    late = history(opened(at=None), Stands("a", (E1, 4)), earliest=True)
    refuses(partial(no_gap, late, {"a": stream_a}), "G1", "was owed 3")
    no_gap(
        history(opened(at=None), unseen_at(4), got(*range(4, 10)), earliest=True), {"a": stream_a}
    )


def test_g1_a_life_may_begin_at_a_place_its_producer_forgot() -> None:
    """The broker had asked the producer before."""
    truth = {"a": stream(10, oldest=4)}
    first, again = [opened(), *got(*range(6))], opened(Kept.PRODUCERS, None)
    no_gap(history(first, again, Stands("a", (E1, 6)), earliest=True), truth)
    late = history(first, again, Stands("a", (E1, 7)), earliest=True)
    refuses(partial(no_gap, late, truth), "G1", "the ring held 4")
    new = history(first, opened(Kept.NOTHING, None), Stands("a", (E1, 6)), earliest=True)
    refuses(partial(no_gap, new, truth), "G1", "the ring held 4")


@pytest.mark.parametrize(("begin", "true"), [((E1, 4), True), ((E2, 7), True), ((E2, 9), False)])
def test_g1_a_life_may_begin_earlier_in_the_same_history(begin: Place, true: bool) -> None:
    first = [opened(), *got(*range(7)), Moved("a", (E2, 7))]
    seen = history(first, opened(Kept.PRODUCERS, None), Stands("a", begin), earliest=True)
    truth = {"a": continued()}
    truth["a"].held(3)
    if true:
        no_gap(seen, truth)
    else:
        refuses(partial(no_gap, seen, truth), "G1", "the ring held")


def unseen_at(begin: int, oldest: int | None = None) -> Lost:
    """The notice for a reader in its first life that asked for the earliest."""
    held = begin if oldest is None else oldest
    return Lost("a", Reason.UNSEEN, None, (E1, begin), held, reborn=False)


@pytest.mark.parametrize(
    ("told", "false"),
    [
        (unseen_at(4), None),
        (unseen_at(10, oldest=4), None),  # The notice merged with a later one.
        (unseen_at(0), "still held the first message"),
        (unseen_at(5), "never existed"),
        (unseen_at(4, oldest=3), "never existed"),
        (replace(unseen_at(4), missed=4), "has no place there"),
        (replace(unseen_at(4), reason=Reason.OVERWRITTEN), "has no place there"),
    ],
)
def test_g4_a_reader_of_the_earliest_goes_on_at_the_oldest(told: Lost, false: str | None) -> None:
    truth = {"a": stream(10, oldest=4)}
    check = partial(no_false_alarm, history(opened(at=None), told, earliest=True), truth)
    if false is None:
        check()
    else:
        refuses(check, "G4", false)


def test_g4_only_a_reader_of_the_earliest_goes_on_there() -> None:
    truth = {"a": stream(10, oldest=4)}
    check = partial(no_false_alarm, history(opened(at=None), unseen_at(4)), truth)
    refuses(check, "G4", "never existed")


def test_g1_an_unread_life_may_be_lost_in_silence() -> None:
    """The notice names that life. The reader's message is of an earlier life, which a third one continues."""
    truth = continued()
    truth.begin(E3, (E1, 10))
    truth.held(0)
    told = lost(Reason.UNSEEN, (E2, 4), oldest=4)
    no_gap(history(opened(at=None), told, got(*range(4, 10))), {"a": truth})
    behind = lost(Reason.UNSEEN, (E2, 9), oldest=9)
    refuses(partial(no_gap, history(opened(at=None), behind, got(9)), {"a": truth}), "G1")


def test_g1_an_idle_whole_life_may_be_lost_in_silence() -> None:
    truth = stream(10)
    truth.begin(E2, (E1, 10))
    truth.held(4)
    truth.begin(E3, (E1, 10))
    truth.held(4)
    fill(truth, E3, 10, 12)
    told = lost(Reason.UNSEEN, (E2, 10), oldest=10)
    no_gap(history(opened(at=None), told, got(10, 11, epoch=E3)), {"a": truth})


def test_g1_a_later_life_may_begin_behind_messages_for_others() -> None:
    stream_a = stream(3)
    fill(stream_a, E1, 3, 5, topic="not for the reader")
    fill(stream_a, E1, 5, 10)
    stream_a.held(0)
    truth = {"a": stream_a}
    no_gap(history(opened(), got(0, 1, 2), opened(Kept.BROKER, (E1, 5))), truth)
    skipped = history(opened(), got(0, 1), opened(Kept.BROKER, (E1, 5)))
    refuses(partial(no_gap, skipped, truth), "G1", "its next life begins at")


@pytest.mark.parametrize(("wanted", "true"), [(False, True), (True, False)])
def test_a_life_may_begin_under_an_older_name_of_its_place(wanted: bool, true: bool) -> None:
    """The last life was told the later name. No message that is for the reader may lie between."""
    told = lost(Reason.UNSEEN, (E2, 4), oldest=4)
    begins = opened(Kept.BROKER, (E1, 7), wants=lambda _: wanted)
    seen = history(opened(at=None, wants=lambda _: wanted), told, begins)
    if true:
        no_gap(seen, {"a": continued()})
    else:
        refuses(lambda: no_gap(seen, {"a": continued()}), "G1", "the last one ended at")


@pytest.mark.parametrize(("begin", "true"), [((E1, 5), True), ((E1, 7), False)])
def test_a_producer_may_come_back_with_an_older_memory_of_a_name(begin: Place, true: bool) -> None:
    """The name had read that far, was told of a later history, and the producer's journal came back."""
    told = lost(Reason.STATE_LOST, (E2, 0), oldest=0)
    again: list[Event] = [opened(Kept.PRODUCERS, None, unknown=frozenset("a")), Stands("a", begin)]
    truth = stream(10, oldest=4)
    truth.begin(E2)
    seen = history(opened(), got(*range(5)), told, again, earliest=True)
    if true:
        no_gap(seen, {"a": truth})
    else:
        refuses(lambda: no_gap(seen, {"a": truth}), "G1")
